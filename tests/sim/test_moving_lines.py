"""`kcp=auto` on lines that move, are shared, are policed, or lose a quarter; nothing is configured."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from kcpg.core.kcp.kcp import KcpParams
from netem.cross import Cross
from netem.profile import Chance, Impair, Police
from netem.timeline import Swing
from tests.line import MS
from tests.sim.chain import Hop, SimChain
from tests.sim.memory import Answer, App
from tests.sim.network import HEADERS_BYTES

AUTO = KcpParams(nodelay=1, interval_ms=30, resend=2, snd_wnd=8192, rcv_wnd=8192, auto=True)
KEY = bytes([7] * 32)
DATAGRAM_BYTES = 1400
FRAME_BYTES = DATAGRAM_BYTES + HEADERS_BYTES
PAYLOAD_SHARE = 1351 / FRAME_BYTES
MBIT = 10
RATE_BPS = MBIT * 10**6


class Source(App):
    """Endless data."""

    def start(self, sock: Any) -> None:
        self.writable(sock)

    def writable(self, sock: Any) -> None:
        while sock.send(bytes(65_536)):
            pass


class Sink(App):
    """Takes all of it."""

    got = 0

    def readable(self, sock: Any) -> None:
        while data := sock.recv(65_536):
            self.got += len(data)


class Counts(NamedTuple):
    """Of all links since they began."""

    sent: int
    resent: int
    each: list[int]


class Bulk:
    """Bulk flows, one or more on each of `paths` links, through one line."""

    def __init__(self, seed: str, line: Impair, paths: int = 1) -> None:
        dial = {"paths": paths} if paths > 1 else {}
        self.chain = SimChain("compiled", seed, 0, line, hops=[Hop(KEY, kcp=AUTO)], dial=dial)
        self.world = self.chain.world
        if paths > 1:
            self.world.pass_time(1_000)
        self.sinks = [Sink() for _ in range(2 * paths if paths > 1 else 1)]
        for sink in self.sinks:
            self.chain.connect(Source(), Answer(0, sink))

    def change(self, line: Impair) -> None:
        self.world.network.link("client", "server", line)

    @property
    def links(self) -> list[Any]:
        return list(self.chain["client"].node.egress.links)  # type: ignore[attr-defined]

    @property
    def counts(self) -> Counts:
        every = [link.link_wire.segment_counts() for link in self.links]
        again = ("segments_resent_fast", "segments_resent_rto", "segments_resent_tail")
        return Counts(
            sum(one["segments_sent"] for one in every),
            sum(one[name] for one in every for name in again),
            [one["bytes_sent"] for one in every],
        )

    def share(self, ms: int) -> float:
        """Of what the line carries, how much arrives in order in the next so many milliseconds."""
        before = sum(sink.got for sink in self.sinks)
        self.world.pass_time(ms)
        got = sum(sink.got for sink in self.sinks) - before
        return got * 8 / ms / 1000 / MBIT / PAYLOAD_SHARE

    def resends(self, ms: int) -> tuple[float, float]:
        """(share of what is sent that is sent again, Jain's index of the links) of the next milliseconds."""
        before = self.counts
        self.world.pass_time(ms)
        after = self.counts
        again = after.resent - before.resent
        each = [new - old for new, old in zip(after.each, before.each, strict=True)]
        jain = sum(each) ** 2 / len(each) / sum(one * one for one in each)
        return again / (after.sent - before.sent + again), jain

    def queue_ms(self, line_bps: int, rtt_ms: int) -> float:
        """What is under way beyond what the line holds."""
        held = line_bps * rtt_ms / 8000
        under_way = sum(link.link_wire.flight.bytes for link in self.links) * FRAME_BYTES / DATAGRAM_BYTES
        return max(under_way - held, 0) * 8000 / line_bps


def line(rtt_ms: float, loss: float = 0.0, queue_packets: int = 400) -> Impair:
    under_way = int(RATE_BPS * rtt_ms / 2 / 8000 / FRAME_BYTES)
    return Impair(
        delay_ns=int(rtt_ms / 2 * MS),
        rate_bps=RATE_BPS,
        limit=queue_packets + under_way,
        loss=Chance(loss),
    )


@pytest.mark.parametrize(("short_ms", "long_ms"), [(20, 200), (60, 115)])
def test_the_round_trip_grows(short_ms: int, long_ms: int) -> None:
    """From the second second on it is as fast as before."""
    bulk = Bulk(f"grows {short_ms} {long_ms}", line(short_ms))
    bulk.world.pass_time(4_000)
    for rtt_ms in (long_ms, short_ms, long_ms):
        bulk.change(line(rtt_ms))
        bulk.world.pass_time(1_000)
        assert bulk.share(5_000) >= 0.85


@pytest.mark.parametrize("period_ms", [4_000, 10_000])
def test_the_round_trip_swings(period_ms: int) -> None:
    """Between 40 and 120 ms."""
    swing = Impair(
        delay_ns=20 * MS, rate_bps=RATE_BPS, limit_bytes=200_000, swing=Swing(80 * MS, period_ms * MS)
    )
    bulk = Bulk(f"swings {period_ms}", swing)
    bulk.world.pass_time(1_000)
    assert bulk.share(2 * period_ms) >= 0.8


@pytest.mark.parametrize(
    ("loss", "rtt_ms", "least"), [(0.2, 50, 0.85), (0.3, 50, 0.85), (0.2, 200, 0.8), (0.3, 150, 0.75)]
)
def test_a_quarter_is_lost(loss: float, rtt_ms: int, least: float) -> None:
    """What netem loses has not taken the line's time: a sender can make up for all of it."""
    bulk = Bulk(f"lossy {loss} {rtt_ms}", line(rtt_ms, loss, 1_000))
    bulk.world.pass_time(3_000)
    assert bulk.share(15_000) >= least


@pytest.mark.parametrize(
    ("paths", "queue_packets", "resent", "fair"),
    [(2, 10, 0.04, 0.65), (4, 10, 0.08, 0.6), (2, 42, 0.03, 0.95), (4, 42, 0.03, 0.9), (4, 100, 0.03, 0.9)],
)
def test_links_share_a_queue(paths: int, queue_packets: int, resent: float, fair: float) -> None:
    """They take each other's losses for what they are, and leave each other room."""
    bulk = Bulk(f"shared {paths} {queue_packets}", line(50, 0.0, queue_packets), paths)
    bulk.world.pass_time(9_000)
    again, jain = bulk.resends(15_000)
    print(again, jain)
    assert again <= resent
    assert jain >= fair
    assert bulk.share(3_000) >= 0.85


@pytest.mark.parametrize(("queue_packets", "least"), [(42, 1 / 2), (10, 1 / 4)])
def test_cubic_beside_two_links_keeps_its_share(queue_packets: int, least: float) -> None:
    cross = Cross(1, 0, 50 * MS)
    beside = Impair(delay_ns=25 * MS, rate_bps=RATE_BPS, limit_bytes=queue_packets * FRAME_BYTES, cross=cross)
    bulk = Bulk(f"cubic {queue_packets}", beside, 2)
    (cubic,) = bulk.world.network.link("client", "server", beside).up.cross
    bulk.world.pass_time(9_000)
    before = cubic.goodput_bytes
    bulk.world.pass_time(20_000)
    mbit = (cubic.goodput_bytes - before) * 8 / 20_000_000
    print(mbit)
    assert mbit >= least * MBIT / 3 * 1448 / 1514


def test_a_policer_is_found_and_kept_to() -> None:
    policed = Impair(delay_ns=25 * MS, limit=1000, police=Police(RATE_BPS, 200_000))
    bulk = Bulk("policed", policed)
    bulk.world.pass_time(10_000)
    again, _ = bulk.resends(10_000)
    assert again <= 0.03
    assert bulk.share(10_000) >= 0.95


@pytest.mark.parametrize(("fast", "slow"), [(40, 4), (20, 2)])
def test_the_rate_falls_to_a_tenth(fast: int, slow: int) -> None:
    """A second later the queue that this made has gone."""
    before = Impair(delay_ns=20 * MS, rate_bps=fast * 10**6, limit_bytes=4_000_000)
    bulk = Bulk(f"falls {fast}", before)
    bulk.world.pass_time(5_000)
    bulk.change(Impair(delay_ns=20 * MS, rate_bps=slow * 10**6, limit_bytes=4_000_000))
    bulk.world.pass_time(1_000)
    queues = []
    for _ in range(40):
        bulk.world.pass_time(50)
        queues.append(bulk.queue_ms(slow * 10**6, 40))
    print(queues)
    assert max(queues) < 100


@pytest.mark.parametrize("kbit", [64, 128, 256])
def test_a_slow_line_is_not_buried(kbit: int) -> None:
    """Beside what is on the wire, no more than 300 ms wait; a full datagram takes 180 ms at 64 kbit/s."""
    bulk = Bulk(f"slow {kbit}", Impair(delay_ns=50 * MS, rate_bps=kbit * 1000, limit_bytes=200_000))
    bulk.world.pass_time(20_000)
    on_the_wire_ms = FRAME_BYTES * 8 / kbit
    queues = []
    for _ in range(100):
        bulk.world.pass_time(100)
        queues.append(bulk.queue_ms(kbit * 1000, 100) - on_the_wire_ms)
    queues.sort()
    assert queues[95] <= 300
