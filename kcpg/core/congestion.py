"""Congestion control of one link: BBR's idea over KCP's acknowledgements.

A model of the path, its rate and its shortest round trip, decides how fast data leaves and how much of it may
be unacknowledged. Sending less for a moment tells what is the link's own doing: a queue that then goes, and
losses that then stop, came from sending too much; what stays belongs to the path. Sans-IO: the link's flight
calls `round` when `due_ms` has come, with running totals, and the link obeys `rate_bps` and `flight_bytes`.
Where no other source is named, it is draft-cardwell-iccrg-bbr-congestion-control-02.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

from kcpg.core.pathloss import PathLoss

STARTUP_GAIN = 2.77  # doubles what is delivered every round
STARTUP_FLIGHT_GAIN = 2.0
STARTUP_GROWTH = 1.25  # a round that delivers this much more: the path is not full yet
STARTUP_ROUNDS = 3  # after this many rounds without it the path is full
DRAIN_GAIN = 0.5  # so little that what is lost still is the path's own; enough that something is lost
DRAIN_ROUNDS = 3  # what was lost looks like flight, so that flight alone would not end it
DRAIN_MOST_ROUNDS = 8  # while too little has arrived to tell what the path loses by itself
PROBE_GAIN = 1.25
PROBE_SUCCESS = 1.15  # the path took most of what the probe sent more: probe on at once, and ...
PROBE_GROWTH = 1.25  # ... with this much more each time
PROBE_GAIN_MOST = 2.0
PROBE_LEAST = 0.05  # so much more is sent after a probe that lost too much, twice that by the next one
PROBE_STEP = 1.05  # a probe of which the path took less is believed so far: others may have made room
PROBE_DATAGRAMS = 1  # or so many more in a round: else the smallest of many links would never grow
REST_GAIN = 0.75
CRUISE_GAIN = 0.98  # just below the path's rate, so that errors in the rate decay

CYCLE = (PROBE_GAIN, REST_GAIN, *(CRUISE_GAIN,) * 6)
CRUISE = 2  # the first of these places
CRUISE_SETTLED = 3  # from this place of the cycle on, the losses of the probe were resent already

# Beyond a full path: half a round trip of queue at the most, for the probes and late acknowledgements.
FLIGHT_GAIN = 1.5
FLIGHT_LOSS_GAIN = 2.0  # what is lost stays unacknowledged until its resend is, one to two round trips later
FLIGHT_SLACK_MS = 3  # clocks of milliseconds, at both ends, and the turns of two event loops
# At least this much time's worth, but no more than so many datagrams; and never fewer than one and a half,
# so that the next is there when one has left.
FLIGHT_LEAST_MS = 50
FLIGHT_LEAST = 0.25  # of START_DATAGRAMS
FLIGHT_FEWEST = 1.5 / 32

RATE_ROUNDS = 10  # rounds that a best delivery rate is believed
ROUND_MIN_MS = 8  # shorter ones measure the event loop's turns rather than the path
# A queue stands when even the luckiest of so many datagrams has waited this long: more than a quarter of a
# round trip, and more than the turns of loaded event loops. What is delivered then is what the path carries.
STANDING_DATAGRAMS = 8
STANDING_RTT = 0.25
STANDING_MS = 10
STANDING_GAIN = 1.0  # as much of a full path is under way then
STANDING_ROUNDS = 8  # a best delivery rate is believed while a queue stands; radio links halve it for less
COLLAPSE = 3  # two rounds in a queue at less than this part of the rate: it is forgotten at once
COLLAPSE_ROUNDS = 2
# The longest round trip, unless it is no more than doubled, that a path may have grown to: longer ones are
# the outages of radio links, and to fill those would be to queue for seconds.
MOVED_RTT_MS = 400
DRAINED_DATAGRAMS = 6  # a path that holds fewer is never seen without a queue
DRAINED_RTTS = 2  # for so long no more was under way than the path held
FLOOR_MS = 30_000  # a queue is empty by the shortest round trip of this time
RTT_MS = 10_000  # how long a shortest round trip is believed
RTT_PROBE_MS = 100  # for this long half a BDP is in flight, which shows the round trip without a queue
START_DATAGRAMS = 32  # of flight before anything was measured; what large sites let TCP begin with

LOSS_ROUNDS = 2  # a loss shows one round trip after it, or a little later
LOSS_VERIFIED = 0.015  # more of the path's own loss is found out again now and then, ...
VERIFY_ROUNDS = 40  # ... after so many rounds at the earliest, or ...
QUEUED_ROUNDS = 8  # ... when the queue was never empty in a cycle: full ones lose, too
CUT = 0.9  # of what was delivered meanwhile, so that others have room to come in
CUT_MOST = 2  # by no more than this at once
# What was delivered while too much was sent is the most that the path takes for so long, and for twice as
# long each time that it turns out to be the same: a policer's bucket fills meanwhile, and means nothing.
CEILING_MS = 2_000
CEILING_MOST_MS = 16_000
CEILING_SAME = 0.125
CEILING_PASSED = 1.5  # so far beyond it there is none; until then probes are small

# In a queue that others fill, too, a link that has more than so many datagrams there gives way by so much.
YIELD_DATAGRAMS = 1
YIELD = 0.95
QUEUE_RTT, QUEUE_MS = 1 / 16, 3  # a queue shorter than this is none

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

    __slots__ = ("acked", "acked_ms", "first", "resent", "sent")

    def __init__(
        self, sent: int = 0, acked: int = 0, first: int = 0, resent: int = 0, acked_ms: int = -1
    ) -> None:
        self.sent = sent
        self.acked = acked
        self.first = first  # segments sent the first time
        self.resent = resent  # segments sent again, less those known to have been needless
        self.acked_ms = acked_ms  # when something was acknowledged last


class CongestionController:
    """`rate_bps`: bits of segments per second, 0 not paced; `flight_bytes`: the most that may
    be unacknowledged; `due_ms`: when `round` is to be called, or at the first opportunity after it."""

    def __init__(self, datagram_bytes: int, rtt_ms: int = -1) -> None:
        """`rtt_ms`: a round trip of the path that is known already; -1: none is."""
        self.phase = _STARTUP
        self.rate_bps = 0
        self.flight_bytes = self._least = START_DATAGRAMS * datagram_bytes
        self.due_ms = 0
        self.delivery_bps = 0  # the path's rate; 0: unknown
        self.min_rtt_ms = rtt_ms if rtt_ms > 0 else -1
        self._rates: deque[tuple[int, int]] = deque()  # (round, bit/s), falling: candidates for the largest
        self._rounds = 0  # those that measured the path
        self._start = Totals()
        self._since_ms = -1  # deliveries of the present round are counted from then on
        self._gain = 1.0  # of the present round
        self._place = 0  # rounds of DRAIN or of the cycle that are over
        self._phase_rounds = 0  # of the present phase
        self._yielded = False  # in this cycle, so that it is not followed by a probe
        # STARTUP and probes
        self._full_bps = 0
        self._before_probe_bps = 0
        self._probe_gain = PROBE_GAIN
        # the shortest round trip, and a queue that stands
        self._rtt_ms = -1
        self._min_rtt_at = 0
        self._floor_ms = -1  # the shortest for longer, whatever the path has become
        self._floor_at = 0
        self._rtt_probe_until = 0
        self._low_ms = self._low_bytes = 0  # the shortest round trip of so many bytes
        self._standing_rounds = 0
        self._standing_bps = 0  # the rate before the queue stood
        self._drained_ms = -1  # no more is under way than the path holds since then
        self._slow_bps = self._slow_rounds = 0  # far below the rate: the best of so many rounds
        # the path's own loss
        self.path_loss = PathLoss()
        self._quiet_rounds = 0  # so many rounds before this one less was sent than the path takes
        self._queued_rounds = 0  # so many rounds nobody met an empty queue
        self._sent_bps = 0  # before this round
        self._floods = False  # this round of STARTUP lost very much
        self._doubts = self._verifies = False  # why DRAIN was entered
        self._deeper = False  # DRAIN sends still less
        self._verify_from = 0  # no earlier than this
        self._ceiling_bps = 0  # the path does not take more, ...
        self._ceiling_until = 0
        self._ceiling_ms = CEILING_MS  # ... for so long

    @property
    def loss(self) -> float:
        """The path's own."""
        return self.path_loss.share

    def round(self, now_ms: int, totals: Totals, rtt_ms: int, low_rtt_ms: int, starved_at: int) -> None:
        """Measure what came since the last call, and decide anew.

        `rtt_ms`: the smoothed round trip, -1 unknown. `low_rtt_ms`: the shortest of this round, -1 unknown.
        `starved_at`: `acked` beyond which nothing had been held back by this controller; up to it the
        application's rate was measured, not the path's.
        """
        before, self._start = self._start, totals
        wait_ms = min(rtt_ms, 2 * self.min_rtt_ms) if self._standing_rounds else rtt_ms
        self.due_ms = now_ms + max(wait_ms, ROUND_MIN_MS)
        acked = totals.acked - before.acked
        if low_rtt_ms > 0:
            self._note_rtt(now_ms, low_rtt_ms)
        if self._since_ms < 0 or rtt_ms < 0 or acked <= 0:
            if self._since_ms < 0 or totals.sent == totals.acked:
                self._since_ms = now_ms
            self._phase_rounds = 0
            self.path_loss.forget_full()
            return  # nothing was heard: nothing is known, and what was lost meanwhile says nothing
        starved = before.acked < starved_at
        if low_rtt_ms <= 0:
            self._note_rtt(now_ms, rtt_ms)
        elapsed_ms = max(totals.acked_ms - self._since_ms, self.min_rtt_ms * 3 // 4, 1)
        self._since_ms = totals.acked_ms
        if starved:
            self._standing_rounds = 0
        else:
            self._note_queue(now_ms, acked, before.sent - before.acked)
        delivered_bps = acked * 8000 // elapsed_ms
        self._note_collapse(delivered_bps)
        # what this controller held back says as little of the path as what the application did not send
        held_back = self._gain < REST_GAIN and not self._standing_rounds
        self._note_rate(self._believable(delivered_bps), starved or held_back)
        arrived = acked * totals.first / max(totals.sent, 1)
        self._note_loss(arrived, totals.resent - before.resent, elapsed_ms, acked, starved)
        self._quiet_rounds = self._quiet_rounds + 1 if self._gain < CRUISE_GAIN or starved else 0
        self._sent_bps = self.rate_bps
        self._advance(now_ms, totals, starved)
        self._decide(now_ms)

    # The round trip, and the queue.

    def _note_rtt(self, now_ms: int, rtt_ms: int) -> None:
        self._rtt_ms = rtt_ms
        best_ms = self.min_rtt_ms
        if best_ms < 0 or rtt_ms < best_ms:
            self.min_rtt_ms = rtt_ms
        if best_ms < 0 or rtt_ms <= best_ms + max(best_ms // 8, 1):
            self._min_rtt_at = now_ms
        floor_ms = self._floor_ms
        if floor_ms < 0 or rtt_ms < floor_ms or now_ms - self._floor_at > FLOOR_MS:
            self._floor_ms = self.min_rtt_ms
            self._floor_at = now_ms
        elif self._is_empty():
            self._floor_at = now_ms

    def _note_queue(self, now_ms: int, acked: int, flight: int) -> None:
        """A queue that does not go when no more is under way than the path holds is not ours to drain: the
        path has become longer, or others fill it."""
        best_ms = self.min_rtt_ms
        self._low_ms = min(self._low_ms, self._rtt_ms) if self._low_bytes else self._rtt_ms
        self._low_bytes += acked
        enough = self._low_bytes >= self._least * STANDING_DATAGRAMS // START_DATAGRAMS
        if not enough and self._low_ms > best_ms + STANDING_MS:
            return
        self._rtt_ms = self._low_ms
        self._low_bytes = 0
        if self._rtt_ms - best_ms <= max(best_ms * STANDING_RTT, STANDING_MS) or best_ms <= UNPACED_RTT_MS:
            self._standing_rounds = 0
            self._drained_ms = -1
            return
        if not self._standing_rounds:
            self._standing_bps = self.delivery_bps
        self._standing_rounds += 1
        path_bytes = self._standing_bps * best_ms // 8000
        few = self._few_bytes()
        if self._standing_rounds == 1 or path_bytes < few or flight > STANDING_GAIN * path_bytes + few:
            self._drained_ms = -1
        elif self._drained_ms < 0:
            self._drained_ms = now_ms
        elif self._rtt_ms > max(MOVED_RTT_MS, 2 * best_ms):
            pass
        elif now_ms - self._drained_ms >= DRAINED_RTTS * self._rtt_ms:
            self.min_rtt_ms = self._rtt_ms
            self._min_rtt_at = now_ms
            self._standing_rounds = 0
            self._drained_ms = -1
            self._rates = deque([(self._rounds, self._standing_bps)])

    # The rate.

    def _note_collapse(self, delivered_bps: int) -> None:
        """While a queue stands a rate far below the best is no accident: forget the best."""
        slow = self._standing_rounds and delivered_bps * COLLAPSE < self.delivery_bps
        self._slow_bps = max(self._slow_bps, delivered_bps) if slow and self._slow_rounds else delivered_bps
        self._slow_rounds = self._slow_rounds + 1 if slow else 0
        if self._slow_rounds >= COLLAPSE_ROUNDS:
            self._rates.clear()
            self._rates.append((self._rounds, self._slow_bps))

    def _believable(self, delivered_bps: int) -> int:
        """What a probe delivered that the path did not quite take is in part what others did not get."""
        if self.phase is not _CYCLE or not 1 <= self._place <= CRUISE or self._standing_rounds:
            return delivered_bps
        before_bps = self._before_probe_bps
        if delivered_bps >= before_bps * PROBE_SUCCESS:
            return delivered_bps
        return min(delivered_bps, max(int(before_bps * PROBE_STEP), before_bps + self._one_more_bps()))

    def _one_more_bps(self) -> int:
        """Another datagram in each round trip."""
        return PROBE_DATAGRAMS * self._least // START_DATAGRAMS * 8000 // max(self.min_rtt_ms, 1)

    def _note_rate(self, delivered_bps: int, starved: bool) -> None:
        """The best of the last rounds; the application's own pauses neither lower nor age it."""
        if starved and delivered_bps < self.delivery_bps:
            return
        self._rounds += not starved
        while self._rates and self._rates[-1][1] <= delivered_bps:
            self._rates.pop()
        self._rates.append((self._rounds, delivered_bps))
        believed = STANDING_ROUNDS if self._standing_rounds else RATE_ROUNDS
        while self._rates[0][0] <= self._rounds - believed:
            self._rates.popleft()
        self.delivery_bps = self._rates[0][1]

    def _believe(self, rate_bps: int) -> None:
        """Forget what was measured: this is the rate."""
        self._rates = deque([(self._rounds, rate_bps)])
        self.delivery_bps = rate_bps

    # Loss.

    def _note_loss(self, arrived: float, lost: int, elapsed_ms: int, acked: int, starved: bool) -> None:
        """Both tell of the round before: acknowledgements and resends come a round trip later."""
        sent = arrived + lost
        self._phase_rounds += 1
        self._queued_rounds = 0 if self._is_empty() else self._queued_rounds + 1
        loss = self.path_loss
        if self.phase is _STARTUP:
            self._floods = loss.floods(sent, lost)
            if not self._is_empty():
                sent = lost = 0
            loss.note_startup(self._sent_bps, sent, lost, self.delivery_bps)
        elif self.phase is _DRAIN:
            if self._quiet_rounds >= LOSS_ROUNDS and self._is_empty():
                loss.note_quiet(sent, lost)
        elif self.phase is _CYCLE and 1 <= self._place <= CRUISE:
            loss.note_probe(sent, lost)
        elif self._phase_rounds <= LOSS_ROUNDS:
            pass  # it still tells of what was sent in the phase before
        elif self.phase is _CYCLE and self._place >= CRUISE_SETTLED and not starved:
            loss.note_full(sent, lost, elapsed_ms, acked, self._is_empty())

    def _is_empty(self) -> bool:
        """Somebody met no queue in this round, so that nothing was lost in a full one."""
        return self._rtt_ms <= self._floor_ms + max(self._floor_ms * QUEUE_RTT, QUEUE_MS)

    def _doubt(self, now_ms: int) -> None:
        """Find out the path's own loss when more is lost, or now and then."""
        if self.path_loss.is_doubtful():
            if self._shares() < 0:
                self.path_loss.forget_full()  # those who have more have to make room
            else:
                self._doubts = True
                self._enter(_DRAIN)
        elif self.loss >= LOSS_VERIFIED:
            again_at = max(self.path_loss.verify_at, self._verify_from)
            if now_ms >= again_at or self._queued_rounds >= QUEUED_ROUNDS:
                self._verifies = True
                self._enter(_DRAIN)

    def _judge(self, now_ms: int) -> None:
        """Less was sent for a while. What was lost before and is not now was lost because of the rate."""
        if self.path_loss.judge(now_ms, self._doubts, self._queued_rounds > 0):
            self._cut(now_ms)
        self.path_loss.forget_full()
        self._doubts = self._verifies = False
        self._verify_from = now_ms + VERIFY_ROUNDS * self.min_rtt_ms

    def _cut(self, now_ms: int) -> None:
        """Send less than was delivered: others may have come."""
        rate_bps = max(self.path_loss.delivered_bps(), self.delivery_bps // CUT_MOST)
        if self.path_loss.is_policed():
            same = abs(rate_bps - self._ceiling_bps) <= self._ceiling_bps * CEILING_SAME
            self._ceiling_ms = min(2 * self._ceiling_ms, CEILING_MOST_MS) if same else CEILING_MS
            self._ceiling_bps = rate_bps
            self._ceiling_until = now_ms + self._ceiling_ms
        self._believe(min(int(rate_bps * CUT), self.delivery_bps))

    # Phases.

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._place = self._phase_rounds = 0
        self._deeper = False
        self.path_loss.forget_quiet()

    def _advance(self, now_ms: int, totals: Totals, starved: bool) -> None:
        """One round of the present phase is over."""
        if self.phase is _STARTUP:
            if self._standing_rounds:
                self._enter(_DRAIN)
            elif not starved:
                self._start_up()
        elif self.phase is _DRAIN:
            self._place += 1
            drained = totals.sent - totals.acked <= self._path_bytes() or self._place >= DRAIN_ROUNDS
            loss = self.path_loss
            listens = self._doubts or self._verifies or not loss.is_known()
            heard = loss.is_heard() or self._place >= DRAIN_MOST_ROUNDS
            if drained and heard and not self._deeper and loss.stays_high():
                self._deeper = True
                loss.forget_quiet()
                self._place = self._quiet_rounds = 0
            elif drained and (heard or not listens):
                self._judge(now_ms)
                self._enter(_CYCLE)
                self._place = CRUISE + totals.acked % 6  # links that began together do not probe together
        elif self.phase is _CYCLE:
            if self._place >= CRUISE_SETTLED and not starved:
                self._yield()
            self._turn_cycle()
            self._doubt(now_ms)
        elif now_ms >= self._rtt_probe_until:
            self.min_rtt_ms = self._rtt_ms
            self._min_rtt_at = now_ms
            self._enter(_CYCLE)
            self._place = CRUISE
        if self.phase is _CYCLE and now_ms - self._min_rtt_at > RTT_MS:
            self._enter(_RTT_PROBE)
            self._rtt_probe_until = now_ms + max(2 * self.min_rtt_ms, RTT_PROBE_MS)

    def _start_up(self) -> None:
        if self.delivery_bps >= self._full_bps * STARTUP_GROWTH:
            self._full_bps = self.delivery_bps
            self._place = 0
            return
        self._place += STARTUP_ROUNDS if self._floods else 1
        if self._place >= STARTUP_ROUNDS:
            self._enter(_DRAIN)

    def _turn_cycle(self) -> None:
        if self._place == 0:
            self._before_probe_bps = self.delivery_bps
        place = self._place
        probed_well = place == 1 and self.delivery_bps >= self._before_probe_bps * PROBE_SUCCESS
        self._place = 0 if probed_well else (place + 1) % len(CYCLE)
        if self._ceiling_bps and place <= CRUISE:
            self._probe_gain = 1 + PROBE_LEAST
            self.path_loss.forget_probe()
        elif probed_well:
            self._probe_gain = min(self._probe_gain * PROBE_GROWTH, PROBE_GAIN_MOST)
        elif place == CRUISE:
            more = PROBE_LEAST if self.path_loss.probe_floods() else 2 * (self._probe_gain - 1)
            self._probe_gain = 1 + min(more, PROBE_GAIN - 1)
            self.path_loss.forget_probe()
        if self._place == 0 and not probed_well:
            self.path_loss.end_cycle()
            if self._yielded:
                self._yielded = False
                self._place = CRUISE

    def _yield(self) -> None:
        """A queue stays though less is sent than the path takes: others fill it, too. Whoever has more than
        an equal share sends less; all see the same queue, so all mean the same share (Copa, NSDI 2018)."""
        if self._shares() > 0:
            self._believe(int(self.delivery_bps * YIELD))
            self._yielded = True

    def _shares(self) -> int:
        """1: this link has more than an equal share of the queue, -1: it has less, 0: there is none."""
        queue_ms = self._rtt_ms - self.min_rtt_ms
        if queue_ms <= max(self.min_rtt_ms * QUEUE_RTT, QUEUE_MS) or self._standing_rounds:
            return 0
        share = YIELD_DATAGRAMS * self._least // START_DATAGRAMS * 8000
        return 1 if self.delivery_bps * queue_ms > share else -1

    # Decisions.

    def _few_bytes(self) -> int:
        return self._least * DRAINED_DATAGRAMS // START_DATAGRAMS

    def _path_bytes(self) -> int:
        """What fills the path."""
        return self.delivery_bps * self.min_rtt_ms // 8000

    def _decide(self, now_ms: int) -> None:
        gain, flight_gain = 1.0, FLIGHT_GAIN
        if self.phase is _STARTUP:
            gain, flight_gain = STARTUP_GAIN, STARTUP_FLIGHT_GAIN
        elif self.phase is _DRAIN:
            gain = DRAIN_GAIN * DRAIN_GAIN if self._deeper else DRAIN_GAIN
        elif self.phase is _CYCLE:
            gain = CYCLE[self._place]
            if gain == PROBE_GAIN:
                gain = max(self._probe_gain, 1 + self._one_more_bps() / max(self.delivery_bps, 1))
        else:
            flight_gain = 0.5
        if self._standing_rounds or (self.phase is _CYCLE and self._path_bytes() < self._few_bytes()):
            flight_gain = min(flight_gain, STANDING_GAIN)
        self._gain = min(gain, flight_gain)
        path_bps = self.delivery_bps
        wanted_bps = int(gain * path_bps)
        if now_ms < self._ceiling_until:
            wanted_bps = min(wanted_bps, self._ceiling_bps if gain > 1 else int(self._ceiling_bps * gain))
        elif path_bps > self._ceiling_bps * CEILING_PASSED:
            self._ceiling_bps = 0
        rate_bps = int(wanted_bps / (1 - self.loss))
        short = self.min_rtt_ms <= UNPACED_RTT_MS
        self.rate_bps = 0 if short or rate_bps > UNPACED_BPS else max(rate_bps, self._least // 4)
        flight_gain *= 1 + FLIGHT_LOSS_GAIN * self.loss
        slack = path_bps * FLIGHT_SLACK_MS // 8000
        least = min(path_bps * FLIGHT_LEAST_MS // 8000, int(self._least * FLIGHT_LEAST))
        least = max(least, int(self._least * FLIGHT_FEWEST))
        self.flight_bytes = max(int(flight_gain * self._path_bytes()) + slack, least)
        if short:
            self.flight_bytes = min(self.flight_bytes, SHORT_FLIGHT_BYTES)
        if self.phase is _STARTUP:
            self.flight_bytes = max(self.flight_bytes, self._least)
