"""When a tunnel socket is left alone, so that what comes meanwhile is taken together."""

from __future__ import annotations

from kcpg.net.coalesce import Coalescing

COALESCE_MS = 6
START_MS = 6_000  # on the grid


def arrivals(every_us: int, ms: int, coalescing: Coalescing, coalesce_ms: int = COALESCE_MS) -> int:
    """Datagrams at even intervals for so long: how many wake-ups they cost."""
    wakes, waiting, last_ms = 0, 0, START_MS
    for at_us in range(START_MS * 1000, (START_MS + ms) * 1000, every_us):
        now_ms = at_us // 1000
        while 0 < coalescing.look_ms <= now_ms:
            wakes += 1
            coalescing.taken(coalescing.look_ms, waiting, coalesce_ms)
            waiting = 0
        waiting += 1
        if not coalescing.look_ms:
            wakes += 1
            coalescing.taken(now_ms, waiting, coalesce_ms)
            waiting = 0
        last_ms = now_ms
    assert last_ms - COALESCE_MS <= START_MS + ms
    return wakes


def test_many_datagrams_are_taken_together() -> None:
    """20 Mbit/s: 1,780 a second."""
    coalescing = Coalescing()
    assert arrivals(561, 1000, coalescing) <= 1000 // COALESCE_MS + 20
    assert coalescing.look_ms % COALESCE_MS == 0


def test_few_datagrams_are_taken_at_once() -> None:
    assert arrivals(5_000, 1000, Coalescing()) == 200


def test_nothing_is_left_in_the_socket_where_somebody_waits() -> None:
    coalescing = Coalescing()
    assert arrivals(561, 100, coalescing, 0) == 179
    arrivals(561, 100, coalescing)
    assert coalescing.look_ms
    coalescing.taken(START_MS + 101, 5, 0)
    assert coalescing.look_ms == 0


def test_a_look_that_finds_little_is_the_last() -> None:
    coalescing = Coalescing()
    arrivals(561, 100, coalescing)
    coalescing.taken(coalescing.look_ms, 1, COALESCE_MS)
    assert coalescing.look_ms == 0
