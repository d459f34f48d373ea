"""The data plane of a native leg, both engines: datagrams in and out, drops by name, turns, pacing,
epochs."""

from __future__ import annotations

import random

import pytest

from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.native.wire import frames
from kcpg.core.native.wire.events import FRAME, MOVED, STRANGER
from tests.wires import C2S, CID_B, PATH_A, PATH_B, WirePair, key, lossy, make_wire, taken

READABLE, WRITABLE = 1, 2
ALGORITHMS = ("AES-GCM", "AES-OCB", "chacha20", "xchacha20", "none", "XOR")


def drops(wire):
    """The drops that happened."""
    return {reason: count for reason, count in wire.drops.items() if count}


def read_all(conv):
    """Everything readable now."""
    return conv.read(1 << 20)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_stream_bytes_arrive(engine, algorithm):
    ends = WirePair(engine, algorithm=algorithm)
    conv = ends.open()
    assert conv.write(b"hello") == 5
    ends.run()
    assert read_all(ends.peer(conv)) == b"hello"
    assert ends.ready["b"] == [ends.peer(conv)]
    assert not drops(ends.wires["a"]) and not drops(ends.wires["b"])


def test_a_datagram_is_header_type_payload_tag(engine):
    ends = WirePair(engine)
    ends.open().write(b"x" * 100)
    ends.step()
    sender, datagram = ends.sent[0]
    assert (sender, len(datagram)) == ("a", 8 + 1 + 24 + 100 + 16)
    assert CID_B.to_bytes(4, "big") != datagram[:4], "the header is masked"


def test_control_frames_arrive_padded_to_the_shortest_datagram(engine):
    ends = WirePair(engine)
    ends.a.send(frames.RESET_ACK, b"\x07\0\0\0")
    ends.a.send(frames.PING, b"12345678")
    ends.step()
    assert [len(datagram) for _, datagram in ends.sent] == [32, 33]
    taken = ends.taken("b", FRAME)
    assert [(link_wire, type, payload[:4], *path) for link_wire, type, payload, path in taken] == [
        (ends.b, frames.RESET_ACK, b"\x07\0\0\0", *PATH_A),
        (ends.b, frames.PING, b"1234", *PATH_A),
    ]
    assert ends.taken("b", FRAME) == []


def test_frames_are_sealed_when_sent_not_when_they_leave(engine):
    ends = WirePair(engine)
    ends.a.send(frames.PING, b"12345678")
    ends.a.install_tx(CID_B + 1, "AES-GCM", key(C2S, 9), bytes(12))
    ends.step()
    assert [frame[1] for frame in ends.taken("b", FRAME)] == [frames.PING]


def test_a_farewell_outlives_its_link_wire(engine):
    ends = WirePair(engine)
    ends.a.send(frames.CLOSE, frames.pack_close(7, "bye"))
    ends.a.free()
    ends.step()
    assert [frame[1] for frame in ends.taken("b", FRAME)] == [frames.CLOSE]


def test_posted_datagrams_leave_as_they_are(engine):
    wire = make_wire(engine)
    wire.post(3, b"somewhere", b"d" * 400)
    assert wire.deadline() is not None
    assert wire.transmit(5) == [(3, b"somewhere", b"d" * 400)]
    assert wire.deadline() is None and not wire.backlog


@pytest.mark.parametrize(
    ("type", "reason"),
    [
        (frames.FEC_DATA, "frame_malformed"),
        (frames.FEC_PARITY, "fec_malformed"),
        (18, "frame_unknown"),
        (255, "frame_unknown"),
    ],
)
def test_frames_nobody_handles_are_counted(engine, type, reason):
    ends = WirePair(engine)
    ends.a.send(type, b"12345678")
    ends.step()
    assert drops(ends.wires["b"]) == {reason: 1}


def test_padding_is_no_frame_and_no_drop(engine):
    ends = WirePair(engine)
    ends.a.send(frames.PAD, b"")
    ends.step()
    assert ends.taken("b", FRAME) == [] and not drops(ends.wires["b"])
    assert ends.b.rx_datagrams == 1


def test_lengths_that_cannot_be_ours_are_counted(engine):
    wire = make_wire(engine, max_datagram=1400)
    wire.receive(*PATH_B, b"", 0)
    wire.receive(*PATH_B, bytes(31), 0)
    wire.receive(*PATH_B, bytes(1401), 0)
    assert drops(wire) == {"short": 2, "long": 1}
    assert not wire.has_events


