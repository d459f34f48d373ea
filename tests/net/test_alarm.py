"""The time of a node: it rings once, when it was set to."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import gevent
import pytest

from kcpg.net import READ
from kcpg.net.alarm import Alarm
from kcpg.net.clock import NEVER_MS, now_ms
from tests.net.sockets import fds, pass_time, turns, until


class Bell:
    """An alarm and when it rang."""

    def __init__(self) -> None:
        self.rang: list[int] = []
        self.alarm = Alarm(self.ring)

    def ring(self) -> None:
        self.rang.append(now_ms())


@pytest.fixture
def bell() -> Iterator[Bell]:
    made = Bell()
    yield made
    made.alarm.close()


def test_it_rings_once_and_not_before_its_time(bell: Bell) -> None:
    due_ms = now_ms() + 20
    bell.alarm.set(due_ms)
    assert bell.alarm.at_ms == due_ms
    until(lambda: bell.rang, "it rang")
    assert bell.rang[0] >= due_ms
    assert bell.alarm.at_ms == NEVER_MS
    pass_time(due_ms + 30)
    assert len(bell.rang) == 1


def test_the_time_that_was_set_last_is_the_one(bell: Bell) -> None:
    bell.alarm.set(now_ms() + 10)
    late_ms = now_ms() + 40
    bell.alarm.set(late_ms)
    until(lambda: bell.rang, "it rang")
    assert bell.rang[0] >= late_ms
    bell.alarm.set(now_ms() + 60_000)
    soon_ms = now_ms() + 10
    bell.alarm.set(soon_ms)
    until(lambda: len(bell.rang) == 2, "it rang for the sooner time")
    assert bell.rang[1] >= soon_ms


def test_it_may_be_set_again_when_it_rings() -> None:
    rang: list[int] = []
    due = [now_ms() + 5, now_ms() + 10, now_ms() + 15]

    def ring() -> None:
        rang.append(now_ms())
        if len(rang) < len(due):
            alarm.set(due[len(rang)])

    alarm = Alarm(ring)
    alarm.set(due[0])
    until(lambda: len(rang) == 3, "it rang for each")
    alarm.close()
    assert all(at >= wanted for at, wanted in zip(rang, due, strict=True))


@pytest.mark.parametrize("at_ms", [-5, 0, 1])
def test_a_time_that_is_over_comes_after_a_look_at_the_sockets(at_ms: int) -> None:
    """What is due at once, again and again, must not keep the loop from receiving."""
    order: list[str] = []
    here, there = socket.socketpair()
    watcher = gevent.get_hub().loop.io(there.fileno(), READ)

    def received() -> None:
        order.append("socket")
        there.recv(10)

    def ring() -> None:
        order.append("alarm")
        if len(order) < 50:
            alarm.set(at_ms)
        if len(order) == 5:
            here.send(b"x")

    alarm = Alarm(ring)
    watcher.start(received)
    alarm.set(at_ms)
    until(lambda: len(order) >= 50, "it rang every time")
    watcher.stop()
    watcher.close()
    alarm.close()
    here.close()
    there.close()
    assert "socket" in order[:8]


def test_an_error_of_whoever_is_called_does_not_make_it_ring_on(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def ring() -> None:
        calls.append(now_ms())
        raise ValueError("an error of the program")

    hub = gevent.get_hub()
    told: list[object] = []
    monkeypatch.setattr(hub, "handle_error", lambda *what: told.append(what[1]))
    alarm = Alarm(ring)
    alarm.set(now_ms())
    until(lambda: calls, "it rang")
    turns(5)  # a descriptor that still says that it is time would ring in each
    alarm.close()
    assert len(calls) == 1
    assert told == [ValueError]


def test_nothing_is_left_of_it() -> None:
    before = fds()
    bell = Bell()
    due_ms = now_ms() + 5
    bell.alarm.set(due_ms)
    bell.alarm.close()
    bell.alarm.close()
    pass_time(due_ms + 1)
    assert fds() == before
    assert not bell.rang
