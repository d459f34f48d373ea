"""`kcp=auto` on paths whose rate nobody configured: filled, not flooded, and shared."""

from __future__ import annotations

from typing import Any

from kcpg.core.kcp.kcp import KcpParams
from netem.profile import Chance, Impair
from tests.line import MS
from tests.sim.chain import Hop, SimChain
from tests.sim.network import HEADERS_BYTES

KEY = bytes([7] * 32)
AUTO = KcpParams(nodelay=1, interval_ms=30, resend=2, snd_wnd=8192, rcv_wnd=8192, auto=True)
PAYLOAD_SHARE = 1351 / (1400 + HEADERS_BYTES)
FOREVER = 1 << 40


def path(mbit: float, rtt_ms: int, loss: float = 0.0, queue_ms: int = 50) -> Impair:
    """A bottleneck with a queue of so many milliseconds."""
    packets = int(mbit * 1000 * (rtt_ms / 2 + queue_ms) / 8 / 1442)
    return Impair(
        delay_ns=rtt_ms * MS // 2, loss=Chance(loss), rate_bps=int(mbit * 1e6), limit=max(packets, 10)
    )


class Bulk:
    """A chain with bulk flows from the client, and a network that can be changed."""

    def __init__(self, engine: str, name: str, impair: Impair, flows: int = 1) -> None:
        self.chain = SimChain(engine, name, 0, impair, hops=[Hop(KEY, kcp=AUTO)])
        self.world = self.chain.world
        self.change(impair)
        for _ in range(flows):
            self.chain.talk(FOREVER, 0)

    def change(self, impair: Impair) -> None:
        self.up = self.world.network.link("client", "server", impair).up

    @property
    def link_wire(self) -> Any:
        return self.chain.link("client").link_wire

    @property
    def received(self) -> list[int]:
        return [far.received for _, far in self.chain.pairs]

    def goodput_mbit(self, ms: int) -> float:
        """Over the next so many milliseconds, all flows together."""
        before = sum(self.received)
        self.world.pass_time(ms)
        return (sum(self.received) - before) * 8 / ms / 1000


def test_a_path_is_filled_and_not_flooded(engine: str) -> None:
    bulk = Bulk(engine, "fill", path(10, 60))
    bulk.world.pass_time(1_500)
    dropped = bulk.up.drops["limit"]
    assert bulk.goodput_mbit(4_000) >= 0.93 * 10 * PAYLOAD_SHARE
    assert bulk.up.drops["limit"] == dropped <= 64


def test_a_shallow_queue_costs_little(engine: str) -> None:
    """5 ms of queue: only the probes overflow it."""
    bulk = Bulk(engine, "shallow", path(10, 60, queue_ms=5))
    bulk.world.pass_time(1_500)
    dropped, sent = bulk.up.drops["limit"], bulk.link_wire.tx_datagrams
    assert bulk.goodput_mbit(4_000) >= 0.88 * 10 * PAYLOAD_SHARE
    assert bulk.up.drops["limit"] - dropped <= 0.05 * (bulk.link_wire.tx_datagrams - sent)


def test_loss_does_not_slow_it_down(engine: str) -> None:
    bulk = Bulk(engine, "loss", path(10, 50, 0.05))
    bulk.world.pass_time(3_000)
    before = bulk.link_wire.tx_bytes, sum(bulk.received)
    assert bulk.goodput_mbit(5_000) >= 0.92 * 0.95 * 10 * PAYLOAD_SHARE
    wire = (bulk.link_wire.tx_bytes - before[0]) / (sum(bulk.received) - before[1])
    assert wire <= 1.25


