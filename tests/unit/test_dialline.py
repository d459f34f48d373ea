"""Connections that take long wait, so that everything else goes on."""

from __future__ import annotations

from typing import Any

import pytest

from kcpg.net import dialline
from kcpg.net.dialline import BURST_US, PACE, DialLine


class Clock:
    """Time that passes when somebody works."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.us = 1_000_000
        monkeypatch.setattr(dialline, "now_us", lambda: self.us)


class Slow:
    """A connection; notes whose it was."""

    def __init__(self, clock: Clock, begun: list[Any], name: Any, takes_us: int) -> None:
        self.clock, self.begun, self.name, self.takes_us = clock, begun, name, takes_us

    def begin(self) -> None:
        self.clock.us += self.takes_us
        self.begun.append(self.name)


def test_half_of_the_time_is_for_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, line, begun = Clock(monkeypatch), DialLine(), list[Any]()
    for _ in range(1000):
        line.enter("greedy", Slow(clock, begun, "greedy", 2000))
    began_us = clock.us
    for _ in range(500):
        before_us = clock.us
        line.serve()
        assert clock.us - before_us <= BURST_US + 2000  # with the last that fitted
        clock.us = max(clock.us, 1000 * (line.deadline() or 0))
    assert 2000 * len(begun) <= (clock.us - began_us) // PACE + BURST_US
    assert len(begun) >= 400


def test_each_asker_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, line, begun = Clock(monkeypatch), DialLine(), list[Any]()
    for number in range(100):
        line.enter("greedy", Slow(clock, begun, ("greedy", number), 5000))
    line.enter("other", Slow(clock, begun, ("other", 0), 50))
    while len(begun) < 4:
        line.serve()
        clock.us = max(clock.us, 1000 * (line.deadline() or 0))
    assert begun[:3] == [("greedy", 0), ("other", 0), ("greedy", 1)]


def test_quick_ones_never_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as a node with nothing else to do can serve: a fifth of its time."""
    clock, line = Clock(monkeypatch), DialLine()
    for _ in range(10_000):
        assert line.may_begin(clock.us)
        line.took(clock.us, clock.us + 30)
        clock.us += 150
    assert line.deadline() is None
