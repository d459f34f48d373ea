"""Cross traffic: modelled TCP flows that share a line's queue, sans-IO and in any time, virtual or real.

Each flow has endless data in full frames, a round trip of its own beyond the queue, and an acknowledgement
of every packet, which nothing delays or loses. Numbers count transmissions: a loss is known when three later
ones are acknowledged, or by RFC 6298's timer, which is taken back when what it gave up comes (RFC 5682).
The controllers: CUBIC (RFC 9438) with HyStart's exit by delay (Ha and Rhee, 2011), not paced, as Linux has it
by default; BBR of draft-cardwell-iccrg-bbr-congestion-control-00, its first version, with the room for bursts
of acknowledgements that Linux added (Cardwell et al., IETF 101), without the long-term sampling of policers.
"""

from __future__ import annotations

import heapq
import random
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from netem import quantity
from netem.reader import Reader

FRAME_BYTES = 1514
PAYLOAD_BYTES = 1448  # of a full frame, with TCP's usual options

MS = 10**6
SECOND = 10**9

START_PACKETS = 10.0  # RFC 6928
LEAST_PACKETS = 2.0
REORDERED = 3  # this many later packets acknowledged: lost (RFC 5681)
RTO_LEAST_NS = 200 * MS  # Linux's; RFC 6298 has a second
RTO_MOST_NS = 60 * SECOND

# A packet gets to the queue late by up to this much, as hosts make it. Without that, those of one flow always
# come to a full queue just when a packet has left, and those of another just before (Floyd and Jacobson, On
# Traffic Phase Effects, 1992: up to the time that the line takes for a packet).
LATE_NS = MS

CUBIC_C, CUBIC_BETA = 0.4, 0.7
HYSTART_SAMPLES = 8  # of the round trip, in a round
HYSTART_WINDOW = 16  # a smaller one shows nothing
HYSTART_LEAST_NS, HYSTART_MOST_NS = 4 * MS, 16 * MS

