# cython: language_level=3
"""C interface of the way past the splice: local flows hold one of these each."""
from libc.stdint cimport uint8_t, uint64_t

from kcpg.core.native.wire._wire cimport Bypass, Conv


cdef class SocketBypass(Bypass):
    cdef readonly Conv conv         # None: closed
    cdef int fd

    cpdef open(self)
    cpdef close(self)


cdef class TcpBypass(SocketBypass):
    cdef bint reads_much            # the last read filled what it was given

    cpdef int read(self) noexcept
    cpdef int write(self) noexcept


cdef class PacketBypass(SocketBypass):
    cdef bytes place
    cdef bint datagrams
    cdef readonly uint64_t read     # packets that went into the conversation
    cdef public int error           # errno that the socket had last, 0: none

    cdef bint put(self, const uint8_t* p, size_t n) except -1
    cpdef read_packets(self)
    cdef bint send(self, const uint8_t* p, size_t n) noexcept


cpdef read_packets_from(int fd, dict bypasses)
