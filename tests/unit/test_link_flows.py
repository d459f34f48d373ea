"""The flows of a link: opening, both ends, resets, packets, in virtual time, on both engines."""

from __future__ import annotations

import pytest

from kcpg.core.flow import Kind, Open, Reset, ResetCode, Target
from kcpg.core.native.leg import READY_PER_TURN
from kcpg.core.native.link.flowtable import OPEN_WAIT_MS
from kcpg.core.native.link.setup import LinkLimits
from kcpg.core.native.wire.counters import SEGMENTS
from kcpg.core.native.wire.events import DRAINED
from tests.links import OTHER_KEYS, TCP, UDP, LinkRig, echo, params


def test_opening_a_flow_costs_no_round_trip(engine):
    rig = LinkRig(engine).up()
    start = rig.now_ms
    near = rig.dial()
    assert not near.flow.opening
    near.flow.write(b"first bytes")
    rig.until(lambda: rig.flows)
    assert rig.now_ms - start <= rig.delay_ms + 5
    assert rig.flows[0][0].read(100) == b"first bytes"


def test_many_flows_at_once_after_a_long_rest(engine):
    """More than one turn serves, on a link that was silent for longer than a request may take to arrive."""
    rig = LinkRig(engine).up()
    rig.run(2 * OPEN_WAIT_MS)
    flows = [rig.dial() for _ in range(3 * READY_PER_TURN)]
    for near in flows:
        near.flow.write(b"x")
    rig.run(200)
    assert len(rig.flows) == len(flows)
    assert not any(near.reason for near in flows)
    assert rig.l.links[0].counters.opens_late == 0


def test_a_flow_says_where_it_wants_to_go(engine):
    rig = LinkRig(engine).up()
    wanted = Open(Kind.TCP, Target("example.org", 443), "192.0.2.1:5555")
    rig.pair(wanted)
    assert rig.flows[0][1] == wanted
    rig.pair(UDP)
    assert rig.flows[1][1] == UDP


def test_flows_dialled_before_the_link_wait_for_it(engine):
    rig = LinkRig(engine)
    rig.d.start(rig.now_ms)
    near = rig.dial()
    assert near.flow.opening and near.flow.room == 0
    rig.until(lambda: not near.flow.opening)
    assert near.events & 2
    near.flow.write(b"x")
    rig.until(lambda: rig.flows)


def test_flows_that_wait_in_vain_are_reset(engine):
    rig = LinkRig(engine, listener_keys=OTHER_KEYS)
    rig.d.start(rig.now_ms)
    near = rig.dial()
    rig.run(29_900)
    assert near.reason is None
    rig.run(200)
    assert near.reason.code is ResetCode.UNREACHABLE and near.flow.closed


def test_half_close_both_ways(engine):
    rig = LinkRig(engine).up()
    near, far = rig.pair()
    near.flow.write(b"question")
    near.flow.end()
    rig.run(100)
    assert far.flow.read(100) == b"question" and far.flow.read(100) == b""
    far.flow.write(b"answer")
    far.flow.end()
    near.flow.write(b"")
    rig.run(100)
    assert near.flow.read(100) == b"answer" and near.flow.read(100) == b""
    near.finish()
    far.finish()
    rig.run(3000)
    for link in (rig.d.link, rig.l.links[0]):
        assert not link.flows.flows and len(link.link_wire.convs) == 0
        assert link.counters.flows_finished == 1 and link.counters.flows_reset == 0
        assert link.counters.resets_sent == 0


def test_an_end_whose_last_acknowledgement_is_lost_is_clean(engine):
    rig = LinkRig(engine).up()
    near, far = rig.pair()
    near.flow.end()
    rig.run(100)
    assert far.flow.read(100) == b""
    far.flow.end()
    rig.lose = lambda sender, path, datagram: sender == "d"
    rig.run(rig.delay_ms + 2)
    assert near.flow.read(100) == b""
    near.finish()
    far.finish()
    rig.run(100)
    assert not rig.d.link.flows.flows and rig.l.links[0].flows.flows
    rig.lose = lambda sender, path, datagram: False
    rig.run(3000)
    link = rig.l.links[0]
    assert not link.flows.flows and link.counters.flows_finished == 1 and link.counters.flows_reset == 0


