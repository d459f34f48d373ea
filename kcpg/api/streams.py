"""A stream of this program as a flow, and the leg such flows come from. Knows no event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kcpg.core.flow import READABLE, TCP, WRITABLE, Flow, Open, Reset, ResetCode, Target

SEND_BUFFER_BYTES = 65_536  # More that the tunnel did not take yet makes the sender wait
RECEIVE_BUFFER_BYTES = 262_144  # More that nobody reads makes the other end wait

SOURCE = "api"  # Where these flows come from, for the logs of the nodes


class StreamOwner(Protocol):
    """What a stream tells the one who uses it. Called from inside the node: not the place to call back."""

    def received(self, data: bytes) -> None:
        """Bytes came."""

    def ended(self) -> None:
        """No more come."""

    def lost(self, reason: Reset | None) -> None:
        """The stream is over, last; None: both directions have ended."""

    def drained(self) -> None:
        """The tunnel took bytes."""

    def room(self) -> int:
        """How many bytes `received` may bring now."""


class StreamFlow(Flow):
    """One stream. `write_out` and `end_out` are what the program does, the rest is the node's."""

    def __init__(self, owner: StreamOwner, leg: StreamLeg) -> None:
        super().__init__(TCP)
        self._owner = owner
        self._leg = leg
        self._out = bytearray()
        self._ending = False

    # -- the program's side --

    @property
    def waiting(self) -> int:
        """Bytes that the tunnel did not take yet."""
        return len(self._out)

    def write_out(self, data: bytes | bytearray | memoryview) -> None:
        """Send these bytes as soon as there is room."""
        if not self.closed and not self._ending:
            self._out += data
            self._readable()

    def end_out(self) -> None:
        """No more bytes come from here."""
        if not self.closed and not self._ending:
            self._ending = True
            self._readable()

    def make_room(self) -> None:
        """The program has taken bytes: more may come."""
        if self.splice is not None:
            self.splice.ready(self, WRITABLE)
            self._leg.request_advance()

    def abort(self) -> None:
        """Give up both directions."""
        splice = self.splice
        if not self.closed:
            self._free()
            if splice is not None:
                splice.on_reset(self, Reset(ResetCode.RESET_BY_APPLICATION))
                self._leg.request_advance()

    def _readable(self) -> None:
        if self.splice is not None:
            self.splice.ready(self, READABLE)
            self._leg.request_advance()

    # -- the node's side --

    def read(self, limit: int) -> bytes | None:
        if self._out:
            data = bytes(self._out[:limit])
            del self._out[:limit]
            self._owner.drained()
            return data
        return b"" if self._ending else None

    def write(self, data: bytes) -> int:
        self._owner.received(bytes(data))
        return len(data)

    @property
    def room(self) -> int:
        return 0 if self.closed else self._owner.room()

    def end(self) -> None:
        self._owner.ended()

    def reset(self, reason: Reset) -> None:
        if not self.closed:
            self._free()
            self._owner.lost(reason)

    def release(self) -> None:
        if not self.closed:
            self._free()
            self._owner.lost(None)

    def _free(self) -> None:
        self.closed = True
        self._out.clear()
        self._leg.flows.discard(self)


class StreamLeg:
    """The ingress leg of a node whose flows a program opens. `request_advance` is set by who drives it."""

    def __init__(self) -> None:
        self.on_flow: Callable[[Flow, Open, int], None] = _unwired
        self.request_advance: Callable[[], None] = _nothing
        self.flows: set[Flow] = set()

    def open(self, owner: StreamOwner, target: Target | None, now_ms: int) -> StreamFlow:
        """A stream to there; None: where the server says. A refusal comes by `lost`, at once or later."""
        flow = StreamFlow(owner, self)
        self.flows.add(flow)
        self.on_flow(flow, Open(TCP, target, SOURCE), now_ms)
        self.request_advance()
        return flow

    def start(self, now_ms: int) -> None:
        """Nothing listens."""

    def advance(self, now_ms: int) -> None:
        """Flows act when the program does."""

    def deadline(self) -> int | None:
        return None

    def advance_deadline(self) -> int | None:
        return None

    def close(self, now_ms: int, reason: str) -> None:
        for flow in list(self.flows):
            flow.reset(Reset(ResetCode.SHUTDOWN, reason))


def error(reason: Reset) -> ConnectionError:
    """The exception for a reason, as sockets raise it."""
    kinds = {
        ResetCode.REFUSED: ConnectionRefusedError,
        ResetCode.SHUTDOWN: ConnectionAbortedError,
    }
    return kinds.get(reason.code, ConnectionResetError)(str(reason))


def _nothing() -> None:
    """Nobody drives it yet."""


def _unwired(_flow: Flow, _open: Open, _now_ms: int) -> None:
    raise AssertionError("this leg belongs to no node")
