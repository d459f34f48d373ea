"""Reads an input as a course of decisions, each of few bytes, so that a changed byte changes little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """Values from an input, in order; zeros when it is used up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def more(self) -> bool:
        """Whether there is anything left."""
        return self._at < len(self._data)

    def bytes(self, count: int) -> bytes:
        """The next bytes, fewer at the end."""
        self._at += count
        return self._data[self._at - count : self._at]

    def rest(self) -> bytes:
        """All that is left."""
        return self.bytes(len(self._data))

    def number(self, size: int = 1) -> int:
        """An unsigned number of so many bytes."""
        return int.from_bytes(self.bytes(size).ljust(size, b"\0"), "little")

    def below(self, limit: int) -> int:
        """A number from 0 to `limit` - 1, at most 255."""
        return self.number() % limit

    def pick(self, choices: Sequence[T]) -> T:
        """One of these."""
        return choices[self.below(len(choices))]

    def near(self, base: int) -> int:
        """A 32-bit number: around `base`, at the other side of the circle from it, or anywhere."""
        kind, offset = self.below(8), self.number()
        if kind == 7:
            return self.number(4)
        if kind == 6:
            return (base + (1 << 31) + offset - 128) % 2**32
        return (base + offset - (16 if kind < 4 else 0)) % 2**32

    def blob(self, most: int) -> bytes:
        """Bytes without weight in the input: one that repeats, or some of the input's own."""
        size = self.number(2) % (most + 1)
        return bytes((self.number(),)) * size if self.number() & 1 else self.bytes(min(size, 40))


def magnitude(number: int) -> int:
    """The order of a number: 0, 1, 2 for 2 and 3, 3 for 4 to 7, …"""
    return number.bit_length()
