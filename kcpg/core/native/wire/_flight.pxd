"""See flight.py. Included by _wire.pxd."""

cdef enum:
    SPARSE_SEGMENTS = 4             # that go before others


cdef struct totals_t:               # as kcpg.core.congestion.Totals
    int64_t sent
    int64_t acked
    int64_t first
    int64_t resent


@cython.final
cdef class Flight:
    cdef readonly object control    # CongestionController
    cdef readonly int64_t limit_bytes
    cdef readonly int64_t due_ms
    cdef totals_t totals
    cdef int64_t starved_at
    cdef object capped              # deque of Conv

    cdef int update(self, Conv conv) except -1
    cdef int admit(self, Conv conv) except -1
    cdef int leave(self, Conv conv) except -1
    cdef int run_dry(self) except -1
    cdef int measure(self, int64_t now_ms, int srtt_ms) except -1
    cdef int clear(self) except -1
    cdef bint tally(self, Conv conv)
    cdef int release(self) except -1
