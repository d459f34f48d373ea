# cython: language_level=3
"""What other compiled modules use of the packets of local sockets."""
from kcpg.core.native.wire._wire cimport Conv


cdef bint write_packets(Conv conv) except -1
cpdef packets_in(Conv conv, int fd)
cpdef packets_from(int fd, dict convs)
cpdef void set_packet_inlet(Conv conv, bint datagrams) noexcept
cpdef void set_packet_outlet(Conv conv, int fd, bytes place) noexcept
