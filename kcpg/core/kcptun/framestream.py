"""Frames in and out of a conversation's byte stream, compressed or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kcpg.core.flow import WRITABLE
from kcpg.core.kcp.params import HEADER_BYTES
from kcpg.core.kcptun import smux, snappy
from kcpg.core.plainwire import WAKE_SEGMENTS

if TYPE_CHECKING:
    from kcpg.core.kcptun.wire import TunConv

READ_BYTES = 65536  # Taken from the conversation at a time
PENDING_BYTES = 65536  # Control frames without room; a peer that asks for more without acknowledging waits


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How the streams of a leg's links work. `version`, `compresses`: None where the dialer decides (a
    listener). `link_bytes`, `stream_bytes`: what may be unread."""

    version: int | None = 1
    compresses: bool | None = True
    keep_alive_ms: int = 10_000
    link_bytes: int = 4 << 20
    stream_bytes: int = 2 << 20
    frame_bytes: int = 8192


class FrameStream:
    """Both directions of one link. A listener finds out what the dialer has decided."""

    def __init__(self, conv: TunConv, settings: StreamSettings) -> None:
        self.conv = conv
        self.compresses = settings.compresses
        self.pending = b""  # of frames, what the conversation had no room for
        self._frame_bytes = settings.frame_bytes
        self._parser = conv.wire.parser(settings.version or 0)
        self._reader: snappy.Reader | None = None
        self._writer: snappy.Writer | None = None
        if settings.compresses:
            self._reader, self._writer = snappy.Reader(), snappy.Writer()

    @property
    def version(self) -> int:
        """Of smux; 0: not known yet."""
        return self._parser.version

    @property
    def is_stuck(self) -> bool:
        """The peer takes nothing, not even frames that it has asked for."""
        return len(self.pending) >= PENDING_BYTES

    def read(self) -> list[smux.Frame] | None:
        """Frames of what has come; None: nothing more has. Raises Malformed of `smux` or `snappy`."""
        data = self.conv.read(READ_BYTES)
        if not data:
            return None
        if self.compresses is None:
            self.compresses = data[0] == snappy.IDENTIFIER[0]
            if self.compresses:
                self._reader, self._writer = snappy.Reader(), snappy.Writer()
        if self._reader is not None:
            data = self._reader.feed(data)
        return self._parser.feed(data)

    def write(self, frame: bytes) -> None:
        """Queue a frame, whatever room there is."""
        if self._writer is not None:
            frame = self._writer.pack(frame)
        if not self.pending:
            frame = frame[self.conv.write(frame) :]
        if frame:
            self.pending += frame
            self.want_room()

    def write_data(self, stream: int, data: bytes) -> None:
        """Queue bytes of a stream, whatever room there is."""
        step = self._frame_bytes
        if self._writer is not None or self.pending:
            for at in range(0, len(data), step):
                self.write(smux.frame(self.version, smux.PSH, stream, data[at : at + step]))
        elif rest := self.conv.write_frames(self.version, stream, data, step):
            self.pending = rest
            self.want_room()

    def flush(self) -> bool:
        """There is room again for what had none; whether all of it is queued."""
        if self.pending:
            self.pending = self.pending[self.conv.write(self.pending) :]
            if self.pending:
                self.want_room()
        return not self.pending

    @property
    def room(self) -> int:
        """Bytes for which the conversation has room with all that stands around them; may be negative."""
        if self.pending:
            return 0
        frame = self._frame_bytes
        around = smux.FRAME_BYTES + (snappy.OVERHEAD_BYTES if self._writer is not None else 0)
        size = self.conv.kcp.room * (self.conv.wire.format.kcp_mtu - HEADER_BYTES)
        return size * frame // (frame + around) - around - len(snappy.IDENTIFIER)

    def want_room(self) -> None:
        """Raise WRITABLE once there is enough."""
        if self.conv.kcp.room >= WAKE_SEGMENTS:
            self.conv.raise_events(WRITABLE)
        else:
            self.conv.want_room = True
