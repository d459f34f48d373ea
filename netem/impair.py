"""One direction of a network, sans-IO and seeded: when each packet leaves, in how many copies, how damaged.

The rules are those of Linux's netem (net/sched/sch_netem.c), so that a profile means the same in a
simulation, in the user-space link and under `tc`. Per packet, in this order:

    duplicate? +1   lost? -1   none left: drop   two left: the copy starts from the top, without duplicating
    corrupt: one random bit    police: no tokens, drop    queue at `limit`: drop
    reorder: leaves at once    else delay, jitter    rate: behind the last one waiting, plus its own length
    instead of a rate, a trace: behind the last one waiting, at the opportunity that takes its last byte
    steps and swing: the delay of the time when the packet comes; the rates of the times when it is carried
    port throttle, behind all of this: the token bucket of the packet's port, as a class of tc's htb

Each purpose has its own random stream. A stream in use is drawn from once per packet, whether it matters or
not, so that turning one impairment on does not change which packets another one hits. Copies have their own
streams for the same reason.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from functools import cache
from statistics import NormalDist
from typing import NamedTuple

from netem import cross as crossing
from netem import timeline as times
from netem import trace as traces
from netem.profile import Chance, FourState, GilbertElliott, Impair, Outage, PortThrottle

TABLE_ENTRIES = 4096  # of tc's .dist files
TABLE_SCALE = 8192  # netem: NETEM_DIST_SCALE, one standard deviation
TABLE_MAX = 32767  # entries are 16 bits wide, so that 4 standard deviations are the most
ALL = 1 << 32  # netem draws 32-bit numbers

DROP_REASONS = ("loss", "limit", "outage", "droplist", "police", "port")

# throttled ports remembered; the one silent for the longest is forgotten, and starts afresh
MOST_PORTS = 4096


class Departure(NamedTuple):
    """One copy of a packet: when it leaves, and which bit is flipped (None: none)."""

    due_ns: int
    flipped_bit: int | None


class Direction:
    """Stateful: one object per direction of a link. `seed` and the sequence of calls decide everything.

    `drops` counts packets by reason; a copy is a packet. A loss that meets a duplicate only cancels the copy.
    `epoch_ns`: when the outages, the trace, the steps and the flows beside began.
    """

    def __init__(self, impair: Impair, seed: str, epoch_ns: int = 0) -> None:
        self.drops = dict.fromkeys(DROP_REASONS, 0)
        self.duplicated = self.corrupted = self.reordered = 0
        self._seed = seed
        self._changes = 0
        self.epoch_ns = epoch_ns
        self._queue: deque[tuple[int, int]] = deque()  # (due, bytes) of what waits, if `limit` counts them
        self._queue_bytes = 0
        self._last_due_ns = 0
        self._use(impair, seed)
        self._loss_state = 1  # of gemodel (1 good, 3 bad) or of the four-state chain
        self._waiting: list[int] = []  # due times of what has not left yet, a heap
        self._counter = 0  # packets since the last one that was reordered
        self._index = -1
        self._buckets: dict[int, _Bucket] = {}  # of the ports, when each has its own rate

    def offer(self, now_ns: int, length_bytes: int, port: int = 0) -> list[Departure]:
        """One packet arrives; `now_ns` never goes back. Returns its copies in any order, [] if it is lost.

        `port` selects the packet's throttle, if the profile has one per port.
        """
        self._index += 1
        waiting = self._waiting
        while waiting and waiting[0] <= now_ns:
            heapq.heappop(waiting)
        draw = self._originals.roll(length_bytes)
        duplicate = self._duplicates and hit(self.impair.duplicate, draw.duplicate)
        lost = self._why_lost(draw, now_ns) if self._loses else ""
        departures: list[Departure] = []
        if lost and not duplicate:
            self.drops[lost] += 1
            return departures
        if duplicate and not lost:
            self.duplicated += 1
            self._copy(now_ns, length_bytes, port, departures)
        self._enqueue(draw, now_ns, length_bytes, port, departures)
        return departures

    def change(self, impair: Impair, now_ns: int) -> None:
        """Change to another `impair`: waiting packets keep their times, the timeline and the streams
        restart."""
        self._changes += 1
        self.epoch_ns = now_ns
        self._use(impair, f"{self._seed}:{self._changes}")
        self._index = -1
        self._buckets.clear()

    def _use(self, impair: Impair, seed: str) -> None:
        """What does not change from packet to packet is looked up once."""
        self.impair = impair
        self._originals = _Dice(impair, f"{seed}:original")
        self._copies = _Dice(impair, f"{seed}:copy")
        self._droplist = frozenset(impair.droplist)
        self._loses = impair.loss != Chance(0.0) or bool(self._droplist) or impair.outage is not None
        self._duplicates = impair.duplicate.fraction > 0
        self._corrupts = impair.corrupt.fraction > 0
        self._reorders = impair.reorder.fraction > 0
        self._timeline = impair.timeline(self.epoch_ns) if impair.steps else None
        self._served: traces.Served | times.Stepped | None = None
        if impair.trace is not None:
            self._served = traces.Served(impair.trace, self.epoch_ns, self._last_due_ns)
        elif self._timeline is not None and impair.rate_bps:
            self._served = times.Stepped(self._timeline, self._last_due_ns)
        police = impair.police
        self._police = None if police is None else _Bucket(police.rate_bps, police.burst_bytes, 0)
        self._cross: crossing.Flows | None = None
        if impair.cross is not None:
            self._cross = crossing.Flows(impair.cross, seed, self.epoch_ns, self._carry)

    def idle(self, now_ns: int) -> None:
        """No packet came until now: what goes on without any. To be called in real time, so that none of it
        waits for the next packet."""
        if self._cross is not None:
            self._cross.advance(now_ns)

    def queue_ns(self, now_ns: int) -> int:
        """How long a packet that came now would wait for the rate or the trace, without its own length."""
        impair = self.impair
        if self._served is None and not impair.rate_bps:
            return 0
        return max(self._last_due_ns - now_ns - self.delay_ns(now_ns), 0)

    @property
    def cross(self) -> list[crossing.Flow]:
        """The flows beside, as far as they have got."""
        return [] if self._cross is None else self._cross.flows

    @property
    def queued(self) -> int:
        """Packets that had not left at the last offer."""
        return len(self._waiting)

    def _copy(self, now_ns: int, length_bytes: int, port: int, departures: list[Departure]) -> None:
        draw = self._copies.roll(length_bytes)
        lost = self._why_lost(draw, now_ns) if self._loses else ""
        if lost:
            self.drops[lost] += 1
        else:
            self._enqueue(draw, now_ns, length_bytes, port, departures)

    def _why_lost(self, draw: _Draw, now_ns: int) -> str:
        """The reason of the drop, "" if there is none. The model always draws: its state advances in outages
        too."""
        lost = self._lost_by_model(draw)
        if self._index in self._droplist:
            return "droplist"
        if self.impair.outage is not None and is_out(self.impair.outage, now_ns - self.epoch_ns):
            return "outage"
        return "loss" if lost else ""

    def _lost_by_model(self, draw: _Draw) -> bool:
        loss = self.impair.loss
        if isinstance(loss, Chance):
            return hit(loss, draw.loss)
        if isinstance(loss, GilbertElliott):
            return self._lost_gilbert_elliott(loss, draw)
        return self._lost_four_state(loss, draw.loss)

    def _lost_gilbert_elliott(self, loss: GilbertElliott, draw: _Draw) -> bool:
        """Move the state first; the packet's loss is that of the new state."""
        if self._loss_state == 1:
            if draw.loss < loss.p * ALL:
                self._loss_state = 3
            return draw.loss_in_state < loss.loss_good * ALL
        if draw.loss < loss.r * ALL:
            self._loss_state = 1
        return draw.loss_in_state < loss.loss_bad * ALL

    def _lost_four_state(self, chain: FourState, value: int) -> bool:
        self._loss_state = _next_state(chain, self._loss_state, value / ALL)
        return self._loss_state >= 3

    def _enqueue(
        self, draw: _Draw, now_ns: int, length_bytes: int, port: int, departures: list[Departure]
    ) -> None:
        impair = self.impair
        flipped = draw.bit if self._corrupts and hit(impair.corrupt, draw.corrupt) else None
        if self._police is not None and self._police.pass_ns(now_ns, length_bytes) is None:
            self.drops["police"] += 1
            return
        if len(self._waiting) >= impair.limit and not impair.limit_bytes:
            self.drops["limit"] += 1
            return
        overtakes = self._reorders and self._counter >= impair.reorder.gap - 1
        if overtakes and draw.reorder <= impair.reorder.fraction * ALL:
            due_ns = now_ns
            self._counter = 0
            self.reordered += 1
        else:
            due_ns = now_ns + self.delay_ns(now_ns)
            if impair.jitter_ns:
                due_ns = max(due_ns + self._jitter_ns(draw.jitter), now_ns)
            self._counter += 1
            if self._cross is not None:
                self._cross.advance(due_ns)
            carried_ns = self._carry(due_ns, length_bytes)
            if carried_ns is None:
                self.drops["limit"] += 1
                return
            due_ns = carried_ns
        self.corrupted += flipped is not None
        heapq.heappush(self._waiting, due_ns)
        if impair.port is not None:
            throttled_ns = self._bucket(impair.port, port).pass_ns(due_ns, length_bytes)
            if throttled_ns is None:
                self.drops["port"] += 1
                return
            due_ns = throttled_ns
        departures.append(Departure(due_ns, flipped))

    def delay_ns(self, now_ns: int) -> int:
        """The delay of a packet that comes now, without jitter and queue."""
        delay_ns = self.impair.delay_ns if self._timeline is None else self._timeline.at(now_ns)[1]
        swing = self.impair.swing
        return delay_ns if swing is None else delay_ns + times.swung_ns(swing, now_ns - self.epoch_ns)

    def _carry(self, from_ns: int, length_bytes: int) -> int | None:
        """When a packet that gets to the rate or trace at `from_ns` is through; None if the queue is full."""
        impair = self.impair
        wire_bytes = length_bytes + impair.packetoverhead
        if impair.limit_bytes and self._backlog(from_ns) + wire_bytes > impair.limit_bytes:
            return None
        due_ns = from_ns
        if self._served is not None:
            due_ns = self._served.done_ns(from_ns, wire_bytes)
        elif impair.rate_bps:
            due_ns = max(from_ns, self._last_due_ns) + wire_bytes * 8 * 10**9 // impair.rate_bps
        if impair.limit_bytes:
            self._queue.append((due_ns, wire_bytes))
            self._queue_bytes += wire_bytes
        self._last_due_ns = max(self._last_due_ns, due_ns)
        return due_ns

    def _backlog(self, now_ns: int) -> int:
        """The bytes that wait for the line when a packet gets there."""
        queue = self._queue
        while queue and queue[0][0] <= now_ns:
            self._queue_bytes -= queue.popleft()[1]
        return self._queue_bytes

    def _bucket(self, throttle: PortThrottle, port: int) -> _Bucket:
        bucket = self._buckets.pop(port, None) or _Bucket(
            throttle.rate_bps, throttle.burst_bytes, throttle.limit
        )
        self._buckets[port] = bucket  # moves to the end: the first is the one silent for the longest
        if len(self._buckets) > MOST_PORTS:
            del self._buckets[next(iter(self._buckets))]
        return bucket

    def _jitter_ns(self, value: int) -> int:
        sigma = self.impair.jitter_ns
        if self.impair.distribution == "uniform":
            return value % (2 * sigma) - sigma if sigma < ALL // 2 else value * 2 * sigma // ALL - sigma
        return sigma * table(self.impair.distribution)[value % TABLE_ENTRIES] // TABLE_SCALE


