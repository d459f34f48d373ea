# cython: language_level=3
"""Types of liveness.py, which is compiled with them (docs/adr/0008) and runs without them."""


cdef class Liveness:
    cdef public long long rtt_ms
    cdef object _link_wire
    cdef object _counters
    cdef long long _keep_alive_ms
    cdef bint _pings
    cdef long long _begin_ms
    cdef long long _calm_ms
    cdef long long _asked_ms
    cdef object _pinged_ms
    cdef long long _ponged_ms
    cdef long long _heard_before
    cdef object _doubted_ms
    cdef long long _hold_until_ms

    cpdef advance(self, long long now_ms, bint flows, bint silent)
    cpdef ping(self, long long now_ms)
    cpdef ask_again(self, long long now_ms)
    cpdef forgive(self, long long now_ms)
    cpdef silent_at(self)
    cpdef bint is_silent(self, long long now_ms)
    cpdef ping_at(self, bint flows, bint silent)
    cdef _retry_at(self, long long pinged_ms, bint flows)
