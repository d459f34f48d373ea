# cython: language_level=3
"""What the compiled socket functions keep between calls."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from kcpg.core._datagramwire cimport DatagramWire
from kcpg.core.kcp._kcp cimport Path
from kcpg.net.datagrams cimport DatagramIo


cdef struct Port:               # one socket, found by its number
    int fd                      # -1: none
    bint gso
    bint doubted                # as UdpSocket.gso_doubted


cdef class UdpIo(DatagramIo):
    cdef readonly DatagramWire wire
    cdef Port* ports
    cdef uint32_t port_count
    cdef dict sockets
    cdef int buffers                # of the next recvmmsg
    cdef dict faults
    cdef dict too_big

    cdef Port* port(self, uint32_t number)
    cdef int offer(self, object take, const Path* path, uint8_t* data, uint32_t n, uint32_t size,
                   uint64_t now_ms) except -1
    cdef void note_too_big(self, int number, const Path* path, uint32_t size)
    cdef void refused(self, int number, int error, const Path* path, uint32_t times)
    cdef bint forget_local(self, int count, int error) except -1
    cdef int run(self, int first, uint32_t* size) except -1
    cdef int send_some(self) except -1
    cdef int64_t receive_some(self, uint32_t sock_id, int* count, uint64_t now_ms) except -1
