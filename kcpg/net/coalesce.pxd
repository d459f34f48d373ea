# cython: language_level=3
"""Types of coalesce.py, which is compiled with them (docs/adr/0008) and runs without them."""
cimport cython

cdef int LEAST_DATAGRAMS
cdef int STAY_DATAGRAMS


cdef class Coalescing:
    cdef readonly long long look_ms
    cdef long long _since_ms
    cdef long long _count

    @cython.locals(stays=bint)
    cpdef taken(self, long long now_ms, long long count, long long coalesce_ms)
    @cython.locals(elapsed_ms="long long", enough=bint)
    cdef bint _is_worth_it(self, long long now_ms, long long count, long long coalesce_ms) except -1
