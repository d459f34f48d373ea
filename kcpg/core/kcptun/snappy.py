"""Snappy's framing format, in which kcptun compresses each direction of a link.

    ff 06 00 00 "sNaPpY"                       begins the stream
    01 | length u24 | checksum u32 | data      as it is
    00 | length u24 | checksum u32 | block     compressed; length counts the checksum, integers are little-
    endian

The chunks are cramjam's work. The reader looks first at what a chunk says of its size, so that no peer
makes the library take more memory than that; whatever is wrong ends the link.
"""

from __future__ import annotations

import cramjam

IDENTIFIER = b"\xff\x06\x00\x00sNaPpY"
COMPRESSED, PLAIN, PADDING, SKIPPABLE = 0x00, 0x01, 0xFE, 0x80
HEADER_BYTES = 4
CHECKSUM_BYTES = 4
CHUNK_BYTES = 65536  # Most of a chunk's data, uncompressed
# Longest chunk of data: the format's own bound on a block of 65,536 bytes that does not shrink.
BLOCK_BYTES = CHECKSUM_BYTES + 32 + CHUNK_BYTES + CHUNK_BYTES // 6
OVERHEAD_BYTES = HEADER_BYTES + CHECKSUM_BYTES


class Malformed(ValueError):
    """The stream does not follow the format."""


class Writer:
    """One direction's chunks."""

    def __init__(self) -> None:
        self._begun = False

    def pack(self, data: bytes) -> bytes:
        """One chunk of at most CHUNK_BYTES; the first has the identifier before it. Compressed if that saves
        an eighth."""
        assert 0 < len(data) <= CHUNK_BYTES
        framed = bytes(cramjam.snappy.compress(data))
        if self._begun:
            return framed[len(IDENTIFIER) :]
        self._begun = True
        return framed


class Reader:
    """Takes the stream in any pieces; keeps less than one chunk."""

    def __init__(self) -> None:
        self._begun = False
        self._held = b""
        self._skip = 0  # Bytes of a chunk to be skipped that are still to come

    @property
    def held(self) -> int:
        """Bytes kept."""
        return len(self._held)

    def feed(self, data: bytes) -> bytes:
        """What these bytes complete, uncompressed. Raises Malformed."""
        held = self._held + data if self._held else data
        out: list[bytes] = []
        at = 0
        while True:
            if self._skip:
                skipped = min(self._skip, len(held) - at)
                self._skip -= skipped
                at += skipped
            if len(held) - at < HEADER_BYTES:
                break
            kind = held[at]
            size = int.from_bytes(held[at + 1 : at + HEADER_BYTES], "little")
            if not self._begun and kind != IDENTIFIER[0]:
                raise Malformed("the stream does not begin with snappy's identifier")
            if SKIPPABLE <= kind <= PADDING:
                at += HEADER_BYTES
                self._skip = size
                continue
            if size > BLOCK_BYTES:
                raise Malformed("a chunk that is too long")
            end = at + HEADER_BYTES + size
            if len(held) < end:
                break
            if kind == IDENTIFIER[0]:
                if held[at:end] != IDENTIFIER:
                    raise Malformed("another identifier")
                self._begun = True
            else:
                out.append(_unpack(held[at:end]))
            at = end
        self._held = held[at:]
        return out[0] if len(out) == 1 else b"".join(out)


def _unpack(chunk: bytes) -> bytes:
    """The data of one chunk."""
    kind = chunk[0]
    if kind not in (COMPRESSED, PLAIN) or len(chunk) < OVERHEAD_BYTES:
        raise Malformed("a chunk of an unknown kind, or without a checksum")
    size = len(chunk) - OVERHEAD_BYTES if kind == PLAIN else _size(chunk[OVERHEAD_BYTES : OVERHEAD_BYTES + 3])
    if size > CHUNK_BYTES:
        raise Malformed("a chunk that is too long")
    try:
        data = bytes(cramjam.snappy.decompress(IDENTIFIER + chunk))
    except cramjam.DecompressionError:
        raise Malformed("a damaged chunk") from None
    if len(data) != size:
        raise Malformed("a chunk of another length than it says")
    return data


def _size(start: bytes) -> int:
    """What a block says of the length of its data; three bytes suffice for CHUNK_BYTES."""
    size = 0
    for place, byte in enumerate(start):
        size |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return size
    raise Malformed("a block without a size, or too long")
