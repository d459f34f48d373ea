"""Segments that were not sent yet: messages and stream bytes cut to size, behind the window."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from kcpg.core.kcp.params import FRG_FIRST, MAX_FRAGMENTS, QUEUE_SEGMENTS


@dataclass(slots=True)
class Queued:
    """A segment that was not sent yet."""

    frg: int
    payload: bytes | bytearray
    stream: bool  # made by write(): more bytes may be added


class SendQueue:
    """Filled by the user, emptied by the sender. `mss`: most payload of a segment queued from now on."""

    def __init__(self, mss: int) -> None:
        self.mss = mss
        self.mark_first = False
        self._segments: deque[Queued] = deque()

    def __len__(self) -> int:
        return len(self._segments)

    @property
    def room(self) -> int:
        """Segments that may be queued now."""
        return max(QUEUE_SEGMENTS - len(self._segments), 0)

    @property
    def payloads_held(self) -> int:
        """Segments that are not empty."""
        return sum(1 for segment in self._segments if segment.payload)

    @property
    def first(self) -> Queued:
        """The segment to be sent next; there is one."""
        return self._segments[0]

    def pop_first(self) -> None:
        """It was sent."""
        self._segments.popleft()

    def put_back(self, frg: int, payload: bytes | bytearray) -> None:
        """A segment that was sent is the next to be sent again."""
        self._segments.appendleft(Queued(frg, payload, False))

    def fragments(self, size: int) -> int:
        """Segments that a message of so many bytes takes."""
        return max(-(-size // self.mss), 1)

    def send(self, message: memoryview) -> None:
        """Queue one message, whatever `room` says. Raises ValueError if it takes too many fragments."""
        count = self.fragments(len(message))
        if count > MAX_FRAGMENTS:
            raise ValueError(f"a message holds at most {MAX_FRAGMENTS * self.mss} bytes")
        for j in range(count):
            frg = count - 1 - j
            if j == 0 and self.mark_first:
                frg |= FRG_FIRST
            self._segments.append(Queued(frg, bytes(message[j * self.mss : (j + 1) * self.mss]), False))

    def write(self, data: memoryview) -> int:
        """Queue stream bytes while there is room; returns how many were taken."""
        taken = 0
        if self._segments and self._segments[-1].stream:
            tail = self._segments[-1].payload
            taken = min(max(self.mss - len(tail), 0), len(data))
            tail += data[:taken]
        while taken < len(data) and self.room:
            piece = bytearray(data[taken : taken + self.mss])
            self._segments.append(Queued(0, piece, True))
            taken += len(piece)
        return taken

    def clear(self) -> None:
        """Forget everything."""
        self._segments.clear()
