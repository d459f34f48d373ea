"""The acknowledgement of a lone short segment waits for data to travel with."""

from __future__ import annotations

import pytest

from kcpg.core.kcp.kcp import Kcp, KcpParams
from tests.unit.kcp_pair import ACK, PUSH, KcpSim, new_kcp, segment, segments

HOLD_MS = 3


def holding(engine: str, params: KcpParams | None = None) -> Kcp:
    """A conversation that holds acknowledgements back."""
    kcp = new_kcp(engine, params or KcpParams())
    kcp.ack_hold_ms = HOLD_MS
    return kcp


def push(sn: int, data: bytes = b"x") -> bytes:
    """A segment that arrives."""
    return segment(PUSH, sn=sn, ts=500 + sn, payload=data)


def told(kcp: Kcp, now_ms: int) -> list[tuple[int, int, int]]:
    """What a flush acknowledges."""
    return [(s.sn, s.ts, s.una) for s in segments(kcp.flush(now_ms)) if s.cmd == ACK]


def test_a_lone_segment_is_acknowledged_when_the_hold_is_over(engine: str) -> None:
    kcp = holding(engine)
    kcp.input(push(0), 1000)
    assert kcp.owes_ack and not kcp.wants_flush
    assert kcp.deadline == 1000 + HOLD_MS
    assert told(kcp, 1000 + HOLD_MS) == [(0, 500, 1)]
    assert not kcp.owes_ack and kcp.deadline is None


def test_an_answer_takes_it_along(engine: str) -> None:
    kcp = holding(engine)
    kcp.input(push(0), 1000)
    kcp.send(b"answer")
    (datagram,) = kcp.flush(1001)
    assert [s.cmd for s in segments([datagram])] == [ACK, PUSH]
    assert not kcp.owes_ack


@pytest.mark.parametrize(
    ("arrivals", "why"),
    [
        ([push(0), push(1)], "a second segment"),
        ([push(0) + push(1)], "two in one datagram"),
        ([push(0), push(0)], "a copy: the peer waits for it"),
        ([push(1)], "a gap"),
        ([push(0), push(2)], "a gap behind it"),
        ([push(1), push(0), push(2)], "more follows a closed gap"),
        ([push(0, b"")], "the end of a stream"),
        ([push(0), push(1, b"")], "data and the end of the stream"),
    ],
)
def test_everything_else_is_acknowledged_at_once(engine: str, arrivals: list[bytes], why: str) -> None:
    kcp = holding(engine)
    for datagram in arrivals:
        kcp.input(datagram, 1000)
    assert kcp.wants_flush, why


def test_a_full_segment_is_acknowledged_at_once(engine: str) -> None:
    kcp = holding(engine)
    kcp.input(push(0, bytes(kcp.kcp_mtu - 24)), 1000)
    assert kcp.wants_flush


def test_the_next_lone_segment_waits_again(engine: str) -> None:
    kcp = holding(engine)
    for sn in range(3):
        kcp.input(push(sn), 1000 + 100 * sn)
        assert not kcp.wants_flush and kcp.deadline == 1000 + 100 * sn + HOLD_MS
        assert told(kcp, 1000 + 100 * sn + HOLD_MS) == [(sn, 500 + sn, sn + 1)]


def test_a_cleared_conversation_owes_nothing(engine: str) -> None:
    kcp = holding(engine)
    kcp.input(push(0), 1000)
    kcp.clear()
    assert not kcp.owes_ack and kcp.deadline is None


def test_without_a_hold_nothing_waits(engine: str) -> None:
    kcp = new_kcp(engine, KcpParams())
    kcp.input(push(0), 1000)
    assert kcp.owes_ack and kcp.wants_flush and kcp.deadline is None


def test_the_time_out_allows_for_the_peers_hold(engine: str) -> None:
    def rto_ms(kcp: Kcp) -> int:
        for sn in range(100):
            kcp.send(b"x")
            kcp.flush(100 * sn)
            kcp.input(segment(ACK, sn=sn, ts=100 * sn, una=sn + 1), 100 * sn + 1)
        return kcp.rto_ms

    params = KcpParams(interval_ms=0, min_rto_ms=0)
    assert rto_ms(holding(engine, params)) == rto_ms(new_kcp(engine, params)) + HOLD_MS


@pytest.mark.parametrize("delay_ms", [0, 1, 20])
def test_a_conversation_of_requests_takes_one_datagram_each_way(engine: str, delay_ms: int) -> None:
    params = KcpParams(nodelay=1, interval_ms=0, resend=2, min_rto_ms=0)
    left, right = holding(engine, params), holding(engine, params)
    pair = KcpSim(left, right, delay_ms=delay_ms)
    for number in range(200):
        left.send(b"request")
        pair.run(lambda: right.recv() is not None)
        if number % 2:
            right.send(b"answer")
            pair.run(lambda: left.recv() is not None)
    pair.run()
    assert left.idle and right.idle
    assert left.segments_sent == 200 and right.segments_sent == 100
    for end in (left, right):
        assert end.segments_resent_rto + end.segments_resent_tail + end.segments_resent_fast == 0
    # two requests and one answer take three datagrams and perhaps an acknowledgement of the first request
    assert len(pair.to_right.sent) + len(pair.to_left.sent) <= 4 * 100 + 1
