"""`fec=auto`: redundancy from what the path loses, none when nothing is lost.

Only the receiver of a direction sees its losses. It counts them (`LossCounter`, out of the replay window, so
that no datagram costs anything) and reports the counters; the sender (`Adaptive`) chooses a plan from them.
"""

from __future__ import annotations

from math import ceil, log, sqrt
from typing import NamedTuple

from kcpg.core.fec.group import GROUP_WAIT_MS
from kcpg.core.fec.plan import OFF, TARGET_LOSS, Plan, plan_for
from kcpg.core.seal.replay import WINDOW, ReplayWindow
from kcpg.core.units import MASK32

REORDER_SPAN = 64  # a packet this far behind the newest is lost: one GSO run, which may be overtaken

# Data shards of a full group. At 5 % of loss 64 need 9 parity shards (14 %), but 20 need 5 (25 %). Time, not
# this number, closes the groups of anything slower than 90 Mbit/s.
GROUP_SHARDS = 64

# Half-lives of the two memories. The worse of their answers counts: up within a second, down in ten.
SHORT_MS, LONG_MS = 1_000, 10_000

ENOUGH_BURSTS = 4  # runs of losses the short memory must hold to be believed; fewer are often chance
LOSS_STEP, BURST_STEP = 1.125, 1.25  # loss rates are rounded up to powers of this, run lengths to the nearest
WORST_LOSS = 0.5  # redundancy of this kind cannot repair a path that loses more

# Where a retransmission takes hardly longer than waiting for parity, losses up to CHEAP_LOSS are left to it.
CHEAP_RTT_MS = 2 * GROUP_WAIT_MS
CHEAP_LOSS = 0.02

# Groups stay open for a quarter of the round trip, or for half of it where runs of losses are long; 8 to
# 40 ms. What is rebuilt still comes earlier than a retransmission could, and larger groups need less
# redundancy: at 2 % of loss in runs of 4, 10 shards need 14 parity shards, but 25 need 16.
RTT_SHARE, RTT_SHARE_IN_BURSTS = 4, 2
LONG_BURST = 2.0
MOST_WAIT_MS = 40


class Choice(NamedTuple):
    """What a sender of groups is told, by `GroupSender.use`."""

    plan: Plan
    wait_ms: int


class LossCounter:
    """Counts, for one epoch, packet numbers that came and that did not, and runs of the latter.

    `scan` must be called at least every WINDOW - REORDER_SPAN packets; what it misses is not judged. `next`
    is the first number not yet judged.
    """

    def __init__(self) -> None:
        self.expected = 0  # packets judged
        self.lost = 0  # those of them that never came
        self.bursts = 0  # runs of lost packets
        self.next = 0
        self._in_burst = False

    def scan(self, window: ReplayWindow, settled: int = 0) -> None:
        """Judge the packet numbers that became old enough since the last call, and all below `settled`.

        Sparse traffic takes long to fill REORDER_SPAN. So a caller that asks at intervals passes the
        `window.next` of its last call: what is missing by now was not merely overtaken.
        """
        if self.next < window.next - WINDOW:
            self.next = window.next - WINDOW
            self._in_burst = False
        while self.next < max(window.next - REORDER_SPAN, settled):
            lost = window.check(self.next)
            self.expected += 1
            self.lost += lost
            self.bursts += lost and not self._in_burst
            self._in_burst = lost
            self.next += 1


class _Memory:
    """Counters that forget: what was counted `half_life_ms` ago weighs half."""

    def __init__(self, half_life_ms: int) -> None:
        self._half_life_ms = half_life_ms
        self.expected = self.lost = self.bursts = 0.0

    def add(self, expected: int, lost: int, bursts: int, elapsed_ms: int) -> None:
        kept = 0.5 ** (elapsed_ms / self._half_life_ms)
        self.expected = self.expected * kept + expected
        self.lost = self.lost * kept + lost
        self.bursts = self.bursts * kept + bursts

    def burst(self) -> float:
        """Mean length of a run of losses."""
        return max(1.0, self.lost / self.bursts) if self.bursts else 1.0

    def loss(self) -> float:
        """The loss rate, with one standard deviation of what so few runs of losses can tell.

        A sum of N runs of geometric lengths of mean b has the relative variance (2 - 1/b) / N.
        """
        if self.lost == 0 or self.bursts == 0 or self.expected == 0:
            return 0.0
        margin = sqrt((2 - 1 / self.burst()) / self.bursts)
        return min(WORST_LOSS, self.lost / self.expected * (1 + min(1.0, margin)))


class Adaptive:
    """The sender's side of one direction: reports in, a plan out."""

    def __init__(self) -> None:
        self._long = _Memory(LONG_MS)
        self._short = _Memory(SHORT_MS)
        self._seen = (0, 0, 0)
        self._last_ms: int | None = None

    def report(self, expected: int, lost: int, bursts: int, now_ms: int) -> None:
        """Take the receiver's counters modulo 2^32, cumulative: the next report makes up for a lost one.

        Impossible reports (more lost than expected) are ignored, and so is one that came too late.
        """
        counters = (expected, lost, bursts)
        judged, missing, runs = ((new - old) & MASK32 for new, old in zip(counters, self._seen, strict=True))
        if not MASK32 >> 1 >= judged >= missing >= runs:
            return
        elapsed_ms = now_ms - self._last_ms if self._last_ms is not None else 0
        self._seen = counters
        self._last_ms = now_ms
        for memory in (self._long, self._short):
            memory.add(judged, missing, runs, elapsed_ms)

    @property
    def loss(self) -> float:
        """Share of datagrams lost, on the safe side."""
        return max(memory.loss() for memory in self._believed())

    def _believed(self) -> list[_Memory]:
        return [self._long, self._short] if self._short.bursts >= ENOUGH_BURSTS else [self._long]

    def choose(self, rtt_ms: int) -> Choice:
        """The plan to send with, and how long groups stay open."""
        loss = self.loss
        burst = max(memory.burst() for memory in self._believed())
        share = RTT_SHARE if burst < LONG_BURST else RTT_SHARE_IN_BURSTS
        wait_ms = min(max(rtt_ms // share, GROUP_WAIT_MS), MOST_WAIT_MS)
        if loss <= TARGET_LOSS or (loss < CHEAP_LOSS and rtt_ms <= CHEAP_RTT_MS):
            return Choice(OFF, wait_ms)
        safe_loss = min(LOSS_STEP ** ceil(log(loss, LOSS_STEP)), WORST_LOSS)
        near_burst = BURST_STEP ** round(log(burst, BURST_STEP))
        return Choice(plan_for(safe_loss, near_burst, GROUP_SHARDS), wait_ms)