def hit(chance: Chance, value: int) -> bool:
    """Whether a draw falls within the chance; as in netem, a chance of 0 is never hit."""
    return chance.fraction > 0 and value <= chance.fraction * ALL


def is_out(outage: Outage | None, since_epoch_ns: int) -> bool:
    """Whether there is an outage now."""
    return outage is not None and since_epoch_ns % (outage.on_ns + outage.off_ns) >= outage.on_ns


def _next_state(chain: FourState, state: int, draw: float) -> int:
    if state == 1:
        if draw < chain.p14:
            return 4
        return 3 if draw < chain.p14 + chain.p13 else 1
    if state == 2:
        return 3 if draw < chain.p23 else 2
    if state == 3:
        if draw < chain.p32:
            return 2
        return 1 if draw < chain.p32 + chain.p31 else 3
    return 1


class _Bucket:
    """A token bucket, full at first, and the packets that wait for its tokens, `limit` at most."""

    def __init__(self, rate_bps: int, burst_bytes: int, limit: int) -> None:
        self._rate_bps, self._burst_bytes, self._limit = rate_bps, burst_bytes, limit
        self._full_ns = 0  # when the bucket will be full again
        self._waiting: deque[int] = deque()

    def pass_ns(self, now_ns: int, length_bytes: int) -> int | None:
        """When a packet that arrives at `now_ns` passes; None if too many wait already."""
        while self._waiting and self._waiting[0] <= now_ns:
            self._waiting.popleft()
        cost_ns = length_bytes * 8 * 10**9 // self._rate_bps
        depth_ns = self._burst_bytes * 8 * 10**9 // self._rate_bps
        due_ns = max(now_ns, self._full_ns + cost_ns - depth_ns)
        if due_ns > now_ns and len(self._waiting) >= self._limit:
            return None
        self._full_ns = max(self._full_ns, due_ns) + cost_ns
        if due_ns > now_ns:
            self._waiting.append(due_ns)
        return due_ns


