"""Flows over several paths of one dialer, in virtual time: `mux_tunnels`."""

from __future__ import annotations

import pytest

from kcpg.core.native.dial.dialer import MAX_PATHS, SPARE_PATHS, TRIM_MS, TunnelDialer
from kcpg.core.native.link.link import Link
from netem.profile import Impair
from tests.line import MS
from tests.sim.actors import PacketStream
from tests.sim.chain import PORTS, SimChain
from tests.sim.network import host_of

LINE = Impair(delay_ns=20 * MS, rate_bps=100_000_000)
RTT_MS = 40
SCHEDULING_MS = 12
UP_MS = 500


def spread(engine: str, seed: str, paths: int, relays: int = 0, **options: object) -> SimChain:
    dial = {"paths": paths, **options.pop("dial", {})}  # type: ignore[dict-item]
    line = options.pop("line", LINE)
    chain = SimChain(engine, seed, relays, line, dial=dial, udp_timeout_ms=5_000, **options)  # type: ignore[arg-type]
    chain.world.pass_time(UP_MS)
    return chain


def links(chain: SimChain, name: str = "client") -> list[Link]:
    leg = chain[name].node.egress
    assert isinstance(leg, TunnelDialer)
    return leg.links


def loads(chain: SimChain, name: str = "client") -> list[int]:
    return sorted(len(link.flows.flows) for link in links(chain, name))


def sockets(chain: SimChain, name: str = "client") -> int:
    return len(chain[name].sockets) - (len(PORTS) if name != "client" else 0)


def busy_sources(chain: SimChain, name: str = "client") -> list[bytes]:
    """The sources of the links that carry flows."""
    held = chain[name].sockets
    paths = [link.link_wire.path for link in links(chain, name) if link.flows.flows]
    return [held[path[0]].addr for path in paths if path is not None]


@pytest.mark.parametrize("relays", [0, 1])
def test_flows_are_spread_over_so_many_paths(engine: str, relays: int) -> None:
    chain = spread(engine, "shared", 3, relays)
    names = ["client", "relay1"][: relays + 1]
    assert all(len(links(chain, name)) == sockets(chain, name) == 3 for name in names)
    streams = [chain.stream(count=100, every_ms=10) for _ in range(7)]
    chain.world.pass_time(300)
    for name in names:
        assert loads(chain, name) == [2, 2, 3] and len(set(busy_sources(chain, name))) == 3
    chain.talk(100_000, 100_000)
    chain.world.run(lambda: all(stream.complete() for stream in streams), 30_000)
    chain.finish()
    chain.settle()
    assert all(len(links(chain, name)) == sockets(chain, name) == 3 for name in names)


@pytest.mark.parametrize("relays", [0, 1])
def test_each_flow_has_its_own_path(engine: str, relays: int) -> None:
    """Its first packet pays for no handshake, and its socket is given back in the end."""
    chain = spread(engine, "own", 0, relays)
    names = ["client", "relay1"][: relays + 1]
    assert all(len(links(chain, name)) == 1 + SPARE_PATHS - 1 for name in names)
    streams: list[PacketStream] = []
    for _ in range(20):
        streams.append(chain.stream(count=90, every_ms=20))
        chain.world.pass_time(2 * RTT_MS)
    for name in names:
        assert [load for load in loads(chain, name) if load] == [1] * 20
        assert len(set(busy_sources(chain, name))) == 20
        assert sockets(chain, name) == 20 + SPARE_PATHS
    chain.world.run(lambda: all(stream.complete() for stream in streams), 30_000)
    assert max(stream.worst_ms for stream in streams) <= (relays + 1) * (RTT_MS + SCHEDULING_MS)
    chain.settle()
    chain.world.pass_time(6 * TRIM_MS)
    assert all(sockets(chain, name) == len(links(chain, name)) == SPARE_PATHS for name in names)
    (listener,) = chain[chain.names[-1]].node.tunnels
    assert len(listener.links) == SPARE_PATHS  # type: ignore[attr-defined]


def test_a_burst_waits_for_one_handshake_at_most(engine: str) -> None:
    chain = spread(engine, "burst", 0)
    streams = [chain.stream(count=20, every_ms=10) for _ in range(30)]
    chain.world.pass_time(3 * RTT_MS)
    assert [load for load in loads(chain) if load] == [1] * 30
    chain.world.run(lambda: all(stream.complete() for stream in streams), 10_000)
    assert sorted(stream.worst_ms for stream in streams)[SPARE_PATHS - 1] <= RTT_MS + SCHEDULING_MS
    assert max(stream.worst_ms for stream in streams) <= 2 * RTT_MS + 2 * SCHEDULING_MS


def test_there_is_a_limit_and_beyond_it_flows_share(engine: str) -> None:
    chain = spread(engine, "many", 0, dial={})
    streams = [chain.stream(count=5, every_ms=1_000) for _ in range(MAX_PATHS + 40)]
    chain.world.run(lambda: sum(loads(chain)) == MAX_PATHS + 40, 4_000)
    assert len(links(chain)) == sockets(chain) == MAX_PATHS
    assert max(loads(chain)) == 2
    chain.world.run(lambda: all(stream.complete() for stream in streams), 30_000)


