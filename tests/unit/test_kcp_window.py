"""KCP's flow control: a slow reader stops the sender, and an opened window is never missed for long."""

from __future__ import annotations

from itertools import pairwise

import pytest

from kcpg.core.kcp.kcp import KcpParams
from tests.unit.kcp_pair import ASK, PUSH, TELL, KcpPair, new_kcp, segment, segments

SMALL = KcpParams(nodelay=1, interval_ms=10, snd_wnd=64, rcv_wnd=64)
RTT_MS = 40
MTU = 124  # 100 bytes of payload: a window is filled by few bytes


def stalled(engine: str, **line: int) -> KcpPair:
    """A pair whose right user never read: 64 segments wait there, and 192 at the left."""
    pair = KcpPair(engine, SMALL, mtu=MTU, **line)
    assert pair.left.write(bytes(25_600)) == 25_600
    pair.run(lambda: pair.left.in_flight == 0 and pair.left.rmt_wnd == 0)
    return pair


def test_a_reader_that_stops_stops_the_sender(engine: str) -> None:
    pair = stalled(engine)
    assert pair.right.unread == 64
    assert pair.right.payloads_held == 64
    assert pair.left.queued == 256 - 64
    pair.run(limit_ms=600_000)
    assert pair.right.unread == 64
    assert pair.right.segments_refused == 0
    asks = [s for s in segments(pair.to_right.sent) if s.cmd == ASK]
    assert 8 <= len(asks) <= 30  # each pause half as long again: from some 30 ms to 120 s


def test_the_sender_goes_on_as_soon_as_the_reader_reads(engine: str) -> None:
    pair = stalled(engine)
    pair.run(limit_ms=300_000)
    assert len(pair.right.read(3100)) == 3100
    assert not pair.right.wants_flush  # less than half is open: not worth a datagram
    assert len(pair.right.read(100)) == 100
    assert pair.right.wants_flush
    took = pair.run(lambda: pair.right.segments_received > 64, limit_ms=1000)
    assert took <= 40  # the tell there, the data back: one RTT


@pytest.mark.parametrize("lost", [1, 2])
def test_a_lost_window_tell_is_repeated(engine: str, lost: int) -> None:
    pair = stalled(engine)
    pair.run(limit_ms=600_000)  # the asks are minutes apart by now
    tells: list[bytes] = []

    def lose(datagram: bytes) -> bool:
        tells.append(datagram)
        return len(tells) <= lost

    pair.to_left.lose = lose
    pair.right.read(6400)
    took = pair.run(lambda: pair.right.segments_received > 64, limit_ms=200_000)
    assert took <= 40 + lost * 200  # the right end never measured an RTT: its RTO is 200 ms


@pytest.mark.parametrize("pause_ms", [1_000, 60_000, 900_000])
@pytest.mark.parametrize("away_ms", [100, 300, 1_500, 25_000])
def test_a_reader_that_goes_on_during_an_outage_is_heard_soon_after_it(
    engine: str, pause_ms: int, away_ms: int
) -> None:
    """Whatever the pause was: the sender's own asks are up to two minutes apart by then."""
    pair = stalled(engine)
    pair.run(limit_ms=pause_ms)
    until_ms = pair.now + away_ms
    for line in (pair.to_left, pair.to_right):
        line.lose = lambda datagram: pair.now < until_ms
    pair.right.read(6400)
    took = pair.run(lambda: pair.right.segments_received > 64, limit_ms=away_ms + 30_000)
    assert away_ms <= took <= away_ms + RTT_MS + 250


def test_windows_below_what_is_held_wait_for_it(engine: str) -> None:
    """The reader has 64 segments, the sender 64 in flight and more in its queue; all of it arrives."""
    pair = stalled(engine)
    for side in (pair.left, pair.right):
        side.set_windows(1, 1)
    assert pair.right.unread == 64
    got = 0
    for _ in range(600):
        got += len(pair.right.read(1000))
        pair.run(limit_ms=100)
        if got == 25_600:
            break
    assert got == 25_600