def test_a_bulk_flow_adds_less_than_a_round_trip_to_others(engine: str) -> None:
    bulk = Bulk(engine, "beside", path(20, 50, queue_ms=1_000))
    bulk.world.pass_time(2_000)
    sent_ms: dict[int, int] = {}
    waits: list[int] = []
    stream = bulk.chain.stream(300, 10, size=lambda number: 64)
    start, readable = stream.start, stream.readable

    def note_start(sock: Any) -> None:
        sent_ms[stream.sent] = bulk.world.now_ms
        start(sock)

    def note_readable(sock: Any) -> None:
        seen = set(stream.seen)
        readable(sock)
        waits.extend(bulk.world.now_ms - sent_ms[number] for number in stream.seen - seen)

    stream.start, stream.readable = note_start, note_readable  # type: ignore[method-assign]
    bulk.world.run(stream.complete, 10_000)
    waits.sort()
    assert waits[len(waits) * 99 // 100] <= 100


def test_a_quiet_application_does_not_lower_the_rate(engine: str) -> None:
    bulk = Bulk(engine, "quiet", path(10, 50))
    bulk.world.pass_time(2_000)
    known = bulk.link_wire.flight.control.delivery_bps
    near, far = bulk.chain.pairs[0]
    near.send_bytes = far.expect_bytes = near.sent + 1
    bulk.world.pass_time(500)
    stream = bulk.chain.stream(1_000, 10)
    bulk.world.run(stream.complete, 15_000)
    assert bulk.link_wire.flight.control.delivery_bps >= 0.9 * known


def test_after_a_rest_it_goes_on_as_fast(engine: str) -> None:
    bulk = Bulk(engine, "rest", path(10, 50))
    bulk.world.pass_time(2_000)
    near, far = bulk.chain.pairs[0]
    near.send_bytes = far.expect_bytes = near.sent + 1
    bulk.world.pass_time(60_000)
    bulk.chain.talk(1_000_000, 0)
    bulk.chain.pairs.pop(0)
    dropped = bulk.up.drops["limit"]
    assert bulk.chain.finish(5_000) <= 1_050
    assert bulk.up.drops["limit"] == dropped


def test_it_follows_the_path_up_and_down(engine: str) -> None:
    bulk = Bulk(engine, "follow", path(5, 40))
    bulk.world.pass_time(2_000)
    bulk.change(path(20, 40))
    bulk.world.pass_time(2_000)
    assert bulk.goodput_mbit(2_000) >= 0.9 * 20 * PAYLOAD_SHARE
    bulk.change(path(5, 40))
    bulk.world.pass_time(3_000)
    dropped = bulk.up.drops["limit"]
    assert bulk.goodput_mbit(2_000) >= 0.9 * 5 * PAYLOAD_SHARE
    assert bulk.up.drops["limit"] - dropped <= 40


def test_a_blackhole_leaves_no_mark(engine: str) -> None:
    bulk = Bulk(engine, "blackhole", path(10, 50))
    bulk.world.pass_time(2_000)
    bulk.world.network.cut("client", "server", 5_000)
    bulk.world.pass_time(5_000)
    bulk.world.pass_time(2_000)
    assert bulk.goodput_mbit(2_000) >= 0.9 * 10 * PAYLOAD_SHARE


def test_ten_flows_share_a_link(engine: str) -> None:
    bulk = Bulk(engine, "ten", path(20, 50), flows=10)
    bulk.world.pass_time(2_000)
    before = bulk.received
    assert bulk.goodput_mbit(4_000) >= 0.9 * 20 * PAYLOAD_SHARE
    shares = [now - then for now, then in zip(bulk.received, before, strict=True)]
    fairness = sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))  # Jain's
    assert fairness >= 0.95, shares


def test_configured_rates_stay_upper_limits(engine: str) -> None:
    chain = SimChain(
        engine, "limit", 0, path(20, 40), hops=[Hop(KEY, kcp=AUTO, params={"outbound_bps": 5_000_000})]
    )
    chain.talk(2_500_000, 0)
    assert 4_000 <= chain.finish(10_000) <= 4_800
    assert chain.link("client").link_wire.pace_bps <= 5_000_000


def test_a_reader_that_never_read_is_sent_little(engine: str) -> None:
    """The receive window opens with what was read: 1,024 segments before, 8,192 at the end."""
    chain = SimChain(engine, "reader", 0, path(100, 20), hops=[Hop(KEY, kcp=AUTO)])
    near, far = chain.talk(20_000_000, 0, far={"reads_from_ms": 3_000})
    chain.world.pass_time(2_500)
    assert near.sent <= (1024 + 256 + 16) * 1400 + 300_000
    assert far.received == 0
    chain.finish(10_000)