BBR_HIGH_GAIN = 2.885  # 2 / ln 2
BBR_CYCLE = (1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
BBR_FLIGHT_GAIN = 2.0
BBR_RATE_ROUNDS = 10
BBR_MIN_RTT_NS = 10 * SECOND
BBR_PROBE_RTT_NS = 200 * MS
BBR_LEAST_PACKETS = 4.0
BBR_BURST_PACKETS = 3  # what leaves at once, and waits for a late acknowledgement, beyond the path
BBR_PACING_SHARE = 0.99
BBR_BURST_ROUNDS = 5  # the largest burst of the last five to ten rounds counts
BBR_BURST_NS = 100 * MS  # most room for it, at the path's rate
BBR_GROWTH, BBR_FULL_ROUNDS = 1.25, 3

Carry = Callable[
    [int, int], int | None
]  # (when it gets to the queue, bytes): when it is through; None: dropped


@dataclass(frozen=True, slots=True)
class Cross:
    """So many flows of each kind; `rtt_ns`: their round trip without a queue."""

    cubic: int
    bbr: int
    rtt_ns: int


def read(reader: Reader | None) -> Cross | None:
    """The table `cross` of a profile: `{ cubic = 1, bbr = 1, rtt = "50ms" }`."""
    if reader is None:
        return None
    cross = Cross(
        reader.take("cubic", quantity.whole, 0),
        reader.take("bbr", quantity.whole, 0),
        reader.need("rtt", quantity.time_ns, MS),
    )
    reader.finish()
    if not cross.cubic + cross.bbr:
        reader.problems.append(f"{reader.where}: names no flow; add cubic or bbr")
    if cross.rtt_ns < MS:
        reader.problems.append(f"{reader.where}.rtt: must be at least a millisecond")
    return cross


class Packet(NamedTuple):
    """What a sender remembers of a packet, for the sample of the delivery rate that it gives."""

    sent_ns: int
    delivered: int  # packets delivered when it left
    delivered_ns: int  # and when the last one of them was
    first_sent_ns: int  # when that one had left


class Controller:
    """What a flow asks: how many packets may be under way, and how far apart they leave."""

    window = START_PACKETS
    pace_ns = 0  # between two packets; 0: as fast as they may

    def acked(self, flow: Flow, now_ns: int, packet: Packet, rtt_ns: int) -> None:
        """A packet was delivered."""
        raise NotImplementedError

    def lost(self, flow: Flow, now_ns: int) -> None:
        """Some were lost, for the first time in this round trip."""

    def timed_out(self, flow: Flow, now_ns: int) -> None:
        """All that was under way is taken for lost."""

    def take_back(self) -> None:
        """It was not: the last `timed_out` was wrong."""


class Flow:
    """A sender with endless data, and its receiver."""

    def __init__(self, controller: Controller, rtt_ns: int, seed: str, start_ns: int, carry: Carry) -> None:
        self._rng = random.Random(seed)
        self.controller = controller
        self.delivered = 0  # packets
        self.sent = 0
        self.lost = 0
        self.under_way: OrderedDict[int, Packet] = OrderedDict()
        self._given_up: OrderedDict[int, Packet] = OrderedDict()  # by the timer
        self.srtt_ns = self._rttvar_ns = 0
        self._rtt_ns = rtt_ns
        self._carry = carry
        self._leaving: deque[tuple[int, int]] = deque()  # (when it gets to the queue, number)
        self._acks: deque[tuple[int, int]] = deque()  # (when, number); the queue keeps the order
        self._next_send_ns = start_ns
        self._delivered_ns = self._first_sent_ns = start_ns
        self._recovered_at = 0  # losses of numbers below it belong to a loss that was seen
        self._rto_ns = SECOND
        self._rto_due_ns: int | None = None

    @property
    def goodput_bytes(self) -> int:
        """Payload that reached the receiver and is acknowledged."""
        return self.delivered * PAYLOAD_BYTES

    def next_ns(self) -> int:
        """When it does something next."""
        times = [self._acks[0][0]] if self._acks else []
        if self._leaving:
            times.append(self._leaving[0][0])
        if self._rto_due_ns is not None:
            times.append(self._rto_due_ns)
        if len(self.under_way) < int(self.controller.window):
            times.append(self._next_send_ns)
        return min(times)

    def step(self, now_ns: int) -> None:
        """Do what is due at `now_ns`, which is `next_ns`."""
        if self._leaving and self._leaving[0][0] <= now_ns:
            number = self._leaving.popleft()[1]
            through_ns = self._carry(now_ns, FRAME_BYTES)
            if through_ns is not None:
                self._acks.append((through_ns + self._rtt_ns, number))
        elif self._acks and self._acks[0][0] <= now_ns:
            self._take_ack(now_ns, self._acks.popleft()[1])
        elif self._rto_due_ns is not None and self._rto_due_ns <= now_ns:
            self._time_out(now_ns)
        elif len(self.under_way) < int(self.controller.window):
            self._send(now_ns)

    def _send(self, now_ns: int) -> None:
        if not self.under_way:  # after a rest, however short, a sample begins anew
            self._delivered_ns = self._first_sent_ns = now_ns
        self.under_way[self.sent] = Packet(now_ns, self.delivered, self._delivered_ns, self._first_sent_ns)
        ready_ns = max(
            now_ns + int(self._rng.random() * LATE_NS), self._leaving[-1][0] if self._leaving else 0
        )
        self._leaving.append((ready_ns, self.sent))
        self.sent += 1
        self._next_send_ns = max(self._next_send_ns, now_ns - MS) + self.controller.pace_ns
        if self._rto_due_ns is None:
            self._rto_due_ns = now_ns + self._rto_ns

    def _take_ack(self, now_ns: int, number: int) -> None:
        if number in self._given_up:
            self._take_back()
        packet = self.under_way.pop(number)
        self.delivered += 1
        if number >= self._recovered_at:
            self._given_up.clear()
        self._note_rtt(now_ns - packet.sent_ns)
        self._rto_due_ns = now_ns + self._rto_ns
        self._note_losses(now_ns, number)
        self.controller.acked(self, now_ns, packet, now_ns - packet.sent_ns)
        self._delivered_ns, self._first_sent_ns = now_ns, packet.sent_ns
        if not self.controller.pace_ns:
            self._next_send_ns = now_ns

    def _note_losses(self, now_ns: int, acked: int) -> None:
        seen = False
        while self.under_way and (first := next(iter(self.under_way))) <= acked - REORDERED:
            del self.under_way[first]
            self.lost += 1
            seen = seen or first >= self._recovered_at
        if seen:
            self._recovered_at = self.sent
            self.controller.lost(self, now_ns)

    def _time_out(self, now_ns: int) -> None:
        self.lost += len(self.under_way)
        self._given_up.update(self.under_way)
        self.under_way.clear()
        self._recovered_at = self.sent
        self._rto_ns = min(2 * self._rto_ns, RTO_MOST_NS)
        self._rto_due_ns = None
        self._next_send_ns = now_ns
        self.controller.timed_out(self, now_ns)

    def _take_back(self) -> None:
        """The timer was wrong: all that it gave up is under way."""
        self.lost -= len(self._given_up)
        self._given_up.update(self.under_way)
        self.under_way, self._given_up = self._given_up, OrderedDict()
        self.controller.take_back()

    def _note_rtt(self, rtt_ns: int) -> None:
        if not self.srtt_ns:
            self.srtt_ns, self._rttvar_ns = rtt_ns, rtt_ns // 2
        else:
            self._rttvar_ns = (3 * self._rttvar_ns + abs(self.srtt_ns - rtt_ns)) // 4
            self.srtt_ns = (7 * self.srtt_ns + rtt_ns) // 8
        self._rto_ns = max(self.srtt_ns + 4 * self._rttvar_ns, RTO_LEAST_NS)


class Cubic(Controller):
    """RFC 9438; windows in packets, times in seconds."""

    def __init__(self) -> None:
        self.window = START_PACKETS
        self._threshold = float("inf")
        self._most = 0.0  # the window before the last reduction
        self._before = (self.window, self._threshold, self._most)  # the last timeout
        self._epoch_ns = -1  # when growth began after it
        self._origin_s = 0.0  # RFC: K, when the window will be there again
        self._friendly = 0.0  # RFC: W_est
        self._least_rtt_ns = 0
        self._round_end = self._round_least_ns = self._round_samples = 0

    def acked(self, flow: Flow, now_ns: int, packet: Packet, rtt_ns: int) -> None:
        """Grow by what one acknowledgement allows."""
        self._least_rtt_ns = min(self._least_rtt_ns or rtt_ns, rtt_ns)
        if self.window < self._threshold:
            self.window += 1
            self._leave_slow_start(flow, packet, rtt_ns)
            return
        if self._epoch_ns < 0:
            self._epoch_ns = now_ns
            self._friendly = self.window
            self._most = max(self._most, self.window)
            self._origin_s = ((self._most - self.window) / CUBIC_C) ** (1 / 3)
        at_s = (now_ns + self._least_rtt_ns - self._epoch_ns) / SECOND
        target = CUBIC_C * (at_s - self._origin_s) ** 3 + self._most
        target = min(max(target, self.window), 1.5 * self.window)
        full = self._friendly >= self._most
        self._friendly += (1 if full else 3 * (1 - CUBIC_BETA) / (1 + CUBIC_BETA)) / self.window
        self.window = max(self.window + (target - self.window) / self.window, self._friendly)

    def lost(self, flow: Flow, now_ns: int) -> None:
        """Reduce, and give way to newer flows (fast convergence)."""
        falling = self.window < self._most
        self._most = self.window * (1 + CUBIC_BETA) / 2 if falling else self.window
        self.window = self._threshold = max(self.window * CUBIC_BETA, LEAST_PACKETS)
        self._epoch_ns = -1

    def timed_out(self, flow: Flow, now_ns: int) -> None:
        """Begin anew, up to where it was reduced to."""
        if self.window > 1:
            self._before = (self.window, self._threshold, self._most)
        self.lost(flow, now_ns)
        self.window = 1.0

    def take_back(self) -> None:
        """As it was."""
        self.window, self._threshold, self._most = self._before
        self._epoch_ns = -1

    def _leave_slow_start(self, flow: Flow, packet: Packet, rtt_ns: int) -> None:
        """HyStart: a round trip that has grown says that the queue is filling."""
        if packet.delivered >= self._round_end:
            self._round_end, self._round_samples, self._round_least_ns = (
                flow.delivered + len(flow.under_way),
                0,
                0,
            )
        self._round_samples += 1
        if self._round_samples > HYSTART_SAMPLES:
            return
        self._round_least_ns = min(self._round_least_ns or rtt_ns, rtt_ns)
        margin_ns = min(max(self._least_rtt_ns // 8, HYSTART_LEAST_NS), HYSTART_MOST_NS)
        grown = self._round_least_ns > self._least_rtt_ns + margin_ns
        if grown and self._round_samples == HYSTART_SAMPLES and self.window >= HYSTART_WINDOW:
            self._threshold = self.window


class Bbr(Controller):
    """The first version; rates in packets a nanosecond."""

    def __init__(self, place: int) -> None:
        """`place`: where in the cycle it begins, which the draft leaves to chance."""
        self.window = START_PACKETS
        self._mode = "startup"
        self._place = self._first_place = place
        self._rates: deque[tuple[int, float]] = deque()  # (round, rate), falling
        self._round = self._round_end = 0
        self._full_rate, self._full_rounds = 0.0, 0
        self._cycle_ns = 0
        self._least_rtt_ns, self._least_rtt_at_ns = 0, 0
        self._probe_end_ns: int | None = None
        self._before = 0.0  # the window before the last timeout
        self._burst_ns, self._burst_acked = 0, 0  # since when, and how many packets, more than the rate gives
        self._bursts = [0.0, 0.0]  # the largest of these five rounds and of the five before
        self._burst_round = 0
        self._conserve_until = 0  # after a timeout: as many leave as arrive, for a round

    @property
    def rate(self) -> float:
        """The path's; 0: unknown."""
        return self._rates[0][1] if self._rates else 0.0

    def acked(self, flow: Flow, now_ns: int, packet: Packet, rtt_ns: int) -> None:
        """One sample of the rate and of the round trip."""
        started = packet.delivered >= self._round_end
        if started:
            self._round += 1
            self._round_end = flow.delivered
        self._note_rate(now_ns, flow, packet)
        self._note_burst(now_ns)
        if self._mode == "startup" and started:
            self._look_whether_full()
        path = self.rate * self._least_rtt_ns
        if self._mode == "drain" and len(flow.under_way) <= path:
            self._mode, self._cycle_ns, self._place = "cycle", now_ns, self._first_place
        if self._mode == "cycle":
            self._turn(flow, now_ns, path)
        self._note_rtt(flow, now_ns, rtt_ns)
        self._decide(flow)

    def timed_out(self, flow: Flow, now_ns: int) -> None:
        """Nobody knows what is under way: a packet for each one that arrives, for a round."""
        self._before = max(self.window, self._before)
        self.window = BBR_LEAST_PACKETS
        self._conserve_until = self._round + 1

    def take_back(self) -> None:
        """As it was."""
        self.window, self._before, self._conserve_until = self._before, 0.0, 0

    def _note_rate(self, now_ns: int, flow: Flow, packet: Packet) -> None:
        interval_ns = max(packet.sent_ns - packet.first_sent_ns, now_ns - packet.delivered_ns)
        if interval_ns < (self._least_rtt_ns or interval_ns + 1):
            return  # shorter than a round trip can be: acknowledgements that came together
        rate = (flow.delivered - packet.delivered) / interval_ns
        while self._rates and self._rates[-1][1] <= rate:
            self._rates.pop()
        self._rates.append((self._round, rate))
        while self._rates[0][0] <= self._round - BBR_RATE_ROUNDS:
            self._rates.popleft()

    def _note_burst(self, now_ns: int) -> None:
        """How many more were acknowledged than the rate explains, since that was last so."""
        if self._round - self._burst_round >= BBR_BURST_ROUNDS:
            self._burst_round = self._round
            self._bursts = [0.0, self._bursts[0]]
        expected = self.rate * (now_ns - self._burst_ns)
        if self._burst_acked <= expected:
            self._burst_ns, self._burst_acked, expected = now_ns, 0, 0.0
        self._burst_acked += 1
        self._bursts[0] = max(self._bursts[0], min(self._burst_acked - expected, self.window))

    def _look_whether_full(self) -> None:
        if self.rate >= self._full_rate * BBR_GROWTH:
            self._full_rate, self._full_rounds = self.rate, 0
            return
        self._full_rounds += 1
        if self._full_rounds >= BBR_FULL_ROUNDS:
            self._mode = "drain"

    def _turn(self, flow: Flow, now_ns: int, path: float) -> None:
        gain = BBR_CYCLE[self._place]
        over = now_ns - self._cycle_ns > self._least_rtt_ns
        if gain > 1:
            over = over and len(flow.under_way) >= gain * path
        elif gain < 1:
            over = over or len(flow.under_way) <= path
        if over:
            self._place = (self._place + 1) % len(BBR_CYCLE)
            self._cycle_ns = now_ns

    def _note_rtt(self, flow: Flow, now_ns: int, rtt_ns: int) -> None:
        expired = self._least_rtt_ns > 0 and now_ns > self._least_rtt_at_ns + BBR_MIN_RTT_NS
        if not self._least_rtt_ns or rtt_ns <= self._least_rtt_ns or expired:
            self._least_rtt_ns, self._least_rtt_at_ns = rtt_ns, now_ns
        if expired and self._mode != "probe_rtt":
            self._mode, self._probe_end_ns = "probe_rtt", None
        if self._mode != "probe_rtt":
            return
        if self._probe_end_ns is None:
            if len(flow.under_way) <= BBR_LEAST_PACKETS:
                self._probe_end_ns = now_ns + max(BBR_PROBE_RTT_NS, rtt_ns)
        elif now_ns >= self._probe_end_ns:
            self._least_rtt_at_ns = now_ns
            full = self._full_rounds >= BBR_FULL_ROUNDS
            self._mode, self._cycle_ns, self._place = (
                "cycle" if full else "startup",
                now_ns,
                self._first_place,
            )

    def _decide(self, flow: Flow) -> None:
        pace_gain, flight_gain = 1.0, BBR_FLIGHT_GAIN
        if self._mode == "startup":
            pace_gain = flight_gain = BBR_HIGH_GAIN
        elif self._mode == "drain":
            pace_gain, flight_gain = 1 / BBR_HIGH_GAIN, BBR_HIGH_GAIN
        elif self._mode == "cycle":
            pace_gain = BBR_CYCLE[self._place]
        rate = self.rate or START_PACKETS / flow.srtt_ns
        self.pace_ns = max(round(1 / (BBR_PACING_SHARE * pace_gain * rate)), 1)
        target = flight_gain * rate * self._least_rtt_ns + BBR_BURST_PACKETS
        if self._full_rounds >= BBR_FULL_ROUNDS:
            target += min(max(self._bursts), rate * BBR_BURST_NS)
        if self._round < self._conserve_until:
            self.window = max(self.window, len(flow.under_way) + 1.0)
        elif self._full_rounds >= BBR_FULL_ROUNDS:
            self.window = min(self.window + 1, target)
        elif self.window < target or flow.delivered < START_PACKETS:
            self.window += 1
        self.window = max(self.window, BBR_LEAST_PACKETS)
        if self._mode == "probe_rtt":
            self.window = min(self.window, BBR_LEAST_PACKETS)


class Flows:
    """All flows of a line, in one order of time."""

    def __init__(self, cross: Cross, seed: str, epoch_ns: int, carry: Carry) -> None:
        """They begin within a round trip after `epoch_ns`, as the seed says."""
        rng = random.Random(f"{seed}:cross")
        kinds: list[Controller] = [Cubic() for _ in range(cross.cubic)]
        # any place but that of a rest after a probe that never was
        kinds += [Bbr(rng.choice([0, 2, 3, 4, 5, 6, 7])) for _ in range(cross.bbr)]
        self.flows = [
            Flow(kind, cross.rtt_ns, f"{seed}:{number}", epoch_ns + int(rng.random() * cross.rtt_ns), carry)
            for number, kind in enumerate(kinds)
        ]
        self._heap = [(flow.next_ns(), number) for number, flow in enumerate(self.flows)]
        heapq.heapify(self._heap)

    def advance(self, until_ns: int) -> None:
        """Everything that happens until then, and then."""
        heap, flows = self._heap, self.flows
        while heap[0][0] <= until_ns:
            now_ns, number = heap[0]
            flow = flows[number]
            flow.step(now_ns)
            heapq.heapreplace(heap, (max(flow.next_ns(), now_ns), number))