@pytest.mark.parametrize("room", [0, 1, 3])
@pytest.mark.parametrize("fragments", [1, 2, 5])
def test_messages_that_do_not_fit_the_next_hop_stay_or_go_whole(
    engine: str, room: int, fragments: int
) -> None:
    """Where there is too little room they wait, and nothing loops for them."""
    pair = KcpPair(engine, SMALL, mtu=MTU)
    message = bytes(range(100)) * fragments
    for _ in range(8):
        pair.left.send(message)
    pair.run(lambda: pair.right.unread == 8 * fragments, limit_ms=2_000)
    following = new_kcp(engine, SMALL, mtu=MTU)
    filler = 0
    while following.room > room:
        filler += following.write(bytes(100))
    moved = pair.right.move_to(following, True)
    assert moved == (room // fragments) * len(message)
    assert pair.right.unread == 8 * fragments - room // fragments * fragments


def test_when_all_window_tells_are_lost_the_probe_recovers(engine: str) -> None:
    pair = stalled(engine)
    pair.run(limit_ms=1000)
    sent = len(pair.to_right.sent)
    pair.right.read(6400)
    pair.to_left.lose = lambda datagram: len(pair.to_right.sent) == sent
    pair.run(lambda: pair.right.segments_received > 64, limit_ms=10_000)
    assert pair.right.segments_received > 64
    assert segments(pair.to_right.sent[sent:])[0].cmd == ASK


def test_data_stops_the_repetition_of_a_window_tell(engine: str) -> None:
    pair = stalled(engine)
    pair.right.read(6400)
    before = len(pair.to_left.sent)
    pair.run(lambda: pair.right.unread == 64)
    assert sum(s.cmd == TELL for s in segments(pair.to_left.sent[before:])) == 1


def test_anything_that_only_opens_the_window_wants_a_flush(engine: str) -> None:
    for opener in (TELL, PUSH):
        kcp = new_kcp(engine, SMALL, mtu=MTU)
        assert kcp.input(segment(TELL, wnd=0), 1000) == 0
        kcp.write(b"waiting")
        assert kcp.wants_flush  # to start the probe's clock
        assert kcp.flush(1000) == []
        assert not kcp.wants_flush
        assert kcp.deadline == 1200
        assert kcp.input(segment(opener, wnd=5, payload=b"x" if opener == PUSH else b""), 1010) == 0
        assert kcp.wants_flush
        assert segments(kcp.flush(1010))[-1].payload == b"waiting"


def test_the_probe_backs_off_by_half_up_to_two_minutes(engine: str) -> None:
    kcp = new_kcp(engine, SMALL)
    kcp.input(segment(TELL, wnd=0), 0)
    kcp.write(b"waiting")
    kcp.flush(0)
    times = [0]
    for _ in range(20):
        assert kcp.deadline is not None
        times.append(kcp.deadline)
        assert [s.cmd for s in segments(kcp.flush(kcp.deadline))] == [ASK]
    pauses = [b - a for a, b in pairwise(times)]
    assert pauses[:5] == [200, 300, 450, 675, 1012]
    assert pauses[-1] == 120_000


def test_a_window_ask_is_answered(engine: str) -> None:
    kcp = new_kcp(engine, SMALL)
    kcp.input(segment(ASK), 0)
    assert kcp.wants_flush
    (tell,) = segments(kcp.flush(0))
    assert (tell.cmd, tell.wnd) == (TELL, 64)
    assert kcp.deadline is None


def test_a_stale_window_is_ignored(engine: str) -> None:
    kcp = new_kcp(engine)
    for _ in range(3):
        kcp.send(b"x")
    kcp.flush(0)
    kcp.input(segment(TELL, una=2, wnd=50), 10)
    kcp.input(segment(TELL, una=1, wnd=0), 11)
    assert kcp.rmt_wnd == 50
    kcp.input(segment(TELL, una=4, wnd=7), 12)  # acknowledges what was never sent
    assert (kcp.rmt_wnd, kcp.snd_una) == (50, 2)
    kcp.input(segment(TELL, una=2, wnd=0), 13)
    assert kcp.rmt_wnd == 0


def test_a_push_beyond_the_window_is_refused_and_the_window_told(engine: str) -> None:
    kcp = new_kcp(engine, SMALL)
    kcp.input(segment(PUSH, sn=63, payload=b"last"), 0)
    kcp.input(segment(PUSH, sn=64, payload=b"too far"), 0)
    assert (kcp.segments_received, kcp.segments_refused, kcp.payloads_held) == (1, 1, 1)
    assert [(s.cmd, s.sn) for s in segments(kcp.flush(0))] == [(82, 63), (TELL, 0)]


def test_never_more_in_flight_than_either_window(engine: str) -> None:
    kcp = new_kcp(engine, KcpParams(snd_wnd=100), mtu=MTU)
    kcp.write(bytes(20_000))
    kcp.flush(0)
    assert kcp.in_flight == 100
    kcp.input(segment(TELL, una=100, wnd=30), 1)
    kcp.flush(1)
    assert kcp.in_flight == 30


def test_windows_change_while_running(engine: str) -> None:
    pair = stalled(engine)
    pair.right.set_windows(64, 256)
    took = pair.run(lambda: pair.right.unread == 256, limit_ms=1000)
    assert pair.right.unread == 256
    assert took <= 300
    pair.left.set_windows(0, 0)
    assert (pair.left.snd_wnd, pair.left.rcv_wnd) == (1, 1)
    pair.left.set_windows(70_000, 70_000)
    assert (pair.left.snd_wnd, pair.left.rcv_wnd) == (65_535, 65_535)


def test_the_congestion_window_is_ikcps(engine: str) -> None:
    """Slow start from 1 up to ssthresh 2, then slower growth; a time-out starts again, skips halve."""
    pair = KcpPair(engine, KcpParams(nodelay=1, interval_ms=10, nc=False), mtu=MTU)
    pair.left.write(bytes(25_600))
    pair.run(lambda: pair.left.in_flight > 0)
    assert (pair.left.in_flight, pair.left.cwnd) == (1, 1)
    pair.run(lambda: pair.left.snd_una == 1)
    assert pair.left.cwnd == 2
    grown = []
    pair.run(lambda: pair.left.cwnd == 8, each=lambda: grown.append(pair.left.cwnd))
    assert grown == sorted(grown)
    lost = pair.left.snd_nxt
    pair.to_right.lose = lambda datagram: segments([datagram])[0].sn == lost and pair.left.cwnd > 2
    pair.run(lambda: pair.left.segments_resent_fast == 1)
    assert pair.left.cwnd >= 2 + 2
    pair.to_right.lose = lambda datagram: True
    pair.run(lambda: pair.left.segments_resent_rto > 0)
    assert pair.left.cwnd == 1
