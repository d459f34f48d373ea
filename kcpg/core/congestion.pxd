# cython: language_level=3
"""Types of congestion.py, which is compiled with them (docs/adr/0008) and runs without them."""
cimport cython

from kcpg.core.pathloss cimport PathLoss

cdef double STARTUP_GAIN, STARTUP_FLIGHT_GAIN, STARTUP_GROWTH, DRAIN_GAIN, PROBE_GAIN, PROBE_SUCCESS
cdef double PROBE_GROWTH, PROBE_GAIN_MOST, PROBE_LEAST, PROBE_STEP, REST_GAIN, CRUISE_GAIN
cdef double FLIGHT_GAIN, FLIGHT_LOSS_GAIN, FLIGHT_LEAST, FLIGHT_FEWEST, STANDING_RTT, STANDING_GAIN
cdef double LOSS_VERIFIED, CUT, CEILING_SAME, CEILING_PASSED, YIELD, QUEUE_RTT
cdef int STARTUP_ROUNDS, DRAIN_ROUNDS, DRAIN_MOST_ROUNDS, PROBE_DATAGRAMS, CRUISE, CRUISE_SETTLED
cdef int FLIGHT_SLACK_MS, FLIGHT_LEAST_MS, RATE_ROUNDS, ROUND_MIN_MS
cdef int STANDING_DATAGRAMS, STANDING_MS, STANDING_ROUNDS, COLLAPSE, COLLAPSE_ROUNDS, MOVED_RTT_MS
cdef int DRAINED_DATAGRAMS, DRAINED_RTTS, FLOOR_MS, RTT_MS, RTT_PROBE_MS, START_DATAGRAMS
cdef int LOSS_ROUNDS, VERIFY_ROUNDS, QUEUED_ROUNDS, CUT_MOST, CEILING_MS, CEILING_MOST_MS
cdef int YIELD_DATAGRAMS, QUEUE_MS, UNPACED_RTT_MS, SHORT_FLIGHT_BYTES
cdef long long UNPACED_BPS


cdef class Totals:
    cdef readonly long long sent
    cdef readonly long long acked
    cdef readonly long long first
    cdef readonly long long resent
    cdef readonly long long acked_ms


cdef class CongestionController:
    cdef readonly object phase
    cdef readonly long long rate_bps
    cdef readonly long long flight_bytes
    cdef readonly long long due_ms
    cdef readonly long long delivery_bps
    cdef readonly long long min_rtt_ms
    cdef readonly PathLoss path_loss
    cdef long long _least
    cdef object _rates
    cdef long long _rounds
    cdef Totals _start
    cdef long long _since_ms
    cdef double _gain
    cdef bint _yielded
    cdef int _place
    cdef int _phase_rounds
    cdef int _queued_rounds
    cdef long long _full_bps
    cdef long long _before_probe_bps
    cdef double _probe_gain
    cdef long long _rtt_ms
    cdef long long _min_rtt_at
    cdef long long _floor_ms
    cdef long long _floor_at
    cdef long long _rtt_probe_until
    cdef long long _low_ms
    cdef long long _low_bytes
    cdef int _standing_rounds
    cdef long long _standing_bps
    cdef long long _drained_ms
    cdef long long _slow_bps
    cdef int _slow_rounds
    cdef int _quiet_rounds
    cdef long long _sent_bps
    cdef bint _doubts
    cdef bint _verifies
    cdef bint _deeper
    cdef long long _verify_from
    cdef bint _floods
    cdef long long _ceiling_bps
    cdef long long _ceiling_until
    cdef long long _ceiling_ms

    @cython.locals(before=Totals, wait_ms="long long", acked="long long", elapsed_ms="long long",
                   starved=bint, held_back=bint, delivered_bps="long long", arrived=double)
    cpdef round(
        self, long long now_ms, Totals totals, long long rtt_ms, long long low_rtt_ms, long long starved_at)
    @cython.locals(best_ms="long long", floor_ms="long long")
    cdef _note_rtt(self, long long now_ms, long long rtt_ms)
    @cython.locals(best_ms="long long", enough=bint, path_bytes="long long", few="long long")
    cdef _note_queue(self, long long now_ms, long long acked, long long flight)
    @cython.locals(slow=bint)
    cdef _note_collapse(self, long long delivered_bps)
    @cython.locals(before_bps="long long")
    cdef long long _believable(self, long long delivered_bps)
    cdef long long _one_more_bps(self)
    @cython.locals(believed=int)
    cdef _note_rate(self, long long delivered_bps, bint starved)
    cdef _believe(self, long long rate_bps)
    @cython.locals(sent=double, loss=PathLoss)
    cdef _note_loss(self, double arrived, long long lost, long long elapsed_ms, long long acked, bint starved)
    cdef bint _is_empty(self)
    @cython.locals(again_at="long long")
    cdef _doubt(self, long long now_ms)
    cdef _judge(self, long long now_ms)
    @cython.locals(rate_bps="long long", same=bint)
    cdef _cut(self, long long now_ms)
    cdef _enter(self, phase)
    @cython.locals(drained=bint, listens=bint, heard=bint, loss=PathLoss)
    cdef _advance(self, long long now_ms, Totals totals, bint starved)
    cdef _start_up(self)
    @cython.locals(probed_well=bint, place=int, more=double)
    cdef _turn_cycle(self)
    cdef _yield(self)
    @cython.locals(queue_ms="long long", share="long long")
    cdef int _shares(self)
    cdef long long _few_bytes(self)
    cdef long long _path_bytes(self)
    @cython.locals(gain=double, flight_gain=double, path_bps="long long", wanted_bps="long long",
                   rate_bps="long long", short=bint, slack="long long", least="long long")
    cdef _decide(self, long long now_ms)
