"""UDP through whole chains: boundaries, sizes, losses, ends."""

from __future__ import annotations

import pytest

from kcpg.core.native.handshake.params import DELIVERIES
from tests.sim.chain import SimChain

RELAYS = (0, 1, 2, 3)


@pytest.mark.parametrize("relays", RELAYS)
def test_every_packet_arrives_whole(engine: str, relays: int) -> None:
    """Of every size, over a network that loses; each travels on its own."""
    chain = SimChain(engine, f"packets {relays}", relays, "lossy5")
    stream = chain.stream(200, 5, size=lambda number: 4 + number * 47)
    chain.world.run(lambda: len(stream.seen) == 200, 20_000)
    assert stream.twice == 0


def test_the_largest_and_the_smallest(engine: str) -> None:
    chain = SimChain(engine, "sizes", 1, "lossy1")
    sizes = (4, 1375, 1376, 1377, 30_000, 65_507)
    stream = chain.stream(len(sizes), 20, size=lambda number: sizes[number])
    chain.world.run(lambda: len(stream.seen) == len(sizes), 20_000)


def test_a_lost_packet_does_not_hold_up_the_next(engine: str) -> None:
    """unordered: at 10 % loss packets overtake those that are sent again. ordered: they wait."""
    late = {}
    for delivery in ("unordered", "ordered"):
        chain = SimChain(engine, "overtaking", 1, "lossy10", udp_delivery=delivery)
        stream = chain.stream(300, 5)
        chain.world.run(stream.complete, 20_000)
        late[delivery] = stream.late
    assert late["unordered"] > 0 and late["ordered"] == 0


def test_datagram_delivery_loses_what_the_network_loses(engine: str) -> None:
    chain = SimChain(engine, "datagram", 0, "lossy10", udp_delivery="datagram")
    stream = chain.stream(500, 2)
    chain.world.pass_time(5_000)
    # There and back, each 10 %: 81 % of 500, within five standard deviations (8.8 each).
    assert 361 <= len(stream.seen) <= 449 and stream.twice == 0


def test_deliveries_are_those_of_the_protocol() -> None:
    assert set(DELIVERIES) == {"unordered", "ordered", "datagram"}


@pytest.mark.parametrize("relays", RELAYS)
def test_an_idle_association_ends_everywhere(engine: str, relays: int) -> None:
    chain = SimChain(engine, f"idle {relays}", relays, udp_timeout_ms=20_000)
    stream = chain.stream(10, 10)
    chain.world.run(lambda: len(stream.seen) == 10, 2_000)
    chain.world.pass_time(15_000)
    assert [node.node.flows for node in chain.world.nodes] == [1] * len(chain.names)
    chain.world.pass_time(15_000)
    chain.settle(60_000)
    assert set(chain.reasons("client")) == {None}


def test_a_source_faster_than_the_network_loses_packets_and_nothing_else(engine: str) -> None:
    """1.6 Mbit/s are offered to 750 kbit/s; TCP beside it still gets through."""
    chain = SimChain(engine, "flood", 1, "throttled")
    stream = chain.stream(1_200, 5, size=lambda number: 1_000)
    chain.talk(20_000, 20_000)
    chain.finish(60_000)
    chain.world.pass_time(20_000)
    assert 400 < len(stream.seen) < 1_200 and stream.twice == 0


def test_many_associations(engine: str) -> None:
    chain = SimChain(engine, "associations", 1, "lossy1", udp_timeout_ms=10_000)
    streams = [chain.stream(5, 10) for _ in range(100)]
    chain.world.run(lambda: all(len(stream.seen) == 5 for stream in streams), 5_000)
    chain.settle(60_000)
