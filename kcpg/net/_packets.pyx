# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Batches of users' UDP packets on local sockets, compiled. Its readable twin is `packets.py`.

A system call carries up to 64 packets: recvmmsg in; out, runs of equal packets are one message that the
kernel cuts (UDP segmentation offload), and sendmmsg takes many of those.
"""
from libc.errno cimport EAGAIN, EINTR, EINVAL, EIO, EMSGSIZE, errno
from libc.stdint cimport uint8_t, uint16_t
from libc.stdlib cimport malloc
from libc.string cimport memcpy, memset

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from kcpg.core.kcp._kcp cimport iovec
from kcpg.net._syscalls cimport (
    ADDRESS_BYTES, CMSG_DATA, CMSG_FIRSTHDR, CMSG_LEN, CMSG_NXTHDR, CMSG_SPACE, MSG_DONTWAIT, MSG_NOSIGNAL,
    cmsghdr, mmsghdr, msghdr, recvmmsg, sendmmsg, socklen_t,
)

from kcpg.net.pktinfo import IP_PKTINFO as _IP_PKTINFO
from kcpg.net.pktinfo import IPV6_PKTINFO as _IPV6_PKTINFO
from kcpg.net.pktinfo import SOL_IP as _SOL_IP
from kcpg.net.pktinfo import SOL_IPV6 as _SOL_IPV6

cdef enum:
    SOL_UDP = 17                # include/uapi/linux/udp.h
    UDP_SEGMENT = 103
    PACKET_BYTES = 65536        # more than UDP carries
    MAX_RUN_BYTES = 65000       # as udp.py: what one segmented message carries

cdef int SOL_IP = _SOL_IP
cdef int SOL_IPV6 = _SOL_IPV6
cdef int IP_PKTINFO = _IP_PKTINFO
cdef int IPV6_PKTINFO = _IPV6_PKTINFO

# One set for all sockets of the process, of which only the pages that packets reach are ever touched.
buffers = <uint8_t*>malloc(BATCH * PACKET_BYTES)
if buffers == NULL:
    raise MemoryError()


cdef bytes asked(msghdr* message):
    """The local address a packet was sent to, as pktinfo.asked()."""
    cdef cmsghdr* item = CMSG_FIRSTHDR(message)
    while item != NULL:
        if item.cmsg_level == SOL_IPV6 and item.cmsg_type == IPV6_PKTINFO:
            return (<const uint8_t*>CMSG_DATA(item))[:16]
        if item.cmsg_level == SOL_IP and item.cmsg_type == IP_PKTINFO:
            return (<const uint8_t*>CMSG_DATA(item) + 4)[:4]
        item = CMSG_NXTHDR(message, item)
    return b""


cdef int arrive(Arrivals* a, int fd, int limit, bint named) noexcept:
    """Receive up to `limit` packets, with their places if `named`; how many, -1: errno says why not."""
    cdef msghdr* head
    cdef int i
    memset(a.messages, 0, limit * sizeof(mmsghdr))
    for i in range(limit):
        a.iov[i].iov_base = buffers + i * PACKET_BYTES
        a.iov[i].iov_len = PACKET_BYTES
        head = &a.messages[i].msg_hdr
        head.msg_iov = &a.iov[i]
        head.msg_iovlen = 1
        if named:
            head.msg_name = a.names[i]
            head.msg_namelen = ADDRESS_BYTES
            head.msg_control = a.control[i]
            head.msg_controllen = CONTROL_BYTES
    return recvmmsg(fd, a.messages, limit, MSG_DONTWAIT, NULL)


cdef tuple place_of(Arrivals* a, int i):
    """(source, asked) of a packet; None if its address is none that we know."""
    cdef msghdr* head = &a.messages[i].msg_hdr
    if head.msg_namelen > ADDRESS_BYTES:
        return None
    return (<const uint8_t*>a.names[i])[:head.msg_namelen], asked(head)


def receive(int fd, int limit):
    """Up to `limit` packets of a connected socket, at most a batch, and an errno (0: none)."""
    cdef Arrivals a
    cdef int i, count = arrive(&a, fd, limit if limit < BATCH else BATCH, False)
    if count < 0:
        return [], 0 if errno == EAGAIN or errno == EINTR else errno
    return [packet_at(&a, i)[:a.messages[i].msg_len] for i in range(count)], 0


def receive_from(int fd):
    """A batch of packets by place, {(source, asked): packets}; how many; an errno (0: none)."""
    cdef Arrivals a
    cdef int i, count = arrive(&a, fd, BATCH, True)
    cdef dict found = {}
    if count < 0:
        return found, 0, 0 if errno == EAGAIN or errno == EINTR else errno
    for i in range(count):
        place = place_of(&a, i)
        if place is not None:
            found.setdefault(place, []).append(packet_at(&a, i)[:a.messages[i].msg_len])
    return found, count, 0


cdef size_t put_item(uint8_t* at, int level, int kind, const void* data, size_t n) noexcept:
    """One control message at `at`; the room it takes."""
    cdef cmsghdr* item = <cmsghdr*>at
    memset(at, 0, CMSG_SPACE(n))
    item.cmsg_level = level
    item.cmsg_type = kind
    item.cmsg_len = CMSG_LEN(n)
    memcpy(CMSG_DATA(item), data, n)
    return CMSG_SPACE(n)


cdef size_t put_local(uint8_t* at, const void* local, size_t n) noexcept:
    """The control message that makes packets leave from an address of n bytes, as pktinfo.item()."""
    cdef uint8_t info[20]
    if n == 0:
        return 0
    memset(info, 0, sizeof(info))
    if n == 4:
        memcpy(info + 4, local, 4)
        return put_item(at, SOL_IP, IP_PKTINFO, info, 12)
    memcpy(info, local, 16)
    return put_item(at, SOL_IPV6, IPV6_PKTINFO, info, 20)


def send(int fd, list packets, int first, bytes where, bytes local, bint gso):
    """Send the packets from `first` on, at most a batch, to `where` (b"": the socket is connected).

    (How many the kernel took, errno of what stopped it, how many packets that was about; 0, 0: nothing did).
    """
    cdef mmsghdr messages[BATCH]
    cdef iovec iov[BATCH]
    cdef uint8_t control[BATCH][CONTROL_BYTES]
    cdef int runs[BATCH]
    cdef int count = 0, at = 0, end = <int>len(packets) - first, begin, done, sent = 0, i
    cdef size_t size, total, used
    cdef uint16_t segment
    cdef bytes packet
    if end > BATCH:
        end = BATCH
    for i in range(end):
        packet = packets[first + i]
        iov[i].iov_base = PyBytes_AS_STRING(packet)
        iov[i].iov_len = PyBytes_GET_SIZE(packet)
    memset(messages, 0, end * sizeof(mmsghdr))
    while at < end:
        begin = at
        size = total = iov[at].iov_len
        at += 1
        while gso and at < end and 0 < iov[at].iov_len <= size and total + iov[at].iov_len <= MAX_RUN_BYTES:
            total += iov[at].iov_len
            at += 1
            if iov[at - 1].iov_len < size:
                break
        messages[count].msg_hdr.msg_iov = &iov[begin]
        messages[count].msg_hdr.msg_iovlen = at - begin
        if len(where) > 0:
            messages[count].msg_hdr.msg_name = PyBytes_AS_STRING(where)
            messages[count].msg_hdr.msg_namelen = <socklen_t>len(where)
        used = put_local(control[count], PyBytes_AS_STRING(local), PyBytes_GET_SIZE(local))
        if at - begin > 1:
            segment = <uint16_t>size
            used += put_item(control[count] + used, SOL_UDP, UDP_SEGMENT, &segment, sizeof(segment))
        if used > 0:
            messages[count].msg_hdr.msg_control = control[count]
            messages[count].msg_hdr.msg_controllen = used
        runs[count] = at - begin
        count += 1
    done = sendmmsg(fd, messages, count, MSG_DONTWAIT | MSG_NOSIGNAL)
    if done < 0:
        if runs[0] > 1 and (errno == EIO or errno == EINVAL or errno == EMSGSIZE):
            return send(fd, packets, first, where, local, False)    # this route cannot segment, or fragments
        return 0, errno, runs[0]
    for i in range(done):
        sent += runs[i]
    return sent, 0, 0
