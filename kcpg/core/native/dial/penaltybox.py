"""What went badly lately: levels that are raised by failures and fade with time."""

from __future__ import annotations

import math
from collections.abc import Hashable

# Three half-lives above a single failure: what fails again is left alone longer, never for good.
MOST_LEVEL = 8.0

FORGOTTEN_LEVEL = 0.25  # Below this a failure is forgotten: two half-lives after a single one

MOST_ENTRIES = 1024  # Of ports and addresses; beyond, the oldest are forgotten


class PenaltyBox:
    """Bad marks by key; they halve every `half_life_ms`."""

    def __init__(self, half_life_ms: int) -> None:
        self._half_life_ms = half_life_ms
        self._marks: dict[Hashable, tuple[float, int]] = {}

    def level(self, key: Hashable, now_ms: int) -> float:
        """0.0: nothing bad is remembered; 1.0: just failed once."""
        mark = self._marks.get(key)
        if mark is None:
            return 0.0
        left = mark[0] * math.exp2((mark[1] - now_ms) / self._half_life_ms)
        if left >= FORGOTTEN_LEVEL:
            return left
        del self._marks[key]
        return 0.0

    def blame(self, key: Hashable, now_ms: int) -> None:
        """It failed."""
        level = min(self.level(key, now_ms) + 1.0, MOST_LEVEL)
        self._marks.pop(key, None)
        self._marks[key] = (level, now_ms)
        if len(self._marks) > MOST_ENTRIES:
            del self._marks[next(iter(self._marks))]

    def clear(self, key: Hashable) -> None:
        """It works."""
        self._marks.pop(key, None)
