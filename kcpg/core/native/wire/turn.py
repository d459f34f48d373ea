"""What leaves in one turn of a link, in plain Python: frames, within what one batch of datagrams may hold."""

from __future__ import annotations

from kcpg.core.kcp.datagrams import Datagrams
from kcpg.core.native.wire import frames
from kcpg.core.native.wire.headers import HEADER_BYTES, OVERHEAD_BYTES, TAG_BYTES, TYPE_BYTES
from kcpg.core.native.wire.linkfec import FEC_ROOM_BYTES, LinkFec

# Most payload of a segment, whatever a datagram holds: a jumbo one carries several. So memory is that of
# Ethernet, and a segment never needs more than two pieces where the path shrinks to 1,280.
SLOT_BYTES = 1536

BUILD_DATAGRAMS = 128  # Of one batch: more would leave the L2 cache before they are sent

BUILD_BYTES = BUILD_DATAGRAMS * SLOT_BYTES

# What one conversation may send before the next has its turn; unreliable packets count apart.
TURN_SEGMENTS = 16

# Type and header of a data shard, for which room is kept in front of a frame that may become one.
_SHARD_ROOM_BYTES = 8

_KCP_TYPE = bytes((frames.KCP,))
_DATAGRAM_TYPE = bytes((frames.DATAGRAM,))


class Batch:
    """How much of its memory a batch of datagrams, of all links, has taken."""

    def __init__(self) -> None:
        self.count = 0
        self.most = BUILD_DATAGRAMS  # that it may hold now
        self.used_bytes = 0

    def has_room(self, size: int) -> bool:
        """Whether one more datagram of `size` bytes fits."""
        return self.count < self.most and self.used_bytes + size <= BUILD_BYTES

    def take(self, size: int) -> None:
        """One more datagram."""
        self.count += 1
        self.used_bytes += size


class Turn(Datagrams):
    """The frames of one turn: segments packed together, shards where they are wanted.

    `datagram_bytes`: of the largest datagram. `tokens`: the pacer's; a debt leaves none.
    """

    def __init__(
        self, batch: Batch, fec: LinkFec | None, datagram_bytes: int, tokens: int | None, now_ms: int
    ) -> None:
        tokens = None if tokens is None else max(0, tokens)
        super().__init__(datagram_bytes - OVERHEAD_BYTES, tokens)
        self.batch = batch
        self.start = batch.count
        self._fec = fec
        self._longest = datagram_bytes - HEADER_BYTES - TAG_BYTES  # frame, its type included
        self.now_ms = now_ms
        self._tokens = tokens
        self._shielded = False
        self._first = 0  # frame that may still become a shard
        if fec is not None:
            fec.expire(now_ms)
            self._parity()

    @property
    def spent(self) -> int:
        """Tokens that were taken."""
        return 0 if self._tokens is None or self.tokens is None else self._tokens - self.tokens

    def shield(self, wanted: bool) -> None:
        """Whether what follows is to be protected."""
        if wanted != self._shielded:
            self.finish()
            self._shielded = wanted
            self.limit -= FEC_ROOM_BYTES if wanted else 0

    def packet(self, contents: bytes) -> bool:
        """The contents of a DATAGRAM frame; False: there is no room for it."""
        self.close()
        if not self.may_open(len(contents)):
            return False
        self._take(_DATAGRAM_TYPE + contents)
        return True

    def finish(self) -> list[bytes]:
        """The frames so far, none of them open, as shards where that was wanted."""
        self.close()
        if self._shielded and self._fec is not None:
            for at in range(self._first, len(self.done)):
                self.done[at] = self._fec.protect(self.done[at], self._longest, self.now_ms)
            self._shielded = False
            self.limit += FEC_ROOM_BYTES
            self._parity()
        self._first = len(self.done)
        return self.done

    def may_open(self, size: int) -> bool:
        return self.batch.has_room(self._head_bytes + max(size, self.limit) + TAG_BYTES)

    def close(self) -> list[bytes]:
        if self._open:
            self._take(_KCP_TYPE + self._open)
            self._open = bytearray()
        return self.done

    def _take(self, frame: bytes) -> None:
        self.done.append(frame)
        self.batch.take(self._head_bytes - TYPE_BYTES + len(frame) + TAG_BYTES)

    @property
    def _head_bytes(self) -> int:
        return HEADER_BYTES + TYPE_BYTES + (_SHARD_ROOM_BYTES if self._shielded else 0)

    def _parity(self) -> None:
        assert self._fec is not None
        while size := self._fec.parity_ready_bytes:
            size += HEADER_BYTES + TAG_BYTES
            if not self.batch.has_room(size):
                return
            if frame := self._fec.parity(self._longest):
                self.done.append(frame)
                self.batch.take(size)
