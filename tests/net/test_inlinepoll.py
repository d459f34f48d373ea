"""Lone events are served without a round of the event loop, and nobody else waits for long because of it.

The other side is a thread: it answers as soon as it is asked, which nothing in the loop's own thread could.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from kcpg.net import READ, WRITE, sock
from kcpg.net.alarm import Alarm
from kcpg.net.busypoll import AdaptiveBusyPoll
from kcpg.net.clock import now_ms
from kcpg.net.inlinepoll import InlinePoll, inline_poll
from kcpg.net.task import Task
from tests.engines import require
from tests.net.sockets import turns, until

PINGS = 2000


class Echo:
    """A task that returns what comes, and a thread that sends `pings` bytes, each when the last came back."""

    def __init__(self, pings: int, on_ping: Callable[[Echo], bool] | None = None) -> None:
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.served = self.turns = 0
        self.pings = pings
        self._on_ping = on_ping
        self.task = Task(self._turn, self.near.fileno(), READ, self._first)
        self.task.wait_io()
        self.thread = threading.Thread(target=self._ask, daemon=True)
        self.thread.start()

    def _ask(self) -> None:
        with contextlib.suppress(OSError):  # the test was over before
            for _ in range(self.pings):
                self.far.send(b"x")
                if not self.far.recv(1):
                    break

    def _first(self) -> bool:
        try:
            self.near.send(self.near.recv(1))
        except BlockingIOError:
            return True
        self.served += 1
        return self._on_ping is None or self._on_ping(self)

    def _turn(self) -> None:
        self.turns += 1
        self.task.wait_io()

    def close(self) -> None:
        self.task.close()
        self.near.close()
        self.thread.join(5)
        self.far.close()


@pytest.fixture
def here() -> Iterator[InlinePoll]:
    """What serves the tasks of this loop inline, as if a node ran."""
    require("kcpg.net._sock")
    place = inline_poll(gevent.get_hub().loop)
    place.alarm = Alarm(lambda: None)
    yield place
    place.alarm.close()
    place.alarm = None


def rounds() -> int:
    return int(gevent.get_hub().loop.iteration)


def served(*echoes: Echo) -> None:
    until(lambda: all(echo.served == echo.pings for echo in echoes), "every request was answered")


def test_lone_requests_take_hardly_a_round_of_the_loop(here: InlinePoll) -> None:
    before = rounds()
    echo = Echo(PINGS)
    served(echo)
    echo.close()
    assert rounds() - before < PINGS / 4
    assert echo.turns == 0


def test_where_no_node_runs_the_loop_does_it(here: InlinePoll) -> None:
    alarm, here.alarm = here.alarm, None
    before = rounds()
    echo = Echo(200)
    served(echo)
    echo.close()
    here.alarm = alarm
    assert rounds() - before >= 200


@pytest.mark.parametrize(
    "unlike", [{"backend": "poll", "_callbacks": ()}, {"backend": "epoll"}], ids=["no epoll", "unknown"]
)
def test_a_loop_that_is_not_as_expected_does_it(unlike: dict[str, object]) -> None:
    """It is not even asked: it has nothing else than this."""
    place = InlinePoll(SimpleNamespace(fileno=lambda: 3, **unlike))
    place.alarm = Alarm(lambda: None)
    place.enter()
    place.alarm.close()


def test_others_have_their_turn_while_requests_come_without_end(here: InlinePoll) -> None:
    """A timer, a callback of another thread, a sleeping greenlet and a watcher that is no task."""
    echo = Echo(1_000_000)
    loop, seen = gevent.get_hub().loop, []
    near, far = socket.socketpair()
    watcher = loop.io(near.fileno(), READ)
    watcher.start(lambda: (seen.append("watcher"), watcher.stop()))
    timer = loop.timer(0.005)
    timer.start(lambda: seen.append("timer"))
    until(lambda: "timer" in seen, "the timer's time came")
    far.send(b"x")
    until(lambda: "watcher" in seen, "the watcher was called")
    loop_thread = threading.Thread(target=lambda: loop.run_callback_threadsafe(seen.append, "thread"))
    loop_thread.start()
    until(lambda: "thread" in seen, "the callback of a thread was called")
    gevent.spawn_later(0.001, seen.append, "greenlet")
    until(lambda: "greenlet" in seen, "the greenlet ran")
    assert echo.thread.is_alive(), "requests came all the time"
    for thing in (watcher, timer):
        thing.close()
    echo.close()
    near.close()
    far.close()


def test_what_a_request_asks_of_the_loop_is_done_before_the_next_one(here: InlinePoll) -> None:
    order: list[str] = []

    def ask(echo: Echo) -> bool:
        order.append("request")
        if echo.served % 10 == 0:
            gevent.get_hub().loop.run_callback(order.append, "callback")
        return True

    echo = Echo(100, ask)
    served(echo)
    until(lambda: order.count("callback") == 10, "all callbacks were called")
    echo.close()
    assert [order[at - 1 : at + 1] for at, what in enumerate(order) if what == "callback"] == [
        ["request", "callback"]
    ] * 10
    assert "".join(what[0] for what in order) == ("r" * 10 + "c") * 10


def test_a_turn_is_taken_when_the_first_attempt_was_not_enough(here: InlinePoll) -> None:
    echo = Echo(100, lambda echo: echo.served % 3 != 0)
    served(echo)
    until(lambda: echo.turns == 33, "every third had a turn")
    echo.close()


def test_several_who_ask_at_once_are_all_served(here: InlinePoll) -> None:
    echoes = [Echo(PINGS) for _ in range(3)]
    served(*echoes)
    for echo in echoes:
        echo.close()


def test_a_task_that_a_request_starts_is_served(here: InlinePoll) -> None:
    """Its descriptor is not in the loop's epoll before the loop has looked."""
    made: list[Echo] = []

    def start(echo: Echo) -> bool:
        if echo.served == 50:
            made.append(Echo(50))
        return True

    echo = Echo(100, start)
    served(echo)
    served(*made)
    assert made
    for each in (echo, *made):
        each.close()


