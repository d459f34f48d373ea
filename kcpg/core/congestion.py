"""Congestion control of one link: BBR's idea over KCP's acknowledgements.

A model of the path, its rate and its shortest round trip, decides how fast data leaves and how much of it may
be unacknowledged. Loss alone says nothing about a path's rate, so it does not slow a link down, unless most
of a round is lost. Sans-IO: the link's flight calls `round` when `due_ms` has come, with running totals, and
the link obeys `rate_bps` and `flight_bytes`. Where no other source is named, it is
draft-cardwell-iccrg-bbr-congestion-control-02.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

STARTUP_GAIN = 2.77  # doubles what is delivered every round
STARTUP_FLIGHT_GAIN = 2.0
STARTUP_GROWTH = 1.25  # a round that delivers this much more: the path is not full yet
STARTUP_ROUNDS = 3  # after this many rounds without it the path is full
DRAIN_GAIN = 1 / STARTUP_GAIN
DRAIN_ROUNDS = 3  # what was lost looks like flight, so that flight alone would not end it
PROBE_GAIN = 1.25
PROBE_SUCCESS = 1.15  # the path took most of what the probe sent more: probe on at once
REST_GAIN = 0.75
# Just below the path's rate, so that the loss measured here is the path's own and errors in the rate decay.
CRUISE_GAIN = 0.98

CYCLE = (PROBE_GAIN, REST_GAIN, *(CRUISE_GAIN,) * 6)
CRUISE_SETTLED = 3  # from this place of the cycle on, the losses of the probe were resent already

# Beyond a full path: half a round trip of queue at the most, for the probes and late acknowledgements.
FLIGHT_GAIN = 1.5
FLIGHT_LOSS_GAIN = 3.0  # what is lost stays unacknowledged until its resend is, one to two round trips later
FLIGHT_SLACK_MS = 3  # clocks of milliseconds, at both ends, and the turns of two event loops

RATE_ROUNDS = 10  # rounds that a best delivery rate is believed
ROUND_MIN_MS = 8  # shorter ones measure the event loop's turns rather than the path
RTT_MS = 10_000  # how long a shortest round trip is believed
RTT_PROBE_MS = 100  # for this long half a BDP is in flight, which shows the round trip without a queue
START_DATAGRAMS = 32  # of flight before anything was measured; what large sites let TCP begin with

LOSS_COMPENSATED = 0.2  # most of the path's own loss that is made up for by sending more
LOSS_REDUCES = 0.25  # more lost than usual in a round: the path (or a policer) does not take this rate
LOSS_SEGMENTS = 32  # transmissions of a round that make its loss worth a thought

UNPACED_RTT_MS = 1  # on a path this short pacing saves no queue; the flight is limited all the same
# The most on such a path. The socket of a peer that is not running at the moment must hold all of it, and has
# this much room (`kcpg.net.udp.BUFFER_BYTES`). The rate says little there: it measures bursts.
SHORT_FLIGHT_BYTES = 4 << 20

UNPACED_BPS = 4_000_000_000  # pacing in milliseconds would cost such rates more than it gives


class Phase(Enum):
    """What the controller does."""

    STARTUP = "startup"
    DRAIN = "drain"
    CYCLE = "cycle"
    RTT_PROBE = "rtt_probe"


_STARTUP, _DRAIN, _CYCLE, _RTT_PROBE = Phase  # looked up once, not in every round


class Totals:
    """Since the link began; never changed. Bytes are of segments, headers included, each counted once however
    often it was sent."""

    __slots__ = ("acked", "first", "resent", "sent")

    def __init__(self, sent: int = 0, acked: int = 0, first: int = 0, resent: int = 0) -> None:
        self.sent = sent
        self.acked = acked
        self.first = first  # segments sent the first time
        self.resent = resent  # segments sent again, less those known to have been needless


class CongestionController:
    """`rate_bps`: bits of segments per second, 0 not paced; `flight_bytes`: the most that may
    be unacknowledged; `due_ms`: when `round` is to be called, or at the first opportunity after it."""

    def __init__(self, datagram_bytes: int) -> None:
        self.phase = _STARTUP
        self.rate_bps = 0
        self.flight_bytes = self._least = START_DATAGRAMS * datagram_bytes
        self.due_ms = 0
        self.delivery_bps = 0  # the path's rate; 0: unknown
        self.min_rtt_ms = -1
        self.loss = 0.0  # the path's own
        self._rates: deque[tuple[int, int]] = deque()  # (round, bit/s), falling: candidates for the largest
        self._rounds = 0  # those that measured the path
        self._start_ms = -1
        self._start = Totals()
        self._rtt_ms = -1
        self._min_rtt_at = 0
        self._rtt_probe_until = 0
        self._full_bps = 0
        self._place = 0  # rounds of DRAIN or of the cycle that are over
        self._before_probe_bps = 0
        self._cruise_sent = 0  # segments of the settled part of this cycle
        self._cruise_resent = 0
        self._cycles = 0
        self._whole = False  # this cycle was run from its beginning, so nothing of STARTUP is resent in it
        self._stalled = True

    def round(self, now_ms: int, totals: Totals, rtt_ms: int, starved_at: int) -> None:
        """Measure what came since the last call, and decide anew.

        `rtt_ms`: the smoothed round trip, -1 unknown. `starved_at`: `acked` beyond which nothing had been
        held back by this controller; up to it the application's rate was measured, not the path's.
        """
        before, started_ms = self._start, self._start_ms
        self._start, self._start_ms = totals, now_ms
        self.due_ms = now_ms + max(rtt_ms, ROUND_MIN_MS)
        if started_ms < 0 or rtt_ms < 0 or totals.acked <= before.acked:
            self._stalled = True  # nothing was heard: nothing is known
            return
        self._rtt_ms = rtt_ms
        self._note_rtt(now_ms)
        elapsed_ms = max(now_ms - started_ms, self.min_rtt_ms)
        delivered_bps = (totals.acked - before.acked) * 8000 // elapsed_ms
        starved = before.acked < starved_at
        self._note_rate(delivered_bps, starved)
        sent, resent = totals.first - before.first, totals.resent - before.resent
        if not starved and self._flooded(sent, resent):
            self._rates = deque([(self._rounds, delivered_bps)])
            self.delivery_bps = delivered_bps
            self._enter(_DRAIN)
        self._stalled = False
        self._advance(now_ms, totals, sent, resent, starved)
        self._decide()

    # Measurements.

    def _note_rtt(self, now_ms: int) -> None:
        rtt_ms, best_ms = self._rtt_ms, self.min_rtt_ms
        if best_ms < 0 or rtt_ms < best_ms:
            self.min_rtt_ms = rtt_ms
        if best_ms < 0 or rtt_ms <= best_ms + max(best_ms // 8, 1):
            self._min_rtt_at = now_ms

    def _note_rate(self, delivered_bps: int, starved: bool) -> None:
        """The best of the last rounds; the application's own pauses neither lower nor age it."""
        if starved and delivered_bps < self.delivery_bps:
            return
        self._rounds += not starved
        while self._rates and self._rates[-1][1] <= delivered_bps:
            self._rates.pop()
        self._rates.append((self._rounds, delivered_bps))
        while self._rates[0][0] <= self._rounds - RATE_ROUNDS:
            self._rates.popleft()
        self.delivery_bps = self._rates[0][1]

    def _flooded(self, sent: int, resent: int) -> bool:
        total = sent + resent
        if self._stalled or total < LOSS_SEGMENTS or self.phase is _DRAIN:
            return False
        return resent / total > self.loss + LOSS_REDUCES

    def _note_loss(self) -> None:
        """What is lost while less is sent than the path takes is the path's own doing."""
        sent, resent = self._cruise_sent, self._cruise_resent
        self._cruise_sent = self._cruise_resent = 0
        if sent + resent < LOSS_SEGMENTS:
            return
        loss = min(resent / (sent + resent), LOSS_COMPENSATED)
        self.loss = loss if self._cycles == 0 else (self.loss + loss) / 2
        self._cycles += 1

    # Phases.

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._place = 0
        self._cruise_sent = self._cruise_resent = 0
        self._whole = False

    def _advance(self, now_ms: int, totals: Totals, sent: int, resent: int, starved: bool) -> None:
        """One round of the present phase is over."""
        if self.phase is _STARTUP:
            if not starved:
                self._start_up()
        elif self.phase is _DRAIN:
            self._place += 1
            if totals.sent - totals.acked <= self._path_bytes() or self._place >= DRAIN_ROUNDS:
                self._enter(_CYCLE)
                self._place = 2 + totals.acked % 6  # links that began together do not probe together
        elif self.phase is _CYCLE:
            self._turn_cycle(sent, resent)
        elif now_ms >= self._rtt_probe_until:
            self.min_rtt_ms = self._rtt_ms
            self._min_rtt_at = now_ms
            self._enter(_CYCLE)
            self._place = 2
        if self.phase is _CYCLE and now_ms - self._min_rtt_at > RTT_MS:
            self._enter(_RTT_PROBE)
            self._rtt_probe_until = now_ms + max(2 * self.min_rtt_ms, RTT_PROBE_MS)

    def _start_up(self) -> None:
        if self.delivery_bps >= self._full_bps * STARTUP_GROWTH:
            self._full_bps = self.delivery_bps
            self._place = 0
            return
        self._place += 1
        if self._place >= STARTUP_ROUNDS:
            self._enter(_DRAIN)

    def _turn_cycle(self, sent: int, resent: int) -> None:
        if self._place >= CRUISE_SETTLED and self._whole:
            self._cruise_sent += sent
            self._cruise_resent += resent
        if self._place == 0:
            self._before_probe_bps = self.delivery_bps
        probed_well = self._place == 1 and self.delivery_bps >= self._before_probe_bps * PROBE_SUCCESS
        self._place = 0 if probed_well else (self._place + 1) % len(CYCLE)
        if self._place == 0:
            self._note_loss()
            self._whole = True

    # Decisions.

    def _path_bytes(self) -> int:
        """What fills the path."""
        return self.delivery_bps * self.min_rtt_ms // 8000

    def _decide(self) -> None:
        gain, flight_gain = 1.0, FLIGHT_GAIN
        if self.phase is _STARTUP:
            gain, flight_gain = STARTUP_GAIN, STARTUP_FLIGHT_GAIN
        elif self.phase is _DRAIN:
            gain = DRAIN_GAIN
        elif self.phase is _CYCLE:
            gain = CYCLE[self._place]
        else:
            flight_gain = 0.5
        rate_bps = int(gain * self.delivery_bps / (1 - self.loss))
        short = self.min_rtt_ms <= UNPACED_RTT_MS
        self.rate_bps = 0 if short or rate_bps > UNPACED_BPS else max(rate_bps, self._least * 2)
        flight_gain += FLIGHT_LOSS_GAIN * self.loss
        slack = self.delivery_bps * FLIGHT_SLACK_MS // 8000
        self.flight_bytes = max(int(flight_gain * self._path_bytes()) + slack, self._least // 4)
        if short:
            self.flight_bytes = min(self.flight_bytes, SHORT_FLIGHT_BYTES)
        if self.phase is _STARTUP:
            self.flight_bytes = max(self.flight_bytes, self._least)
