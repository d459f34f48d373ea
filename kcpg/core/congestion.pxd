# cython: language_level=3
"""Types of congestion.py, which is compiled with them (docs/adr/0008) and runs without them."""
cimport cython

cdef double STARTUP_GAIN, STARTUP_FLIGHT_GAIN, STARTUP_GROWTH, DRAIN_GAIN, PROBE_SUCCESS
cdef double FLIGHT_GAIN, FLIGHT_LOSS_GAIN, LOSS_COMPENSATED, LOSS_REDUCES
cdef int STARTUP_ROUNDS, DRAIN_ROUNDS, CRUISE_SETTLED, FLIGHT_SLACK_MS, RATE_ROUNDS, ROUND_MIN_MS
cdef int RTT_MS, RTT_PROBE_MS, START_DATAGRAMS, LOSS_SEGMENTS, UNPACED_RTT_MS, SHORT_FLIGHT_BYTES
cdef long long UNPACED_BPS


cdef class Totals:
    cdef readonly long long sent
    cdef readonly long long acked
    cdef readonly long long first
    cdef readonly long long resent


cdef class CongestionController:
    cdef readonly object phase
    cdef readonly long long rate_bps
    cdef readonly long long flight_bytes
    cdef readonly long long due_ms
    cdef readonly long long delivery_bps
    cdef readonly long long min_rtt_ms
    cdef readonly double loss
    cdef long long _least
    cdef object _rates
    cdef long long _rounds
    cdef long long _start_ms
    cdef Totals _start
    cdef long long _rtt_ms
    cdef long long _min_rtt_at
    cdef long long _rtt_probe_until
    cdef long long _full_bps
    cdef int _place
    cdef long long _before_probe_bps
    cdef long long _cruise_sent
    cdef long long _cruise_resent
    cdef int _cycles
    cdef bint _whole
    cdef bint _stalled

    @cython.locals(before=Totals, started_ms="long long", elapsed_ms="long long", delivered_bps="long long",
                   starved=bint, sent="long long", resent="long long")
    cpdef round(self, long long now_ms, Totals totals, long long rtt_ms, long long starved_at)
    @cython.locals(rtt_ms="long long", best_ms="long long")
    cdef _note_rtt(self, long long now_ms)
    cdef _note_rate(self, long long delivered_bps, bint starved)
    @cython.locals(total="long long")
    cdef bint _flooded(self, long long sent, long long resent)
    @cython.locals(sent="long long", resent="long long", loss=double)
    cdef _note_loss(self)
    cdef _enter(self, phase)
    cdef _advance(self, long long now_ms, Totals totals, long long sent, long long resent, bint starved)
    cdef _start_up(self)
    @cython.locals(probed_well=bint)
    cdef _turn_cycle(self, long long sent, long long resent)
    cdef long long _path_bytes(self)
    @cython.locals(gain=double, flight_gain=double, rate_bps="long long", short=bint, slack="long long")
    cdef _decide(self)
