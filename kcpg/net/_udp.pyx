# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Batched system calls between sockets and the compiled data plane.

The plain-Python twin is `udp.py`. Receiving: one recvmmsg takes a few buffers, each with up to 64 kB of equal
datagrams (UDP_GRO), which are opened where they lie; a batch is several of these calls. Sending: the wire's
vector is cut into runs of one path and one size, each run is one message with UDP_SEGMENT, and as many
messages as possible are one sendmmsg. A local address behind the remote one travels as IP_PKTINFO or
IPV6_PKTINFO, both ways.
"""
from collections import Counter

from libc.errno cimport (
    EADDRNOTAVAIL, EAGAIN, EINTR, EINVAL, EIO, EMSGSIZE, ENETUNREACH, errno,
)
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from kcpg.core._datagramwire cimport DatagramWire
from kcpg.core.kcp._kcp cimport Path, Tx, iovec
from kcpg.net._syscalls cimport (
    ADDRESS_BYTES, CMSG_DATA, CMSG_FIRSTHDR, CMSG_LEN, CMSG_NXTHDR, CMSG_SPACE, MSG_DONTWAIT, MSG_NOSIGNAL,
    NAME4_BYTES, cmsghdr, mmsghdr, msghdr, recvmmsg, remote_bytes, sendmmsg,
)

from kcpg.core.stun import COOKIE, COOKIE_AT
from kcpg.net.udp import MAX_RUN_BYTES as _MAX_RUN_BYTES
from kcpg.net.udp import MAX_RUN_DATAGRAMS as _MAX_RUN_DATAGRAMS
from kcpg.net.udp import NAMES

__all__ = ["UdpIo"]

cdef enum:
    SOL_UDP = 17                # include/uapi/linux/udp.h
    UDP_SEGMENT = 103
    UDP_GRO = 104
    BUFFERS = 32                # of one recvmmsg where datagrams come singly ...
    JOINED_BUFFERS = 4          # ... and where the kernel joins them: 256 kB, which the L2 cache holds
    JOINED_BYTES = 16384        # a message of more than this has many
    BATCH_BYTES = 1048576       # of one batch, about ...
    BATCH_MESSAGES = 64         # ... and no more than this: acknowledgements leave after each
    MAX_GRO_BYTES = 65536       # the most that GRO joins
    BUFFER_STRIDE = 67136       # 25 cache lines more, as the beginnings of all would be in the same sets
    SOL_IP = 0                  # include/uapi/linux/in.h and in6.h
    IP_PKTINFO = 8
    SOL_IPV6 = 41
    IPV6_PKTINFO = 50
    INFO4_BYTES = 12            # struct in_pktinfo: interface, local address, destination
    INFO6_BYTES = 20            # struct in6_pktinfo: local address, interface
    CONTROL_BYTES = 96          # as pktinfo.py
    MESSAGES = 64               # of one sendmmsg; a wire's vector has at most 128 datagrams
    VECTORS = 4                 # vectors of one transmit(): the node advances in between
    MAX_TOO_BIG = 64            # as udp.py

cdef int MAX_RUN_DATAGRAMS = _MAX_RUN_DATAGRAMS
cdef uint32_t MAX_RUN_BYTES = _MAX_RUN_BYTES

# What a STUN message has at STUN_AT: a datagram of ours has it by chance once in 2^32.
cdef uint8_t[4] STUN_COOKIE
memcpy(STUN_COOKIE, <const uint8_t*><bytes>COOKIE, 4)
cdef uint32_t STUN_AT = COOKIE_AT

# One set for all sockets of the process: a batch is used up before the next one is received.
cdef uint8_t* rx_buffers = <uint8_t*>malloc(BUFFERS * BUFFER_STRIDE)
if rx_buffers == NULL:
    raise MemoryError()


cdef uint32_t read_control(msghdr* message, Path* path) noexcept nogil:
    """Put the local address behind the remote one. Gives the size of the datagrams that GRO joined; 0: it is
    a single one."""
    cdef cmsghdr* item = CMSG_FIRSTHDR(message)
    cdef uint32_t gro = 0
    cdef int size
    while item != NULL:
        if item.cmsg_level == SOL_UDP and item.cmsg_type == UDP_GRO:
            memcpy(&size, CMSG_DATA(item), sizeof(size))
            gro = <uint32_t>size if size > 0 else 0
        elif item.cmsg_level == SOL_IPV6 and item.cmsg_type == IPV6_PKTINFO:
            memcpy(path.addr + path.addrlen, CMSG_DATA(item), 16)
            path.addrlen += 16
        elif item.cmsg_level == SOL_IP and item.cmsg_type == IP_PKTINFO:
            memcpy(path.addr + path.addrlen, CMSG_DATA(item) + 4, 4)
            path.addrlen += 4
        item = CMSG_NXTHDR(message, item)
    return gro


cdef inline uint8_t name_bytes(const Path* path) noexcept nogil:
    """The length of the remote address alone."""
    return remote_bytes(path.addr, path.addrlen)


cdef inline size_t write_local(const Path* path, uint8_t name, cmsghdr* item) noexcept nogil:
    """Say from which address to send; the bytes of control data that takes."""
    if name == NAME4_BYTES:
        item.cmsg_level = SOL_IP
        item.cmsg_type = IP_PKTINFO
        item.cmsg_len = CMSG_LEN(INFO4_BYTES)
        memcpy(CMSG_DATA(item) + 4, path.addr + name, 4)
        return CMSG_SPACE(INFO4_BYTES)
    item.cmsg_level = SOL_IPV6
    item.cmsg_type = IPV6_PKTINFO
    item.cmsg_len = CMSG_LEN(INFO6_BYTES)
    memcpy(CMSG_DATA(item), path.addr + name, 16)
    return CMSG_SPACE(INFO6_BYTES)


cdef inline bint same_path(const Path* a, const Path* b) noexcept nogil:
    return a.sock == b.sock and a.addrlen == b.addrlen and memcmp(a.addr, b.addr, a.addrlen) == 0


cdef class UdpIo(DatagramIo):
    """Datagrams between the sockets of one leg and its compiled wire; see `kcpg.net.udp.UdpIo`."""

    def __init__(self, DatagramWire wire not None):
        self.wire = wire
        self.errors = Counter()
        self.sockets = {}
        self.buffers = JOINED_BUFFERS
        self.faults = {}
        self.too_big = {}

    def __dealloc__(self):
        free(self.ports)

    def add(self, uint32_t sock_id, sock):
        """Use `sock` (a UdpSocket) under the number `sock_id` (replaces what had it)."""
        cdef uint32_t wanted = sock_id + 1
        cdef Port* grown
        cdef uint32_t i
        assert sock_id <= 0xFFFF, "a path names its socket with 16 bits"
        if wanted > self.port_count:
            grown = <Port*>realloc(self.ports, wanted * sizeof(Port))
            if grown == NULL:
                raise MemoryError()
            self.ports = grown
            for i in range(self.port_count, wanted):
                grown[i].fd = -1
            self.port_count = wanted
        self.ports[sock_id].fd = sock.fd
        self.ports[sock_id].gso = sock.gso
        self.ports[sock_id].doubted = False
        self.sockets[sock_id] = sock

    def remove(self, uint32_t sock_id):
        """Forget the socket (the caller closes it); datagrams waiting for it are dropped."""
        if self.sockets.pop(sock_id, None) is not None:
            self.ports[sock_id].fd = -1
        self.faults.pop(sock_id, None)

    @property
    def backlog(self):
        """More can be transmitted at once: the last call stopped at its bound."""
        return self.wire.backlog    # an attribute of what derives from it

    cpdef bint troubled(self) except -1:
        """There are faults, or datagrams that were too big."""
        return len(self.faults) + len(self.too_big) > 0

    def take_faults(self):
        """Sockets that had an error since the last call, with the last errno."""
        faults = self.faults
        if faults:
            self.faults = {}
        return faults

    def take_too_big(self):
        """Paths whose interface takes no datagram of this size, since the last call."""
        too_big = self.too_big
        if too_big:
            self.too_big = {}
        return too_big

    cpdef long long receive(self, unsigned int sock_id, unsigned long long now_ms) except -1:
        """Feed one batch of waiting datagrams to the wire; how many there were (0: the socket is dry)."""
        cdef uint64_t before = self.datagrams_in
        cdef int64_t size, total = 0
        cdef int count = self.buffers, messages = 0
        self.more = True
        while self.more and total < BATCH_BYTES and messages < BATCH_MESSAGES:
            size = self.receive_some(sock_id, &count, now_ms)
            if count == 0:
                break
            total += size
            messages += count
            count = JOINED_BUFFERS if size > <int64_t>count * JOINED_BYTES else BUFFERS
        # A lone datagram needs few; where the kernel joins them, few hold many.
        self.buffers = JOINED_BUFFERS
        if messages > JOINED_BUFFERS and total < <int64_t>messages * JOINED_BYTES:
            self.buffers = BUFFERS
        self.wire.run_bypasses()
        return <int64_t>(self.datagrams_in - before)

    cdef int64_t receive_some(self, uint32_t sock_id, int* count, uint64_t now_ms) except -1:
        """One recvmmsg of `count` buffers; how many bytes came to the wire, and in how many messages.

        `more` stays set if there may be more.
        """
        cdef mmsghdr messages[BUFFERS]
        cdef iovec iov[BUFFERS]
        cdef uint8_t names[BUFFERS][ADDRESS_BYTES]
        cdef uint8_t control[BUFFERS][CONTROL_BYTES]
        cdef Port* port = self.port(sock_id)
        cdef Path path
        cdef uint32_t size
        cdef int i, got, wanted = count[0]
        cdef int64_t total = 0
        count[0] = 0
        if port == NULL:
            self.more = False
            return 0
        memset(messages, 0, wanted * sizeof(mmsghdr))
        for i in range(wanted):
            iov[i].iov_base = rx_buffers + i * BUFFER_STRIDE
            iov[i].iov_len = MAX_GRO_BYTES
            messages[i].msg_hdr.msg_iov = &iov[i]
            messages[i].msg_hdr.msg_iovlen = 1
            messages[i].msg_hdr.msg_name = names[i]
            messages[i].msg_hdr.msg_namelen = ADDRESS_BYTES
            messages[i].msg_hdr.msg_control = control[i]
            messages[i].msg_hdr.msg_controllen = CONTROL_BYTES
        got = recvmmsg(port.fd, messages, wanted, MSG_DONTWAIT, NULL)
        if got < 0:
            self.more = False
            if errno != EAGAIN and errno != EINTR:
                self.refused(sock_id, errno, NULL, 1)  # an ICMP error of an earlier one; the socket is fine
                self.more = True
            return 0
        count[0] = got
        self.more = got == wanted
        path.sock = <uint16_t>sock_id
        for i in range(got):
            if messages[i].msg_hdr.msg_namelen > ADDRESS_BYTES or messages[i].msg_len == 0:
                continue
            path.addrlen = <uint8_t>messages[i].msg_hdr.msg_namelen
            memcpy(path.addr, names[i], path.addrlen)
            size = read_control(&messages[i].msg_hdr, &path)
            if size == 0:
                size = messages[i].msg_len
            total += messages[i].msg_len
            self.datagrams_in += (messages[i].msg_len + size - 1) // size
            if memcmp(<uint8_t*>iov[i].iov_base + STUN_AT, STUN_COOKIE, 4) == 0:
                take = self.sockets[sock_id].stun
                if take is not None:
                    self.offer(take, &path, <uint8_t*>iov[i].iov_base, messages[i].msg_len, size, now_ms)
                    continue
            self.wire.receive_run(&path, <uint8_t*>iov[i].iov_base, messages[i].msg_len, size, now_ms)
        return total

    cpdef int transmit(self, unsigned long long now_ms) except -2:
        """Hand what the wire has now to the kernel, a bounded number.

        Returns -1, or the number of the socket whose buffer is full: the rest is kept; call again when it is
        writable.
        """
        cdef DatagramWire wire = self.wire
        cdef int blocked
        for _ in range(VECTORS):
            if wire.build(now_ms) <= 0:
                return -1
            while wire.tx_cursor < wire.tx.count:
                blocked = self.send_some()
                if blocked >= 0:
                    return blocked
            wire.tx_done()
        return -1

    cpdef long long deadline_ms(self) except -2:
        """When the wire wants to transmit though nothing happens; at least `clock.NEVER_MS`: never."""
        return self.wire.due()

    cpdef int coalesce_ms(self, unsigned long long now_ms) except -1:
        """How long the datagrams that come next may be left in the sockets; see datagrams.py."""
        return self.wire.coalesce_ms(<int64_t>now_ms)

    cpdef bint has_news(self) except -1:
        """The wire's `news`."""
        return self.wire.has_news()

    cdef int send_some(self) except -1:
        """One sendmmsg from the vector's cursor on; -2: go on, else the number of the socket that is full."""
        cdef mmsghdr messages[MESSAGES]
        cdef iovec iov[MESSAGES]
        cdef int runs[MESSAGES]
        cdef uint8_t control[MESSAGES][CONTROL_BYTES]
        cdef DatagramWire wire = self.wire
        cdef Tx* tx = &wire.tx
        cdef int at = wire.tx_cursor, sock_id = tx.path[at].sock, count = 0, done, i
        cdef uint32_t size
        cdef Port* port = self.port(sock_id)
        cdef cmsghdr* item
        cdef uint16_t segment
        cdef uint8_t name
        cdef size_t used
        while at < tx.count and count < MESSAGES and tx.path[at].sock == sock_id:
            runs[count] = self.run(at, &size)
            memset(&messages[count], 0, sizeof(mmsghdr))
            iov[count].iov_base = tx.buf + tx.off[at]
            iov[count].iov_len = size
            messages[count].msg_hdr.msg_iov = &iov[count]
            messages[count].msg_hdr.msg_iovlen = 1
            messages[count].msg_hdr.msg_name = tx.path[at].addr
            name = name_bytes(&tx.path[at])
            messages[count].msg_hdr.msg_namelen = name
            used = 0
            if tx.path[at].addrlen > name or runs[count] > 1:
                messages[count].msg_hdr.msg_control = control[count]
                memset(control[count], 0, CONTROL_BYTES)
            if tx.path[at].addrlen > name:
                used = write_local(&tx.path[at], name, <cmsghdr*>control[count])
            if runs[count] > 1:
                item = <cmsghdr*>(control[count] + used)
                used += CMSG_SPACE(sizeof(segment))
                item.cmsg_level = SOL_UDP
                item.cmsg_type = UDP_SEGMENT
                item.cmsg_len = CMSG_LEN(sizeof(segment))
                segment = <uint16_t>tx.len[at]
                memcpy(CMSG_DATA(item), &segment, sizeof(segment))
            messages[count].msg_hdr.msg_controllen = used
            at += runs[count]
            count += 1
        if port == NULL:
            self.errors["socket_gone"] += at - wire.tx_cursor
            wire.tx_cursor = at
            return -2
        done = sendmmsg(port.fd, messages, count, MSG_DONTWAIT | MSG_NOSIGNAL)
        if done >= 0:
            for i in range(done):
                wire.tx_cursor += runs[i]
                self.datagrams_out += runs[i]
            if port.doubted:
                port.doubted = False
                self.sockets[sock_id].gso = False   # this route or device cannot segment
                self.errors["gso_off"] += 1
            return -2
        if errno == EINTR:
            return -2
        if errno == EAGAIN:
            return sock_id
        if self.forget_local(runs[0], errno):
            return -2
        if runs[0] > 1 and (errno == EIO or errno == EINVAL or errno == EMSGSIZE):
            port.gso = False                        # singly, which will tell
            port.doubted = True
            return -2
        if errno == EMSGSIZE:
            port.gso |= port.doubted
            port.doubted = False
            self.note_too_big(sock_id, &tx.path[wire.tx_cursor], tx.len[wire.tx_cursor])
        else:
            self.refused(sock_id, errno, &tx.path[wire.tx_cursor], runs[0])
        wire.tx_cursor += runs[0]
        return -2

    cdef bint forget_local(self, int count, int error) except -1:
        """Whether the machine may have lost the address that the next datagrams were to leave from; then they
        leave from whatever the kernel chooses."""
        cdef Tx* tx = &self.wire.tx
        cdef int at = self.wire.tx_cursor, i
        cdef uint8_t name = name_bytes(&tx.path[at])
        if tx.path[at].addrlen == name or error not in (EINVAL, EADDRNOTAVAIL, ENETUNREACH):
            return False
        for i in range(at, at + count):
            tx.path[i].addrlen = name
        self.errors["source_gone"] += count
        return True

    cdef int run(self, int first, uint32_t* size) except -1:
        """How many datagrams from `first` on may be one message, and their bytes.

        One message has one path and one size of datagrams; the last may be shorter.
        """
        cdef Tx* tx = &self.wire.tx
        cdef Port* port = self.port(tx.path[first].sock)
        cdef int i = first + 1
        size[0] = tx.len[first]
        if port == NULL or not port.gso:
            return 1
        while (
            i < tx.count
            and i - first < MAX_RUN_DATAGRAMS
            and tx.len[i] <= tx.len[first]
            and size[0] + tx.len[i] <= MAX_RUN_BYTES
            and tx.off[i] == tx.off[i - 1] + tx.len[i - 1]
            and same_path(&tx.path[i], &tx.path[first])
        ):
            size[0] += tx.len[i]
            i += 1
            if tx.len[i - 1] < tx.len[first]:
                break
        return i - first

    cdef Port* port(self, uint32_t number):
        if number >= self.port_count or self.ports[number].fd < 0:
            return NULL
        return &self.ports[number]

    cdef int offer(self, object take, const Path* path, uint8_t* data, uint32_t n, uint32_t size,
                   uint64_t now_ms) except -1:
        """Offer `take` each of the n bytes' datagrams of `size`; what it refuses is the wire's."""
        cdef uint32_t at, piece
        cdef bytes source = <bytes>(<const uint8_t*>path.addr)[:name_bytes(path)]
        at = 0
        while at < n:
            piece = size if n - at >= size else n - at
            if not take(source, <bytes>data[at : at + piece]):
                self.wire.receive_run(path, data + at, piece, piece, now_ms)
            at += piece
        return 0

    cdef void note_too_big(self, int number, const Path* path, uint32_t size):
        if len(self.too_big) < MAX_TOO_BIG:
            self.too_big[number, (<const uint8_t*>path.addr)[:path.addrlen]] = size

    cdef void refused(self, int number, int error, const Path* path, uint32_t times):
        name = NAMES.get(error)
        self.errors[name if name is not None else f"errno_{error}"] += times
        self.faults[number] = error, b"" if path == NULL else (<const uint8_t*>path.addr)[:name_bytes(path)]
