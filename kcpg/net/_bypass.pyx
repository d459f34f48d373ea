# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The way past the splice, compiled: between local sockets and the segments of conversations. See bypass.py.

TCP is read into and written out of segment slots: the kernel copies, nobody else. Packets pass one buffer.
"""
from libc.errno cimport EAGAIN, ECONNREFUSED, EINTR, ENOBUFS, errno
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memset

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from kcpg.core.kcp._kcp cimport (
    iovec, kcp_read_begin, kcp_read_commit, kcp_room, kcp_unread, kcp_write_begin, kcp_write_commit,
)
from kcpg.core.native.wire._wire cimport Bypass, Conv
from kcpg.net._packets cimport CONTROL_BYTES, Arrivals, arrive, buffers, packet_at, place_of, put_local
from kcpg.net._syscalls cimport MSG_DONTWAIT, MSG_NOSIGNAL, msghdr, remote_bytes, sendmsg, socklen_t

__all__ = ["CompiledConv", "PacketBypass", "TcpBypass", "read_packets_from"]

CompiledConv = Conv

cdef extern from "<sys/uio.h>" nogil:
    ssize_t readv(int fd, const iovec* iov, int count)

cdef enum:
    SLOTS = 64                  # segments of one readv or sendmsg of TCP, about 88 kB
    FEW_SLOTS = 4               # where the last read was short, and at first
    SHORT_READ = 4096           # as bypass.py
    CARRY_SEGMENTS = 32         # as bypass.py
    NO_ROOM = -10000            # as bypass.py
    FEW_PACKETS = 8             # of one call; where there are more, others batch them


cdef class SocketBypass(Bypass):
    """A socket and the conversation at its other side."""

    cpdef open(self):
        """Let what little comes for the conversation be written to the socket at once."""
        if self.conv is not None:
            self.conv.set_bypass(self)

    cpdef close(self):
        """No more; to be said before the descriptor is closed. Idempotent."""
        if self.conv is not None:
            self.conv.set_bypass(None)
            self.conv = None


cdef class TcpBypass(SocketBypass):
    """One TCP socket and the conversation at its other side."""

    def __init__(self, Conv conv not None, int fd):
        self.conv = conv
        self.fd = fd

    cpdef int read(self) noexcept:
        """Read from the socket into the conversation's segments.

        Bytes read; 0: end of file; NO_ROOM: not tried, WRITABLE follows; -ENOBUFS: the system has no memory;
        -errno.
        """
        cdef Conv conv = self.conv
        cdef iovec iov[SLOTS]
        cdef ssize_t got, space = 0
        cdef int count, error, i
        if conv is None or conv.closed:
            return NO_ROOM
        if kcp_room(&conv.k) == 0:
            conv.changed()      # so that it hears of room: in its own queue, or in the pool
            return NO_ROOM
        count = kcp_write_begin(&conv.k, iov, SLOTS if self.reads_much else FEW_SLOTS)
        for i in range(count):
            space += iov[i].iov_len
        got = readv(self.fd, iov, count) if count > 0 else -1
        error = errno if count > 0 else ENOBUFS
        kcp_write_commit(&conv.k, <size_t>got if got > 0 else 0)
        if got > 0:
            # Slots that stay empty are taken and given back for nothing, at each request of 64 bytes.
            self.reads_much = got == space or got >= SHORT_READ
            conv.changed()
        return <int>got if got >= 0 else (-EAGAIN if error == EINTR else -error)

    cpdef int write(self) noexcept:
        """Write the conversation's unread bytes to the socket: bytes written; 0: there are none; -errno."""
        cdef Conv conv = self.conv
        cdef iovec iov[SLOTS]
        cdef msghdr message
        cdef ssize_t put
        cdef int error
        if conv is None or conv.closed:
            return 0
        memset(&message, 0, sizeof(message))
        message.msg_iov = iov
        message.msg_iovlen = <size_t>kcp_read_begin(&conv.k, iov, SLOTS)
        if message.msg_iovlen == 0:
            return 0
        put = sendmsg(self.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
        error = errno
        kcp_read_commit(&conv.k, <size_t>put if put > 0 else 0)
        if put > 0:
            conv.changed()
        return <int>put if put >= 0 else (-EAGAIN if error == EINTR else -error)

    cdef bint carry(self, Conv conv) except -1:
        cdef int put
        if kcp_unread(&conv.k) > CARRY_SEGMENTS:
            return False
        put = self.write()
        if put <= 0:
            return False
        conv.bypassed += <uint64_t>put
        return conv.is_served()


cdef class PacketBypass(SocketBypass):
    """One UDP association and the conversation at its other side.

    `place`: where packets go, a packed remote address and behind it a local one or nothing; b"" where the
    socket is connected. `datagrams`: what is read travels unreliably.
    """

    def __init__(self, Conv conv not None, int fd, bytes place not None, bint datagrams):
        self.conv = conv
        self.fd = fd
        self.place = place
        self.datagrams = datagrams

    cdef bint put(self, const uint8_t* p, size_t n) except -1:
        """One packet into the conversation; False: there is no room."""
        if self.conv is None or self.conv.closed or not self.conv.put_packet(p, n, self.datagrams):
            return False
        self.read += 1
        return True

    cpdef read_packets(self):
        """Read a few packets of the connected socket into the conversation.

        None: that is all there is to do; else the packets that it did not take, and more may wait.
        """
        cdef Arrivals a
        cdef int i, count
        cdef list left = None
        if self.conv is None or self.conv.closed:
            return []
        count = arrive(&a, self.fd, FEW_PACKETS, False)
        if count <= 0:
            if count < 0 and errno != EAGAIN and errno != EINTR:
                self.error = errno
            return []
        for i in range(count):
            if left is not None or not self.put(packet_at(&a, i), a.messages[i].msg_len):
                left = [] if left is None else left
                left.append(packet_at(&a, i)[:a.messages[i].msg_len])
        self.conv.changed()
        return [] if left is None and count == FEW_PACKETS else left

    cdef bint carry(self, Conv conv) except -1:
        cdef int size, left = FEW_PACKETS
        if kcp_unread(&conv.k) > FEW_PACKETS:
            return False        # together, by whoever sends batches
        while left > 0:
            size = conv.take_packet(buffers)
            if size < 0:
                break
            if not self.send(buffers, <size_t>size):
                conv.return_packet(buffers, <size_t>size)   # it waits for whoever tells the errors
                break
            conv.bypassed += 1
            left -= 1
        conv.changed()
        return conv.is_served()

    cdef bint send(self, const uint8_t* p, size_t n) noexcept:
        """Send one packet; False: the kernel did not take it."""
        cdef msghdr message
        cdef iovec iov
        cdef uint8_t control[CONTROL_BYTES]
        cdef uint8_t* place = <uint8_t*>PyBytes_AS_STRING(self.place)
        cdef size_t length = PyBytes_GET_SIZE(self.place), name
        memset(&message, 0, sizeof(message))
        iov.iov_base = <void*>p
        iov.iov_len = n
        message.msg_iov = &iov
        message.msg_iovlen = 1
        if length > 0:
            name = remote_bytes(place, length)
            message.msg_name = place
            message.msg_namelen = <socklen_t>name
            if length > name:
                message.msg_control = control
                message.msg_controllen = put_local(control, place + name, length - name)
        if sendmsg(self.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0:
            return True
        if errno == ECONNREFUSED:
            self.error = errno      # of a packet before; this one is sent by the flow, which hears of it
        return False


cpdef read_packets_from(int fd, dict bypasses):
    """Read a few packets of a listening socket into conversations, {(source, asked): PacketBypass}.

    None: that is all there is to do; else a batch of those that have no conversation or that it did not take,
    {place: packets}, and more may wait.
    """
    cdef Arrivals a
    cdef int i, count = arrive(&a, fd, FEW_PACKETS, True)
    cdef PacketBypass bypass
    cdef dict left = {}
    if count <= 0:
        return left
    for i in range(count):
        place = place_of(&a, i)
        if place is None:
            continue
        bypass = bypasses.get(place)
        if bypass is not None and place not in left and bypass.put(packet_at(&a, i), a.messages[i].msg_len):
            bypass.conv.changed()
        else:
            left.setdefault(place, []).append(packet_at(&a, i)[:a.messages[i].msg_len])
    return left if left or count == FEW_PACKETS else None
