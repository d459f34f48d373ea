"""Segments that were not sent yet: messages and stream bytes cut to size, behind the window."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from kcpg.core.kcp.params import FRG_FIRST, MAX_FRAGMENTS, QUEUE_SEGMENTS
from kcpg.core.kcp.pool import LinkShare


@dataclass(slots=True)
class Queued:
    """A segment that was not sent yet."""

    frg: int
    payload: bytes | bytearray
    stream: bool  # made by write(): more bytes may be added


class SendQueue:
    """Filled by the user, emptied by the sender. `mss`: most payload of a segment queued from now on."""

    def __init__(self, mss: int, share: LinkShare) -> None:
        self.mss = mss
        self.share = share
        self.mark_first = False
        self._segments: deque[Queued] = deque()

    def __len__(self) -> int:
        return len(self._segments)

    def room(self, in_flight: int, shut: bool) -> int:
        """Segments that may be queued now. `in_flight`: those sent; `shut`: the peer takes no more."""
        queued = len(self._segments)
        if queued >= QUEUE_SEGMENTS:
            return 0
        most = self.share.may_queue(in_flight + queued, in_flight, queued, shut, QUEUE_SEGMENTS)
        return max(most - queued, 0)

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
            self.share.note_queued(bool(self._segments[-1].payload))

    def write(self, data: memoryview, room: int) -> int:
        """Queue stream bytes while there is room, in segments; returns how many bytes were taken."""
        taken = 0
        if self._segments and self._segments[-1].stream:
            tail = self._segments[-1].payload
            taken = min(max(self.mss - len(tail), 0), len(data))
            tail += data[:taken]
        for _ in range(room):
            if taken == len(data):
                break
            piece = bytearray(data[taken : taken + self.mss])
            self._segments.append(Queued(0, piece, True))
            self.share.note_queued(1)
            taken += len(piece)
        return taken

    def clear(self) -> None:
        """Forget everything."""
        self.share.note_queued(-self.payloads_held)
        self._segments.clear()
