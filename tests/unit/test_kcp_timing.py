"""KCP's clockwork: RTO, back-off, RTT samples, fast resends, acknowledgements, the pacer's tokens."""

from __future__ import annotations

import pytest

from kcpg.core.kcp.kcp import Kcp, KcpParams
from tests.unit.kcp_pair import ACK, PUSH, TELL, KcpPair, new_kcp, segment, segments


def sent_at(kcp: Kcp, count: int, first: int = 0) -> list[int]:
    """The next `count` times at which the deadline makes the engine send a push."""
    times: list[int] = []
    while len(times) < count:
        assert kcp.deadline is not None
        now = kcp.deadline
        if any(s.cmd == PUSH for s in segments(kcp.flush(now))):
            times.append(now - first)
    return times


@pytest.mark.parametrize(
    ("nodelay", "times"),
    # first wait RTO (+ 1/8 without nodelay); then: doubled, half of itself more, half of the RTO more
    [(0, [225, 625, 1425, 3025]), (1, [200, 500, 950, 1625]), (2, [200, 500, 900, 1400])],
)
def test_time_outs_back_off(engine: str, nodelay: int, times: list[int]) -> None:
    kcp = new_kcp(engine, KcpParams(nodelay=nodelay))
    kcp.send(b"x")
    kcp.flush(1000)
    assert sent_at(kcp, 4, 1000) == times
    assert (kcp.segments_sent, kcp.segments_resent_rto, kcp.segments_resent_fast) == (1, 4, 0)


def test_the_back_off_ends_at_a_minute(engine: str) -> None:
    kcp = new_kcp(engine, KcpParams(nodelay=0))
    kcp.send(b"x")
    kcp.flush(0)
    times = sent_at(kcp, 15)
    assert times[-1] - times[-2] == 60_000


def test_rtt_and_rto_are_smoothed(engine: str) -> None:
    kcp = new_kcp(engine, KcpParams(interval_ms=10))
    facts = []
    for sn, rtt in enumerate([100, 100, 180, 20]):
        kcp.send(b"x")
        kcp.flush(1000 * sn)
        kcp.input(segment(ACK, sn=sn, ts=1000 * sn, una=sn + 1), 1000 * sn + rtt)
        facts.append((kcp.srtt_ms, kcp.rttvar_ms, kcp.rto_ms))
    # srtt += (rtt - srtt) / 8; rttvar += (|rtt - srtt| - rttvar) / 4; rto = srtt + 4 rttvar
    assert facts == [(100, 50, 300), (100, 38, 250), (110, 48, 302), (99, 59, 333)]


def test_the_rto_has_a_floor(engine: str) -> None:
    for floor in (10, 100):
        kcp = new_kcp(engine, KcpParams(interval_ms=0, min_rto_ms=floor))
        for sn in range(30):
            kcp.send(b"x")
            kcp.flush(sn)
            kcp.input(segment(ACK, sn=sn, ts=sn, una=sn + 1), sn)
        assert (kcp.srtt_ms, kcp.rto_ms) == (1, floor)


def test_only_first_transmissions_measure_the_rtt(engine: str) -> None:
    kcp = new_kcp(engine, KcpParams(nodelay=1))
    kcp.send(b"x")
    kcp.flush(0)
    kcp.flush(200)
    kcp.input(segment(ACK, sn=0, ts=200, una=1), 230)
    assert kcp.idle
    assert kcp.srtt_ms == 0
    kcp.send(b"y")
    kcp.flush(1000)
    kcp.flush(1200)
    kcp.input(segment(ACK, sn=1, ts=1000, una=2), 1230)  # the echo says: the first one
    assert kcp.srtt_ms == 230


