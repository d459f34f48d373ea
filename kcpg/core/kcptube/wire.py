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

from kcpg.core.kcp.params import HEADER_BYTES, MAX_FRAGMENTS, KcpParams
from kcpg.core.kcptube.cipher import TAG_BYTES, TRAILER_BYTES, Cipher, overhead
from kcpg.core.kcptube.fec import OVERHEAD_BYTES, PARITY, SHARD, ShardReceiver, ShardSender
from kcpg.core.plainwire import WAKE_SEGMENTS, Datagrams, Path, PlainConv, PlainWire
from kcpg.core.replaycache import ReplayCache
from kcpg.core.units import MASK32

if TYPE_CHECKING:
    from kcpg.core.kcp.kcp import Kcp

RECEIVE_BYTES = 2048  # Longest UDP payload: kcptube's buffers cut off the rest

SKEW_S = 255  # So far may the clocks of both ends be apart

STAMP_BYTES = 4
SHARD_BYTES = SHARD.size

# Datagrams remembered, sent and received: some seconds at full speed, all that are valid on a quiet link.
REMEMBERED = 1 << 17

# Those of conversation 0 have a memory of their own, because a repeated one would open a flow.
REMEMBERED_OPENINGS = 1 << 14

STRANGERS_LIMIT = 256


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


class Conv(PlainConv["Wire"]):
    """`follows`: the path goes where the newest datagram came from."""

    def __init__(self, wire: Wire, number: int, params: KcpParams, user: Any, follows: bool) -> None:
        most_bytes = RECEIVE_BYTES - STAMP_BYTES - TRAILER_BYTES
        super().__init__(wire, number, params, user, most_bytes, wire.format.kcp_mtu)
        self.follows = follows
        self.path: Path | None = None
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


Stranger = tuple[int, bytes, bytes]


class Wire(PlainWire[Conv]):
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
        super().__init__(kcp)
        self.format = wire_format
        self._cipher = cipher
        self._wall_s = wall_s
        self._find = find
        self._greets = greets
        self._strangers: list[Stranger] = []
        self._seen = ReplayCache(REMEMBERED, 2 * SKEW_S * 1000)
        self._openings = ReplayCache(REMEMBERED_OPENINGS, 2 * SKEW_S * 1000)

    # -- out --

    def mark(self, conv: Conv) -> None:
        """It has something to send."""
        if conv.path is not None:
            super().mark(conv)

    def _seal(self, conv: Conv, blocks: list[bytes], out: Datagrams) -> None:
        assert conv.path is not None
        if not blocks:
            return
        stamp = (self._wall_s() & MASK32).to_bytes(STAMP_BYTES, "little")
        for block in blocks:
            for frame in self._frames(conv, block):
                datagram = self._cipher.seal(stamp + frame)
                self._mark_seen(datagram, conv.number)
                out.append((*conv.path, datagram))

    def _frames(self, conv: Conv, block: bytes) -> list[bytes]:
        if conv.sender is not None:
            return conv.sender.frames(block)
        return [SHARD.pack(0, 0) + block if self.format.has_fec else block]

    # -- in --

    def receive(self, sock: int, addr: bytes, datagram: bytes, now_ms: int) -> None:
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

    def take_strangers(self) -> list[Stranger]:
        """Segments of conversation 0 that are nobody's: (socket, address, segments)."""
        strangers, self._strangers = self._strangers, []
        return strangers

    @property
    def news(self) -> bool:
        return bool(self._strangers or super().news)

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
        self._fed(conv)
