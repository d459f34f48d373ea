"""What has arrived beyond a gap, as bits in the payload of an acknowledgement.

Each segment beyond a gap is acknowledged once, with the ts that tells which transmission arrived. That
acknowledgement may be lost: the bits tell again which segments have arrived, for an eighth of a byte each
instead of 24. KCP itself skips the payload of an acknowledgement.

    base u32 LE | bits, the lowest first: base + j has arrived
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterator

from kcpg.core.units import MASK32, Bytes, diff32

# Bits reach back to the oldest segment that one of the last flushes acknowledged. A sender takes a segment
# for lost when two datagrams came that acknowledge later ones: the second must still name it, and two more
# may be lost in between.
MAP_FLUSHES = 4
MAP_BYTES = 512  # most bytes, the base included: the flight of 1 Gbit/s over 50 ms; beyond, the newest count

_BASE = struct.Struct("<I")


class AckMap:
    """The acknowledger's: from where on bits are told."""

    def __init__(self, initial_sn: int) -> None:
        # what each of the last flushes acknowledged
        self._lowest = deque([initial_sn] * MAP_FLUSHES, MAP_FLUSHES)

    def make(
        self, fresh: list[int], rcv_nxt: int, rcv_end: int, room: int, has: Callable[[int], bool]
    ) -> bytes:
        """The payload, of at most `room` bytes, of a flush that acknowledges `fresh` beyond a gap."""
        base = self._note_flush(fresh, rcv_end)
        if diff32(base, rcv_nxt) <= 0:
            base = (rcv_nxt + 1) & MASK32
        count = min((diff32(rcv_end, base) + 7) // 8, min(room, MAP_BYTES) - _BASE.size)
        if count <= 0:
            return b""
        if diff32(rcv_end, base) > 8 * count:
            base = (rcv_end - 8 * count) & MASK32
        bits = sum(1 << j for j in range(diff32(rcv_end, base)) if has((base + j) & MASK32))
        return _BASE.pack(base) + bits.to_bytes(count, "little")

    def _note_flush(self, fresh: list[int], rcv_end: int) -> int:
        """Remember what this flush acknowledges; the lowest sn that the last MAP_FLUSHES flushes did."""
        base = _lowest(self._lowest, rcv_end)
        self._lowest.append(_lowest(fresh, rcv_end))
        return base


def arrived(payload: Bytes) -> Iterator[int]:
    """The segments that a peer's payload names; none if it is malformed."""
    payload = bytes(payload[:MAP_BYTES])
    if len(payload) < _BASE.size:
        return
    (base,) = _BASE.unpack_from(payload)
    bits = int.from_bytes(payload[_BASE.size :], "little")
    for j in range(bits.bit_length()):
        if bits >> j & 1:
            yield (base + j) & MASK32


def _lowest(sns: deque[int] | list[int], most: int) -> int:
    """The first of `sns` and `most`, in the order of wrapped numbers."""
    for sn in sns:
        if diff32(sn, most) < 0:
            most = sn
    return most
