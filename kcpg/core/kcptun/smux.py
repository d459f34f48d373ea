"""smux, versions 1 and 2: the frames by which many streams share one byte stream.

    version u8 | command u8 | length u16 | stream u32 | data      integers are little-endian

An UPD (version 2) tells what was read of a stream so far, modulo 2^32, and how much may be unread.
"""

from __future__ import annotations

from struct import Struct

HEADER = Struct("<BBHI")
FRAME_BYTES = HEADER.size  # before its data
SYN, FIN, PSH, NOP, UPD = range(5)
UPDATE = Struct("<II")
UPDATE_BYTES = UPDATE.size
_UPD = bytes([UPD])
VERSIONS = (1, 2)

FIRST_STREAM = 3  # Of a client, which takes odd numbers
FIRST_WINDOW_BYTES = 262_144  # What a sender of version 2 may have unread before the first UPD

Frame = tuple[int, int, bytes]  # Command, stream, data


class Malformed(ValueError):
    """The frames do not follow the format: the link cannot go on."""


def frame(version: int, command: int, stream: int, data: bytes = b"") -> bytes:
    """One frame."""
    return HEADER.pack(version, command, len(data), stream) + data


def frames(version: int, stream: int, data: bytes, step: int) -> bytes:
    """Bytes of a stream, in frames of at most `step`."""
    return b"".join(frame(version, PSH, stream, data[at : at + step]) for at in range(0, len(data), step))


def update(stream: int, consumed: int, window: int) -> bytes:
    """The UPD frame of a stream."""
    return HEADER.pack(2, UPD, UPDATE_BYTES, stream) + UPDATE.pack(consumed & 0xFFFFFFFF, window)


class Parser:
    """Takes the byte stream in any pieces. `version` 0: that of the first frame."""

    def __init__(self, version: int) -> None:
        self.version = version
        self._begun = b""  # of a frame whose header, or UPD, is not all there
        self._left = 0  # bytes of a stream that are still to come
        self._stream = 0

    @property
    def held(self) -> int:
        """Bytes kept."""
        return len(self._begun)

    def feed(self, data: bytes) -> list[Frame]:
        """The frames of these bytes, data as it comes, that of one stream together. Raises Malformed."""
        frames: list[Frame] = []
        pieces: list[bytes] = []
        stream = self._stream
        at = 0
        while at < len(data):
            if self._left:
                pieces.append(data[at : at + self._left])
                at += len(pieces[-1])
                self._left -= len(pieces[-1])
                continue
            wanted = FRAME_BYTES + UPDATE_BYTES if self._begun[1:2] == _UPD else FRAME_BYTES
            part = data[at : at + wanted - len(self._begun)]
            self._begun += part
            at += len(part)
            if len(self._begun) < FRAME_BYTES or not self._is_whole():
                continue
            begun, self._begun = self._begun, b""
            _, command, size, number = HEADER.unpack_from(begun)
            if pieces and (command != PSH or number != stream):
                frames.append((PSH, stream, b"".join(pieces)))
                pieces.clear()
            if command == PSH:
                self._left, self._stream = size, number
                stream = number
            else:
                frames.append((command, number, begun[FRAME_BYTES:]))
        if pieces:
            frames.append((PSH, stream, b"".join(pieces)))
        return frames

    def _is_whole(self) -> bool:
        """Whether the frame that has begun has nothing but data to come. Raises Malformed."""
        version, command, size, _ = HEADER.unpack_from(self._begun)
        if version != self.version:
            self.version = version_of(version, self.version)
        if command > UPD or (command == UPD and (self.version == 1 or size != UPDATE_BYTES)):
            raise Malformed(f"unknown command {command}")
        if size and command in (SYN, FIN, NOP):
            raise Malformed(f"command {command} with data")
        return command != UPD or len(self._begun) == FRAME_BYTES + UPDATE_BYTES


def version_of(version: int, known: int) -> int:
    """The version of a frame, where another one is known, or none yet (0). Raises Malformed."""
    if version not in VERSIONS:
        raise Malformed("this is not smux: nocomp or QPP differ")
    if known:
        raise Malformed(f"the other end speaks smux {version}, this one {known}: set smuxver={version}")
    return version
