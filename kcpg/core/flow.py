"""A flow: one TCP connection or UDP association of a user, as one leg of a node sees it.

Two flows of a node are joined by a `kcpg.core.splice.Splice`. What a leg's author needs to know:

* A flow never blocks and never yields inside `move_to`, `pull`, `read`, `write`, `end`, `reset`, `wake`,
  `release`: each does what is possible now and returns.
* Bytes move only by `splice.pump(source)`, which calls `source.move_to(sink)`. The base class hands that to
  `sink.pull(source)`, which copies through the byte interface (`read`/`room`/`write`,
  `recv_packets`/`send_packets`). A leg with a faster way overrides: `move_to` where it knows the sink
  (conversation to conversation, socket into segment slots), `pull` where it knows the source (segment slots
  out to a socket); anything else goes to `super()`.
* A flow that waits is told: a leg calls `splice.ready(flow, READABLE)` when its flow has bytes, packets or
its
  end to give, and `splice.ready(flow, WRITABLE)` when its flow has room again after it was full (or was
  `opening`). The splice passes that to the *partner's* `wake`. The base `wake` pumps at once (right for
  conversations, which are passive and are pumped inline from their leg's `advance`); a socket's flow
  overrides it to wake its greenlets, which call `splice.pump` themselves.
* Endings: `end()` says that no more bytes come (half-close) and arrives after every byte written before it.
  `reset()` aborts both directions. A flow that its own side aborts tells `splice.on_reset(flow, reason)` and
  frees itself; nothing is called back on it. When both directions have ended, each flow gets `release()`:
  deliver what was accepted, then forget everything.
* `opening` is True from `dial()` until it is known whether the other side takes the flow: nothing is moved
  into it, and packets that wait at the source are kept there instead of being dropped. Dial failure is
  `splice.on_reset`.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Protocol

READABLE = 1  # event bits, the same as of a conversation
WRITABLE = 2

# Bounds of one move through the byte interface, so that one flow's turn stays well under a millisecond.
COPY_BYTES = 65536  # what one read takes at most
COPY_TURNS = 16
PACKET_TURNS = 1024  # a whole receive window
PACKET_BATCH = 64  # handed over together: what one system call takes


class Kind(Enum):
    """What the user speaks; the values are those of the OPEN message."""

    TCP = 1
    UDP = 2


@dataclass(frozen=True, slots=True)
class Target:
    """Where the last node connects a flow: a host name or address in text, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Open:
    """A request for a flow. `target` None: the last node's configured one. `source`: who asks, for logs.
    `asker`: with whose other flows this one shares what is shared, such as look-ups; None: with nobody's.
    `user`: the name of the user of this node whose link it came by, empty where there are none.
    """

    __slots__ = ("asker", "kind", "source", "target", "user")

    def __init__(self, kind: Kind, target: Target | None, source: str) -> None:
        self.kind = kind
        self.target = target
        self.source = source
        self.asker: Hashable = None
        self.user = ""

    def __eq__(self, other: object) -> bool:
        mine = (self.kind, self.target, self.source)
        return isinstance(other, Open) and mine == (other.kind, other.target, other.source)

    def __repr__(self) -> str:
        return f"Open({self.kind}, {self.target!r}, {self.source!r})"


class ResetCode(IntEnum):
    """Why a flow was aborted; the numbers travel in RESET frames."""

    FINISHED = 0  # the other side had already finished this flow cleanly
    REFUSED = 1  # the target (or a node's limit) refuses
    UNREACHABLE = 2  # no path to the target or to the next node
    TIMEOUT = 3
    RESET_BY_APPLICATION = 4
    FORBIDDEN = 5  # not allowed by a node's configuration
    NO_ROUTE = 6  # the target's name gives no address
    SHUTDOWN = 7  # a node is going down
    LINK_LOST = 8  # the link that carried the flow is gone, for example because a node was restarted
    INTERNAL = 9


@dataclass(frozen=True, slots=True)
class Reset:
    """A reason to abort, for programs (code) and for people (text)."""

    code: ResetCode
    text: str = ""

    def __str__(self) -> str:
        word = self.code.name.lower().replace("_", " ")
        return f"{word}: {self.text}" if self.text else word


class Blocked(Enum):
    """Why a move stopped."""

    SOURCE_DRY = 0  # wait until the source is readable
    SINK_FULL = 1  # wait until the sink is writable
    ENDED = 2  # the source's end was reached, or the splice is over: nothing will ever come this way again
    BUDGET = 3  # more could move: pump again after letting others run


# Looking a member up in its class is slow where every datagram's way passes.
TCP, UDP = Kind
SOURCE_DRY, SINK_FULL, ENDED, BUDGET = Blocked


class Moved:
    """How much one move (or pump) carried, bytes for TCP and packets for UDP, and why it stopped."""

    __slots__ = ("amount", "blocked")

    def __init__(self, amount: int, blocked: Blocked) -> None:
        self.amount = amount
        self.blocked = blocked

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Moved) and self.amount == other.amount and self.blocked is other.blocked

    def __repr__(self) -> str:
        return f"Moved({self.amount}, {self.blocked})"