def test_where_no_further_path_comes_flows_share(engine: str) -> None:
    """The peer answers nobody any more but those it knows."""
    chain = spread(engine, "no more", 0)
    known = {sock.addr for sock in chain["client"].sockets.values()}
    chain.world.network.lose = lambda source, target: host_of(source) == "client" and source not in known
    streams = [chain.stream(count=20, every_ms=10) for _ in range(2 * SPARE_PATHS)]
    chain.world.run(lambda: all(stream.complete() for stream in streams), 10_000)
    assert max(stream.worst_ms for stream in streams) < 1_500


def test_each_path_hops_by_itself(engine: str) -> None:
    chain = spread(engine, "hops", 0, dial={"hop_every_ms": 400})
    streams = [chain.stream(count=800, every_ms=10) for _ in range(2)]
    chain.world.run(lambda: all(stream.complete() for stream in streams), 30_000)
    busy = sorted(link.counters.hops for link in links(chain))[-2:]
    assert min(busy) >= 13
    assert max(stream.worst_ms for stream in streams) <= RTT_MS + SCHEDULING_MS
    assert sum(link.counters.silences for link in links(chain)) == 0


def test_all_paths_survive_an_outage(engine: str) -> None:
    chain = spread(engine, "outage", 0)
    for _ in range(12):
        chain.talk(600_000, 0)
    chain.world.pass_time(150)
    assert loads(chain)[-12:] == [1] * 12
    chain.world.network.cut("client", "server", 5_000)
    chain.finish(20_000)
    assert sum(link.counters.silences >= 1 for link in links(chain)) >= 12
    assert max(link.counters.resumes for link in links(chain)) <= 2


def test_a_restarted_server_is_found_by_all_paths(engine: str) -> None:
    chain = spread(engine, "restart", 4)
    for _ in range(8):
        chain.stream(count=400, every_ms=20)
    chain.world.pass_time(1_000)
    chain["server"].restart(1_000)
    chain.world.pass_time(8_000)
    again = [chain.stream(count=50, every_ms=10) for _ in range(8)]
    chain.world.run(lambda: all(stream.complete() for stream in again), 10_000)
    assert len(links(chain)) == 4


def test_several_addresses_are_spread_over(engine: str) -> None:
    """And when one of them is dead, flows go on by the others within a second."""
    chain = spread(engine, "addresses", 4, addresses=("other", "third"))
    hosts = {host_of(link.peer) for link in links(chain)}
    assert hosts == {"server", "other", "third"}
    streams = [chain.stream(count=600, every_ms=10) for _ in range(8)]
    chain.world.pass_time(1_000)
    chain.world.network.cut("client", "other")
    chain.world.run(lambda: all(stream.complete() for stream in streams), 30_000)
    assert max(stream.worst_ms for stream in streams) < 1_000
    assert {host_of(link.peer) for link in links(chain)} == {"server", "third"}


def test_an_idle_path_is_as_good_as_a_used_one(engine: str) -> None:
    """A peer that is heard on one path knows the others, too: no sign of life is waited for."""
    chain = spread(engine, "idle", 0)
    chain.stream(count=1_600, every_ms=100)
    chain.world.pass_time(150_000)
    stream = chain.stream(count=20, every_ms=10)
    chain.world.run(stream.complete, 5_000)
    assert stream.worst_ms <= RTT_MS + SCHEDULING_MS


def test_the_limit_of_the_rate_is_one_for_all_paths(engine: str) -> None:
    hops = SimChain(engine, "unused").hops
    hops[0].params = {"outbound_bps": 8_000_000}
    chain = spread(engine, "rate", 4, hops=hops)
    for _ in range(4):
        chain.talk(500_000, 0)
    took_ms = chain.finish(30_000)
    assert 2_000_000 * 8 / 8_000 * 0.95 <= took_ms <= 2_000_000 * 8 / 8_000 * 1.3


@pytest.mark.parametrize("seed", range(6))
def test_an_address_that_is_dead_from_the_start_is_asked_once(engine: str, seed: int) -> None:
    chain = SimChain(engine, f"dead {seed}", 0, LINE, addresses=("other", "third"), dial={"paths": 3})
    chain.world.network.cut("client", "other")
    chain.world.network.cut("client", "third")
    chain.world.run(lambda: len(links(chain)) == 3, 1_200)
    assert {host_of(link.peer) for link in links(chain)} == {"server"}


def test_links_come_back_to_an_address_without_the_clock(engine: str) -> None:
    """No hops by the clock: two of four links leave the dead address, and return when it lives again."""
    chain = spread(engine, "home", 4, addresses=("other",))
    streams = [chain.stream(count=1_300, every_ms=50) for _ in range(4)]
    home = [host_of(link.peer) for link in links(chain)]
    assert sorted(home) == ["other", "other", "server", "server"]
    chain.world.network.cut("client", "other", 8_000)
    chain.world.pass_time(1_000)
    assert {host_of(link.peer) for link in links(chain)} == {"server"}
    chain.world.run(lambda: [host_of(link.peer) for link in links(chain)] == home, 30_000)
    chain.world.pass_time(1_000)
    moved = [link.counters.hops for link in links(chain)]
    chain.world.run(lambda: all(stream.complete() for stream in streams), 90_000)
    assert max(stream.worst_ms for stream in streams) < 1_000
    assert moved == [link.counters.hops for link in links(chain)] and sum(moved) == 2, "and they stay there"
