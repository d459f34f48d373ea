"""Datagrams, built of segments as they are flushed."""

from __future__ import annotations

FLUSH_DATAGRAMS = 64  # built at a time; Kcp.flush() goes on while there is more


class Datagrams:
    """Packs segments into datagrams of at most `limit` bytes; a longer segment travels alone.

    `tokens`: bytes of pushes, headers included, that may still be sent; None: no limit.
    """

    def __init__(self, limit: int, tokens: int | None) -> None:
        self.limit = limit
        self.tokens = tokens
        self.done: list[bytes] = []
        self._open = bytearray()

    def need(self, size: int) -> bool:
        """Whether there is room for `size` more bytes, in the open datagram or a new one."""
        if self._open and len(self._open) + size > self.limit:
            self.close()
        return bool(self._open) or self.may_open(size)

    def may_open(self, size: int) -> bool:
        """Whether another datagram may be opened, for `size` bytes and more."""
        return len(self.done) < FLUSH_DATAGRAMS

    def add(self, header: bytes, payload: bytes | bytearray = b"") -> None:
        """One segment, after `need` has said yes."""
        self._open += header
        self._open += payload

    def extend(self, payload: bytes) -> None:
        """Give the segment that was added last, which has none, this payload; it fits."""
        self._open[-4:] = len(payload).to_bytes(4, "little")
        self._open += payload

    @property
    def space(self) -> int:
        """Bytes that the open datagram takes; 0: none is open."""
        return max(self.limit - len(self._open), 0) if self._open else 0

    def close(self) -> list[bytes]:
        """Finish the open datagram, if there is one; all that are finished."""
        if self._open:
            self.done.append(bytes(self._open))
            self._open = bytearray()
        return self.done
