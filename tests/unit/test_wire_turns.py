"""The data plane of a native leg, both engines: room, turns, pacing, unreliable packets."""

from __future__ import annotations

from itertools import pairwise

import pytest

from kcpg.core.congestion import CongestionController
from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.native.wire.events import FRAME
from tests.wires import PATH_A, WirePair

READABLE, WRITABLE = 1, 2
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
YEAR_MS = 365 * DAY_MS


def drops(wire):
    """The drops that happened."""
    return {reason: count for reason, count in wire.drops.items() if count}


def read_all(conv):
    """Everything readable now."""
    return conv.read(1 << 20)


def test_the_writer_is_woken_when_there_is_room_again(engine):
    ends = WirePair(engine, KcpParams(snd_wnd=32, rcv_wnd=32))
    conv = ends.open()
    data = bytes(1400) * 400
    taken = conv.write(data)
    assert 0 < taken < len(data) and conv.room == 0
    assert conv.take_events() == 0
    while not ends.ready["a"]:
        assert ends.step(), "the writer is never woken"
        if 1 in ends.b.convs:
            read_all(ends.peer(conv))
    assert ends.ready["a"] == [conv] and conv.take_events() == WRITABLE and conv.room >= 64


def test_a_reader_that_stops_stops_the_sender(engine):
    ends = WirePair(engine, KcpParams(snd_wnd=64, rcv_wnd=64))
    conv = ends.open()
    total = 0
    for _ in range(50):
        total += conv.write(bytes(100_000))
        ends.run(10)
    held = (256 + 64 + 64) * 1351
    assert total <= held, "the windows and the queue bound what is accepted"
    assert ends.peer(conv).unread <= 64
    got = 0
    for _ in range(2000):
        got += len(read_all(ends.peer(conv)))
        if got == total:
            break
        ends.run(20)
    assert got == total


def test_a_stopped_reader_is_no_reason_to_suspect_the_peer(engine):
    ends = WirePair(engine, KcpParams(snd_wnd=32, rcv_wnd=32))
    conv = ends.open()
    conv.write(bytes(200_000))
    ends.run(1000)
    assert conv.queued and not ends.a.outstanding


def test_turns_are_shared(engine):
    ends = WirePair(engine)
    bulk, small = ends.open(1), ends.open(2)
    bulk.write(bytes(300_000))
    small.write(b"quick")
    order = []
    for _, _, datagram in ends.wires["a"].transmit(ends.now_ms):
        ends.wires["b"].receive(*PATH_A, datagram, ends.now_ms)
        order.append(len(ends.b.convs))
    assert order.index(2) <= 64, "one conversation's bulk is not all sent before another's turn"


def test_transmit_is_bounded_and_says_so(engine):
    ends = WirePair(engine, KcpParams(snd_wnd=1024, rcv_wnd=1024))
    for number in range(1, 9):
        conv = ends.open(number)
        conv.write(bytes(400_000))
        conv.input(number.to_bytes(4, "little") + bytes([84, 0, 0xFF, 0x0F]) + bytes(16), 1000)
    wire = ends.wires["a"]
    batch = wire.transmit(ends.now_ms)
    assert 512 <= len(batch) <= 512 + 64 and wire.backlog
    assert wire.deadline() is not None and wire.deadline() <= ends.now_ms


def test_pacing_holds_the_rate(engine):
    ends = WirePair(engine, KcpParams(snd_wnd=4096, rcv_wnd=4096))
    ends.a.rate_bps = 8_000_000  # 1000 bytes per ms
    conv = ends.open()
    sent = [0]

    def count(sender, datagram):
        sent[0] += len(datagram) if sender == "a" else 0
        return False

    ends.lose = count
    start = ends.now_ms
    while ends.now_ms < start + 500:
        conv.write(bytes(50_000))
        ends.run(1)
        if 1 in ends.b.convs:
            read_all(ends.peer(conv))
    assert 0.9 * 500_000 <= sent[0] <= 1.1 * 500_000 + 14_000
    assert conv.segments_resent_rto == 0, "what the pacer holds back is not counted as sent"


