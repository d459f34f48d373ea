"""KCP where numbers wrap, on bad lines, and against senseless datagrams."""

from __future__ import annotations

import random

import pytest

from kcpg.core.kcp.kcp import KcpParams
from tests.unit.kcp_pair import (
    ACK,
    FAST,
    PUSH,
    TELL,
    KcpPair,
    messages_of,
    new_kcp,
    segment,
    segments,
)


@pytest.mark.parametrize("sn", [0, 2**31 - 50, 2**32 - 50, 2**32 - 1])
@pytest.mark.parametrize("start_ms", [0, 2**31 - 300, 2**32 - 300, 7 * 2**32 - 300])
def test_numbers_and_clock_may_wrap(engine: str, sn: int, start_ms: int) -> None:
    pair = KcpPair(
        engine, mtu=324, sn=sn, start_ms=start_ms, seed=sn ^ start_ms, loss=0.1, duplicate=0.05, jitter_ms=10
    )
    messages = messages_of(start_ms, 100, 700)
    waiting = {True: messages[::-1], False: messages[::-1]}
    got: dict[bool, list[bytes]] = {True: [], False: []}

    def each() -> None:
        for end in (True, False):
            kcp = pair.left if end else pair.right
            while waiting[end] and kcp.room > 240:
                kcp.send(waiting[end].pop())
            while (message := kcp.recv()) is not None:
                got[end].append(message)

    took = pair.run(
        lambda: len(got[True]) == len(got[False]) == 100 and pair.left.idle and pair.right.idle, each=each
    )
    assert got == {True: messages, False: messages}
    assert took < 5000
    assert 0 < pair.left.srtt_ms < 100
    assert pair.left.payloads_held == pair.right.payloads_held == 0


@pytest.mark.parametrize("loss", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("nc", [True, False])
def test_a_stream_survives_a_bad_line(engine: str, loss: float, nc: bool) -> None:
    params = KcpParams(nodelay=1, interval_ms=10, rcv_wnd=128, nc=nc)
    pair = KcpPair(engine, params, mtu=524, seed=3, loss=loss, duplicate=0.05, jitter_ms=15)
    data = random.Random(8).randbytes(150_000)
    state = {"sent": 0}
    got = bytearray()

    def each() -> None:
        state["sent"] += pair.left.write(data[state["sent"] : state["sent"] + 3000])
        if state["sent"] == len(data):
            pair.left.send(b"")
            state["sent"] += 1
        got.extend(pair.right.read(2000))

    pair.run(lambda: pair.right.at_end, each=each)
    while pair.right.readable and not pair.right.at_end:  # nothing was left to happen while it read
        each()
    assert bytes(got) == data
    assert pair.right.recv() == b""
    assert pair.left.segments_sent == pair.right.segments_received
    assert pair.left.bytes_sent == pair.right.bytes_received == len(data)


def test_losses_are_not_answered_by_a_storm(engine: str) -> None:
    """ikcp resends a lost segment for every two datagrams of acknowledgements, up to five times."""
    pair = KcpPair(engine, KcpParams(nodelay=1, interval_ms=30), mtu=524, seed=4, delay_ms=50)
    rng = random.Random(4)
    dropped = 0
    count = 3000

    def lose(datagram: bytes) -> bool:
        nonlocal dropped
        if rng.random() < 0.05:
            dropped += sum(s.cmd == PUSH for s in segments([datagram]))
            return True
        return False

    pair.to_right.lose = lose

    def each() -> None:
        nonlocal count
        while count and pair.left.room > 200:
            pair.left.send(bytes(500))
            count -= 1
        while pair.right.recv() is not None:
            pass

    pair.run(lambda: not count and pair.left.idle, each=each)
    resent = pair.left.segments_resent_fast + pair.left.segments_resent_rto
    assert 100 < dropped <= resent < 1.3 * dropped


@pytest.mark.parametrize(
    ("datagram", "answer"),
    [
        (b"", -1),
        (segment(PUSH)[:23], -1),
        (segment(PUSH, payload=b"12345")[:-1], -1),
        (segment(PUSH, payload=bytes(101)), -1),
        (segment(ACK)[:20] + b"\xff\xff\xff\xff", -1),
        (b"\x00" + segment(PUSH)[1:], -2),
        (segment(80), -3),
        (segment(85), -3),
    ],
)
def test_senseless_segments_are_named_and_change_nothing(engine: str, datagram: bytes, answer: int) -> None:
    kcp = new_kcp(engine, mtu=124)
    assert kcp.input(datagram, 0) == answer
    assert not kcp.wants_flush
    assert kcp.unread == kcp.payloads_held == 0


def test_what_comes_before_the_senseless_part_counts(engine: str) -> None:
    kcp = new_kcp(engine)
    kcp.send(b"x")
    kcp.flush(0)
    datagram = segment(PUSH, una=1, payload=b"good") + segment(PUSH, sn=1, payload=b"cut")[:-1]
    assert kcp.input(datagram, 10) == -1
    assert kcp.recv() == b"good"
    assert kcp.idle


def test_acknowledgements_of_what_was_never_sent_are_ignored(engine: str) -> None:
    kcp = new_kcp(engine)
    for una, sn in ((2, 0), (2**31, 5), (2**32 - 1, 2**32 - 1), (0, 1)):
        kcp.send(b"x")
        kcp.flush(0)
        kcp.input(segment(ACK, una=una, sn=kcp.snd_nxt + sn & 0xFFFFFFFF), 0)
        kcp.input(segment(TELL, una=kcp.snd_nxt + 1), 0)
    assert (kcp.snd_una, kcp.in_flight) == (0, 4)


def test_a_push_from_the_past_is_a_duplicate_and_one_from_afar_is_refused(engine: str) -> None:
    kcp = new_kcp(engine)
    kcp.input(segment(PUSH, sn=2**31 + 5, payload=b"x"), 0)
    kcp.input(segment(PUSH, sn=2**31 - 5, payload=b"x"), 0)
    assert (kcp.duplicates_received, kcp.segments_refused, kcp.payloads_held) == (1, 1, 0)


def test_rings_grow_and_shrink_with_gaps_and_wraps(engine: str) -> None:
    """Many times through rings of changing size, with gaps: content and order stay right."""
    pair = KcpPair(engine, FAST, mtu=74, sn=2**32 - 1000, seed=11, loss=0.1, jitter_ms=5)
    rng = random.Random(12)
    sent, got = bytearray(), bytearray()

    def each() -> None:
        got.extend(pair.right.read(rng.randint(0, 700)))

    for _ in range(12):
        burst = rng.randbytes(rng.choice([10, 400, 4000, 12_000]))
        assert pair.left.write(burst) == len(burst)
        sent += burst
        pair.run(lambda: pair.left.idle, each=each)
        got += pair.right.read(100_000)
        assert got == sent
        assert pair.left.payloads_held == pair.right.payloads_held == 0


def test_windows_larger_than_the_field_count_as_65535(engine: str) -> None:
    kcp = new_kcp(engine, KcpParams(snd_wnd=10**6, rcv_wnd=10**6))
    kcp.send(b"x")
    assert segments(kcp.flush(0))[0].wnd == 65_535
    assert kcp.snd_wnd == 65_535
