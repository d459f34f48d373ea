"""Who must be called when: a heap that forgets what is moved or over."""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

T = TypeVar("T")

STALE_ENTRIES = 64
"""So many entries more than things there are may be out of date before they are swept."""


class Timers(Generic[T]):
    """Each thing has at most one time. Coming due takes it away: who is called says when to come again."""

    def __init__(self) -> None:
        self._due: dict[T, int] = {}
        self._heap: list[tuple[int, int, T]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._due)

    def wake_by(self, item: T, due_ms: int | None) -> None:
        """Call it then, or earlier if it was to be called earlier already."""
        if due_ms is None or due_ms >= self._due.get(item, due_ms + 1):
            return
        self._due[item] = due_ms
        self._count += 1
        heapq.heappush(self._heap, (due_ms, self._count, item))
        if len(self._heap) > 2 * len(self._due) + STALE_ENTRIES:
            self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)

    def forget(self, item: T) -> None:
        """It is over."""
        self._due.pop(item, None)

    def first(self) -> int | None:
        """The earliest time."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take_due(self, now_ms: int) -> list[T]:
        """Everything whose time has come."""
        due: list[T] = []
        while (first_ms := self.first()) is not None and first_ms <= now_ms:
            item = heapq.heappop(self._heap)[2]
            del self._due[item]
            due.append(item)
        return due