def test_unknown_cids_are_strangers_with_a_clear_header(engine):
    a, b = make_wire(engine, "a"), make_wire(engine, "b")
    header, body = b"\0\0\0\0rand", bytes(range(60))
    b.receive(*PATH_A, a.mask(header, body), 0)
    assert taken(b, STRANGER) == [(PATH_A, 0, header, body)]


def test_strangers_are_bounded(engine):
    wire = make_wire(engine)
    for number in range(300):
        wire.receive(*PATH_B, number.to_bytes(2, "big") * 20, 0)
    assert len(taken(wire, STRANGER)) == 256
    assert drops(wire) == {"strangers_overflow": 44}


def test_frames_are_bounded(engine):
    ends = WirePair(engine)
    for _ in range(1030):
        ends.a.send(frames.PING, b"12345678")
    while datagrams := ends.wires["a"].transmit(ends.now_ms):
        for _, _, datagram in datagrams:
            ends.wires["b"].receive(*PATH_A, datagram, ends.now_ms)
    assert len(ends.taken("b", FRAME)) == 512
    assert drops(ends.wires["b"]) == {"frames_overflow": 518}


def test_a_datagram_counts_once(engine):
    ends = WirePair(engine)
    ends.a.send(frames.PING, b"12345678")
    ends.step()
    ends.wires["b"].receive(*PATH_A, ends.sent[0][1], 1001)
    assert len(ends.taken("b", FRAME)) == 1
    assert drops(ends.wires["b"]) == {"replay": 1}


def test_a_reflected_datagram_fails(engine):
    ends = WirePair(engine)
    ends.a.send(frames.PING, b"12345678")
    ends.step()
    ends.wires["a"].receive(*PATH_B, ends.sent[0][1], 1001)
    assert ends.taken("a", FRAME) == []
    assert ends.a.rx_datagrams == 0


def test_damage_is_noticed_at_every_byte(engine):
    ends = WirePair(engine)
    ends.lose = lambda sender, datagram: True
    ends.open().write(b"some payload")
    ends.step()
    datagram = ends.sent[0][1]
    for at in range(len(datagram)):
        damaged = bytearray(datagram)
        damaged[at] ^= 1 << at % 8
        ends.wires["b"].receive(*PATH_A, bytes(damaged), 1001)
    ends.wires["b"].receive(*PATH_A, datagram[:-1], 1001)
    ends.wires["b"].receive(*PATH_A, datagram + b"\0", 1001)
    assert ends.b.rx_datagrams == 0 and len(ends.b.convs) == 0
    assert set(drops(ends.wires["b"])) <= {"auth", "replay"}
    ends.wires["b"].receive(*PATH_A, datagram, 1001)
    assert len(ends.b.convs) == 1


@pytest.mark.parametrize(
    "payload", [b"\1\0\0\0" + bytes(20) + b"x", b"short", bytes(23), b"\xff" * 24, b"\xff" * 40]
)
def test_broken_segments_are_counted(engine, payload):
    ends = WirePair(engine)
    ends.b.open(1, ends.params)
    ends.a.send(frames.KCP, payload)
    ends.step()
    assert drops(ends.wires["b"]) in ({"kcp_malformed": 1}, {"kcp_malformed": 2})


def test_segments_of_several_conversations_share_datagrams(engine):
    ends = WirePair(engine)
    convs = [ends.open(number) for number in range(1, 6)]
    for conv in convs:
        conv.write(bytes([conv.conv]) * 50)
    ends.run(10)
    assert [sender for sender, _ in ends.sent] == ["a", "b"]
    assert [read_all(ends.peer(conv)) for conv in convs] == [bytes([n]) * 50 for n in range(1, 6)]


def test_a_conversation_nobody_wants_is_told_to_the_link(engine):
    ends = WirePair(engine)
    ends.b.accept = lambda number: None
    ends.open(77).write(b"x")
    ends.step()
    assert drops(ends.wires["b"]) == {"conv_unknown": 1}
    assert ends.taken("b", FRAME) == [(ends.b, -1, b"\x4d\0\0\0", PATH_A)]


