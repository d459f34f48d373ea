"""KCP's user side: messages, stream bytes, END, room, and what the segments look like."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any

import pytest

from kcpg.core.kcp.kcp import KcpParams
from tests.engines import twin
from tests.unit.kcp_pair import FAST, KcpPair, new_kcp


def test_a_message_is_one_standard_push_segment(engine: str) -> None:
    kcp = twin(engine, "Kcp")(0x01020304, 1400, FAST)
    kcp.send(b"hello")
    assert kcp.wants_flush
    assert kcp.flush(0x1_0000_0005) == [
        struct.pack("<IBBHIIII", 0x01020304, 81, 0, 1024, 5, 0, 0, 5) + b"hello"
    ]
    assert (kcp.queued, kcp.in_flight, kcp.snd_nxt) == (0, 1, 1)


def test_fragments_count_down_and_come_back_as_one(engine: str) -> None:
    pair = KcpPair(engine, mtu=124)
    message = random.Random(5).randbytes(950)
    pair.left.send(message)
    assert pair.left.queued == 10
    pair.run()
    assert [datagram[5] for datagram in pair.to_right.sent] == list(range(9, -1, -1))
    assert pair.right.recv() == message
    assert pair.right.recv() is None


def test_a_message_of_more_than_127_fragments_is_refused(engine: str) -> None:
    kcp = new_kcp(engine, mtu=124)
    kcp.send(bytes(12_700))
    with pytest.raises(ValueError, match="12700"):
        kcp.send(bytes(12_701))
    assert kcp.queued == 127


@pytest.mark.parametrize("kcp_mtu", [0, 24, 24 + 65536])
def test_an_impossible_mtu_is_refused(engine: str, kcp_mtu: int) -> None:
    with pytest.raises(ValueError, match=str(kcp_mtu)):
        new_kcp(engine, mtu=kcp_mtu)


def test_stream_bytes_share_segments_only_while_queued(engine: str) -> None:
    kcp = new_kcp(engine, mtu=124)
    assert kcp.write(b"a" * 60) == 60
    assert kcp.write(b"b" * 60) == 60
    assert kcp.queued == 2
    kcp.flush(0)
    kcp.write(b"c")
    assert kcp.queued == 1  # the last segment had space, but it is under way
    (datagram,) = kcp.flush(1)
    assert datagram[24:] == b"c"


def test_stream_bytes_never_enter_a_message(engine: str) -> None:
    pair = KcpPair(engine)
    pair.left.send(b"open")
    pair.left.write(b"data")
    pair.left.send(b"")
    pair.left.write(b"after")
    pair.run()
    assert pair.right.recv() == b"open"
    assert pair.right.read(100) == b"data"
    assert pair.right.read(100) == b""
    assert pair.right.at_end
    assert pair.right.recv() == b""
    assert not pair.right.at_end
    assert pair.right.read(100) == b"after"


def test_write_takes_what_room_allows(engine: str) -> None:
    kcp = new_kcp(engine, mtu=124)
    assert kcp.room == 256
    assert kcp.write(bytes(30_000)) == 25_600
    assert kcp.room == 0
    assert kcp.write(b"more") == 0
    kcp.flush(0)  # 128 segments, the window that is assumed of the peer, leave
    assert kcp.room == 128


def test_reading_stops_within_a_segment(engine: str) -> None:
    pair = KcpPair(engine, mtu=124)
    data = random.Random(3).randbytes(1000)
    assert pair.left.write(data) == 1000
    pair.run()
    got = b"".join(pair.right.read(limit) for limit in (1, 99, 100, 150, 0, 10_000))
    assert got == data
    assert pair.right.unread == 0
    assert pair.right.payloads_held == 0


def test_recv_after_a_partial_read_gives_the_rest_of_the_segment(engine: str) -> None:
    pair = KcpPair(engine)
    pair.left.write(b"head and tail")
    pair.run()
    assert pair.right.read(5) == b"head "
    assert pair.right.recv() == b"and tail"


def test_read_leaves_fragmented_messages_to_recv(engine: str) -> None:
    pair = KcpPair(engine, mtu=124)
    pair.left.write(b"stream")
    pair.left.send(bytes(200))
    pair.run()
    assert pair.right.read(1000) == b"stream"
    assert pair.right.read(1000) == b""
    assert not pair.right.at_end
    assert pair.right.recv() == bytes(200)


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_anything_with_bytes_may_be_given(engine: str, make: Callable[[bytes], Any]) -> None:
    pair = KcpPair(engine)
    pair.left.send(make(b"message"))
    pair.left.write(make(b"stream"))
    (datagram,) = pair.left.flush(0)
    assert pair.right.input(make(datagram), 0) == 0
    assert (pair.right.recv(), pair.right.read(10)) == (b"message", b"stream")


def test_idle_when_all_has_arrived(engine: str) -> None:
    pair = KcpPair(engine)
    assert pair.left.idle
    assert pair.left.deadline is None
    pair.left.write(b"x")
    assert not pair.left.idle
    pair.run()
    assert pair.left.idle
    assert pair.left.deadline is None
    assert pair.left.payloads_held == 0


def test_a_smaller_mtu_holds_for_what_comes_and_old_segments_travel_alone(engine: str) -> None:
    pair = KcpPair(engine, mtu=1024)
    data = random.Random(9).randbytes(3000)
    pair.left.write(data[:1000])
    pair.left.kcp_mtu = 524
    pair.left.write(data[1000:])
    with pytest.raises(ValueError, match="1025"):
        pair.left.kcp_mtu = 1025
    pair.run()
    assert [len(datagram) for datagram in pair.to_right.sent] == [1024, 524, 524, 524, 524]
    assert pair.right.read(5000) == data


def test_move_to_hands_on_stream_bytes_up_to_the_room(engine: str) -> None:
    pair = KcpPair(engine, KcpParams(rcv_wnd=400, snd_wnd=400), mtu=124)
    onward = new_kcp(engine, mtu=224)
    data = random.Random(4).randbytes(30_000)
    sent = pair.left.write(data)
    pair.run(lambda: pair.right.unread == 256)
    sent += pair.left.write(data[sent:])
    pair.run()
    assert sent == 30_000
    onward.write(bytes(200 * 255))  # room for one more segment of 200 bytes
    assert pair.right.move_to(onward, False) == 200
    assert pair.right.move_to(onward, False) == 0
    assert pair.right.read(40_000) == data[200:]


def test_move_to_keeps_messages_whole(engine: str) -> None:
    pair = KcpPair(engine, mtu=1400)
    onward = KcpPair(engine, mtu=124)
    rng = random.Random(6)
    messages = [rng.randbytes(size) for size in (0, 1, 100, 1376, 5000, 101)]
    for message in messages[:3]:
        pair.left.send(message)
    pair.left.send(bytes(12_701))  # needs 128 fragments onward: discarded there
    for message in messages[3:]:
        pair.left.send(message)
    pair.run()
    assert pair.right.move_to(onward.left, True) == sum(map(len, messages))
    onward.run()
    assert [onward.right.recv() for _ in messages] == messages
    assert onward.right.recv() is None


def test_clear_forgets_everything(engine: str) -> None:
    pair = KcpPair(engine)
    for kcp in (pair.left, pair.right):
        kcp.write(bytes(50_000))
        kcp.send(b"")
    pair.run(lambda: pair.right.unread > 20)
    for kcp in (pair.left, pair.right):
        assert kcp.payloads_held > 0
        kcp.clear()
        kcp.clear()
        assert kcp.payloads_held == 0
        assert (kcp.queued, kcp.in_flight, kcp.unread, kcp.deadline) == (0, 0, 0, None)
        kcp.send(b"late")
        assert kcp.write(b"late") == 0
        assert kcp.input(pair.to_right.sent[0], pair.now) == 0
        assert kcp.recv() is None
        assert kcp.read(10) == b""
        assert kcp.flush(pair.now) == []
        assert not kcp.wants_flush
