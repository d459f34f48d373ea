"""Connections that wait to be begun, because those before them took long: one of each asker in turn.

To begin a connection takes the kernel some microseconds. Where one target has more than half of the source
ports there are (14,000 connections), it looks for a free one for milliseconds, and everybody else waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Protocol

from kcpg.net.clock import now_us

# Beginning connections may take half of the time of a node, and this much of it at once: ordinary ones take a
# quarter where nothing else is done, and the more flows pass the less.
BURST_US = 20_000
PACE = 2


class Beginning(Protocol):
    """A connection to begin."""

    def begin(self) -> None:
        """Do so now. It may be over already."""


class DialLine:
    """Those of one node."""

    def __init__(self) -> None:
        self._due_us = 0  # when all that was begun has had its time
        self._waiting: dict[Hashable, deque[Beginning]] = {}  # whose turn it is first

    def may_begin(self, now_us: int) -> bool:
        """Whether one may be begun at once: there is time, and nobody waits."""
        return self._due_us <= now_us and not self._waiting

    def took(self, began_us: int, ended_us: int) -> None:
        """To begin one took from then to then."""
        self._due_us = max(self._due_us, began_us - BURST_US) + PACE * (ended_us - began_us)

    def enter(self, asker: Hashable, one: Beginning) -> None:
        """Begin it when it is its turn."""
        self._waiting.setdefault(asker, deque()).append(one)

    def serve(self) -> None:
        """Begin what there is time for."""
        began_us = now_us() if self._waiting else 0
        while self._waiting and self._due_us <= began_us:
            asker = next(iter(self._waiting))
            waiting = self._waiting.pop(asker)
            one = waiting.popleft()
            if waiting:
                self._waiting[asker] = waiting
            one.begin()
            ended_us = now_us()
            self.took(began_us, ended_us)
            began_us = ended_us

    def deadline(self) -> int | None:
        """When (ms) there is something to `serve`; None: nobody waits."""
        return self._due_us // 1000 + 1 if self._waiting else None