def test_an_rtt_that_grows_past_the_rto_is_learnt(engine: str) -> None:
    """Had resent segments never been sampled, every segment would be sent twice for ever."""
    pair = KcpPair(engine, KcpParams(nodelay=1, interval_ms=10), delay_ms=5)
    pair.left.write(b"x")
    pair.run()
    assert pair.left.rto_ms < 100
    for line in (pair.to_right, pair.to_left):
        line.delay(300, pair.now)
    for _ in range(30):
        pair.left.write(b"x")
        pair.run()
    resent = pair.left.segments_resent_rto
    pair.left.write(b"x")
    pair.run()
    assert pair.left.rto_ms > 600
    assert pair.left.segments_resent_rto == resent


@pytest.mark.parametrize("echo", [5000, 0xFFFF_FFFF])
def test_a_senseless_echo_is_no_sample(engine: str, echo: int) -> None:
    kcp = new_kcp(engine)
    kcp.send(b"x")
    kcp.flush(1000)
    kcp.input(segment(ACK, sn=0, ts=echo, una=0), 1100)
    assert kcp.idle
    assert kcp.srtt_ms == 0


def flight(engine: str, resend: int, count: int = 10) -> Kcp:
    """`count` segments sent 1 ms apart from 1000 on, after an RTT of 100 ms was measured."""
    kcp = new_kcp(engine, KcpParams(nodelay=1, interval_ms=1000, resend=resend))
    kcp.send(b"x")
    kcp.flush(0)
    kcp.input(segment(ACK, sn=0, ts=0, una=1), 100)
    for j in range(1, count + 1):
        kcp.send(b"%d" % j)
        kcp.flush(1000 + j)
    return kcp


def test_a_skipped_segment_is_resent_once_per_round_trip(engine: str) -> None:
    kcp = flight(engine, 2, count=20)
    kcp.input(segment(ACK, sn=2, ts=1002, una=1), 1102)
    assert not kcp.wants_flush
    kcp.input(segment(ACK, sn=3, ts=1003, una=1), 1103)
    assert kcp.wants_flush
    assert [(s.sn, s.ts) for s in segments(kcp.flush(1103))] == [(1, 1103)]
    for j in range(4, 21):
        kcp.input(segment(ACK, sn=j, ts=1000 + j, una=1), 1100 + j)
        assert kcp.flush(1100 + j) == []  # sent before the copy: they tell nothing about it
    for j in (21, 22):
        kcp.send(b"y")
        kcp.flush(1110 + j)
    kcp.input(segment(ACK, sn=21, ts=1131, una=1), 1231)
    kcp.input(segment(ACK, sn=22, ts=1132, una=1), 1232)
    assert [s.sn for s in segments(kcp.flush(1232))] == [1]
    assert (kcp.segments_resent_fast, kcp.segments_resent_rto) == (2, 0)


def test_one_datagram_is_one_skip(engine: str) -> None:
    kcp = flight(engine, 2)
    kcp.input(b"".join(segment(ACK, sn=sn, ts=1000 + sn, una=1) for sn in range(2, 8)), 1110)
    assert not kcp.wants_flush
    kcp.input(segment(ACK, sn=7, ts=1007, una=1), 1110)  # acknowledges nothing new
    assert not kcp.wants_flush
    kcp.input(segment(ACK, sn=8, ts=1008, una=1), 1110)
    assert kcp.wants_flush


def test_a_third_copy_waits_half_a_round_trip(engine: str) -> None:
    kcp = flight(engine, 1)
    kcp.input(segment(ACK, sn=2, ts=1002, una=1), 1102)
    assert [s.sn for s in segments(kcp.flush(1102))] == [1]
    kcp.send(b"y")
    kcp.flush(1103)
    kcp.input(segment(ACK, sn=11, ts=1103, una=1), 1104)  # 1 ms for a way of 100: reordering or a lie
    assert not [s for s in segments(kcp.flush(1104)) if s.sn == 1]
    assert not kcp.wants_flush


def test_resend_0_leaves_it_to_the_time_out(engine: str) -> None:
    kcp = flight(engine, 0)
    for j in range(2, 11):
        kcp.input(segment(ACK, sn=j, ts=1000 + j, una=1), 1100 + j)
        assert not kcp.wants_flush
    assert kcp.segments_resent_fast == 0