def test_a_slow_reader_loses_nothing_when_the_sender_is_long_done(engine):
    rig = LinkRig(engine).up()
    near, far = rig.pair()
    data = bytes(range(256)) * 600
    assert near.flow.write(data) == len(data)
    near.flow.end()
    far.flow.end()
    rig.run(200)
    assert near.flow.read(10) == b""
    near.finish()
    rig.run(60_000)
    got = b""
    while chunk := far.flow.read(5000):
        got += chunk
        rig.run(20)
    assert got == data and far.flow.heard_end
    far.finish()
    rig.run(5000)
    assert not rig.d.link.flows.flows and not rig.l.links[0].flows.flows
    assert rig.l.links[0].counters.flows_reset == 0


def test_unread_data_survives_that_the_peer_has_forgotten_the_flow(engine):
    rig = LinkRig(engine).up()
    near, far = rig.pair()
    near.flow.write(b"unread")
    near.flow.end()
    rig.run(50)
    far.flow.end()
    rig.lose = lambda sender, path, datagram: sender == "d"
    rig.run(rig.delay_ms + 2)
    assert near.flow.read(10) == b""
    near.finish()
    rig.run(100)
    assert not rig.d.link.flows.flows
    rig.lose = lambda sender, path, datagram: False
    rig.run(90_000)
    assert far.reason is None and far.flow.read(100) == b"unread" and far.flow.read(100) == b""


@pytest.mark.parametrize("side", ["near", "far"])
def test_a_reset_reaches_the_other_side(engine, side):
    rig = LinkRig(engine).up()
    near, far = rig.pair()
    one, other = (near, far) if side == "near" else (far, near)
    one.flow.reset(Reset(ResetCode.REFUSED, "nobody listens there"))
    rig.run(100)
    assert other.reason == Reset(ResetCode.REFUSED, "nobody listens there") and other.flow.closed
    for link in (rig.d.link, rig.l.links[0]):
        assert len(link.link_wire.convs) == 0 and link.counters.flows_reset == 1
    sent = len(rig.sent)
    rig.run(19_000)
    assert len(rig.sent) == sent, "an acknowledged RESET is not repeated"


def test_a_lost_reset_is_repeated(engine):
    rig = LinkRig(engine).up()
    near, far = rig.pair()
    rig.lose = lambda sender, path, datagram: True
    near.flow.reset(Reset(ResetCode.TIMEOUT))
    rig.run(100)
    rig.lose = lambda sender, path, datagram: False
    rig.until(lambda: far.reason, 2000)
    assert far.reason.code is ResetCode.TIMEOUT


def test_late_segments_never_open_a_ghost_flow(engine):
    rig = LinkRig(engine).up()
    held = []
    rig.lose = lambda sender, path, datagram: sender == "d" and not held.append(datagram)
    near = rig.dial()
    near.flow.write(b"late")
    rig.run(1)
    rig.lose = lambda sender, path, datagram: False
    near.flow.reset(Reset(ResetCode.RESET_BY_APPLICATION))
    rig.run(100)
    for datagram in held:
        rig.l.receive(3000, b"d1", datagram, rig.now_ms)
    rig.run(100)
    assert rig.flows == [] and len(rig.l.links[0].link_wire.convs) == 0
    rig.run(31_000)
    rig.dial().flow.write(b"x")
    rig.until(lambda: rig.flows)
    for datagram in held:
        rig.l.receive(3000, b"d1", datagram, rig.now_ms)
    rig.run(1000)
    assert len(rig.flows) == 1 and len(rig.l.links[0].link_wire.convs) == 1


def test_a_link_carries_a_limited_number_of_flows(engine):
    rig = LinkRig(engine, listen={"limits": LinkLimits(max_flows=2)}).up()
    flows = [rig.dial() for _ in range(3)]
    for watch in flows:
        watch.flow.write(b"x")
    rig.run(500)
    assert [watch.reason is None for watch in flows] == [True, True, False]
    assert flows[2].reason.code is ResetCode.REFUSED and len(rig.flows) == 2
    assert rig.l.links[0].counters.flows_refused == 1


def test_an_opening_that_is_not_understood_is_reset(engine):
    rig = LinkRig(engine).up()
    near = rig.dial()
    near.flow.conv.link_wire.close(1)
    conv = near.flow.conv.link_wire.open(
        9, near.flow.conv.params if hasattr(near.flow.conv, "params") else rig._dial.kcp
    )
    conv.send(b"\x63 garbage")
    rig.run(300)
    assert rig.flows == [] and rig.l.links[0].counters.opens_malformed == 1
    assert len(rig.d.link.link_wire.convs) == 0


