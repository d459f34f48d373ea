"""Deadlines of many things: a heap that forgets what was moved or is over."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

STALE_ENTRIES = 64  # the heap may hold this many out-of-date entries, and one for each thing, before a sweep


class Timers(Generic[T]):
    """Each thing has at most one deadline. Coming due takes it away: its owner then sets the next one.

    Of equal deadlines the one that was set first comes due first.
    """

    def __init__(self) -> None:
        self._due: dict[T, tuple[int, int]] = {}  # the deadline, and its place among equals
        self._heap: list[tuple[int, int, T]] = []  # all of these, and some that were moved since
        self._count = 0

    def __len__(self) -> int:
        return len(self._due)

    def set(self, item: T, due_ms: int | None) -> None:
        """Give the thing this deadline in place of the one it has; None: none."""
        if due_ms is None:
            self._due.pop(item, None)
        elif item not in self._due or self._due[item][0] != due_ms:
            self._push(item, due_ms)

    def wake_by(self, item: T, due_ms: int | None) -> None:
        """Give the thing this deadline unless it has an earlier one; None changes nothing."""
        if due_ms is not None and (item not in self._due or due_ms < self._due[item][0]):
            self._push(item, due_ms)

    def forget(self, item: T) -> None:
        """The thing is over."""
        self._due.pop(item, None)

    def first(self) -> int | None:
        """The earliest deadline; None: there is none."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][:2]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take_due(self, now_ms: int) -> list[T]:
        """Everything whose deadline has come, earliest first."""
        due: list[T] = []
        while (first_ms := self.first()) is not None and first_ms <= now_ms:
            item = heapq.heappop(self._heap)[2]
            del self._due[item]
            due.append(item)
        return due

    def _push(self, item: T, due_ms: int) -> None:
        self._count += 1
        self._due[item] = (due_ms, self._count)
        heapq.heappush(self._heap, (due_ms, self._count, item))
        if len(self._heap) > 2 * len(self._due) + STALE_ENTRIES:
            self._heap = [(*due, item) for item, due in self._due.items()]
            heapq.heapify(self._heap)


class AskedTimers(Timers[T]):
    """Timers of things that know their own deadlines: each thing that was touched is asked for its again.

    `ask` gives the deadline of a thing, None if it has none; it may `forget` the thing.
    """

    def __init__(self, ask: Callable[[T], int | None]) -> None:
        super().__init__()
        self._ask = ask
        self._touched: dict[T, None] = {}  # an ordered set

    def touch(self, item: T) -> None:
        """The thing's deadline may have come nearer."""
        self._touched[item] = None

    def forget(self, item: T) -> None:
        super().forget(item)
        self._touched.pop(item, None)

    def first(self) -> int | None:
        if self._touched:
            self._ask_touched()
        return super().first()

    def _ask_touched(self) -> None:
        touched, self._touched = self._touched, {}
        for item in touched:
            self.wake_by(item, self._ask(item))
