"""smux, versions 1 and 2: the frames by which many streams share one byte stream.

    version u8 | command u8 | length u16 | stream u32 | data      integers are little-endian

An UPD (version 2) tells what was read of a stream so far, modulo 2^32, and how much may be unread.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

HEADER = Struct("<BBHI")
HEADER_BYTES = HEADER.size
SYN, FIN, PSH, NOP, UPD = range(5)
UPDATE = Struct("<II")
UPDATE_BYTES = UPDATE.size
VERSIONS = (1, 2)

FIRST_STREAM = 3  # Of a client, which takes odd numbers
FIRST_WINDOW_BYTES = 262_144  # What a sender of version 2 may have unread before the first UPD

Frame = tuple[int, int, bytes]  # Command, stream, data


class Malformed(ValueError):
    """The frames do not follow the format: the link cannot go on."""


def frame(version: int, command: int, stream: int, data: bytes = b"") -> bytes:
    """One frame."""
    return HEADER.pack(version, command, len(data), stream) + data


def update(stream: int, consumed: int, window: int) -> bytes:
    """The UPD frame of a stream."""
    return HEADER.pack(2, UPD, UPDATE_BYTES, stream) + UPDATE.pack(consumed & 0xFFFFFFFF, window)


class Parser:
    """Takes the byte stream in any pieces. `version` 0: that of the first frame."""

    def __init__(self, version: int) -> None:
        self.version = version
        self._held = b""

    @property
    def held(self) -> int:
        """Bytes kept: less than one frame."""
        return len(self._held)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that these bytes complete. Raises Malformed. All have to be taken."""
        held = self._held + data if self._held else data
        self._held = b""
        at = 0
        while len(held) - at >= HEADER_BYTES:
            version, command, size, stream = HEADER.unpack_from(held, at)
            if version != self.version:
                self._take_version(version)
            if command > UPD or (command == UPD and (self.version == 1 or size != UPDATE_BYTES)):
                raise Malformed(f"unknown command {command}")
            if size and command in (SYN, FIN, NOP):
                raise Malformed(f"command {command} with data")
            end = at + HEADER_BYTES + size
            if len(held) < end:
                break
            yield command, stream, held[at + HEADER_BYTES : end]
            at = end
        self._held = held[at:]

    def _take_version(self, version: int) -> None:
        if version not in VERSIONS:
            raise Malformed("this is not smux: nocomp or QPP differ")
        if self.version:
            raise Malformed(
                f"the other end speaks smux {version}, this one {self.version}: set smuxver={version}"
            )
        self.version = version