@pytest.mark.parametrize("delivery", ["unordered", "ordered", "datagram"])
def test_packets_keep_their_boundaries(engine, delivery):
    rig = LinkRig(engine, dial=params(udp_delivery=delivery)).up()
    near, far = rig.pair(UDP)
    packets = [b"", b"a", b"bc", bytes(3), b"d" * 1300, b"e" * 1400, b"f" * 20_000, b"g" * 65_507]
    for packet in packets:
        assert near.flow.send_packets([packet])
    rig.run(500)
    got = far.flow.recv_packets(5)
    assert len(got) == 5
    got += far.flow.recv_packets(64)
    assert sorted(got) == sorted(packets)
    assert far.flow.send_packets([b"back"])
    rig.run(100)
    assert near.flow.recv_packets(64) == [b"back"]


def test_an_unordered_packet_does_not_wait_for_a_lost_one(engine):
    rig = LinkRig(engine).up()
    near, far = rig.pair(UDP)
    rig.run(50)
    rig.lose = lambda sender, path, datagram: True
    near.flow.send_packets([b"lost at first"])
    rig.run(1)
    rig.lose = lambda sender, path, datagram: False
    near.flow.send_packets([b"second"])
    rig.run(rig.delay_ms + 1)
    assert far.flow.recv_packets(64) == [b"second"]
    rig.run(1000)
    assert far.flow.recv_packets(64) == [b"lost at first"]


def test_a_packet_that_has_no_room_is_refused_not_queued(engine):
    rig = LinkRig(engine).up()
    near, _far = rig.pair(UDP)
    rig.lose = lambda sender, path, datagram: True
    accepted = 0
    while near.flow.send_packets([bytes(1300)]):
        accepted += 1
        rig.run(0)
    assert accepted < 2000


@pytest.mark.parametrize("delivery", ["unordered", "ordered", "datagram"])
def test_the_end_of_an_association_reaches_the_other_side(engine, delivery):
    rig = LinkRig(engine, dial=params(udp_delivery=delivery)).up()
    near, far = rig.pair(UDP)
    near.flow.send_packets([b"last packet"])
    near.flow.end()
    near.finish()
    rig.run(500)
    assert far.flow.recv_packets(64) == [b"last packet"] and far.flow.at_end
    far.flow.end()
    far.finish()
    rig.run(500)
    for link in (rig.d.link, rig.l.links[0]):
        assert not link.flows.flows and link.counters.flows_finished == 1 and link.counters.flows_reset == 0


def test_a_flow_of_another_kind_is_not_confused(engine):
    rig = LinkRig(engine).up()
    watches = [rig.pair(TCP), rig.pair(UDP), rig.pair(TCP)]
    assert [far.flow.kind for _, far in watches] == [Kind.TCP, Kind.UDP, Kind.TCP]


def test_a_link_keeps_the_counts_of_flows_that_are_over(engine):
    rig = LinkRig(engine).up()
    near, far = rig.pair()
    echo(near, far, rig)
    sent = near.flow.conv.segments_sent
    near.flow.end()
    far.flow.end()
    assert sent > 0
    near.finish()
    far.finish()
    rig.until(lambda: not rig.d.link.link_wire.convs)
    assert rig.d.link.link_wire.segment_counts()["segments_sent"] >= sent
    assert rig.d.link.link_wire.segment_counts()["segments_received"] > 0


def test_a_link_counts_the_segments_of_all_its_conversations(engine):
    rig = LinkRig(engine).up()
    pairs = [rig.pair() for _ in range(5)]
    for near, far in pairs:
        echo(near, far, rig)
    convs = rig.d.link.link_wire.convs.values()
    counts = rig.d.link.link_wire.segment_counts()
    assert counts == {name: sum(getattr(conv, name) for conv in convs) for name in SEGMENTS}
    assert counts["segments_sent"] == 10 and counts["segments_received"] == 5


def test_a_conversation_says_once_that_nothing_is_owed(engine):
    rig = LinkRig(engine).up()
    near, _far = rig.pair()
    conv, wire = near.flow.conv, rig.d.wire
    near.flow.write(b"x")
    conv.want_drained = True
    assert not conv.drained and (DRAINED, conv) not in wire.take_events()
    rig.until(lambda: conv.drained)
    assert not conv.want_drained and near.events == 0
    near.flow.write(b"y")
    rig.run(100)
    assert conv.drained and (DRAINED, conv) not in wire.take_events()
