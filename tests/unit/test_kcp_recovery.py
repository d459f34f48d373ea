"""Losses, reordering, stalls and lost acknowledgements: what is sent again, when, and what is not."""

from __future__ import annotations

import pytest

from kcpg.core.kcp.kcp import Kcp, KcpParams
from tests.unit.kcp_pair import ACK, PUSH, KcpPair, new_kcp, segment, segments

RTT = 100
QUICK = KcpParams(nodelay=1, interval_ms=10, resend=5, snd_wnd=256, rcv_wnd=256)


def measured(engine: str, params: KcpParams = QUICK) -> Kcp:
    """A conversation that knows its RTT of 100 ms well; the next sn is 20."""
    kcp = new_kcp(engine, params)
    for sn in range(20):
        kcp.send(b"x")
        kcp.flush(200 * sn)
        kcp.input(segment(ACK, sn=sn, ts=200 * sn, una=sn + 1), 200 * sn + RTT)
    assert kcp.srtt_ms == RTT
    return kcp


def send_at(kcp: Kcp, *times: int) -> None:
    """One segment at each of these times; their sn go on from 20."""
    for now in times:
        kcp.send(b"y")
        assert len(kcp.flush(now)) == 1


def resent(kcp: Kcp, now: int) -> list[int]:
    return [s.sn for s in segments(kcp.flush(now)) if s.cmd == PUSH]


def ack(kcp: Kcp, sn: int, ts: int, una: int, now: int) -> None:
    assert kcp.input(segment(ACK, sn=sn, ts=ts, una=una), now) == 0


# --- overtaken ----------------------------------------------------------------------------------------------


def test_one_later_acknowledgement_and_a_quarter_of_the_rtt_are_enough(engine: str) -> None:
    """No five skips come when only two segments are under way."""
    kcp = measured(engine)
    send_at(kcp, 10_000, 10_010)
    ack(kcp, 21, 10_010, 20, 10_110)
    assert not kcp.wants_flush
    assert kcp.deadline == 10_000 + RTT + RTT // 4
    assert resent(kcp, 10_124) == []
    assert resent(kcp, 10_125) == [20]
    assert (kcp.segments_resent_fast, kcp.segments_resent_rto) == (1, 0)


def test_a_lost_resend_is_found_by_what_was_sent_after_it(engine: str) -> None:
    kcp = measured(engine)
    send_at(kcp, *range(10_000, 10_020))
    for sn in range(21, 40):
        ack(kcp, sn, 10_000 + sn - 20, 20, 10_100 + sn - 20)
    assert resent(kcp, 10_119) == [20]
    send_at(kcp, *range(10_120, 10_140))
    for sn in range(40, 60):
        ack(kcp, sn, 10_080 + sn, 20, 10_180 + sn)
    assert resent(kcp, 10_239) == [20]  # sent at 10,119, overtaken by nineteen
    assert (kcp.segments_resent_fast, kcp.segments_resent_rto) == (2, 0)


def test_reordering_within_the_window_causes_no_resend(engine: str) -> None:
    pair = KcpPair(engine, KcpParams(nodelay=1, interval_ms=1, resend=50), jitter_ms=12, delay_ms=30)
    for _ in range(300):
        pair.left.send(b"x")
        pair.exchange()
        pair.right.recv()
        pair.now += 1
    pair.run()
    again = pair.left.segments_resent_fast + pair.left.segments_resent_rto + pair.left.segments_resent_tail
    assert again <= 3  # before the jitter is known


def test_wider_reordering_is_learnt(engine: str) -> None:
    """Originals that come after all make the window grow, so that the same again causes nothing."""
    kcp = measured(engine)
    again = []
    for start in range(10_000, 30_000, 1000):
        first = kcp.snd_nxt
        send_at(kcp, start, start + 10)
        before = kcp.segments_resent_fast
        ack(kcp, first + 1, start + 10, first, start + 110)
        resent(kcp, start + 125)
        ack(kcp, first, start, first + 2, start + 150)  # the original, 40 ms after the one it left before
        resent(kcp, start + 150)
        again.append(kcp.segments_resent_fast - before)
    assert again[0] == 1
    assert kcp.resends_spurious >= 1


