"""One direction of a network in memory: what `netem` lets through is under way until its time has come."""

from __future__ import annotations

import heapq
from typing import Generic, NamedTuple, TypeVar

from netem.impair import Direction
from netem.profile import Impair

MS = 10**6  # nanoseconds

Item = TypeVar("Item")


class Arrival(NamedTuple, Generic[Item]):
    """One copy at the far end; `flipped_bit` as netem gives it."""

    due_ns: int
    order: int  # of what arrives at one time: as it was sent
    flipped_bit: int | None
    item: Item


class Line(Generic[Item]):
    """Takes items of any kind, each with the length that it has on the wire, in virtual time."""

    def __init__(self, impair: Impair, seed: str, epoch_ns: int = 0) -> None:
        self.direction = Direction(impair, seed, epoch_ns)
        self._under_way: list[Arrival[Item]] = []
        self._order = 0

    def put(self, item: Item, length_bytes: int, now_ns: int, port: int = 0) -> int:
        """It leaves; how many copies of it will arrive. `port`: the one whose throttle it is under."""
        departures = self.direction.offer(now_ns, length_bytes, port)
        for due_ns, flipped_bit in departures:
            self._order += 1
            heapq.heappush(self._under_way, Arrival(due_ns, self._order, flipped_bit, item))
        return len(departures)

    def take(self, now_ns: int) -> list[Arrival[Item]]:
        """What has arrived, in order."""
        arrived = []
        while self._under_way and self._under_way[0].due_ns <= now_ns:
            arrived.append(heapq.heappop(self._under_way))
        return arrived

    @property
    def next_ns(self) -> int | None:
        """When the next one arrives; None: nothing is under way."""
        return self._under_way[0].due_ns if self._under_way else None
