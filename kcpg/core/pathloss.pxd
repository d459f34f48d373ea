# cython: language_level=3
"""Types of pathloss.py, which is compiled with them (docs/adr/0008) and runs without them."""
cimport cython

cdef double COMPENSATED, EXCESS, EXCESS_SHARE, CHANCE, LEAST, STARTUP_EXCESS, PROBE_EXCESS, DEEPER_EXCESS
cdef double OWN_CHANCE, OWN
cdef int RISEN_ROUNDS, SEGMENTS, LISTEN_SEGMENTS, MEMORY, DOUBT_ROUNDS, VERIFY_MS, VERIFY_MOST_MS


cdef class PathLoss:
    cdef readonly double share
    cdef double _known_sent
    cdef double _full_sent
    cdef readonly long long verify_at
    cdef double _known_lost
    cdef object _risen
    cdef double _quiet_sent
    cdef double _quiet_lost
    cdef double _probe_sent
    cdef double _probe_lost
    cdef double _full_lost
    cdef long long _full_ms
    cdef long long _full_bytes
    cdef int _full_rounds
    cdef double _empty_sent
    cdef double _empty_lost
    cdef double _calm_sent
    cdef double _calm_lost
    cdef long long _verify_ms

    cpdef note_startup(self, long long sent_bps, double sent, double lost, long long path_bps)
    cpdef note_quiet(self, double sent, double lost)
    cpdef note_probe(self, double sent, double lost)
    cpdef note_full(self, double sent, double lost, long long elapsed_ms, long long acked, bint is_empty)
    cpdef forget_quiet(self)
    cpdef forget_probe(self)
    cpdef forget_full(self)
    cpdef bint floods(self, double sent, double lost)
    cpdef bint probe_floods(self)
    @cython.locals(enough=bint)
    cpdef bint is_doubtful(self)
    cpdef bint is_known(self)
    cpdef bint is_heard(self)
    cpdef bint stays_high(self)
    cpdef long long delivered_bps(self)
    cpdef bint is_policed(self)
    @cython.locals(sent=double, lost=double, found=double, loaded=double, chance=double, known=double,
                   heard=bint, own=bint)
    cpdef bint judge(self, long long now_ms, bint is_doubted, bint is_queued)
    @cython.locals(sent=double, lost=double, known=double, off=double, chance=double)
    cpdef end_cycle(self)
    cdef _know(self, double sent, double lost)
    cdef double _chance(self, double sent)
    cdef bint _exceeds(self, double sent, double lost, double slack)


@cython.locals(usual=double)
cdef double _deviation(double share, double sent, double other)
