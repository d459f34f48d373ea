"""Frames that are longer than the path takes now, carried in pieces.

KCP numbers its segments when they are cut, so a segment that was cut for a larger datagram cannot be cut
again. When the path's MTU shrinks, such a segment (or a user's packet) travels in several PIECE frames.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

from kcpg.core.native.wire import frames

_HEADER = Struct("<IBB")  # number of the frame, place of the piece, how many there are

PIECE_HEADER_BYTES = _HEADER.size

# Of one frame: the longest datagram of a jumbo network over the smallest one that IPv4 promises needs 18.
MOST_PIECES = 64

MOST_OPEN = 32  # Frames of which pieces are missing; the oldest gives way, as KCP sends it again


def cut(frame: bytes, number: int, room: int) -> list[bytes]:
    """The PIECE payloads of `frame` (its type and payload), each of at most `room` bytes, about equal."""
    count = -(-len(frame) // (room - PIECE_HEADER_BYTES))
    assert count <= MOST_PIECES
    size = -(-len(frame) // count)
    return [
        _HEADER.pack(number, place, count) + frame[place * size : (place + 1) * size]
        for place in range(count)
    ]


class Pieces:
    """The pieces that came of a link's incomplete frames, and the number of the last frame that was sent so.

    `most_bytes`: the longest frame there can be.
    """

    __slots__ = ("_most_bytes", "_open", "_sent")

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._open: dict[int, dict[int, bytes]] = {}
        self._sent = 0

    def cut_long(self, whole: list[bytes], room: int, send: Callable[[int, bytes], None]) -> list[bytes]:
        """`send` what the path does not take in pieces, as type and payload; the frames that it takes.

        `room`: bytes of the longest payload.
        """
        for frame in whole:
            if len(frame) > 1 + room:
                self._sent = (self._sent + 1) & 0xFFFFFFFF
                for piece in cut(frame, self._sent, room):
                    send(frames.PIECE, piece)
        return [frame for frame in whole if len(frame) <= 1 + room]

    def add(self, payload: bytes) -> bytes | None:
        """Take a PIECE: the whole frame if this completes it, else None; b"" for one that cannot be."""
        if len(payload) <= PIECE_HEADER_BYTES:
            return b""
        number, place, count = _HEADER.unpack_from(payload)
        if not place < count <= MOST_PIECES:
            return b""
        parts = self._open.setdefault(number, {})
        parts[place] = payload[PIECE_HEADER_BYTES:]
        if len(self._open) > MOST_OPEN:
            del self._open[next(iter(self._open))]
        if sum(map(len, parts.values())) > self._most_bytes or max(parts) >= count:
            self._open.pop(number, None)
            return b""
        if len(parts) < count:
            return None
        del self._open[number]
        return b"".join(parts[place] for place in range(count))
