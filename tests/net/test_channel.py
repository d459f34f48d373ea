"""Messages and descriptors between a process and its workers; and what is handed over between these."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import gevent.socket
import pytest

from kcpg.app.workers import channel
from kcpg.app.workers.channel import Channel
from kcpg.net.handover import HandOver, Tally, make_pair, make_tally
from tests.net.processes import PATIENCE_S


class ChannelEnd:
    """One end of a channel, and what came there."""

    def __init__(self, sock: Any) -> None:
        self.messages: list[Any] = []
        self.ended = gevent.event.Event()
        self.channel = Channel(sock, self._took, self.ended.set)

    def _took(self, message: Any) -> None:
        if message == ("fail",):
            raise ValueError("an error in a handler")
        self.messages.append(message)

    def waits_for(self, count: int) -> list[Any]:
        with gevent.Timeout(PATIENCE_S):
            while len(self.messages) < count:
                gevent.sleep(0.001)
        return self.messages


@pytest.fixture
def ends() -> Iterator[tuple[ChannelEnd, ChannelEnd]]:
    one, other = (ChannelEnd(sock) for sock in gevent.socket.socketpair())
    yield one, other
    one.channel.close()
    other.channel.close()


def test_messages_both_ways_in_order(ends: tuple[ChannelEnd, ChannelEnd]) -> None:
    one, other = ends
    big = os.urandom(3_000_000)
    for number in range(50):
        one.channel.post("number", number)
        other.channel.post(number, {"a": [Path("/x")]})
    one.channel.post("big", big)
    assert other.waits_for(51) == [*(("number", n) for n in range(50)), ("big", big)]
    assert one.waits_for(50)[-1] == (49, {"a": [Path("/x")]})


def test_a_message_that_is_not_understood_ends_nothing(ends: tuple[ChannelEnd, ChannelEnd]) -> None:
    one, other = ends
    one.channel.post("fail")
    one.channel.post("next")
    assert other.waits_for(1) == [("next",)]


def test_the_end_is_told_once_everything_has_come(ends: tuple[ChannelEnd, ChannelEnd]) -> None:
    one, other = ends
    one.channel.post("last words")
    one.channel.flush(PATIENCE_S)
    one.channel.close()
    assert other.ended.wait(PATIENCE_S)
    assert other.messages == [("last words",)]
    other.channel.post("nobody hears this")


def test_a_reader_that_stalls_costs_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    sock, stalled = gevent.socket.socketpair()
    end = ChannelEnd(sock)
    for number in range(channel.MAX_WAITING + 500):
        end.channel.post(number, bytes(100))
    assert len(end.channel._waiting) == channel.MAX_WAITING
    end.channel.close()
    stalled.close()


def test_more_descriptors_than_one_message_takes() -> None:
    one, other = gevent.socket.socketpair()
    read, write = os.pipe()
    given = [read, write] * 225
    job = gevent.spawn(channel.send_fds, one, given)
    found = channel.receive_fds(other, len(given))
    job.get()
    assert len(found) == 450 and [os.fstat(fd) for fd in found[:2]] == [os.fstat(fd) for fd in (read, write)]
    for fd in (*found, read, write):
        os.close(fd)
    one.close()
    with pytest.raises(EOFError):
        channel.receive_fds(other, 1)
    other.close()


def test_a_full_way_to_another_worker_loses_datagrams_and_never_waits() -> None:
    read, write = make_pair()
    tally = Tally(make_tally())
    over = HandOver(0, read, {1: write}, tally)
    path = (3, b"address of the peer")
    assert not over.give(2, path, bytes(8), b"body"), "there is no such worker"
    while not over.lost:
        assert over.give(1, path, bytes(8), bytes(1400))
    over.present = frozenset()
    assert not over.give(1, path, bytes(8), b"body"), "it is away"
    for sock in (read, write):
        sock.close()
    tally.close()
