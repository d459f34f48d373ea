"""A user's flow in a kcptun link: a stream of smux."""

from __future__ import annotations

from kcpg.core.flow import Kind
from kcpg.core.kcptube.flow import TubeFlow
from kcpg.core.kcptun import smux
from kcpg.core.units import MASK32, diff32


class StreamFlow(TubeFlow):
    """A flow of a link, its numbers those of smux 2."""

    __slots__ = ("end_mark", "peer_read", "peer_window", "sent", "taken", "told")

    def __init__(self) -> None:
        super().__init__(Kind.TCP)
        self.sent = 0  # bytes, all since the beginning
        self.peer_read = 0  # of these, modulo 2^32
        self.peer_window = smux.FIRST_WINDOW_BYTES
        self.taken = 0  # bytes of the peer that were read
        self.told = 0  # of these, what the peer knows
        self.end_mark: int | None = None  # acknowledged up to this segment: all that was sent before the end

    @property
    def window(self) -> int:
        """Bytes that may be sent (version 2)."""
        return self.peer_window - diff32(self.sent & MASK32, self.peer_read)
