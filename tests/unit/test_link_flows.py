"""The flows of a link: opening, both ends, resets, packets, in virtual time, on both engines."""

from __future__ import annotations

import pytest

from kcpg.core.flow import Kind, Open, Reset, ResetCode, Target
from kcpg.core.native.leg import READY_PER_TURN
from kcpg.core.native.link.flowtable import OPEN_WAIT_MS
from kcpg.core.native.link.setup import LinkLimits
from kcpg.core.native.wire.counters import SEGMENTS
from kcpg.core.native.wire.events import DRAINED
from tests.links import OTHER_KEYS, TCP, UDP, World, echo, params


def test_opening_a_flow_costs_no_round_trip(engine):
    world = World(engine).up()
    start = world.now_ms
    near = world.dial()
    assert not near.flow.opening
    near.flow.write(b"first bytes")
    world.until(lambda: world.flows)
    assert world.now_ms - start <= world.delay_ms + 5
    assert world.flows[0][0].read(100) == b"first bytes"


def test_many_flows_at_once_after_a_long_rest(engine):
    """More than one turn serves, on a link that was silent for longer than a request may take to arrive."""
    world = World(engine).up()
    world.run(2 * OPEN_WAIT_MS)
    flows = [world.dial() for _ in range(3 * READY_PER_TURN)]
    for near in flows:
        near.flow.write(b"x")
    world.run(200)
    assert len(world.flows) == len(flows)
    assert not any(near.reason for near in flows)
    assert world.l.links[0].counters.opens_late == 0


def test_a_flow_says_where_it_wants_to_go(engine):
    world = World(engine).up()
    wanted = Open(Kind.TCP, Target("example.org", 443), "192.0.2.1:5555")
    world.pair(wanted)
    assert world.flows[0][1] == wanted
    world.pair(UDP)
    assert world.flows[1][1] == UDP


def test_flows_dialled_before_the_link_wait_for_it(engine):
    world = World(engine)
    world.d.start(world.now_ms)
    near = world.dial()
    assert near.flow.opening and near.flow.room == 0
    world.until(lambda: not near.flow.opening)
    assert near.events & 2
    near.flow.write(b"x")
    world.until(lambda: world.flows)


def test_flows_that_wait_in_vain_are_reset(engine):
    world = World(engine, listener_keys=OTHER_KEYS)
    world.d.start(world.now_ms)
    near = world.dial()
    world.run(29_900)
    assert near.reason is None
    world.run(200)
    assert near.reason.code is ResetCode.UNREACHABLE and near.flow.closed


def test_half_close_both_ways(engine):
    world = World(engine).up()
    near, far = world.pair()
    near.flow.write(b"question")
    near.flow.end()
    world.run(100)
    assert far.flow.read(100) == b"question" and far.flow.read(100) == b""
    far.flow.write(b"answer")
    far.flow.end()
    near.flow.write(b"")
    world.run(100)
    assert near.flow.read(100) == b"answer" and near.flow.read(100) == b""
    near.finish()
    far.finish()
    world.run(3000)
    for link in (world.d.link, world.l.links[0]):
        assert not link.flows.flows and len(link.link_wire.convs) == 0
        assert link.counters.flows_finished == 1 and link.counters.flows_reset == 0
        assert link.counters.resets_sent == 0


def test_an_end_whose_last_acknowledgement_is_lost_is_clean(engine):
    world = World(engine).up()
    near, far = world.pair()
    near.flow.end()
    world.run(100)
    assert far.flow.read(100) == b""
    far.flow.end()
    world.lose = lambda sender, path, datagram: sender == "d"
    world.run(world.delay_ms + 2)
    assert near.flow.read(100) == b""
    near.finish()
    far.finish()
    world.run(100)
    assert not world.d.link.flows.flows and world.l.links[0].flows.flows
    world.lose = lambda sender, path, datagram: False
    world.run(3000)
    link = world.l.links[0]
    assert not link.flows.flows and link.counters.flows_finished == 1 and link.counters.flows_reset == 0


