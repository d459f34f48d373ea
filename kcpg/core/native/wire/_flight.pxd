"""See flight.py. Included by _wire.pxd."""

cdef enum:
    SPARSE_SEGMENTS = 4             # that go before others


cdef struct totals_t:               # as kcpg.core.congestion.Totals
    int64_t sent
    int64_t acked
    int64_t first
    int64_t resent


cdef class Flight:
    cdef readonly object control    # CongestionController
    cdef readonly int64_t limit_bytes
    cdef readonly int64_t due_ms
    cdef totals_t totals
    cdef int64_t starved_at
    cdef object capped              # deque of Conv

    cdef void update(self, Conv conv)
    cdef void admit(self, Conv conv)
    cdef void leave(self, Conv conv)
    cdef void run_dry(self)
    cdef int measure(self, int64_t now_ms, int srtt_ms) except -1
    cdef void clear(self)
    cdef bint tally(self, Conv conv)
    cdef void release(self)