def test_late_acknowledgements_are_not_answered(engine):
    ends = WirePair(engine)
    conv = ends.open()
    conv.write(b"x")
    ends.lose = lambda sender, datagram: sender == "b"
    ends.run(5)
    acknowledgement = ends.sent[-1][1]
    ends.a.close(1)
    ends.wires["a"].receive(*PATH_B, acknowledgement, 1001)
    assert drops(ends.wires["a"]) == {"conv_unknown": 1}
    assert ends.taken("a", FRAME) == []


def test_a_closed_conversation_is_forgotten_at_once(engine):
    ends = WirePair(engine)
    conv = ends.open()
    conv.write(b"x" * 5000)
    ends.lose = lambda sender, datagram: True
    ends.step()
    assert ends.a.outstanding
    conv.write(b"y")
    ends.a.close(1)
    assert conv.closed and not ends.a.outstanding and len(ends.a.convs) == 0
    before = len(ends.sent)
    ends.now_ms += 100_000
    assert [sender for sender, _ in ends.sent[before:]] == []
    assert ends.wires["a"].transmit(ends.now_ms) == []
    assert ends.wires["a"].deadline() is None


def test_everything_arrives_through_loss_both_ways(engine):
    rng = random.Random(20)
    ends = WirePair(engine)
    ends.lose = lossy(rng, 0.2)
    conv = ends.open()
    up, down = rng.randbytes(60_000), rng.randbytes(40_000)
    sent_up = sent_down = 0
    got_up = got_down = b""
    for _ in range(3000):
        sent_up += conv.write(up[sent_up:])
        if 1 in ends.b.convs:
            peer = ends.peer(conv)
            sent_down += peer.write(down[sent_down:])
            got_up += read_all(peer)
        got_down += read_all(conv)
        if (got_up, got_down) == (up, down):
            break
        ends.run(20)
    assert got_up == up and got_down == down


def test_retransmission_by_deadline(engine):
    ends = WirePair(engine)
    conv = ends.open()
    conv.write(b"x")
    ends.lose = lambda sender, datagram: True
    ends.step()
    first = len(ends.sent)
    due = ends.wires["a"].deadline()
    assert due is not None and due > ends.now_ms
    assert ends.wires["a"].transmit(due - 1) == []
    ends.now_ms, ends.lose = due, lambda sender, datagram: False
    ends.run()
    assert len(ends.sent) > first and read_all(ends.peer(conv)) == b"x"
    ends.run(1000)
    assert ends.wires["a"].deadline() is None and not ends.a.outstanding


def test_nothing_outstanding_means_no_deadline(engine):
    ends = WirePair(engine)
    ends.open().write(b"x" * 10_000)
    ends.run(1000)
    assert all(wire.deadline() is None and not wire.backlog for wire in ends.wires.values())


def test_facts(engine):
    ends = WirePair(engine)
    assert (ends.a.rx_last_ms, ends.a.tx_last_ms, ends.a.rx_cid) == (-1, -1, None)
    assert ends.a.path == PATH_B and ends.a.source is None and ends.a.OVERHEAD == 25
    ends.open().write(b"x")
    ends.run(5)
    assert (ends.a.tx_datagrams, ends.a.tx_pn, ends.b.rx_datagrams) == (1, 1, 1)
    assert ends.a.tx_bytes == ends.b.rx_bytes == 50
    assert (ends.a.tx_last_ms, ends.a.rx_last_ms) == (1000, 1002), "a lone acknowledgement waits for company"
    assert ends.b.rx_cid == CID_B and ends.b.source == PATH_A


def test_the_newest_source_is_followed_and_older_ones_are_not(engine):
    ends = WirePair(engine)
    ends.lose = lambda sender, datagram: True
    for _ in range(3):
        ends.a.send(frames.PAD, b"")
    ends.step()
    first, second, third = (datagram for _, datagram in ends.sent)
    wire = ends.wires["b"]
    wire.receive(*PATH_A, first, 1000)
    assert taken(wire, MOVED) == [], "that is the path it sends by already"
    wire.receive(9, b"elsewhere", third, 1000)
    assert taken(wire, MOVED) == [(ends.b,)] and ends.b.source == (9, b"elsewhere")
    wire.receive(*PATH_A, second, 1000)
    assert taken(wire, MOVED) == [] and ends.b.source == (9, b"elsewhere")
    forged = third[:-1] + bytes([third[-1] ^ 1])
    wire.receive(7, b"attacker", forged, 1000)
    assert taken(wire, MOVED) == [] and ends.b.source == (9, b"elsewhere")


