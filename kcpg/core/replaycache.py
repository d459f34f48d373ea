"""A bounded memory of what came lately, for formats that have no packet numbers to tell a repetition by."""

from __future__ import annotations


class ReplayCache:
    """Remembers the newest marks for at least `age_ms`, but of more than `limit` only the newer half."""

    def __init__(self, limit: int, age_ms: int) -> None:
        self._limit = limit
        self._age_ms = age_ms
        self._since_ms: int | None = None
        self._new: set[bytes] = set()
        self._old: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def __contains__(self, mark: bytes) -> bool:
        return mark in self._new or mark in self._old

    def add(self, mark: bytes, now_ms: int) -> None:
        """Remember it."""
        if self._since_ms is None:
            self._since_ms = now_ms
        if len(self._new) >= self._limit // 2 or now_ms - self._since_ms >= self._age_ms:
            self._old, self._new = self._new, set()
            self._since_ms = now_ms
        self._new.add(mark)