def test_an_original_that_comes_after_its_resend_is_counted(engine: str) -> None:
    kcp = measured(engine)
    send_at(kcp, 10_000, 10_040)
    ack(kcp, 21, 10_040, 20, 10_140)
    assert resent(kcp, 10_140) == [20]
    ack(kcp, 20, 10_000, 22, 10_145)
    assert kcp.resends_spurious == 1
    assert kcp.srtt_ms > RTT  # the echo says it is the original's round trip
    assert kcp.idle


# --- time-outs ----------------------------------------------------------------------------------------------


def test_a_time_out_resends_two_segments_not_the_window(engine: str) -> None:
    kcp = measured(engine)
    for _ in range(200):
        kcp.send(b"y")
    kcp.flush(10_000)
    assert kcp.in_flight == 200
    assert kcp.deadline == 10_000 + kcp.rto_ms
    assert resent(kcp, kcp.deadline) == [20, 21]
    assert kcp.deadline > 10_000 + 2 * kcp.rto_ms  # backed off


def test_the_answer_to_a_time_out_tells_what_else_is_lost(engine: str) -> None:
    kcp = measured(engine)
    for _ in range(50):
        kcp.send(b"y")
    kcp.flush(10_000)
    now = kcp.deadline
    assert now is not None
    assert resent(kcp, now) == [20, 21]
    kcp.input(segment(ACK, sn=21, ts=now, una=22), now + RTT)
    assert resent(kcp, now + RTT) == list(range(22, 70))
    assert kcp.resends_spurious == 0


def test_a_stall_of_the_peer_costs_two_segments(engine: str) -> None:
    """The time-out was too early: the originals arrive, and nothing more is resent."""
    kcp = measured(engine)
    for _ in range(200):
        kcp.send(b"y")
    kcp.flush(10_000)
    now = kcp.deadline
    assert now is not None
    assert len(resent(kcp, now)) == 2
    kcp.input(segment(ACK, sn=219, ts=10_000, una=220), now + 3)
    assert kcp.idle
    assert kcp.resends_spurious >= 1
    assert kcp.segments_resent_rto == 2


def test_a_needless_time_out_gives_the_congestion_window_back(engine: str) -> None:
    kcp = measured(engine, KcpParams(nodelay=1, interval_ms=10, nc=False))
    before = kcp.cwnd
    assert before > 2
    for _ in range(before):
        kcp.send(b"y")
    kcp.flush(10_000)
    now = kcp.deadline
    assert now is not None
    kcp.flush(now)
    assert kcp.cwnd == 1
    kcp.input(segment(ACK, sn=21, ts=10_000, una=22), now + 3)
    assert kcp.cwnd >= before


def test_a_time_out_noticed_late_waits_for_what_may_lie_unread(engine: str) -> None:
    kcp = measured(engine)
    send_at(kcp, 10_000)
    due = kcp.deadline
    assert due is not None
    assert resent(kcp, due + 40) == []
    assert kcp.deadline == due + 80
    assert resent(kcp, due + 130) == [20]  # late again: now it counts


def test_while_acknowledgements_come_in_nothing_times_out(engine: str) -> None:
    """The RTT grows tenfold at once: one probe, not every segment."""
    pair = KcpPair(engine, KcpParams(nodelay=1, interval_ms=1, resend=5), delay_ms=10)
    for step in range(600):
        if step == 300:
            for line in (pair.to_right, pair.to_left):
                line.delay(100, pair.now)
        pair.left.send(b"x")
        pair.exchange()
        pair.right.recv()
        pair.now += 1
    pair.run()
    assert pair.left.segments_resent_fast == 0
    assert pair.left.segments_resent_rto + pair.left.segments_resent_tail <= 12