def test_a_new_epoch_replaces_the_old_without_a_gap(engine):
    ends = WirePair(engine)
    conv = ends.open()
    ends.lose = lambda sender, datagram: True
    conv.write(b"under the old key, ")
    ends.step()
    late = ends.sent[-1][1]
    ends.lose = lambda sender, datagram: False
    ends.install(0x11111111, 0x22222222, 1)
    assert ends.a.tx_pn == 0
    conv.write(b"under the new one")
    ends.step()
    assert ends.b.rx_cid == 0x22222222
    ends.wires["b"].receive(*PATH_A, late, ends.now_ms)
    assert ends.b.rx_cid == 0x22222222, "a late datagram of the old epoch is not the newest"
    assert read_all(ends.peer(conv)) == b"under the old key, under the new one"
    ends.b.remove_rx(CID_B)
    ends.wires["b"].receive(*PATH_A, late, ends.now_ms)
    assert [stranger[1] for stranger in ends.taken("b", STRANGER)] == [CID_B]


def test_without_a_key_or_a_path_nothing_leaves_and_nothing_is_lost(engine):
    wire = make_wire(engine)
    link_wire = wire.link_wire(None)
    conv = link_wire.open(1, KcpParams())
    conv.write(b"early")
    link_wire.send(frames.PING, b"12345678")
    assert wire.transmit(0) == [] and drops(wire) == {"no_path": 1}
    link_wire.install_tx(CID_B, "AES-GCM", key(C2S), bytes(12))
    assert wire.transmit(0) == []
    link_wire.set_path(*PATH_B)
    assert len(wire.transmit(0)) == 1


def test_relay_of_a_stream_stops_where_there_is_no_room(engine):
    ends, onward = WirePair(engine), WirePair(engine, KcpParams(snd_wnd=32, rcv_wnd=32))
    conv, next_conv = ends.open(), onward.open()
    data = random.Random(4).randbytes(2_000_000)
    sent, got = 0, b""
    onward_blocked = False
    for _ in range(4000):
        sent += conv.write(data[sent:])
        ends.run(1)
        if 1 in ends.b.convs:
            ends.peer(conv).move_to(next_conv, False)
            onward_blocked |= next_conv.room == 0
        onward.run(1)
        if 1 in onward.b.convs:
            got += read_all(onward.peer(next_conv))
        if len(got) == len(data):
            break
    assert got == data and onward_blocked


def test_relay_of_packets_keeps_their_boundaries(engine):
    ends, onward = WirePair(engine), WirePair(engine)
    conv, next_conv = ends.open(), onward.open()
    packets = [bytes([n]) * (n * 700) for n in range(12)]
    for packet in packets:
        conv.send(packet)
    ends.run()
    moved = ends.peer(conv).move_to(next_conv, True)
    assert moved == sum(map(len, packets))
    onward.run()
    got = [onward.peer(next_conv).recv() for _ in packets]
    assert got == packets and onward.peer(next_conv).recv() is None


def test_relay_stops_before_the_end_of_a_stream(engine):
    ends, onward = WirePair(engine), WirePair(engine)
    conv, next_conv = ends.open(), onward.open()
    conv.write(b"all of it")
    conv.send(b"")
    ends.run()
    peer = ends.peer(conv)
    assert peer.move_to(next_conv, False) == 9
    assert peer.at_end and peer.recv() == b""
    onward.run()
    assert read_all(onward.peer(next_conv)) == b"all of it"


def test_smaller_datagrams_for_conversations_opened_later(engine):
    ends = WirePair(engine)
    ends.a.datagram_bytes = 600
    ends.open().write(bytes(5000))
    ends.run()
    assert max(len(datagram) for _, datagram in ends.sent) == 600


def test_datagrams_beyond_the_wires_memory_are_refused(engine):
    """By code that stays where assertions are left out: their size comes from what a peer answered."""
    ends = WirePair(engine)
    before = ends.a.datagram_bytes
    with pytest.raises(ValueError, match="do not fit"):
        ends.a.datagram_bytes = ends.wires["a"].max_datagram + 1
    assert ends.a.datagram_bytes == before


def test_free_forgets_everything(engine):
    ends = WirePair(engine)
    ends.open().write(bytes(5000))
    ends.step()
    ends.b.free()
    assert len(ends.b.convs) == 0
    ends.run(500)
    assert ends.b.rx_datagrams > 0
    assert all(stranger[1] == CID_B for stranger in ends.taken("b", STRANGER))
