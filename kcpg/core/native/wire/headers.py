"""What stands around the frame of a datagram: CID and packet number before it, the tag behind it."""

from __future__ import annotations

from kcpg.core.units import MASK32

HEADER_BYTES = 8  # CID and the low half of the packet number
TYPE_BYTES = 1
TAG_BYTES = 16
OVERHEAD_BYTES = HEADER_BYTES + TYPE_BYTES + TAG_BYTES


def pack(cid: int, pn: int) -> bytes:
    """The clear header of the datagram with this packet number."""
    return cid.to_bytes(4, "big") + (pn & MASK32).to_bytes(4, "big")
