"""Unordered conversations: a message is delivered as soon as all of it is there."""

from __future__ import annotations

import random

import pytest

from kcpg.core.kcp.kcp import Kcp, KcpParams
from tests.unit.kcp_pair import ACK, PUSH, KcpPair, messages_of, new_kcp, segment, segments

FIRST = 0x80


def receiver(engine: str, rcv_wnd: int = 1024) -> Kcp:
    kcp = new_kcp(engine, KcpParams(rcv_wnd=rcv_wnd), mtu=124)
    kcp.unordered = True
    return kcp


def push(kcp: Kcp, sn: int, frg: int, payload: bytes) -> None:
    assert kcp.input(segment(PUSH, sn=sn, frg=frg, payload=payload), 0) == 0


def taken(kcp: Kcp) -> list[bytes]:
    messages = []
    while kcp.readable:
        message = kcp.recv()
        assert message is not None
        messages.append(message)
    assert kcp.recv() is None
    return messages


def test_the_sender_marks_the_first_fragment_while_told_to(engine: str) -> None:
    kcp = new_kcp(engine, mtu=124)
    kcp.send(bytes(250))
    kcp.mark_first = True
    kcp.send(bytes(250))
    kcp.send(b"")
    kcp.mark_first = False
    kcp.send(b"")
    assert [s.frg for s in segments(kcp.flush(0))] == [2, 1, 0, FIRST | 2, 1, 0, FIRST, 0]


def test_an_ordered_receiver_overlooks_the_mark(engine: str) -> None:
    pair = KcpPair(engine, mtu=124)
    pair.left.mark_first = True
    messages = messages_of(1, 10, 700)
    for message in messages:
        pair.left.send(message)
    pair.run()
    assert taken(pair.right) == messages


def test_a_gap_delays_nobody_else(engine: str) -> None:
    kcp = receiver(engine)
    push(kcp, 1, FIRST, b"one")
    push(kcp, 4, FIRST | 1, b"fo")
    assert taken(kcp) == [b"one"]
    push(kcp, 5, 0, b"ur")
    push(kcp, 3, FIRST, b"three")
    assert taken(kcp) == [b"four", b"three"]
    assert kcp.rcv_nxt == 0
    assert kcp.payloads_held == 0
    push(kcp, 0, FIRST, b"zero")
    assert kcp.rcv_nxt == 2
    push(kcp, 2, FIRST, b"two")
    assert kcp.rcv_nxt == 6
    assert taken(kcp) == [b"zero", b"two"]
    assert kcp.unread == 0


@pytest.mark.parametrize("seed", range(8))
def test_fragments_in_any_order(engine: str, seed: int) -> None:
    sender = new_kcp(engine, mtu=124)
    sender.mark_first = True
    messages = messages_of(seed, 12, 900)
    for message in messages:
        sender.send(message)
    kcp = receiver(engine)
    datagrams = sender.flush(0)
    random.Random(seed).shuffle(datagrams)
    got = []
    for datagram in datagrams:
        kcp.input(datagram, 0)
        got += taken(kcp)
    assert sorted(got) == sorted(messages)
    assert (kcp.unread, kcp.payloads_held, kcp.rcv_nxt) == (0, 0, sender.snd_nxt)


def test_empty_messages_are_messages(engine: str) -> None:
    kcp = receiver(engine)
    push(kcp, 1, FIRST, b"")
    assert kcp.at_end
    assert taken(kcp) == [b""]


def test_duplicates_are_delivered_once(engine: str) -> None:
    kcp = receiver(engine)
    for _ in range(2):
        push(kcp, 1, FIRST, b"one")
        assert taken(kcp) == ([b"one"] if kcp.duplicates_received == 0 else [])
    push(kcp, 0, FIRST, b"zero")
    push(kcp, 1, FIRST, b"one")
    assert taken(kcp) == [b"zero"]
    assert [(s.cmd, s.sn, s.una) for s in segments(kcp.flush(0))] == [(ACK, 1, 2)]


def test_switching_on_delivers_what_is_complete(engine: str) -> None:
    kcp = new_kcp(engine, mtu=124)
    push(kcp, 0, 0, b"open")
    push(kcp, 1, FIRST, b"one")
    push(kcp, 3, FIRST | 1, b"thr")
    push(kcp, 4, 0, b"ee")
    push(kcp, 6, FIRST | 1, b"cut")
    assert kcp.recv() == b"open"
    kcp.unordered = True
    assert kcp.unordered
    assert taken(kcp) == [b"one", b"three"]
    with pytest.raises(ValueError, match="stays unordered"):
        kcp.unordered = False


def test_unmarked_messages_are_delivered_in_order(engine: str) -> None:
    """A sender that marks late: nothing may hang, and nothing is cut at the wrong place."""
    kcp = receiver(engine)
    push(kcp, 2, 0, b"c")
    push(kcp, 1, 0, b"b")
    push(kcp, 4, 0, b"e")
    push(kcp, 3, 1, b"d")
    assert taken(kcp) == []
    push(kcp, 0, 0, b"a")
    assert taken(kcp) == [b"a", b"b", b"c", b"de"]


def test_a_broken_countdown_never_becomes_a_message(engine: str) -> None:
    kcp = receiver(engine)
    for sn, frg in enumerate([FIRST | 3, 2, 0, FIRST | 1, FIRST | 1, 0]):
        push(kcp, sn, frg, b"%d" % sn)
    assert taken(kcp) == [b"45"]
    assert kcp.unread == 4


def test_what_waits_for_its_rest_counts_against_the_window(engine: str) -> None:
    kcp = receiver(engine, rcv_wnd=10)
    for sn in (1, 2, 3):
        push(kcp, sn, FIRST | 5, b"x")
    push(kcp, 9, FIRST, b"last that fits")
    assert kcp.unread == 4
    assert segments(kcp.flush(0))[-1].wnd == 6
    push(kcp, 10, FIRST, b"too far")
    assert kcp.segments_refused == 1
    assert taken(kcp) == [b"last that fits"]


def test_a_late_first_message_does_not_open_the_window_too_far(engine: str) -> None:
    """una + window must stay within the ring, whose end depends on the oldest undelivered segment."""
    kcp = receiver(engine, rcv_wnd=8)
    for sn in (1, 2, 3, 4, 0):
        push(kcp, sn, FIRST, b"%d" % sn)
    for _ in range(3):
        kcp.recv()
    ack = segments(kcp.flush(0))[-1]
    assert (ack.una, ack.wnd) == (5, 3)
    assert taken(kcp) == [b"4", b"0"]


@pytest.mark.parametrize("seed", range(3))
def test_everything_arrives_exactly_once_over_a_bad_line(engine: str, seed: int) -> None:
    params = KcpParams(nodelay=1, interval_ms=10, rcv_wnd=64)
    pair = KcpPair(engine, params, mtu=224, seed=seed, loss=0.2, duplicate=0.1, jitter_ms=15)
    pair.right.unordered = True
    pair.left.mark_first = True
    messages = messages_of(seed, 200, 1500)
    waiting = messages[::-1]
    got: list[bytes] = []

    def each() -> None:
        while waiting and pair.left.room > 10:
            pair.left.send(waiting.pop())
        got.extend(taken(pair.right))

    pair.run(lambda: len(got) == 200 and pair.left.idle, each=each)
    assert sorted(got) == sorted(messages)
    assert got != messages
    assert (pair.left.payloads_held, pair.right.payloads_held) == (0, 0)
