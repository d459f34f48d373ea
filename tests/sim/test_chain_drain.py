"""Servers that end while others go on, and what their dialers make of it."""

from __future__ import annotations

import pytest

from kcpg.core.native.dial.dialedlink import GRACE_MS
from kcpg.core.native.dial.dialer import TunnelDialer
from kcpg.core.native.listener import GOAWAY_SPREAD_MS
from tests.sim.chain import SimChain
from tests.sim.network import host_of

FOREVER = 1 << 40


def two_servers(engine: str, seed: str, **options: object) -> SimChain:
    return SimChain(engine, seed, 0, "mobile", servers=("second",), **options)


def dialer(chain: SimChain) -> TunnelDialer:
    leg = chain["client"].node.egress
    assert isinstance(leg, TunnelDialer)
    return leg


def home(chain: SimChain) -> str:
    """The server that the client's newest link is with."""
    link = dialer(chain).links[-1]
    return bytes(link.peer).decode().partition(":")[0]


def drain(chain: SimChain, name: str, for_ms: int) -> None:
    chain[name].node.ingress.drain(chain.world.now_ms, for_ms, "it is to be replaced")
    chain[name].dirty()


@pytest.mark.parametrize("paths", [1, 3])
def test_flows_of_a_server_that_goes_away_finish_and_new_ones_go_elsewhere(engine: str, paths: int) -> None:
    chain = two_servers(engine, f"drain {paths}", dial={"paths": paths})
    chain.world.run(lambda: len(dialer(chain).links) == paths, 5_000)
    chain.world.pass_time(1_000)
    first = home(chain)
    for _ in range(6):
        chain.talk(600_000, 600_000)
    chain.world.pass_time(300)
    drain(chain, first, 60_000)
    chain.world.pass_time(GOAWAY_SPREAD_MS + 1_000)
    for _ in range(6):
        chain.talk(20_000, 20_000)
    chain.finish(60_000)
    assert all(talker.reset_reason is None for pair in chain.pairs for talker in pair)
    chain.world.run(lambda: all(link.peer and not link.is_leaving for link in dialer(chain).links), 5_000)
    assert len(dialer(chain).links) == paths and home(chain) != first
    chain.world.run(lambda: not chain[first].node.ingress.links, 5_000)
    chain.settle()


def test_no_flow_is_refused_while_the_only_server_drains_and_is_replaced(engine: str) -> None:
    """New flows go on by the old link until it ends, and wait for the next one from then on."""
    chain = SimChain(engine, "replaced", 0, "mobile")
    chain.talk(1_000, 1_000)
    chain.finish(5_000)
    drain(chain, "server", 5_000)
    for _ in range(5):
        chain.talk(1_000, 1_000)
        chain.world.pass_time(900)
    chain["server"].stop()
    chain.world.pass_time(100)  # its farewell arrives
    chain.talk(1_000, 1_000)
    chain.world.pass_time(2_000)
    chain["server"].start()
    chain.finish(10_000)
    assert all(talker.reset_reason is None for pair in chain.pairs for talker in pair)
    chain.settle()


@pytest.mark.parametrize("pause_ms", [600, 1_400])
def test_a_server_that_stands_still_keeps_its_flows_though_another_answers(
    engine: str, pause_ms: int
) -> None:
    chain = two_servers(engine, f"hiccup {pause_ms}")
    near, far = chain.talk(FOREVER, FOREVER)
    chain.world.pass_time(2_000)
    chain[home(chain)].sleep(pause_ms)
    chain.world.pass_time(10_000)
    assert near.reset_reason is None and far.reset_reason is None
    received = near.received
    chain.world.pass_time(1_000)
    assert near.received > received
    assert dialer(chain).links[-1].counters.resumes <= 1


def test_a_server_that_died_is_left_after_the_grace(engine: str) -> None:
    chain = two_servers(engine, "died")
    near, _ = chain.talk(FOREVER, FOREVER)
    chain.world.pass_time(2_000)
    dead = home(chain)
    chain[dead].crash()
    took_ms = chain.world.run(lambda: near.over, 10_000)
    assert GRACE_MS <= took_ms <= GRACE_MS + 2_500
    chain.pairs.clear()
    chain.talk(10_000, 10_000)
    chain.finish(5_000)
    assert home(chain) != dead


def test_a_server_that_was_left_is_told(engine: str) -> None:
    """It was silent for too long. Its flows end at once, and not after a quarter of an hour."""
    chain = two_servers(engine, "left")
    near, far = chain.talk(FOREVER, FOREVER)
    chain.world.pass_time(2_000)
    first = home(chain)
    chain.world.network.lose = lambda source, target: host_of(source) == first
    chain.world.run(lambda: near.over, 10_000)
    assert home(chain) != first
    chain.world.run(lambda: far.over, 1_000)


@pytest.mark.parametrize("pause_ms", [0, 1_000])
def test_a_link_stays_with_its_server_though_there_are_others(engine: str, pause_ms: int) -> None:
    """No hop and no resumption asks a server that knows nothing of the flows."""
    chain = two_servers(engine, f"stays {pause_ms}", dial={"servers": True, "hop_every_ms": 2_000})
    near, far = chain.talk(FOREVER, FOREVER)
    chain.world.pass_time(2_000)
    first = home(chain)
    asked: set[str] = set()
    ports: set[bytes] = set()

    def tap(source: bytes, target: bytes, _datagram: bytes) -> None:
        if host_of(source) == "client":
            asked.add(host_of(target))
            ports.add(target)

    chain.world.network.tap = tap
    if pause_ms:
        chain[first].sleep(pause_ms)
    chain.world.pass_time(20_000)
    assert asked == {first}
    assert len(ports) > 1 and chain.link("client").counters.hops > 2
    assert near.reset_reason is None and far.reset_reason is None


def test_a_dead_server_is_left_for_another_one(engine: str) -> None:
    chain = two_servers(engine, "servers, died", dial={"servers": True})
    near, _ = chain.talk(FOREVER, FOREVER)
    chain.world.pass_time(2_000)
    dead = home(chain)
    chain[dead].crash()
    chain.world.run(lambda: near.over, 10_000)
    chain.pairs.clear()
    chain.talk(10_000, 10_000)
    chain.finish(5_000)
    assert home(chain) != dead