class Late(Echo):
    """Asked once; says whether that had to wait for the end of somebody's stay, when the alarm is due."""

    def __init__(self, here: InlinePoll) -> None:
        self._here = here
        self.waited = False
        super().__init__(1, self._look)

    def _look(self, _: Echo) -> bool:
        self.waited = now_ms() >= self._here.alarm.at_ms
        return True


def test_what_the_first_of_them_asked_of_the_loop_is_done_before_a_stay(here: InlinePoll) -> None:
    made: list[Late] = []

    def start(_: Echo) -> bool:
        made.append(Late(here))
        return True

    echo = Echo(1, start)
    until(lambda: made and made[0].served, "the task that was started was served")
    for each in (echo, *made):
        each.close()
    assert not made[0].waited


@pytest.mark.parametrize("plain_first", [True, False])
def test_what_others_of_the_same_round_asked_is_done_first(here: InlinePoll, plain_first: bool) -> None:
    """A plain watcher's callback starts a task; a lone event is served in the same round."""
    made: list[Late] = []
    near, far = socket.socketpair()

    def start() -> None:
        near.recv(1)
        made.append(Late(here))

    watcher = gevent.get_hub().loop.io(near.fileno(), READ)
    pair = socket.socketpair()
    task = Task(lambda: None, pair[0].fileno(), READ, lambda: bool(pair[0].recv(1)))
    watcher.start(start)
    task.wait_io()
    turns()  # both are known to the loop
    for end in (far, pair[1])[:: 1 if plain_first else -1]:
        end.send(b"x")
    until(lambda: made and made[0].served, "the task that was started was served")
    watcher.stop()
    watcher.close()
    task.close()
    for each in (near, far, *pair):
        each.close()
    made[0].close()
    assert not made[0].waited


def test_a_task_that_was_closed_or_put_off_is_not_served(here: InlinePoll) -> None:
    asked = Echo(10_000)
    until(lambda: asked.served > 10, "it is being served")
    asked.task.wait()  # no longer for the descriptor
    count = asked.served
    other = Echo(200)
    served(other)
    assert asked.served == count
    asked.task.wait_io()
    until(lambda: asked.served > count, "it is served again")
    asked.close()
    count = asked.served
    again = Echo(200)
    served(again)
    assert asked.served == count
    other.close()
    again.close()


def test_a_writer_of_the_same_descriptor_does_not_take_the_readers_place(here: InlinePoll) -> None:
    echo = Echo(PINGS)
    writer = Task(lambda: None, echo.near.fileno(), WRITE)
    writer.wait_io()
    until(lambda: echo.served > 10, "both watch the descriptor")
    writer.close()
    before, done = rounds(), echo.served
    served(echo)
    assert rounds() - before < max((PINGS - done) / 4, 50)
    echo.close()


def test_a_signal_is_not_put_off(here: InlinePoll) -> None:
    got: list[Any] = []
    watch = gevent.get_hub().loop.signal(signal.SIGUSR1)
    watch.start(lambda: got.append("signal"))
    echo = Echo(1_000_000)
    until(lambda: echo.served > 10, "requests come")
    os.kill(os.getpid(), signal.SIGUSR1)
    until(lambda: got, "the signal was seen")
    assert echo.thread.is_alive()
    watch.stop()
    watch.close()
    echo.close()


def awake() -> AdaptiveBusyPoll:
    """One whose trial begins."""
    poll = AdaptiveBusyPoll()
    while not poll.spin_us:
        poll.observe(20)
    return poll


@pytest.fixture
def bell() -> Iterator[tuple[int, int]]:
    """An epoll and a timer in it."""
    require("kcpg.net._sock")
    with select.epoll() as epoll:
        timer = sock.timer()
        epoll.register(timer, select.EPOLLIN)
        yield epoll.fileno(), timer
        sock.close(timer)


def test_what_is_ready_is_found_awake_and_what_comes_late_asleep(bell: tuple[int, int]) -> None:
    epoll, timer = bell
    for after_ms in (-1, 20):
        sock.set_timer(timer, now_ms() + after_ms)
        assert awake().next_ready(epoll) == timer


def test_a_node_that_is_preempted_while_it_polls_sleeps_from_then_on(bell: tuple[int, int]) -> None:
    """Another program on the only processor gets it, and does not give it back for a slice of the scheduler.
    Without that it would take the whole of the trial to find out that it does not pay."""
    epoll, timer = bell
    poll = awake()
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(everywhere)})
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])  # on the same one
    try:
        for _ in range(200):
            sock.set_timer(timer, now_ms() + 2)
            poll.next_ready(epoll)
            if not poll.spin_us:
                return
        pytest.fail("it stays awake")
    finally:
        os.sched_setaffinity(0, everywhere)
        busy.kill()
        busy.wait()
