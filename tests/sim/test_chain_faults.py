"""Networks that fail and come back, nodes that are killed and restarted, addresses that change."""

from __future__ import annotations

import pytest

from kcpg.core.env import EventKind
from kcpg.core.flow import ResetCode
from kcpg.core.native.link.setup import LinkLimits
from tests.sim.chain import Hop, SimChain

RELAYS = (0, 1, 2, 3)


@pytest.mark.parametrize("relays", RELAYS)
@pytest.mark.parametrize("off_ms", [400, 3_000, 300_000])
def test_a_blackhole_and_return(engine: str, relays: int, off_ms: int) -> None:
    """The flow that was under way goes on, soon after the network does."""
    chain = SimChain(engine, f"blackhole {off_ms} {relays}", relays, "transcontinental")
    chain.bounded()
    chain.talk(2_000_000, 500_000)
    chain.world.pass_time(600)
    near, far = chain.links[relays // 2]
    chain.world.network.cut(near, far, for_ms=off_ms)
    chain.world.pass_time(off_ms)
    took_ms = chain.finish(30_000)
    assert took_ms < 3_000 + 500 * relays
    chain.settle()


@pytest.mark.parametrize("relays", [0, 1])
def test_a_network_that_fails_again_and_again(engine: str, relays: int) -> None:
    """The profile has 3 s without anything after every 10 s; two of them fall into this transfer."""
    chain = SimChain(engine, f"outages {relays}", relays, "blackhole")
    chain.world.pass_time(9_000)
    chain.talk(2_000_000, 100_000, far={"reads": (20_000, 100)})
    assert chain.finish(60_000) > 4_000
    chain.world.pass_time(22_500 - chain.world.elapsed_ms)
    chain.talk(2_000_000, 100_000)
    chain.finish(60_000)
    chain.settle()


@pytest.mark.parametrize(
    ("relays", "victim"),
    [(0, "client"), (0, "server"), (1, "relay1"), (2, "relay1"), (2, "relay2"), (3, "server")],
)
@pytest.mark.parametrize("down_ms", [0, 2_000])
def test_a_restarted_node(engine: str, relays: int, victim: str, down_ms: int) -> None:
    """What it carried is reset at both ends, in time; new flows work without anybody else being restarted.

    Behind a node that dials nobody notices its restart, only its silence: hence the limit.
    """
    limits = LinkLimits(silent_ms=30_000)
    chain = SimChain(engine, f"restart {victim} {relays} {down_ms}", relays, "mobile", limits=limits)
    near, far = chain.talk(5_000_000, 5_000_000)
    chain.world.pass_time(700)
    assert near.received and far.received and not near.over
    chain[victim].restart(down_ms)
    chain.pairs.clear()
    chain.world.pass_time(down_ms)
    chain.world.run(lambda: near.reset_reason is not None, down_ms + 12_000)
    chain.talk(50_000, 50_000)
    chain.finish(20_000)
    chain.world.run(lambda: far.reset_reason is not None, 60_000)
    chain.settle()


@pytest.mark.parametrize("victim", ["client", "relay1", "server"])
def test_an_orderly_stop_is_told_at_once(engine: str, victim: str) -> None:
    chain = SimChain(engine, f"stop {victim}", 1, "transcontinental")
    near, far = chain.talk(5_000_000, 5_000_000)
    chain.world.pass_time(1_000)
    chain[victim].stop()
    chain.world.run(lambda: near.over and far.over, 1_000)
    for talker in (near, far):
        assert talker.reset_reason is not None
        assert talker.reset_reason.code in (ResetCode.SHUTDOWN, ResetCode.LINK_LOST), talker


@pytest.mark.parametrize("relays", [0, 1])
def test_flows_that_come_before_the_peer_is_up(engine: str, relays: int) -> None:
    """The client runs for 20 s before the rest does; flows dialled meanwhile wait, and then work."""
    chain = SimChain(engine, f"early {relays}", relays)
    for name in chain.names[1:]:
        chain[name].crash()
    chain["client"].restart()
    chain.world.pass_time(1_000)
    chain.talk(50_000, 50_000)
    chain.world.pass_time(15_000)
    for name in chain.names[1:]:
        chain[name].start()
    chain.finish(15_000)
    chain.settle()


def test_nobody_is_there(engine: str) -> None:
    chain = SimChain(engine, "nobody")
    chain["server"].crash()
    near, _ = chain.talk(1_000, 1_000)
    took_ms = chain.world.run(lambda: near.over, 60_000)
    assert near.reset_reason is not None and near.reset_reason.code is ResetCode.UNREACHABLE
    assert 20_000 < took_ms < 40_000
    assert EventKind.NO_ANSWER in {event.kind for name, event in chain.events if name == "client"}


def test_a_wrong_password(engine: str) -> None:
    chain = SimChain(engine, "password", hops=[Hop(bytes(32), dialer_key=bytes([1] * 32))])
    near, _ = chain.talk(1_000, 1_000)
    chain.world.run(lambda: near.over, 60_000)
    assert near.reset_reason is not None and near.reset_reason.code is ResetCode.UNREACHABLE
    server = chain["server"].node.tunnels[0]
    assert server.counters.strangers > 3  # type: ignore[attr-defined]
    assert server.links == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("relays", [0, 1])
@pytest.mark.parametrize("when", ["idle", "busy"])
def test_the_client_s_address_changes(engine: str, relays: int, when: str) -> None:
    """A NAT forgets the mapping: flows survive, without a handshake if the client speaks first."""
    chain = SimChain(engine, f"nat {when} {relays}", relays, "transcontinental")
    chain.world.network.behind_nat("client")
    chain["client"].restart()
    near, far = chain.talk(
        3_000_000 if when == "busy" else 1_000, 0, near={"end": when == "busy"}, far={"end": False}
    )
    chain.world.pass_time(800)
    chain.world.network.rebind_nat("client")
    if when == "idle":
        near.send_bytes = far.expect_bytes = 40_000
        near.end = True
        client = chain.listener
        flow = next(iter(client.flows))
        assert flow.sock is not None
        near.writable(flow.sock)
    chain.finish(10_000)
    chain.settle()
    assert chain.reasons("client") == [None]
    assert EventKind.LINK_MOVED in {event.kind for name, event in chain.events if name == chain.names[1]}


def test_the_same_seed_is_the_same_history(engine: str) -> None:
    histories = []
    for _ in range(2):
        chain = SimChain(engine, "history", 2, "lossy5")
        seen: list[tuple[int, bytes, bytes]] = []
        chain.world.network.tap = lambda source, target, datagram, chain=chain, seen=seen: seen.append(
            (chain.world.elapsed_ms, source + target, datagram)
        )
        chain.talk(30_000, 30_000)
        chain.finish()
        histories.append(seen)
    assert histories[0] == histories[1]