def test_in_order_pushes_are_acknowledged_by_the_newest(engine: str) -> None:
    kcp = new_kcp(engine)
    for sn in range(40):
        kcp.input(segment(PUSH, sn=sn, ts=500 + sn, payload=b"x"), 0)
    acks = segments(kcp.flush(0))
    assert [(s.cmd, s.sn, s.ts, s.una, s.wnd) for s in acks] == [(ACK, 39, 539, 40, 1024 - 40)]
    assert kcp.acks_sent == 1


def test_pushes_beyond_a_gap_are_acknowledged_each(engine: str) -> None:
    kcp = new_kcp(engine)
    for sn in (0, 3, 2, 5, 3):
        kcp.input(segment(PUSH, sn=sn, ts=500 + sn), 0)
    assert [(s.sn, s.una) for s in segments(kcp.flush(0))] == [(0, 1), (3, 1), (2, 1), (5, 1)]
    assert kcp.duplicates_received == 1
    kcp.input(segment(PUSH, sn=7, ts=507), 0)
    kcp.input(segment(PUSH, sn=1, ts=501), 0)
    # 5 again, as the datagram that told it first may have been lost
    assert [(s.sn, s.una) for s in segments(kcp.flush(0))] == [(1, 4), (7, 4), (5, 4)]


def test_a_duplicate_is_acknowledged_again(engine: str) -> None:
    kcp = new_kcp(engine)
    for _ in range(3):
        kcp.input(segment(PUSH, sn=0, ts=1), 0)
        assert [(s.sn, s.una) for s in segments(kcp.flush(0))] == [(0, 1)]
    assert kcp.duplicates_received == 2


def test_tokens_hold_back_pushes_and_nothing_else(engine: str) -> None:
    kcp = new_kcp(engine, mtu=124)
    kcp.write(bytes(1000))
    kcp.input(segment(PUSH, sn=0, payload=b"x"), 0)
    kcp.input(segment(83), 0)
    assert [s.cmd for s in segments(kcp.flush(0, 0))] == [ACK, TELL]
    assert kcp.wants_flush
    assert [s.sn for s in segments(kcp.flush(5, 3 * 124 - 1))] == [0, 1]
    assert (kcp.segments_sent, kcp.in_flight, kcp.queued) == (2, 2, 8)
    assert [s.sn for s in segments(kcp.flush(9))] == list(range(2, 10))


def test_a_resend_held_back_does_not_count_as_one(engine: str) -> None:
    kcp = new_kcp(engine, KcpParams(nodelay=1, nc=False))
    kcp.send(b"x")
    kcp.flush(0)
    for now in range(200, 260, 10):
        assert kcp.flush(now, 24) == []
        assert kcp.deadline == 200
    assert kcp.segments_resent_rto == 0
    assert len(kcp.flush(260, 25)) == 1
    assert kcp.segments_resent_rto == 1
    assert kcp.deadline == 260 + 300  # one back-off, not seven


def test_skips_held_back_are_not_forgotten(engine: str) -> None:
    kcp = flight(engine, 1)
    kcp.input(segment(ACK, sn=2, ts=1002, una=1), 1102)
    assert kcp.flush(1102, 0) == []
    assert kcp.wants_flush
    assert [s.sn for s in segments(kcp.flush(1103))] == [1]


def test_datagrams_are_filled(engine: str) -> None:
    kcp = new_kcp(engine, mtu=200)
    for _ in range(10):
        kcp.send(b"x" * 30)
    datagrams = kcp.flush(0)
    assert [len(datagram) for datagram in datagrams] == [162, 162, 162, 54]


def test_a_reordering_of_neighbours_causes_no_resend(engine: str) -> None:
    pair = KcpPair(engine, KcpParams(nodelay=1, interval_ms=50, resend=3), jitter_ms=3, delay_ms=30)
    for _ in range(400):
        pair.left.send(b"x")
        pair.exchange()
        pair.right.recv()
        pair.now += 2
    pair.run()
    assert pair.left.segments_resent_fast + pair.left.segments_resent_rto == 0
