"""FEC of one link, in plain Python: frames of data go out and come in as shards of groups.

What is protected are the frames that carry users' data: DATAGRAM frames, and KCP frames with at least one
push. An acknowledgement is worth no parity, as the next one says the same. A frame that would not fit with
the shard's header, because its segments were cut for larger datagrams, travels as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcpg.core.fec.group import PARITY_OVERHEAD_BYTES
from kcpg.core.fec.receiver import GroupReceiver
from kcpg.core.fec.sender import GroupSender
from kcpg.core.kcp.params import CMD_PUSH, HEADER_BYTES
from kcpg.core.native.wire import frames
from kcpg.core.units import earliest

if TYPE_CHECKING:
    from kcpg.core.fec.plan import Plan

# What a parity shard of full frames needs beyond them, its frame type included: kept free in each.
FEC_ROOM_BYTES = PARITY_OVERHEAD_BYTES + 1

# A conversation with more than this waiting (86 kB) transfers in bulk: a resend costs it only the bytes, and
# parity would cost more of them. Somebody waits for less than that, or for the end of it.
BULK_SEGMENTS = 64

# After this many (730 kB) the segments of a bulk transfer fill whole datagrams: FEC costs it nothing, and its
# end goes unprotected, as one more round trip is little for a transfer of that length.
LONG_SEGMENTS = 512

_DATA_TYPE = bytes((frames.FEC_DATA,))
_PARITY_TYPE = bytes((frames.FEC_PARITY,))


class LinkFec:
    """Facts: `groups` begun, `parity_bytes` of datagrams sent; of what came: `rebuilt`
    frames, `lost` ones that a group with parity lacked in the end, `held` shards, `malformed` ones."""

    def __init__(self, max_payload: int) -> None:
        self.on = False
        self.parity_bytes = 0
        self._bulk = False
        self._tx = GroupSender(max_payload)
        self._rx = GroupReceiver(max_payload)

    @property
    def groups(self) -> int:
        return self._tx.group

    @property
    def rebuilt(self) -> int:
        return self._rx.recovered

    @property
    def lost(self) -> int:
        return self._rx.lost

    @property
    def held(self) -> int:
        return self._rx.held

    @property
    def malformed(self) -> int:
        return self._rx.malformed

    # Out.

    def use(self, plan: Plan, wait_ms: int, bulk: bool) -> None:
        """Protect by this plan from now on; `bulk`: also conversations with much to send."""
        self._tx.use(plan, wait_ms)
        self._bulk = bulk
        self.on = plan.data > 0

    def wants(self, queued: int) -> bool:
        """Whether to protect a conversation with this many segments waiting."""
        return self.on and (self._bulk or queued <= BULK_SEGMENTS)

    def protect(self, frame: bytes, room: int, now_ms: int) -> bytes:
        """This frame as a shard, if it may be one and fits into `room`; `parity` then has some, perhaps."""
        if len(frame) + FEC_ROOM_BYTES > room or not _has_data(frame):
            return frame
        return _DATA_TYPE + self._tx.protect(frame, now_ms)

    def expire(self, now_ms: int) -> None:
        """Close a group whose time has come: its parity is ready."""
        self._tx.expire(now_ms)

    def parity(self, room: int) -> bytes | None:
        """The next parity frame that is to leave; None: there is none, b"": it does not fit any more."""
        contents = self._tx.parity()
        if contents is None:
            return None
        if len(contents) >= room:  # datagrams became smaller meanwhile
            return b""
        self.parity_bytes += len(contents) + 1
        return _PARITY_TYPE + contents

    @property
    def parity_ready_bytes(self) -> int:
        """How long the next parity frame is; 0: there is none."""
        return self._tx.parity_bytes + 1 if self._tx.parity_bytes else 0

    def deadline(self) -> int | None:
        """When there is parity to send; None: never."""
        return 0 if self._tx.parity_bytes else self._tx.deadline

    # In.

    def receive(self, frame_type: int, payload: bytes) -> list[tuple[bytes, bool]]:
        """Take in a shard: the frames it carries or makes known, each with whether it was rebuilt."""
        if frame_type == frames.FEC_PARITY:
            return [(frame, True) for frame in self._rx.receive_parity(payload)]
        taken = self._rx.receive_data(payload)
        return [(frame, at > 0) for at, frame in enumerate(taken)]  # the shard's own is the first

    def forget(self) -> None:
        """Give up incomplete groups and the memory they hold."""
        self._rx.forget()


def due(fec: LinkFec | None, until: int | None) -> int | None:
    """The earlier of two times at which something may leave."""
    return until if fec is None else earliest(until, fec.deadline())


def _has_data(frame: bytes) -> bool:
    """A user's packet, or a push among the segments."""
    at = 1
    while frame[0] == frames.KCP and at < len(frame):
        if frame[at + 4] == CMD_PUSH:
            return True
        at += HEADER_BYTES + int.from_bytes(frame[at + 20 : at + 24], "little")
    return frame[0] == frames.DATAGRAM
