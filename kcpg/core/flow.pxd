# cython: language_level=3
"""Types of flow.py, which is compiled with them (docs/adr/0008) and runs without them."""


cdef class Open:
    cdef readonly object kind
    cdef readonly object target
    cdef readonly str source
    cdef public object asker
    cdef public str user


cdef class Moved:
    cdef readonly long long amount
    cdef readonly object blocked


cdef class Flow:
    cdef public object kind
    cdef public object splice           # a Splice, whose module needs this one
    cdef public bint opening
    cdef public bint closed

    cdef _begin(self, kind)
    cpdef Moved move_to(self, Flow sink)
    cpdef Moved pull(self, Flow source)
    cpdef read(self, limit)
    cpdef write(self, data)
    cpdef recv_packets(self, limit)
    cpdef send_packets(self, packets)
    cpdef recv_packet(self)
    cpdef send_packet(self, packet)
    cpdef long long bypassed(self) except -1
    cpdef end(self)
    cpdef reset(self, reason)
    cpdef release(self)
    cpdef wake(self, int events)


cpdef Moved copy_bytes(Flow source, Flow sink)
cpdef Moved copy_packets(Flow source, Flow sink, long long limit)