class _Draw:
    """Everything random about one packet: 32-bit numbers, and the bit to flip."""

    __slots__ = ("bit", "corrupt", "duplicate", "jitter", "loss", "loss_in_state", "reorder")

    def __init__(self) -> None:
        self.loss = self.loss_in_state = self.duplicate = self.corrupt = self.bit = 0
        self.reorder = self.jitter = 0


class _Dice:
    """The streams, one per purpose in use. An unused stream costs nothing, and its draw stays 0."""

    def __init__(self, impair: Impair, seed: str) -> None:
        loss = impair.loss
        plain = isinstance(loss, Chance)
        correlation = loss.correlation if isinstance(loss, Chance) else 0.0
        lossy = not isinstance(loss, Chance) or loss.fraction > 0
        self._draw = _Draw()
        self._loss = _Correlated(f"{seed}:loss", correlation) if lossy else None
        self._in_state = None if plain else _Correlated(f"{seed}:loss-in-state", 0.0)
        self._duplicate = _stream(f"{seed}:duplicate", impair.duplicate)
        self._corrupt = _stream(f"{seed}:corrupt", impair.corrupt)
        self._bit = random.Random(f"{seed}:bit")
        reorder = impair.reorder
        self._reorder = _stream(f"{seed}:reorder", Chance(reorder.fraction, reorder.correlation))
        self._jitter = _Correlated(f"{seed}:jitter", impair.correlation) if impair.jitter_ns else None

    def roll(self, length_bytes: int) -> _Draw:
        """The numbers of the next packet; valid until the next roll."""
        draw = self._draw
        if self._loss is not None:
            draw.loss = self._loss.draw()
        if self._in_state is not None:
            draw.loss_in_state = self._in_state.draw()
        if self._duplicate is not None:
            draw.duplicate = self._duplicate.draw()
        if self._corrupt is not None:
            draw.corrupt = self._corrupt.draw()
            draw.bit = int(self._bit.random() * length_bytes * 8)
        if self._reorder is not None:
            draw.reorder = self._reorder.draw()
        if self._jitter is not None:
            draw.jitter = self._jitter.draw()
        return draw


