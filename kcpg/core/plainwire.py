"""What the wires of foreign dialects have in common: conversations in turns, with pacers and timers.

A dialect says what goes around segments (`_seal`) and whose a datagram is (`receive`). The compiled twin,
`_plainwire`, serves kcptun's; that of kcptube is plain Python around the engine's `Kcp`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kcpg import engine
from kcpg.core.flow import READABLE, WRITABLE
from kcpg.core.timers import Timers
from kcpg.core.units import earliest

if TYPE_CHECKING:
    from kcpg.core.kcp.kcp import Kcp, KcpParams
    from kcpg.core.pacer import Pacer

TRANSMIT_DATAGRAMS = 512  # Most datagrams of one transmit call but for what one conversation adds
TURN_BYTES = 64 * 1400  # What a conversation sends before others have their turn: what one system call takes
WAKE_SEGMENTS = 64  # Room that ends a writer's wait: fewer, larger refills

Path = tuple[int, bytes]  # A local socket and the peer's address
Datagrams = list[tuple[int, bytes, bytes]]  # Socket, address, datagram

W = TypeVar("W", bound="PlainWire[Any]")
C = TypeVar("C", bound="PlainConv[Any]")


class PlainConv(Generic[W]):
    """A KCP conversation of a wire. `user` is told by the wire's `take_ready`. `most_bytes`: the longest that
    the peer may send, with its header; `mtu`: the longest that is sent."""

    def __init__(self, wire: W, number: int, params: KcpParams, user: Any, most_bytes: int, mtu: int) -> None:
        self.wire = wire
        self.number = number
        self.user = user
        self.kcp: Kcp = wire.make_kcp(number, most_bytes, params)
        self.kcp.kcp_mtu = mtu
        self.pacers: tuple[Pacer, ...] = ()
        self.heard_ms = wire.now_ms
        self.rx_bytes = self.tx_bytes = self.rx_datagrams = self.tx_datagrams = 0
        self.events = 0
        self.want_room = False
        self.closed = False

    def raise_events(self, events: int) -> None:
        """Tell the user, through `take_ready`."""
        if self.events == 0:
            self.wire.ready.append(self)
        self.events |= events

    def notice_room(self) -> None:
        """Raise WRITABLE if somebody waits for room and there is enough."""
        if self.want_room and self.kcp.room >= WAKE_SEGMENTS:
            self.want_room = False
            self.raise_events(WRITABLE)

    def close(self) -> None:
        """Forget everything."""
        self.closed = True
        self.user = None  # which has this conversation: without the circle both go at once
        self.kcp.clear()
        self.wire.forget(self)


class PlainWire(Generic[C]):
    """`kcp`: the engine's class if not the default one."""

    def __init__(self, kcp: type[Kcp] | None) -> None:
        self.make_kcp = kcp or engine.Kcp
        self.drops: dict[str, int] = {}
        self.ready: list[C] = []
        self.now_ms = 0
        self.alert = False  # The leg wants to be advanced
        self._dirty: dict[C, None] = {}
        self._timers: Timers[C] = Timers()

    def drop(self, reason: str, count: int = 1) -> None:
        """Count a discarded datagram or message under its name."""
        self.drops[reason] = self.drops.get(reason, 0) + count

    # -- out --

    def mark(self, conv: C) -> None:
        """It has something to send."""
        if not conv.closed:
            self._dirty[conv] = None

    def forget(self, conv: C) -> None:
        """It is closed."""
        self._dirty.pop(conv, None)
        self._timers.forget(conv)

    def transmit(self, now_ms: int) -> Datagrams:
        """What may leave now, as (socket, address, datagram); call again while `backlog`."""
        self.now_ms = now_ms
        for conv in self._timers.take_due(now_ms):
            self.mark(conv)
        out: Datagrams = []
        while self._dirty and len(out) < TRANSMIT_DATAGRAMS:
            conv = next(iter(self._dirty))
            del self._dirty[conv]
            self._turn(conv, out)
        return out

    @property
    def backlog(self) -> bool:
        """More could leave at once."""
        return bool(self._dirty)

    def coalesce_ms(self, now_ms: int) -> int:
        """How long datagrams may be left in the socket: not at all."""
        return 0

    def deadline(self) -> int | None:
        """When transmit must be called again though nothing else happens; None: never."""
        return self.now_ms if self._dirty else self._timers.first()

    def _turn(self, conv: C, out: Datagrams) -> None:
        kcp, now_ms = conv.kcp, self.now_ms
        tokens = TURN_BYTES
        for pacer in conv.pacers:
            left = pacer.tokens(now_ms)
            tokens = tokens if left is None else min(tokens, left)
        before = len(out)
        self._seal(conv, kcp.flush(now_ms, max(tokens, 0)), out)
        sent = sum(len(item[2]) for item in out[before:])
        conv.tx_bytes += sent
        conv.tx_datagrams += len(out) - before
        for pacer in conv.pacers:
            pacer.spend(sent)
        conv.notice_room()
        due_ms = kcp.deadline
        if kcp.wants_flush:
            held_ms = self._held_until(conv)
            if held_ms is None or held_ms <= now_ms:
                self._dirty[conv] = None
            else:
                due_ms = earliest(due_ms, held_ms)
        self._timers.wake_by(conv, due_ms)

    def _seal(self, conv: C, blocks: list[bytes], out: Datagrams) -> None:
        """Append the datagrams that carry these blocks of segments."""
        raise NotImplementedError

    def _held_until(self, conv: C) -> int | None:
        held_ms = None
        for pacer in conv.pacers:
            at_ms = pacer.ready_at(conv.kcp.kcp_mtu)
            held_ms = at_ms if held_ms is None or (at_ms is not None and at_ms > held_ms) else held_ms
        return held_ms

    # -- in --

    def receive(self, sock: int, addr: bytes, datagram: bytes, now_ms: int) -> None:
        """Take in one datagram. Never raises for its contents: what is wrong is counted in `drops`."""
        raise NotImplementedError

    def take_ready(self) -> list[tuple[C, int]]:
        """The conversations with events, each once, and their events."""
        ready, self.ready = self.ready, []
        found = [(conv, conv.events) for conv in ready if not conv.closed]
        for conv in ready:
            conv.events = 0
        return found

    def _fed(self, conv: C) -> None:
        """Segments were given to its `Kcp`: tell what became of it."""
        kcp = conv.kcp
        if kcp.readable:
            conv.raise_events(READABLE)
        conv.notice_room()
        if kcp.wants_flush:
            self.mark(conv)
        self._timers.wake_by(conv, kcp.deadline)

    @property
    def news(self) -> bool:
        """Something came that the leg has to act on now."""
        return bool(self.ready or self.alert)
