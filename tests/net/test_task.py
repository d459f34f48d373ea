"""Turns of sockets: in greenlets that are used again, and one that waits holds up nobody."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import gevent
import pytest
from gevent.event import Event

from kcpg.net import READ
from kcpg.net import task as pool
from kcpg.net.task import Task
from tests.net.sockets import until


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        yield near, far


def test_turns_share_a_greenlet(pair: tuple[socket.socket, socket.socket]) -> None:
    ran: list[object] = []
    tasks = [Task(lambda: ran.append(gevent.getcurrent()), pair[0].fileno(), READ) for _ in range(5)]
    for task in tasks:
        task.wake()
        task.wake()
    until(lambda: len(ran) == 5, "every turn ran, once")
    assert len(set(ran)) == 1 and ran[0] is not gevent.get_hub()
    for task in tasks:
        task.close()


def test_a_turn_that_waits_holds_up_itself_alone(pair: tuple[socket.socket, socket.socket]) -> None:
    go, slow, quick = Event(), [], []

    def wait() -> None:
        slow.append("begin")
        first.wait_io()
        if len(slow) == 1:
            go.wait()
        pair[0].recv(1)
        slow.append("end")

    first, second = Task(wait, pair[0].fileno(), READ), Task(lambda: quick.append(1), pair[0].fileno(), READ)
    first.wake()
    until(lambda: slow == ["begin"], "the turn waits")
    pair[1].send(b"xy")  # what comes meanwhile is for the next turn
    second.wake()
    until(lambda: bool(quick), "another one ran")
    gevent.sleep(0)
    assert slow == ["begin"]
    go.set()
    until(lambda: slow == ["begin", "end"] * 2, "both turns ran, one after the other")
    first.close()
    second.close()
    assert len(pool._pool) <= pool.POOL


def test_nothing_runs_after_the_end(pair: tuple[socket.socket, socket.socket]) -> None:
    ran: list[int] = []
    task = Task(lambda: ran.append(1), pair[0].fileno(), READ)
    task.wake()
    task.close()
    other = Task(lambda: ran.append(2), pair[0].fileno(), READ)
    other.wake()
    until(lambda: ran == [2], "the other one ran")
    other.close()


def test_what_is_ready_is_tried_first_and_who_was_woken_gets_a_turn(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """A task that waited to be woken does not wait for its descriptor: only a turn sees to that."""
    tried: list[object] = []
    turns: list[object] = []

    def first() -> bool:
        tried.append(gevent.getcurrent())
        return pair[0].recv(1) == b"a"

    task = Task(lambda: turns.append(gevent.getcurrent()), pair[0].fileno(), READ, first)
    task.wake()
    until(lambda: len(turns) == 1, "the turn ran")
    assert not tried
    task.wait_io()
    for count in (1, 2):
        pair[1].send(b"a")
        until(lambda: len(tried) == count, "it was tried")  # noqa: B023
    assert tried == [gevent.get_hub()] * 2 and len(turns) == 1
    pair[1].send(b"b")
    until(lambda: len(turns) == 2, "the turn has the rest")
    assert len(tried) == 3 and turns[1] is not gevent.get_hub()
    task.close()
