"""See flight.py. Included by _wire.pxd."""

cdef enum:
    CALM_MS = 500                   # without a resend before data is saved up, as flight.py
    CALM_MAX_MS = 32000
    ROUND_WAIT_MS = 25              # for acknowledgements


cdef struct totals_t:               # as kcpg.core.congestion.Totals
    int64_t sent
    int64_t acked
    int64_t first
    int64_t resent
    int64_t acked_ms


@cython.final
cdef class Flight:
    cdef readonly object control    # CongestionController
    cdef readonly int64_t limit_bytes
    cdef readonly int64_t due_ms
    cdef int64_t low_rtt_ms         # the shortest since the last round; -1: none
    cdef totals_t totals
    cdef int64_t starved_at
    cdef readonly int64_t quantum_ms
    cdef int64_t calm_ms
    cdef int64_t calm_at
    cdef int64_t resent
    cdef bint heard                 # ... of acknowledgements has come since the last turn
    cdef int64_t batch_bytes        # of this round: the largest batch ...
    cdef object capped              # deque of Conv

    cdef int update(self, Conv conv) except -1
    cdef int admit(self, Conv conv) except -1
    cdef int leave(self, Conv conv) except -1
    cdef int run_dry(self) except -1
    cdef bint take_round(self, int64_t now_ms) noexcept
    cdef int measure(self, int64_t now_ms, int srtt_ms, bint saves) except -1
    cdef int clear(self) except -1
    cdef int64_t tally(self, Conv conv) noexcept
    cdef int release(self) except -1
