"""Paths that take only small datagrams and do not say so, change, or take large ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kcpg.core.native.handshake.params import MOST_FOUND_BYTES
from kcpg.core.native.link.link import Link
from kcpg.core.native.link.pathmtu import BASE_BYTES, LEAST_BYTES, RAISE_MS
from netem.profile import Chance, Impair
from tests.line import MS
from tests.sim.chain import Hop, SimChain
from tests.sim.network import host_of

LINE = Impair(delay_ns=20 * MS, rate_bps=100_000_000)
RTT_MS = 40
FOREVER = 1 << 40


def sized(engine: str, seed: str, mtu: int, line: Impair = LINE, **options: Any) -> SimChain:
    """A client and a server that agree on jumbo datagrams, over a line that takes `mtu` bytes of payload."""
    chain = SimChain(engine, seed, 0, line, hops=[Hop(bytes(32), datagram_bytes=MOST_FOUND_BYTES)], **options)
    narrow(chain, mtu)
    return chain


def narrow(chain: SimChain, mtu: int) -> None:
    for near, far in chain.links:
        chain.world.network.set_mtu(near, far, mtu)
        chain.world.network.set_mtu(far, near, mtu)


def ends(chain: SimChain) -> tuple[Link, Link]:
    (peer,) = chain["server"].node.ingress.links  # type: ignore[attr-defined]
    return chain.link("client"), peer


def found(chain: SimChain) -> bool:
    return not any(link.mtu.searching for link in ends(chain))


@pytest.mark.parametrize("mtu", [1232, 1252, 1331, 1392, 1464, 1472, 4000, 8952, 8972])
def test_each_end_finds_what_the_path_takes(engine: str, mtu: int) -> None:
    chain = sized(engine, f"find {mtu}", mtu)
    chain.talk(300_000, 300_000)
    chain.finish()
    chain.world.run(lambda: found(chain), 20_000)
    for link in ends(chain):
        assert mtu - 16 <= link.mtu.limit <= mtu
        assert link.counters.silences == link.counters.hops_urgent == link.counters.mtu_shrinks == 0
    probes = sum(link.counters.mtu_probes for link in ends(chain))
    assert chain.world.network.counts["too_big"] <= probes, "nothing else is ever too long"


def test_ethernet_is_found_in_one_round_trip(engine: str) -> None:
    chain = sized(engine, "ethernet", 1472)
    chain.talk(FOREVER, 0)
    chain.world.pass_time(2 * RTT_MS + 10)  # the handshake and a PING
    assert chain.link("client").link_wire.datagram_bytes == BASE_BYTES, "data does not wait for the search"
    chain.world.pass_time(RTT_MS)
    assert chain.link("client").link_wire.datagram_bytes == 1472


@pytest.mark.parametrize("mtu", [1252, 1000, LEAST_BYTES])
def test_a_path_that_shrinks_stops_nothing(engine: str, mtu: int) -> None:
    """In the middle of a transfer; segments that were cut for more arrive in pieces."""
    chain = sized(engine, f"shrink {mtu}", 1472)
    near, far = chain.talk(3_000_000, 3_000_000)
    chain.world.run(lambda: far.received > 1_000_000, 5_000)
    narrow(chain, mtu)
    took_ms = chain.finish()
    assert took_ms < 6_000
    for link in ends(chain):
        assert link.counters.mtu_shrinks >= 1 and link.counters.silences == 0
        assert link.link_wire.datagram_bytes <= mtu
    assert near.clean and far.clean


def test_a_path_that_grows_is_used_later(engine: str) -> None:
    chain = sized(engine, "grow", 1252)
    chain.talk(10, 10, near={"end": False}, far={"end": False})
    chain.world.pass_time(500)
    chain.world.run(lambda: found(chain), 20_000)
    narrow(chain, 1472)
    chain.world.pass_time(RAISE_MS + 30_000)
    chain.world.run(lambda: found(chain), 20_000)
    assert [link.mtu.limit for link in ends(chain)] == [1472, 1472]


def test_a_configured_size_is_used_unasked_and_given_up_when_it_does_not_pass(engine: str) -> None:
    chain = sized(engine, "configured", MOST_FOUND_BYTES, dial={"find_mtu": False})
    chain.world.pass_time(500)
    client, _ = ends(chain)
    assert client.link_wire.datagram_bytes == MOST_FOUND_BYTES
    _, far = chain.talk(3_000_000, 0)
    chain.world.run(lambda: far.received > 1_000_000, 5_000)
    assert client.counters.mtu_probes == 0
    narrow(chain, 1372)
    chain.finish()
    assert client.counters.mtu_shrinks == 1 and client.link_wire.datagram_bytes <= 1372


def test_a_hop_begins_with_what_is_safe_and_finds_the_size_again_at_once(engine: str) -> None:
    chain = sized(engine, "hop", 1472, dial={"hop_every_ms": 400}, udp_timeout_ms=5_000)
    chain.world.pass_time(500)
    chain.talk(FOREVER, FOREVER)
    sizes: list[int] = []

    def tap(source: bytes, target: bytes, datagram: bytes) -> None:
        if host_of(source) == "client":
            sizes.append(len(datagram))

    chain.world.network.tap = tap
    chain.world.pass_time(4_000)
    client, server = ends(chain)
    assert client.counters.hops >= 7 and client.counters.mtu_shrinks == server.counters.mtu_shrinks == 0
    assert sum(size == 1472 for size in sizes) > 0.5 * len(sizes)


def test_loss_is_not_taken_for_a_smaller_path(engine: str) -> None:
    chain = sized(engine, "loss", 1472, replace(LINE, loss=Chance(0.1)))
    chain.talk(3_000_000, 3_000_000)
    chain.finish(120_000)
    for link in ends(chain):
        assert link.counters.mtu_shrinks == link.counters.silences == 0
    # so much loss makes the link hop, and each hop begins with what is safe
    chain.world.run(lambda: all(link.mtu.limit >= 1444 for link in ends(chain)), 2_000)


def test_an_outage_is_not_taken_for_a_smaller_path(engine: str) -> None:
    chain = sized(engine, "outage", 1472)
    _, far = chain.talk(8_000_000, 0)
    chain.world.run(lambda: far.received > 1_000_000, 5_000)
    chain.world.network.cut("client", "server", 5_000)
    chain.finish()
    assert [link.counters.mtu_shrinks for link in ends(chain)] == [0, 0]


@pytest.mark.parametrize("delivery", ["unordered", "datagram"])
def test_packets_arrive_while_the_path_shrinks(engine: str, delivery: str) -> None:
    chain = sized(engine, f"packets {delivery}", 1472, udp_delivery=delivery)
    chain.world.pass_time(500)
    stream = chain.stream(4_500, 10, size=lambda number: 1380)
    chain.world.pass_time(1_000)
    narrow(chain, 1300)
    if delivery == "unordered":
        chain.world.run(stream.complete, 60_000)
    else:  # nobody acknowledges them, and nothing is sent again: the size in use is confirmed every 30 s
        chain.world.pass_time(60_000)
    assert chain.link("client").link_wire.datagram_bytes <= 1300