def test_a_slow_reader_loses_nothing_when_the_sender_is_long_done(engine):
    world = World(engine).up()
    near, far = world.pair()
    data = bytes(range(256)) * 600
    assert near.flow.write(data) == len(data)
    near.flow.end()
    far.flow.end()
    world.run(200)
    assert near.flow.read(10) == b""
    near.finish()
    world.run(60_000)
    got = b""
    while chunk := far.flow.read(5000):
        got += chunk
        world.run(20)
    assert got == data and far.flow.heard_end
    far.finish()
    world.run(5000)
    assert not world.d.link.flows.flows and not world.l.links[0].flows.flows
    assert world.l.links[0].counters.flows_reset == 0


def test_unread_data_survives_that_the_peer_has_forgotten_the_flow(engine):
    world = World(engine).up()
    near, far = world.pair()
    near.flow.write(b"unread")
    near.flow.end()
    world.run(50)
    far.flow.end()
    world.lose = lambda sender, path, datagram: sender == "d"
    world.run(world.delay_ms + 2)
    assert near.flow.read(10) == b""
    near.finish()
    world.run(100)
    assert not world.d.link.flows.flows
    world.lose = lambda sender, path, datagram: False
    world.run(90_000)
    assert far.reason is None and far.flow.read(100) == b"unread" and far.flow.read(100) == b""


@pytest.mark.parametrize("side", ["near", "far"])
def test_a_reset_reaches_the_other_side(engine, side):
    world = World(engine).up()
    near, far = world.pair()
    one, other = (near, far) if side == "near" else (far, near)
    one.flow.reset(Reset(ResetCode.REFUSED, "nobody listens there"))
    world.run(100)
    assert other.reason == Reset(ResetCode.REFUSED, "nobody listens there") and other.flow.closed
    for link in (world.d.link, world.l.links[0]):
        assert len(link.link_wire.convs) == 0 and link.counters.flows_reset == 1
    sent = len(world.sent)
    world.run(19_000)
    assert len(world.sent) == sent, "an acknowledged RESET is not repeated"


def test_a_lost_reset_is_repeated(engine):
    world = World(engine).up()
    near, far = world.pair()
    world.lose = lambda sender, path, datagram: True
    near.flow.reset(Reset(ResetCode.TIMEOUT))
    world.run(100)
    world.lose = lambda sender, path, datagram: False
    world.until(lambda: far.reason, 2000)
    assert far.reason.code is ResetCode.TIMEOUT


def test_late_segments_never_open_a_ghost_flow(engine):
    world = World(engine).up()
    held = []
    world.lose = lambda sender, path, datagram: sender == "d" and not held.append(datagram)
    near = world.dial()
    near.flow.write(b"late")
    world.run(1)
    world.lose = lambda sender, path, datagram: False
    near.flow.reset(Reset(ResetCode.RESET_BY_APPLICATION))
    world.run(100)
    for datagram in held:
        world.l.receive(3000, b"d1", datagram, world.now_ms)
    world.run(100)
    assert world.flows == [] and len(world.l.links[0].link_wire.convs) == 0
    world.run(31_000)
    world.dial().flow.write(b"x")
    world.until(lambda: world.flows)
    for datagram in held:
        world.l.receive(3000, b"d1", datagram, world.now_ms)
    world.run(1000)
    assert len(world.flows) == 1 and len(world.l.links[0].link_wire.convs) == 1


def test_a_link_carries_a_limited_number_of_flows(engine):
    world = World(engine, listen={"limits": LinkLimits(max_flows=2)}).up()
    flows = [world.dial() for _ in range(3)]
    for watch in flows:
        watch.flow.write(b"x")
    world.run(500)
    assert [watch.reason is None for watch in flows] == [True, True, False]
    assert flows[2].reason.code is ResetCode.REFUSED and len(world.flows) == 2
    assert world.l.links[0].counters.flows_refused == 1


def test_an_opening_that_is_not_understood_is_reset(engine):
    world = World(engine).up()
    near = world.dial()
    near.flow.conv.link_wire.close(1)
    conv = near.flow.conv.link_wire.open(
        9, near.flow.conv.params if hasattr(near.flow.conv, "params") else world._dial.kcp
    )
    conv.send(b"\x63 garbage")
    world.run(300)
    assert world.flows == [] and world.l.links[0].counters.opens_malformed == 1
    assert len(world.d.link.link_wire.convs) == 0


