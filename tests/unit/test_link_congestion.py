"""The rate controller over a model of a path: a queue that is emptied at a rate, and a delay behind it."""

from __future__ import annotations

import random
from collections import deque

import pytest

from kcpg.core.congestion import CongestionController, Phase, Totals
from kcpg.net.udp import BUFFER_BYTES

DATAGRAM_BYTES = 1400


class Sender:
    """Sends whole datagrams as its controller lets it, and resends what is lost a round trip later."""

    def __init__(self, demand_bps: int = 0) -> None:
        self.control = CongestionController(DATAGRAM_BYTES)
        self.demand_bps = demand_bps  # of its application; 0: no end of data
        self.sent = self.acked = self.first = self.resent = self.flight = 0
        self.credit = 0.0
        self.wanted = 0.0
        self.starved_at = 0
        self.lost: deque[int] = deque()  # when to resend
        self.srtt = -1.0
        self.low_rtt = self.acked_ms = -1
        self.delivered = 0

    def take(self, now: int) -> int:
        """Datagrams that leave in this millisecond."""
        if now >= self.control.due_ms:
            missing = sum(at <= now for at in self.lost)
            totals = Totals(self.sent, self.acked, self.first, self.resent + missing, self.acked_ms)
            self.control.round(now, totals, int(self.srtt), self.low_rtt, self.starved_at)
            self.low_rtt = -1
        rate = self.control.rate_bps
        self.credit = min(self.credit + rate / 8000, max(rate / 4000, 10 * DATAGRAM_BYTES)) if rate else 1e9
        self.wanted += self.demand_bps / 8000
        count = 0
        while self.credit >= DATAGRAM_BYTES:
            if self.lost and self.lost[0] <= now:
                self.lost.popleft()
                self.resent += 1
            elif self.demand_bps and self.wanted < DATAGRAM_BYTES:
                self.starved_at = self.sent
                break
            elif self.sent - self.acked + DATAGRAM_BYTES <= self.control.flight_bytes:
                self.wanted -= DATAGRAM_BYTES
                self.sent += DATAGRAM_BYTES
                self.first += 1
            else:
                break
            self.credit -= DATAGRAM_BYTES
            count += 1
        return count


class Model:
    """Senders that share a path."""

    def __init__(
        self, mbit: float, rtt_ms: int, *senders: Sender, queue_ms: int = 100, loss: float = 0.0
    ) -> None:
        self.rng = random.Random("model")
        self.mbit, self.rtt_ms, self.queue_ms, self.loss = mbit, rtt_ms, queue_ms, loss
        self.senders = senders
        self.now = 0
        self.queue: deque[tuple[Sender, int]] = deque()
        self.coming: deque[tuple[int, Sender, int]] = deque()
        self.tokens = 0.0
        self.dropped = self.offered = 0
        self.worst_queue_ms = 0.0

    def run(self, ms: int) -> list[float]:
        """Mbit/s delivered of each sender meanwhile."""
        before = [sender.delivered for sender in self.senders]
        self.dropped = self.offered = 0
        self.worst_queue_ms = 0.0
        for _ in range(ms):
            self._step()
        return [
            (s.delivered - b) * DATAGRAM_BYTES * 8 / ms / 1000
            for s, b in zip(self.senders, before, strict=True)
        ]

    def _step(self) -> None:
        self.now += 1
        drain = self.mbit * 125 / DATAGRAM_BYTES  # datagrams per ms
        for sender in self.senders:
            for _ in range(sender.take(self.now)):
                self.offered += 1
                if self.rng.random() < self.loss:
                    sender.lost.append(self.now + self.rtt_ms)
                elif len(self.queue) >= self.queue_ms * drain:
                    self.dropped += 1
                    sender.lost.append(self.now + self.rtt_ms + int(len(self.queue) / drain))
                else:
                    self.queue.append((sender, self.now))
        self.worst_queue_ms = max(self.worst_queue_ms, len(self.queue) / drain)
        self.tokens = min(self.tokens + drain, 1 + drain)
        while self.queue and self.tokens >= 1:
            self.tokens -= 1
            sender, sent = self.queue.popleft()
            self.coming.append((self.now + self.rtt_ms, sender, sent))
        while self.coming and self.coming[0][0] <= self.now:
            _, sender, sent = self.coming.popleft()
            sender.acked += DATAGRAM_BYTES
            sender.delivered += 1
            rtt = self.now - sent
            sender.acked_ms = self.now
            sender.low_rtt = rtt if sender.low_rtt < 0 else min(sender.low_rtt, rtt)
            sender.srtt = rtt if sender.srtt < 0 else sender.srtt + (rtt - sender.srtt) / 8


