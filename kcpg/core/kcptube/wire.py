"""The data plane of a kcptube leg: datagrams in, datagrams out, every drop counted.

    datagram   sealed( seconds since 1970, u32 little-endian | segments of one conversation )
    with FEC   sealed( seconds                               | a shard, see `shards` )

One `Wire` serves all conversations of a leg. It decides nothing about them: whose a datagram is says `find`,
and what conversations have become is handed out by `take_ready` and `take_strangers`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kcpg import engine
from kcpg.core.flow import READABLE, WRITABLE
from kcpg.core.kcp.params import HEADER_BYTES, MAX_FRAGMENTS, KcpParams
from kcpg.core.kcptube.cipher import TAG_BYTES, TRAILER_BYTES, Cipher, overhead
from kcpg.core.kcptube.fec import OVERHEAD_BYTES, PARITY, SHARD, ShardReceiver, ShardSender
from kcpg.core.kcptube.replaycache import ReplayCache
from kcpg.core.timers import Timers
from kcpg.core.units import MASK32, earliest

if TYPE_CHECKING:
    from kcpg.core.kcp.kcp import Kcp
    from kcpg.core.pacer import Pacer

Path = tuple[int, bytes]  # A local socket and the peer's address

RECEIVE_BYTES = 2048  # Longest UDP payload: kcptube's buffers cut off the rest

SKEW_S = 255  # So far may the clocks of both ends be apart

STAMP_BYTES = 4
SHARD_BYTES = SHARD.size

# Datagrams remembered, sent and received: some seconds at full speed, all that are valid on a quiet link.
REMEMBERED = 1 << 17

# Those of conversation 0 have a memory of their own, because a repeated one would open a flow.
REMEMBERED_OPENINGS = 1 << 14

STRANGERS_LIMIT = 256
TRANSMIT_DATAGRAMS = 512  # Most datagrams of one transmit call but for what one conversation adds

TURN_BYTES = 64 * 1400  # What a conversation sends before others have their turn: what one system call takes

WAKE_SEGMENTS = 64  # Room that ends a writer's wait: fewer, larger refills

# As of the native conversations: an answer that comes within this takes its request's acknowledgement along.
ACK_HOLD_MS = 2


@dataclass(frozen=True, slots=True)
class Format:
    """What both ends must have alike, and how large datagrams are. `fec`: data and parity shards."""

    algorithm: str = "AES-GCM"
    password: bytes = field(default=b"", repr=False)
    datagram_bytes: int = 1440
    fec: tuple[int, int] = (0, 0)

    @property
    def kcp_mtu(self) -> int:
        """Bytes of segments in a datagram."""
        return self.datagram_bytes - sealing_bytes(self.algorithm, self.has_fec)

    @property
    def has_fec(self) -> bool:
        """Shards instead of bare segments."""
        return all(self.fec)


def sealing_bytes(algorithm: str, has_fec: bool) -> int:
    """Bytes of a datagram that are no segments; with FEC those of a parity shard."""
    return overhead(algorithm) + STAMP_BYTES + (OVERHEAD_BYTES if has_fec else 0)


class Conv:
    """A KCP conversation of a wire. `user` is told by the wire's `take_ready`; `follows`: the path goes where
    the newest datagram came from.
    """

    def __init__(self, wire: Wire, number: int, params: KcpParams, user: Any, follows: bool) -> None:
        self.wire = wire
        self.number = number
        self.user = user
        self.follows = follows
        self.kcp: Kcp = wire.make_kcp(number, RECEIVE_BYTES - STAMP_BYTES - TRAILER_BYTES, params)
        self.kcp.kcp_mtu = wire.format.kcp_mtu
        self.path: Path | None = None
        self.pacers: tuple[Pacer, ...] = ()
        self.heard_ms = wire.now_ms
        self.rx_bytes = self.tx_bytes = self.rx_datagrams = self.tx_datagrams = 0
        self.events = 0
        self.want_room = False
        self.closed = False
        self.sender: ShardSender | None = None
        self.receiver: ShardReceiver | None = None
        if wire.format.has_fec and number:
            self.sender = ShardSender(*wire.format.fec, number)
            self.receiver = ShardReceiver(*wire.format.fec, number)

    def send(self, message: bytes) -> None:
        """Queue a message, whatever room there is."""
        if not self.closed:
            self.kcp.send(message)
            self.wire.mark(self)

    def recv(self) -> bytes | None:
        """The next message."""
        message = self.kcp.recv()
        if message is not None and self.kcp.wants_flush:
            self.wire.mark(self)
        return message

    @property
    def chunk_bytes(self) -> int:
        """Bytes of one segment."""
        return self.kcp.kcp_mtu - HEADER_BYTES

    def fits(self, size: int) -> bool:
        """Whether there is room for a message, and its receiver can hold it."""
        segments = max(1, -(-size // self.chunk_bytes))
        most = min(MAX_FRAGMENTS, max(WAKE_SEGMENTS // 2, self.kcp.rmt_wnd))
        return segments <= min(self.kcp.room, most)

    def move_to(self, path: Path) -> None:
        """Send by this path from now on."""
        if self.path is None and self.kcp.wants_flush:
            self.path = path
            self.wire.mark(self)
        self.path = path

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


Stranger = tuple[int, bytes, bytes]


class Wire:
    """`find(sock, addr, number)`: whose a datagram is. `greets`: those of conversation 0 that
    are nobody's are kept for `take_strangers`. `wall_s`: seconds since 1970. `kcp`: the engine's class if not
    the default one.
    """

    def __init__(
        self,
        wire_format: Format,
        cipher: Cipher,
        wall_s: Callable[[], int],
        find: Callable[[int, bytes, int], Conv | None],
        greets: bool,
        kcp: type[Kcp] | None = None,
    ) -> None:
        self.format = wire_format
        self.make_kcp = kcp or engine.Kcp
        self.drops: dict[str, int] = {}
        self.ready: list[Conv] = []
        self.now_ms = 0
        self.alert = False  # The leg wants to be advanced
        self._cipher = cipher
        self._wall_s = wall_s
        self._find = find
        self._greets = greets
        self._dirty: dict[Conv, None] = {}
        self._timers: Timers[Conv] = Timers()
        self._strangers: list[Stranger] = []
        self._seen = ReplayCache(REMEMBERED, 2 * SKEW_S * 1000)
        self._openings = ReplayCache(REMEMBERED_OPENINGS, 2 * SKEW_S * 1000)

    def drop(self, reason: str, count: int = 1) -> None:
        """Count a discarded datagram or message under its name."""
        self.drops[reason] = self.drops.get(reason, 0) + count

    # -- out --

    def mark(self, conv: Conv) -> None:
        """It has something to send."""
        if conv.path is not None and not conv.closed:
            self._dirty[conv] = None

    def forget(self, conv: Conv) -> None:
        """It is closed."""
        self._dirty.pop(conv, None)
        self._timers.forget(conv)

    def transmit(self, now_ms: int) -> list[tuple[int, bytes, bytes]]:
        """What may leave now, as (socket, address, datagram); call again while `backlog`."""
        self.now_ms = now_ms
        for conv in self._timers.take_due(now_ms):
            self.mark(conv)
        out: list[tuple[int, bytes, bytes]] = []
        if not self._dirty:
            return out
        stamp = (self._wall_s() & MASK32).to_bytes(STAMP_BYTES, "little")
        while self._dirty and len(out) < TRANSMIT_DATAGRAMS:
            conv = next(iter(self._dirty))
            del self._dirty[conv]
            self._turn(conv, stamp, out)
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

    def _turn(self, conv: Conv, stamp: bytes, out: list[tuple[int, bytes, bytes]]) -> None:
        assert conv.path is not None
        kcp, now_ms = conv.kcp, self.now_ms
        tokens = TURN_BYTES
        for pacer in conv.pacers:
            left = pacer.tokens(now_ms)
            tokens = tokens if left is None else min(tokens, left)
        sent, before = conv.tx_bytes, len(out)
        for block in kcp.flush(now_ms, max(tokens, 0)):
            for frame in self._frames(conv, block):
                datagram = self._cipher.seal(stamp + frame)
                if self._cipher.authentic:
                    self._remember(datagram, conv.number)
                conv.tx_bytes += len(datagram)
                out.append((*conv.path, datagram))
        conv.tx_datagrams += len(out) - before
        for pacer in conv.pacers:
            pacer.spend(conv.tx_bytes - sent)
        conv.notice_room()
        due_ms = kcp.deadline
        if kcp.wants_flush:
            held_ms = self._held_until(conv)
            if held_ms is None or held_ms <= now_ms:
                self._dirty[conv] = None
            else:
                due_ms = earliest(due_ms, held_ms)
        self._timers.wake_by(conv, due_ms)

    def _frames(self, conv: Conv, block: bytes) -> list[bytes]:
        if conv.sender is not None:
            return conv.sender.frames(block)
        return [SHARD.pack(0, 0) + block if self.format.has_fec else block]

    def _held_until(self, conv: Conv) -> int | None:
        held_ms = None
        for pacer in conv.pacers:
            at_ms = pacer.ready_at(conv.kcp.kcp_mtu)
            held_ms = at_ms if held_ms is None or (at_ms is not None and at_ms > held_ms) else held_ms
        return held_ms

    # -- in --

    def receive(self, sock: int, addr: bytes, datagram: bytes, now_ms: int) -> None:
        """Take in one datagram. Never raises for its contents: what is wrong is counted in `drops`."""
        self.now_ms = now_ms
        if len(datagram) > RECEIVE_BYTES:
            self.drop("long")
            return
        plaintext = self._cipher.open(datagram)
        if plaintext is None:
            self.drop("auth")
        elif abs((self._wall_s() & MASK32) - int.from_bytes(plaintext[:STAMP_BYTES], "little")) > SKEW_S:
            self.drop("clock")
        elif self.format.has_fec:
            self._shard(sock, addr, datagram, plaintext[STAMP_BYTES:])
        else:
            self._segments(sock, addr, datagram, plaintext[STAMP_BYTES:])

    def take_ready(self) -> list[tuple[Conv, int]]:
        """The conversations with events, each once, and their events."""
        ready, self.ready = self.ready, []
        found = [(conv, conv.events) for conv in ready if not conv.closed]
        for conv in ready:
            conv.events = 0
        return found

    def take_strangers(self) -> list[Stranger]:
        """Segments of conversation 0 that are nobody's: (socket, address, segments)."""
        strangers, self._strangers = self._strangers, []
        return strangers

    @property
    def news(self) -> bool:
        """Something came that the leg has to act on now."""
        return bool(self.ready or self._strangers or self.alert)

    def _shard(self, sock: int, addr: bytes, datagram: bytes, frame: bytes) -> None:
        if len(frame) < SHARD_BYTES:
            self.drop("short")
            return
        group, index = SHARD.unpack_from(frame)
        if index < self.format.fec[0]:
            self._segments(sock, addr, datagram, frame[SHARD_BYTES:], (group, index))
            return
        if len(frame) <= PARITY.size:
            self.drop("short")
            return
        conv = self._whose(sock, addr, datagram, PARITY.unpack_from(frame)[2])
        if conv is not None:
            self._rebuild(conv, group, index, frame[PARITY.size :])

    def _segments(
        self, sock: int, addr: bytes, datagram: bytes, block: bytes, shard: tuple[int, int] | None = None
    ) -> None:
        if len(block) < HEADER_BYTES:
            self.drop("short")
            return
        conv = self._whose(sock, addr, datagram, int.from_bytes(block[:4], "little"), block)
        if conv is None:
            return
        self._input(conv, block, False)
        if shard is not None:
            self._rebuild(conv, *shard, block)

    def _whose(
        self, sock: int, addr: bytes, datagram: bytes, number: int, block: bytes | None = None
    ) -> Conv | None:
        """The conversation that a datagram is for, if it is new and known; moves its path."""
        if self._cipher.authentic:
            mark = datagram[-TAG_BYTES - TRAILER_BYTES :]
            if mark in (self._seen if number else self._openings):
                self.drop("replay")
                return None
        conv = self._find(sock, addr, number)
        if conv is None or conv.closed:
            if number or not self._greets or block is None:
                self.drop("conv_unknown")
            elif len(self._strangers) >= STRANGERS_LIMIT:
                self.drop("strangers_overflow")
            else:
                self._mark_seen(datagram, number)
                self._strangers.append((sock, addr, block))
            return None
        self._mark_seen(datagram, number)
        conv.heard_ms = self.now_ms
        conv.rx_bytes += len(datagram)
        conv.rx_datagrams += 1
        if conv.follows and conv.path != (sock, addr):
            conv.move_to((sock, addr))
        return conv

    def _mark_seen(self, datagram: bytes, number: int) -> None:
        if self._cipher.authentic:
            self._remember(datagram, number)

    def _remember(self, datagram: bytes, number: int) -> None:
        memory = self._seen if number else self._openings
        memory.add(datagram[-TAG_BYTES - TRAILER_BYTES :], self.now_ms)

    def _rebuild(self, conv: Conv, group: int, index: int, contents: bytes) -> None:
        if conv.receiver is None:
            return
        untrusted = conv.receiver.untrusted
        for block in conv.receiver.take(group, index, contents):
            self._input(conv, block, True)
        if conv.receiver.untrusted > untrusted:
            self.drop("fec_untrusted", conv.receiver.untrusted - untrusted)

    def _input(self, conv: Conv, block: bytes, rebuilt: bool) -> None:
        kcp = conv.kcp
        if kcp.input(block, self.now_ms, rebuilt) < 0:
            self.drop("kcp_malformed")
        if kcp.readable:
            conv.raise_events(READABLE)
        conv.notice_room()
        if kcp.wants_flush:
            self.mark(conv)
        self._timers.wake_by(conv, kcp.deadline)