def test_a_lost_tail_is_probed_before_the_time_out(engine: str) -> None:
    kcp = new_kcp(engine, KcpParams(nodelay=0, interval_ms=10))
    kcp.send(b"x")
    kcp.flush(0)
    kcp.input(segment(ACK, sn=0, ts=0, una=1), RTT)
    assert kcp.rto_ms == 3 * RTT
    kcp.send(b"y")
    kcp.flush(1000)
    assert kcp.deadline == 1000 + 2 * RTT
    assert resent(kcp, 1000 + 2 * RTT) == [1]
    assert (kcp.segments_resent_tail, kcp.segments_resent_rto) == (1, 0)
    assert kcp.deadline is not None and kcp.deadline > 1200 + 3 * RTT  # once; then the time-out


@pytest.mark.parametrize("rtt", [1, 3, 7, 14, 50])
def test_short_round_trips_are_measured_to_the_millisecond(engine: str, rtt: int) -> None:
    kcp = new_kcp(engine, KcpParams(interval_ms=0, min_rto_ms=0))
    for sn in range(60):
        kcp.send(b"x")
        kcp.flush(200 * sn)
        late = 100 if sn == 0 else rtt
        kcp.input(segment(ACK, sn=sn, ts=200 * sn, una=sn + 1), 200 * sn + late)
    assert kcp.srtt_ms == rtt
    assert kcp.rto_ms >= rtt + 5


def test_a_thin_flows_resend_is_followed_by_a_copy(engine: str) -> None:
    kcp = measured(engine)
    send_at(kcp, 10_000, 10_010)
    ack(kcp, 21, 10_010, 20, 10_110)
    assert resent(kcp, 10_125) == [20]
    assert kcp.deadline == 10_130
    assert resent(kcp, 10_130) == [20]
    assert kcp.deadline > 10_230
    ack(kcp, 20, 10_125, 22, 10_225)
    assert kcp.idle


# --- acknowledgements told again ----------------------------------------------------------------------------


def acks_of(kcp: Kcp, now: int = 0) -> list[int]:
    return [s.sn for s in segments(kcp.flush(now)) if s.cmd == ACK]


def test_five_eighths_of_the_acknowledgements_beyond_a_gap_are_told_again(engine: str) -> None:
    kcp = new_kcp(engine)
    told: list[int] = []
    for sn in range(1, 801, 8):
        for each in range(sn, sn + 8):
            kcp.input(segment(PUSH, sn=each, ts=1), 0)
        told += acks_of(kcp)
    assert set(told) == set(range(1, 801))
    assert 1.6 < len(told) / 800 <= 1.625


def test_nothing_is_told_again_without_a_gap(engine: str) -> None:
    kcp = new_kcp(engine)
    kcp.input(segment(PUSH, sn=1, ts=1), 0)
    acks_of(kcp)
    kcp.input(segment(PUSH, sn=0, ts=1), 0)
    assert acks_of(kcp) == [0]
    kcp.input(segment(PUSH, sn=2, ts=1), 0)
    assert acks_of(kcp) == [2]


def test_telling_again_opens_no_datagram(engine: str) -> None:
    """A datagram of old acknowledgements alone would count as a skip at ikcp."""
    kcp = new_kcp(engine, mtu=4 * 24)
    for first in (1, 5, 9):
        for sn in range(first, first + 4):
            kcp.input(segment(PUSH, sn=sn, ts=1), 0)
        assert acks_of(kcp) == list(range(first, first + 4))


def test_a_needless_copy_makes_it_tell_more(engine: str) -> None:
    kcp = new_kcp(engine)
    for sn in range(1, 9):
        kcp.input(segment(PUSH, sn=sn, ts=1), 0)
    acks_of(kcp)
    kcp.input(segment(PUSH, sn=3, ts=9), 0)
    assert len(acks_of(kcp)) == 1 + 8


def test_of_two_copies_in_one_batch_the_first_is_echoed(engine: str) -> None:
    kcp = new_kcp(engine)
    kcp.input(segment(PUSH, sn=0, ts=5), 20)
    kcp.input(segment(PUSH, sn=0, ts=15), 20)
    assert [(s.sn, s.ts) for s in segments(kcp.flush(20))] == [(0, 5)]