@pytest.mark.parametrize(("mbit", "rtt_ms"), [(2, 20), (50, 10), (100, 50), (50, 150), (10, 600)])
def test_it_finds_the_rate_and_keeps_the_queue_short(mbit: float, rtt_ms: int) -> None:
    sender = Sender()
    model = Model(mbit, rtt_ms, sender, queue_ms=2_000)
    model.run(40 * rtt_ms + 1_000)
    assert model.run(60 * rtt_ms)[0] >= 0.93 * mbit
    assert model.worst_queue_ms <= max(rtt_ms, 12 * DATAGRAM_BYTES * 8 / mbit / 1000)
    assert sender.control.phase is Phase.CYCLE or sender.control.phase is Phase.RTT_PROBE


@pytest.mark.parametrize("loss", [0.01, 0.05, 0.1, 0.15])
def test_the_paths_own_loss_is_made_up_for(loss: float) -> None:
    sender = Sender()
    model = Model(50, 50, sender, loss=loss)
    model.run(4_000)
    assert model.run(6_000)[0] >= 0.95 * 50
    assert sender.control.loss == pytest.approx(loss, rel=0.5, abs=0.01)


def test_a_policer_is_obeyed() -> None:
    """No queue at all: what is too much is dropped. Few are."""
    model = Model(20, 60, Sender(), queue_ms=3)
    model.run(4_000)
    assert model.run(6_000)[0] >= 0.85 * 20
    assert model.dropped <= 0.06 * model.offered


def test_two_links_share_a_bottleneck() -> None:
    model = Model(40, 50, Sender(), Sender(), queue_ms=200)
    model.run(15_000)
    shares = model.run(20_000)
    assert sum(shares) >= 0.95 * 40
    assert min(shares) >= 0.5 * max(shares)


def test_one_that_comes_later_gets_its_share() -> None:
    first, second = Sender(), Sender()
    model = Model(40, 50, first, second, queue_ms=200)
    model.senders = (first,)
    model.run(5_000)
    model.senders = (first, second)
    model.run(20_000)
    shares = model.run(20_000)
    assert min(shares) >= 0.4 * max(shares)


def test_an_application_that_pauses_is_not_taken_for_the_path() -> None:
    sender = Sender()
    model = Model(50, 40, sender)
    model.run(2_000)
    known = sender.control.delivery_bps
    sender.demand_bps = 1_000_000
    model.run(20_000)
    assert sender.control.delivery_bps >= 0.95 * known


def test_a_slow_application_is_not_held_up_before_the_rate_is_known() -> None:
    sender = Sender(demand_bps=4_000_000)
    model = Model(50, 40, sender)
    model.run(1_000)
    assert model.run(5_000)[0] >= 3.9
    assert model.worst_queue_ms <= 5


def test_the_path_gets_faster_and_slower() -> None:
    sender = Sender()
    model = Model(10, 40, sender)
    model.run(3_000)
    model.mbit = 80
    model.run(2_500)
    assert model.run(2_000)[0] >= 0.9 * 80
    model.mbit = 10
    model.run(3_000)
    assert model.run(3_000)[0] >= 0.93 * 10
    assert model.dropped <= 0.03 * model.offered


def test_a_short_path_is_not_paced() -> None:
    """On a LAN nothing but the flight is limited, and that to more than the path holds."""
    sender = Sender()
    model = Model(1_000, 0, sender)
    model.run(1_000)
    assert sender.control.rate_bps == 0
    assert model.run(1_000)[0] >= 0.98 * 1_000


def test_nothing_heard_teaches_nothing() -> None:
    control = CongestionController(DATAGRAM_BYTES)
    for now in range(0, 10_000, 10):
        control.round(now, Totals(sent=1_000_000, first=700), 50, -1, 0)
    assert (control.delivery_bps, control.rate_bps, control.phase) == (0, 0, Phase.STARTUP)


def test_what_is_under_way_on_a_short_path_fits_the_peers_socket() -> None:
    """On one machine there is no line, only the socket of a peer that does not run just now."""
    control = CongestionController(DATAGRAM_BYTES)
    phases = set()
    acked = 0
    for now in range(0, 30_000, 8):
        acked += 20_000_000_000 // 8000 * 8  # a burst of acknowledgements after a stall
        sent = acked + control.flight_bytes
        control.round(now, Totals(sent, acked, sent // DATAGRAM_BYTES, 0, now), 1, 1, 0)
        phases.add(control.phase)
        assert control.flight_bytes <= BUFFER_BYTES, control.phase
    assert {Phase.STARTUP, Phase.DRAIN, Phase.CYCLE} <= phases
