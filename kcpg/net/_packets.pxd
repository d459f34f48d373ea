# cython: language_level=3
"""What other compiled modules use of the packets of local sockets."""
from libc.stdint cimport uint8_t

from kcpg.core.kcp._kcp cimport iovec
from kcpg.net._syscalls cimport ADDRESS_BYTES, mmsghdr

cdef enum:
    BATCH = 64                  # packets of one system call: as packets.py
    CONTROL_BYTES = 96          # UDP_SEGMENT (24) and IPV6_PKTINFO (40)


cdef struct Arrivals:
    mmsghdr messages[BATCH]
    iovec iov[BATCH]
    uint8_t names[BATCH][ADDRESS_BYTES]
    uint8_t control[BATCH][CONTROL_BYTES]


cdef uint8_t* buffers

cdef int arrive(Arrivals* a, int fd, int limit, bint named) noexcept
cdef tuple place_of(Arrivals* a, int i)
cdef size_t put_local(uint8_t* at, const void* local, size_t n) noexcept


cdef inline const uint8_t* packet_at(Arrivals* a, int i) noexcept:
    return <const uint8_t*>a.iov[i].iov_base