@pytest.mark.parametrize("rate_bps", [10**6, 10**10, 10**12, 10**15, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
@pytest.mark.parametrize("rest_ms", [HOUR_MS, 11 * DAY_MS, 36 * DAY_MS, YEAR_MS, 100 * YEAR_MS])
def test_after_a_rest_of_any_length_data_leaves_at_any_rate(engine, rate_bps, rest_ms):
    """Time x rate is more than 64 bits hold. A peer may tell any rate of 64 bits."""
    ends = WirePair(engine)
    ends.a.rate_bps = rate_bps
    conv = ends.open()
    conv.write(b"before")
    ends.run(100)
    assert read_all(ends.peer(conv)) == b"before"
    ends.now_ms += rest_ms
    conv.write(bytes(12_000))
    ends.run(200)
    assert read_all(ends.peer(conv)) == bytes(12_000)
    assert not ends.a.outstanding


@pytest.mark.parametrize("rate_bps", [10**12, (1 << 64) - 1])
def test_a_rate_that_changes_after_a_rest_is_kept(engine, rate_bps):
    """What was saved up at a high rate is not spent at a low one."""
    ends = WirePair(engine, KcpParams(snd_wnd=4096, rcv_wnd=4096))
    ends.a.rate_bps = rate_bps
    conv = ends.open()
    conv.write(b"before")
    ends.run(100)
    ends.now_ms += YEAR_MS
    ends.a.rate_bps = 8_000_000  # 1000 bytes per ms
    sent = [0]

    def count(sender, datagram):
        sent[0] += len(datagram) if sender == "a" else 0
        return False

    ends.lose = count
    for _ in range(200):
        conv.write(bytes(50_000))
        ends.run(1)
        read_all(ends.peer(conv))
    assert 0.9 * 200_000 <= sent[0] <= 1.1 * 200_000 + 14_000


def test_the_pacer_sets_the_deadline(engine):
    ends = WirePair(engine)
    ends.a.rate_bps = 80_000  # 10 bytes per ms
    ends.open().write(bytes(50_000))
    ends.step()
    wire = ends.wires["a"]
    assert not wire.backlog
    assert ends.now_ms < wire.deadline() <= ends.now_ms + 140


def test_a_turn_that_sends_nothing_is_no_sending(engine):
    ends = WirePair(engine)
    ends.a.rate_bps = 8000
    ends.open().write(bytes(50_000))
    assert ends.step()
    sent_ms = ends.a.tx_last_ms
    ends.now_ms += 1
    assert ends.wires["a"].transmit(ends.now_ms) == []
    assert ends.a.tx_last_ms == sent_ms


def test_conversations_take_turns_of_sixteen_segments(engine):
    """Of however few bytes each segment is."""
    ends = WirePair(engine)
    convs = [ends.open(number) for number in (1, 2)]
    for conv in convs:
        for _ in range(200):
            conv.send(b"m" * 100)
    order = []
    accept = ends.b.accept
    for _, _, datagram in ends.wires["a"].transmit(ends.now_ms)[:4]:
        ends.b.accept = lambda number: order.append(number) or accept(number)
        ends.wires["b"].receive(*PATH_A, datagram, ends.now_ms)
    received = [ends.b.convs[number].segments_received for number in (1, 2)]
    assert order == [1, 2] and abs(received[0] - received[1]) <= 16


def test_acknowledgements_pass_the_pacer(engine):
    ends = WirePair(engine)
    ends.b.rate_bps = 8000  # a byte per ms
    conv = ends.open()
    conv.write(b"first")
    ends.run()
    ends.peer(conv).write(bytes(50_000))
    ends.run()
    conv.write(b"second")
    ends.run()
    assert not ends.a.outstanding


def test_a_held_back_retransmission_does_not_spin(engine):
    ends = WirePair(engine)
    ends.a.rate_bps = 8000
    ends.lose = lambda sender, datagram: True
    ends.open().write(bytes(14_000))
    calls = 0
    end = ends.now_ms + 3000
    while ends.now_ms < end:
        ends.step()
        calls += 1
        due = ends.wires["a"].deadline()
        assert due is not None
        assert due > ends.now_ms, "a deadline that has passed makes the driver spin"
        ends.now_ms = due
    assert calls < 200


def test_unreliable_packets(engine):
    ends = WirePair(engine)
    conv = ends.open()
    conv.write(b"x")
    ends.run()
    peer = ends.peer(conv)
    assert conv.send_datagram(b"packet") and conv.send_datagram(b"p" * (1400 - 25 - 4))
    assert not conv.send_datagram(b"p" * (1400 - 25 - 3)), "does not fit"
    assert not conv.send_datagram(b"ab"), "padding could not be told from it"
    ends.run()
    assert [peer.recv_datagram(), peer.recv_datagram(), peer.recv_datagram()] == [
        b"packet",
        b"p" * 1371,
        None,
    ]
    assert peer.take_events() & READABLE


def test_a_lost_unreliable_packet_is_not_sent_again(engine):
    ends = WirePair(engine)
    conv = ends.open()
    conv.write(b"x")
    ends.run(10)
    ends.lose = lambda sender, datagram: True
    conv.send_datagram(b"packet")
    ends.step()
    before = len(ends.sent)
    ends.run(5000)
    assert len(ends.sent) == before


def test_unreliable_packets_are_bounded(engine):
    ends = WirePair(engine)
    conv = ends.open()
    conv.write(b"x")
    ends.run()
    for _ in range(300):
        conv.send_datagram(b"packet")
    assert drops(ends.wires["a"]) == {"datagram_queue_full": 44}
    ends.run()
    assert drops(ends.wires["b"]) == {}
    got = 0
    while ends.peer(conv).recv_datagram() is not None:
        got += 1
    assert got == 256


def test_an_unreliable_packet_may_overtake_the_open(engine):
    ends = WirePair(engine)
    ends.open().send_datagram(b"packet")
    ends.run()
    assert drops(ends.wires["b"]) == {"conv_unknown": 1}
    assert ends.taken("b", FRAME) == [], "the conversation is not over, it has not begun"


def test_the_writer_is_woken_with_the_smallest_datagrams(engine):
    """The largest packet would then need more room than a queue ever has."""
    ends = WirePair(engine, KcpParams(snd_wnd=32, rcv_wnd=32))
    ends.a.datagram_bytes = ends.b.datagram_bytes = 256
    conv = ends.open()
    conv.write(bytes(100_000))
    assert conv.room == 0
    for _ in range(200):
        ends.run(10)
        if 1 in ends.b.convs:
            read_all(ends.peer(conv))
    assert conv in ends.ready["a"] and conv.take_events() == WRITABLE


def paced_convs(engine, count, rate_bps):
    """Conversations with more to send than the pacer lets out."""
    ends = WirePair(engine, KcpParams(snd_wnd=4096, rcv_wnd=4096))
    ends.a.rate_bps = rate_bps
    convs = [ends.open(number) for number in range(1, count + 1)]
    for conv in convs:
        conv.write(bytes(200_000))
    return ends, convs


def test_nobody_is_asked_while_the_pacer_has_nothing(engine):
    ends, _ = paced_convs(engine, 100, 80_000)  # 10 bytes per ms
    ends.step()
    before = ends.a.turns
    for _ in range(50):
        ends.wires["a"].transmit(ends.now_ms)
    assert ends.a.turns == before
    ends.now_ms = ends.wires["a"].deadline()
    assert ends.step() and ends.a.turns <= before + 2, "one sends, the next one gets nothing"


def test_the_pacer_serves_all_alike(engine):
    ends, convs = paced_convs(engine, 5, 8_000_000)  # 1000 bytes per ms
    for _ in range(1_000):
        ends.run(1)
        for conv in convs:
            conv.write(bytes(50_000))
            if conv.conv in ends.b.convs:
                read_all(ends.peer(conv))
    sent = [conv.segments_sent for conv in convs]
    assert min(sent) >= 0.8 * max(sent), sent


def test_an_acknowledgement_does_not_wait_for_the_pacer_of_a_hundred_others(engine):
    ends, _ = paced_convs(engine, 100, 8_000)
    ends.step()
    quick = ends.b.open(1000, ends.params)
    ends.a.accept = lambda number: ends.a.open(number, ends.params)
    quick.write(bytes(3_000))
    ends.run(5)
    assert quick.in_flight == 0


def full(sn):
    """A full segment that arrives in conversation 1."""
    size = 1351
    header = (1).to_bytes(4, "little") + bytes([81, 0, 0xFF, 0x0F]) + (500 + sn).to_bytes(4, "little")
    return header + sn.to_bytes(4, "little") + bytes(4) + size.to_bytes(4, "little") + bytes(size)


def test_full_segments_are_acknowledged_once_in_a_while(engine):
    conv = WirePair(engine).open()
    conv.ack_batch_ms = 6
    told = []
    for sn in range(60):  # one each millisecond
        conv.input(full(sn), 1000 + sn)
        if conv.wants_flush:
            assert conv.flush(1000 + sn)
            told.append(sn)
        conv.recv()
    assert told[0] == 0, "the first after a rest is told at once"
    assert [b - a for a, b in pairwise(told)] == [6] * (len(told) - 1)


def test_the_last_full_segment_does_not_wait_for_long(engine):
    conv = WirePair(engine).open()
    conv.ack_batch_ms = 6
    conv.input(full(0), 1000)
    assert conv.flush(1000)
    conv.input(full(1), 1002)
    assert not conv.wants_flush and conv.owes_ack
    assert conv.deadline == 1000 + 2 * 6


def test_a_gap_is_told_at_once(engine):
    conv = WirePair(engine).open()
    conv.ack_batch_ms = 6
    conv.input(full(0), 1000)
    assert conv.flush(1000)
    conv.input(full(1), 1001)
    conv.input(full(3), 1001)
    assert conv.wants_flush


def test_so_many_full_segments_are_told_at_once(engine):
    conv = WirePair(engine).open()
    conv.ack_batch_ms = 6
    conv.input(full(0), 1000)
    assert conv.flush(1000)
    for sn in range(1, 64):
        conv.input(full(sn), 1001)
        assert not conv.wants_flush
    conv.input(full(64), 1001)
    assert conv.wants_flush


def test_acknowledgements_of_a_transfer_are_thinned_by_the_round_trip(engine):
    ends = WirePair(engine, KcpParams(snd_wnd=512, rcv_wnd=512))
    ends.a.adapt(CongestionController(1400))
    ends.b.adapt(CongestionController(1400))
    ends.b.rtt_hint_ms = 50
    conv = ends.open()
    while conv.snd_una < 200:
        conv.write(bytes(50_000))
        ends.run(5)
        if conv.conv in ends.b.convs:
            read_all(ends.peer(conv))
    assert ends.peer(conv).ack_batch_ms == 50 // 8
    assert conv.ack_batch_ms == 0, "nothing has come there"


def test_whoever_got_nothing_is_the_first_next_time(engine):
    """Whether all were asked, as one owes an acknowledgement, or not."""
    for owes in (False, True):
        ends, convs = paced_convs(engine, 4, 1_000_000)  # 125 bytes per ms
        ends.step()
        order = []
        for _ in range(8):
            before = [conv.segments_sent for conv in convs]
            ends.now_ms = max(ends.wires["a"].deadline(), ends.now_ms + 1)
            if owes:
                convs[0].input(full(len(order)), ends.now_ms)
            ends.wires["a"].transmit(ends.now_ms)
            order += [n for n, conv in enumerate(convs) if conv.segments_sent > before[n]]
        assert {order.count(n) for n in range(4)} == {len(order) // 4}, order