@pytest.mark.parametrize("delivery", ["unordered", "ordered", "datagram"])
def test_packets_keep_their_boundaries(engine, delivery):
    world = World(engine, dial=params(udp_delivery=delivery)).up()
    near, far = world.pair(UDP)
    packets = [b"", b"a", b"bc", bytes(3), b"d" * 1300, b"e" * 1400, b"f" * 20_000, b"g" * 65_507]
    for packet in packets:
        assert near.flow.send_packets([packet])
    world.run(500)
    got = far.flow.recv_packets(5)
    assert len(got) == 5
    got += far.flow.recv_packets(64)
    assert sorted(got) == sorted(packets)
    assert far.flow.send_packets([b"back"])
    world.run(100)
    assert near.flow.recv_packets(64) == [b"back"]


def test_an_unordered_packet_does_not_wait_for_a_lost_one(engine):
    world = World(engine).up()
    near, far = world.pair(UDP)
    world.run(50)
    world.lose = lambda sender, path, datagram: True
    near.flow.send_packets([b"lost at first"])
    world.run(1)
    world.lose = lambda sender, path, datagram: False
    near.flow.send_packets([b"second"])
    world.run(world.delay_ms + 1)
    assert far.flow.recv_packets(64) == [b"second"]
    world.run(1000)
    assert far.flow.recv_packets(64) == [b"lost at first"]


def test_a_packet_that_has_no_room_is_refused_not_queued(engine):
    world = World(engine).up()
    near, _far = world.pair(UDP)
    world.lose = lambda sender, path, datagram: True
    accepted = 0
    while near.flow.send_packets([bytes(1300)]):
        accepted += 1
        world.run(0)
    assert accepted < 2000


@pytest.mark.parametrize("delivery", ["unordered", "ordered", "datagram"])
def test_the_end_of_an_association_reaches_the_other_side(engine, delivery):
    world = World(engine, dial=params(udp_delivery=delivery)).up()
    near, far = world.pair(UDP)
    near.flow.send_packets([b"last packet"])
    near.flow.end()
    near.finish()
    world.run(500)
    assert far.flow.recv_packets(64) == [b"last packet"] and far.flow.at_end
    far.flow.end()
    far.finish()
    world.run(500)
    for link in (world.d.link, world.l.links[0]):
        assert not link.flows.flows and link.counters.flows_finished == 1 and link.counters.flows_reset == 0


def test_a_flow_of_another_kind_is_not_confused(engine):
    world = World(engine).up()
    watches = [world.pair(TCP), world.pair(UDP), world.pair(TCP)]
    assert [far.flow.kind for _, far in watches] == [Kind.TCP, Kind.UDP, Kind.TCP]


def test_a_link_keeps_the_counts_of_flows_that_are_over(engine):
    world = World(engine).up()
    near, far = world.pair()
    echo(near, far, world)
    sent = near.flow.conv.segments_sent
    near.flow.end()
    far.flow.end()
    assert sent > 0
    near.finish()
    far.finish()
    world.until(lambda: not world.d.link.link_wire.convs)
    assert world.d.link.link_wire.segment_counts()["segments_sent"] >= sent
    assert world.d.link.link_wire.segment_counts()["segments_received"] > 0


def test_a_link_counts_the_segments_of_all_its_conversations(engine):
    world = World(engine).up()
    pairs = [world.pair() for _ in range(5)]
    for near, far in pairs:
        echo(near, far, world)
    convs = world.d.link.link_wire.convs.values()
    counts = world.d.link.link_wire.segment_counts()
    assert counts == {name: sum(getattr(conv, name) for conv in convs) for name in SEGMENTS}
    assert counts["segments_sent"] == 10 and counts["segments_received"] == 5


def test_a_conversation_says_once_that_nothing_is_owed(engine):
    world = World(engine).up()
    near, _far = world.pair()
    conv, wire = near.flow.conv, world.d.wire
    near.flow.write(b"x")
    conv.want_drained = True
    assert not conv.drained and (DRAINED, conv) not in wire.take_events()
    world.until(lambda: conv.drained)
    assert not conv.want_drained and near.events == 0
    near.flow.write(b"y")
    world.run(100)
    assert conv.drained and (DRAINED, conv) not in wire.take_events()
