"""What broke chains on lines and in lives that are rare, but that people have: long rests, long round trips,
restarts between flows, large packets. Each is a short scenario in virtual time, on both engines."""

from __future__ import annotations

import pytest

from kcpg.core.flow import Kind
from kcpg.core.kcp.kcp import KcpParams
from netem.profile import Impair
from tests.line import MS
from tests.sim.actors import Echo, PacketStream
from tests.sim.chain import Hop, SimChain
from tests.sim.memory import Answer
from tests.sim.network import host_of

HOUR_MS = 3_600_000


@pytest.mark.parametrize("relays", [0, 1])
@pytest.mark.parametrize("pause_ms", [1_000, 30_000, 70_000])
def test_flows_of_which_nobody_heard_outlive_a_restart(engine: str, pause_ms: int, relays: int) -> None:
    """The next node is restarted while no flow is open. Nothing of the next flow reached anybody, so it is
    opened again on the new link."""
    chain = SimChain(engine, f"restart {pause_ms} {relays}", relays, Impair(delay_ns=20 * MS))
    chain.talk(1_000, 1_000)
    chain.finish(2_000)
    chain.world.pass_time(5_000)
    chain[chain.names[1]].restart()
    chain.world.pass_time(pause_ms)
    for _ in range(3):
        chain.talk(1_000, 1_000)
    chain.talk(300_000, 300_000)
    assert chain.finish(10_000) < 5_000
    chain.settle()


def test_a_flow_that_was_heard_does_not(engine: str) -> None:
    """Its first bytes may have been acted upon: it is reset, never sent twice."""
    chain = SimChain(engine, "restart, heard", 0, Impair(delay_ns=20 * MS))
    near, _ = chain.talk(1_000, 1 << 40)
    chain.world.run(lambda: near.received > 0, 2_000)
    chain["server"].restart()
    chain.world.run(lambda: near.over, 20_000)
    assert near.reset_reason is not None and len(chain.answers) == 1


@pytest.mark.parametrize("lost_ms", [150, 3_500])
def test_a_lost_reset_ack_makes_no_node_spin(engine: str, lost_ms: int) -> None:
    """Two UDP associations end one after the other; what acknowledges the end of the first is lost for a
    while. The simulation fails where a node is due again and again while no time passes."""
    chain = SimChain(engine, f"tombstones {lost_ms}", 0, Impair(delay_ns=20 * MS))
    socks = [
        chain.connect(PacketStream(chain.world, name, 1, 5), Answer(0, Echo(chain.world)), Kind.UDP)
        for name in ("a", "b")
    ]
    chain.world.pass_time(2_000)
    away = True
    chain.world.network.lose = lambda source, target: away and host_of(source) == "server"
    socks[0].end()
    chain.world.pass_time(lost_ms)
    away = False
    socks[1].end()
    chain.world.pass_time(60_000)
    chain.settle()


@pytest.mark.parametrize("rtt_ms", [250, 600])
def test_new_flows_on_a_long_path_send_everything_once(engine: str, rtt_ms: int) -> None:
    chain = SimChain(
        engine, f"long {rtt_ms}", 0, Impair(delay_ns=rtt_ms * MS // 2), dial={"hop_every_ms": 60_000}
    )
    chain.talk(1_000, 1_000)
    chain.finish(20_000)  # from now on the link knows its round trip
    before = {name: counts(chain, name) for name in chain.names}
    for _ in range(60):
        chain.talk(3_000, 3_000)
        chain.finish(20_000)
    for name in chain.names:
        sent, resent = (now - then for now, then in zip(counts(chain, name), before[name], strict=True))
        assert sent > 200 and resent <= sent // 50, f"{name} sent {sent} and again {resent}"
    assert not [event for _, event in chain.events if event.kind == "link_hopped"]


def counts(chain: SimChain, name: str) -> tuple[int, int]:
    """Segments that a node sent, and those of them that it sent again."""
    found = [link.link_wire.segment_counts() for leg in chain[name].node.tunnels for link in leg.links]  # type: ignore[attr-defined]
    again = ("segments_resent_fast", "segments_resent_rto", "segments_resent_tail")
    return sum(one["segments_sent"] for one in found), sum(sum(one[name] for name in again) for one in found)


def test_data_flows_after_a_rest(engine: str) -> None:
    """Time x rate is more than 63 bits hold. (tests/unit/test_wire_turns.py has a year.)"""
    hop = Hop(bytes([7] * 32), kcp=KcpParams(), params={"outbound_bps": 10**12})
    chain = SimChain(engine, "rest", 0, Impair(delay_ns=5 * MS), hops=[hop], dial={"hop_every_ms": 0})
    chain.talk(1_000, 1_000)
    chain.finish(2_000)
    chain.world.pass_time(3 * HOUR_MS)
    chain.talk(100_000, 100_000)
    chain.finish(5_000)


@pytest.mark.parametrize("rtt_ms", [9_000, 12_000, 20_000])
def test_a_link_comes_up_over_a_round_trip_of_many_seconds(engine: str, rtt_ms: int) -> None:
    hop = Hop(bytes([1] * 32), kcp=KcpParams())
    chain = SimChain(engine, f"rtt {rtt_ms}", 0, Impair(delay_ns=rtt_ms * MS // 2), hops=[hop])
    chain.talk(1_000, 1_000)
    chain.finish(20 * rtt_ms)


@pytest.mark.parametrize("delivery", ["unordered", "ordered", "datagram"])
@pytest.mark.parametrize("rcv_wnd", [64, 32, 1])
def test_a_packet_larger_than_the_window_costs_only_itself(engine: str, delivery: str, rcv_wnd: int) -> None:
    hop = Hop(bytes([1] * 32), kcp=KcpParams(snd_wnd=128, rcv_wnd=rcv_wnd))
    chain = SimChain(
        engine, f"large {delivery} {rcv_wnd}", 0, Impair(delay_ns=5 * MS), hops=[hop], udp_delivery=delivery
    )
    stream = chain.stream(400, 10, size=lambda number: 50_000 if number == 20 else 200)
    chain.world.pass_time(10_000)
    assert len(stream.seen) >= stream.sent - 1


@pytest.mark.parametrize(("narrow", "wide"), [(1252, 1472), (1472, 8972)])
def test_a_wide_path_is_used_after_a_narrow_one(engine: str, narrow: int, wide: int) -> None:
    hop = Hop(bytes([1] * 32), kcp=KcpParams(), datagram_bytes=wide)
    chain = SimChain(engine, f"mtu {narrow}", 0, Impair(delay_ns=10 * MS), hops=[hop], addresses=("other",))
    network = chain.world.network
    for ends in (("client", "server"), ("server", "client")):
        network.set_mtu(*ends, narrow)
    network.cut("client", "other")
    chain.talk(1 << 40, 0, far={"reads": (2_000, 20)})
    chain.world.pass_time(10_000)
    assert narrow - 20 <= chain.link("client").mtu.limit <= narrow
    network.mend("client", "other")
    network.cut("client", "server")
    chain.world.run(lambda: chain.link("client").mtu.limit >= 0.98 * wide, 10_000)