def _stream(seed: str, chance: Chance) -> _Correlated | None:
    return _Correlated(seed, chance.correlation) if chance.fraction else None


class _Correlated:
    """netem's get_crandom: each number depends on the last one by `correlation`."""

    __slots__ = ("_last", "_rho", "_rng")

    def __init__(self, seed: str, correlation: float) -> None:
        self._rng = random.Random(seed)
        self._rho = int(correlation * ALL)
        self._last = self._rng.getrandbits(32)

    def draw(self) -> int:
        value = self._rng.getrandbits(32)
        if self._rho:
            value = (value * (ALL - self._rho) + self._last * self._rho) >> 32
            self._last = value
        return value


@cache
def table(distribution: str) -> tuple[int, ...]:
    """The inverse of a distribution's cumulative function, as iproute2's generators make its .dist files.

    normal; pareto: shape 3, shifted to mean 0 and stretched; paretonormal: a quarter normal, the rest pareto.
    """
    quantile = NormalDist().inv_cdf
    entries = []
    for index in range(TABLE_ENTRIES):
        normal = quantile(index / TABLE_ENTRIES) * TABLE_SCALE if index else -TABLE_MAX - 1.0
        pareto = ((1 - index / TABLE_ENTRIES) ** (-1 / 3) - 1.5) * (4 / 3) * TABLE_SCALE
        pareto = min(pareto, TABLE_MAX)
        value = {"normal": normal, "pareto": pareto, "paretonormal": (normal + 3 * pareto) / 4}[distribution]
        entries.append(max(-TABLE_MAX - 1, min(TABLE_MAX, round(value))))
    return tuple(entries)
