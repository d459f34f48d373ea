"""After a silence: what waits for a backed-off retransmission goes out at once, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest

from kcpg.core.kcp.kcp import KcpParams
from tests.engines import twin

PARAMS = KcpParams(nodelay=1, interval_ms=10)
DAY_MS = 86_400_000


def lonely(engine: str, messages: int = 3) -> Any:
    """A conversation whose peer says nothing; its messages were sent at time 0."""
    kcp = twin(engine, "Kcp")(1, 1400, PARAMS)
    for _ in range(messages):
        kcp.send(b"x")
    assert kcp.flush(0)
    return kcp


def silence(kcp: Any, until_ms: int) -> int:
    """Serve its deadlines until then; gives the time of the last transmission."""
    last_ms = 0
    while kcp.deadline <= until_ms:
        now_ms = kcp.deadline
        if kcp.flush(now_ms):
            last_ms = now_ms
    return last_ms


@pytest.mark.parametrize("until_ms", [30_000, DAY_MS])
def test_what_was_backed_off_is_sent_at_once(engine: str, until_ms: int) -> None:
    kcp = lonely(engine)
    silence(kcp, until_ms)
    assert kcp.deadline > until_ms + 1_000
    resent = kcp.segments_resent_rto
    kcp.hurry(until_ms)
    assert kcp.deadline == until_ms
    assert kcp.flush(until_ms) and kcp.segments_resent_rto == resent + 3
    assert kcp.deadline == until_ms + kcp.rto_ms * 3 // 2  # the back-off begins anew


def test_what_was_just_sent_is_left_alone(engine: str) -> None:
    kcp = lonely(engine, messages=1)
    kcp.hurry(100)
    assert kcp.deadline == kcp.rto_ms and not kcp.flush(100)
    last_ms = silence(kcp, 30_000)
    assert kcp.deadline > last_ms + 1_000
    kcp.hurry(last_ms + 1)
    assert not kcp.flush(last_ms + 1)
    assert kcp.deadline == last_ms + kcp.rto_ms  # its back-off is undone all the same


def test_what_was_sent_long_ago_does_not_wait_for_the_rest(engine: str) -> None:
    """A time-out resends two segments: the third was sent when the silence began."""
    kcp = lonely(engine)
    last_ms = silence(kcp, 30_000)
    resent = kcp.segments_resent_rto
    kcp.hurry(last_ms + 1)
    assert kcp.flush(last_ms + 1) and kcp.segments_resent_rto == resent + 1


def test_a_closed_window_is_asked_about_at_once(engine: str) -> None:
    """The reader may have read while nothing reached us."""
    make = twin(engine, "Kcp")
    kcp, peer = make(1, 1400, PARAMS), make(1, 1400, KcpParams(nodelay=1, interval_ms=10, rcv_wnd=1))
    for _ in range(2):
        kcp.send(b"x")
    for datagram in kcp.flush(0):
        peer.input(datagram, 0)
    for datagram in peer.flush(0):
        kcp.input(datagram, 0)
    assert (kcp.in_flight, kcp.queued) == (0, 1), "the second one finds no place, and comes back"
    kcp.flush(0)
    silence(kcp, 600_000)
    later_ms = kcp.deadline - 1
    kcp.hurry(later_ms)
    assert kcp.deadline == later_ms and kcp.flush(later_ms)


def test_nothing_to_hurry(engine: str) -> None:
    kcp = twin(engine, "Kcp")(1, 1400, PARAMS)
    kcp.hurry(1_000)
    assert kcp.deadline is None and not kcp.flush(1_000)
    kcp.send(b"x")
    kcp.clear()
    kcp.hurry(2_000)
    assert not kcp.flush(2_000)