class Joint(Protocol):
    """What a flow asks of the splice that joins it with another one (`kcpg.core.splice.Splice`)."""

    over: bool

    def partner(self, flow: Flow) -> Flow:
        """The flow on the other side. Only while not `over`."""

    def pump(self, source: Flow) -> Moved:
        """Move from `source` to its partner what can be moved now."""

    def run(self, source: Flow) -> None:
        """`pump` for flows that do not wait for what is left undone."""

    def ended(self, source: Flow) -> bool:
        """Whether everything that `source` will ever give was moved."""

    def bypassed(self, source: Flow, amount: int) -> None:
        """This many bytes of `source` went on to the partner without a pump."""

    def drop(self, source: Flow, count: int = 1) -> None:
        """Count packets of `source` that its partner refused."""

    def ready(self, flow: Flow, events: int) -> None:
        """`flow` became READABLE, WRITABLE or both."""

    def on_reset(self, flow: Flow, reason: Reset) -> None:
        """The flow's own side aborted `flow`, and it is gone."""


class Flow:
    """One side of a splice; a leg derives its own. See the top of this file for who calls what."""

    __slots__ = ("closed", "kind", "opening", "splice")

    def __init__(self, kind: Kind) -> None:
        self._begin(kind)

    def _begin(self, kind: Kind) -> None:
        """For classes that are made for every connection: `super()` would cost more than all the rest."""
        self.kind = kind
        self.splice: Joint | None = None  # set and cleared by the splice
        self.opening = False
        self.closed = False  # nothing can be done with this flow any more; set by the leg

    # -- moving --

    def move_to(self, sink: Flow) -> Moved:
        """Carry what is here into `sink`, until this is dry, the sink is full, or the end is reached.

        ENDED is only given when every byte before the end has been taken by the sink.
        """
        return sink.pull(self)

    def pull(self, source: Flow) -> Moved:
        """Take what `source` has, by copying; the way that works between any two flows."""
        if self.kind is UDP:
            return copy_packets(source, self, PACKET_TURNS)
        return copy_bytes(source, self)

    # -- byte interface (TCP), for flows that have no faster way --

    def read(self, limit: int) -> bytes | None:
        """Take up to `limit` bytes; None: nothing now; b"": the end."""
        raise TypeError(f"{type(self).__name__} has no byte interface")

    def write(self, data: bytes) -> int:
        """Accept bytes, at least min(len(data), room) of them; gives how many."""
        raise TypeError(f"{type(self).__name__} has no byte interface")

    @property
    def room(self) -> int:
        """How many bytes `write` takes now for certain. 0 while opening."""
        raise TypeError(f"{type(self).__name__} has no byte interface")

    # -- packet interface (UDP): a leg has the two for batches, or those for one packet --

    def recv_packets(self, limit: int) -> list[bytes]:
        """Take at most `limit` packets. Fewer: there are no more now (see `at_end`)."""
        packets: list[bytes] = []
        while len(packets) < limit and (packet := self.recv_packet()) is not None:
            packets.append(packet)
        return packets

    def send_packets(self, packets: list[bytes]) -> int:
        """Accept each packet, whole, for which there is room now, in order; how many."""
        taken = 0
        for packet in packets:
            taken += self.send_packet(packet)
        return taken

    def recv_packet(self) -> bytes | None:
        """Take the next packet, which may be empty; None: none now."""
        raise TypeError(f"{type(self).__name__} has no packet interface")

    def send_packet(self, packet: bytes) -> bool:
        """Accept one packet whole, or give False: no room now."""
        raise TypeError(f"{type(self).__name__} has no packet interface")

    @property
    def at_end(self) -> bool:
        """UDP: the far side said that no more packets come, and all were taken."""
        return False

    def bypassed(self) -> int:
        """Bytes or packets of this flow that went to its partner past the splice so far: see
        `kcpg.net.bypass`."""
        return 0

    # -- life --

    def end(self) -> None:
        """No more bytes come: half-close after those already written. Idempotent. UDP: the association is
        over.
        """
        raise TypeError(f"{type(self).__name__} has no end")

    def reset(self, reason: Reset) -> None:
        """Abort both directions and free everything. Idempotent; nothing is called back for it."""
        raise TypeError(f"{type(self).__name__} cannot be reset")

    def release(self) -> None:
        """The splice is over, cleanly: deliver what was accepted, then free everything. `splice` is None by
        now.
        """
        self.closed = True

    def wake(self, events: int) -> None:
        """The partner became READABLE (pump it into this) and/or WRITABLE (pump this into it)."""
        splice = self.splice
        if splice is None:
            return
        if events & READABLE:
            splice.run(splice.partner(self))
        if events & WRITABLE:
            splice.run(self)


def copy_bytes(source: Flow, sink: Flow) -> Moved:
    """Read only what the sink has room for, so that nothing is ever left in our hands."""
    total = 0
    for _ in range(COPY_TURNS):
        room = sink.room
        if room <= 0:
            return Moved(total, SINK_FULL)
        data = source.read(min(room, COPY_BYTES))
        if data is None:
            return Moved(total, SOURCE_DRY)
        if not data:
            return Moved(total, ENDED)
        taken = sink.write(data)
        total += taken
        if sink.closed:
            return Moved(total, SINK_FULL)  # it was reset by what we wrote, and has told the splice
        assert taken == len(data), f"{type(sink).__name__} promised room for {room} bytes and took {taken}"
    return Moved(total, BUDGET)


def copy_packets(source: Flow, sink: Flow, limit: int) -> Moved:
    """Whole packets, about `limit`. What the sink refuses was taken from the source already: a drop."""
    total = 0
    for _ in range(limit // PACKET_BATCH):
        packets = source.recv_packets(PACKET_BATCH)
        taken = sink.send_packets(packets) if packets else 0
        total += taken
        if taken < len(packets) and source.splice is not None:
            source.splice.drop(source, len(packets) - taken)
        if len(packets) < PACKET_BATCH:
            return Moved(total, ENDED if source.at_end else SOURCE_DRY)
    return Moved(total, BUDGET)
