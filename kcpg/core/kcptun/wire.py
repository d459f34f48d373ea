"""The data plane of a kcptun leg: datagrams in, datagrams out, every drop counted.

    datagram   sealed( segments of one conversation )
    with FEC   sealed( a shard of them, see `fec` )

One `TunWire` serves all conversations of a leg, one for each path. It decides nothing about them: whose a
datagram of an unknown path, or of another conversation, is says `stranger`, and what conversations have
become is handed out by `take_ready`.

The compiled twin is `_wire`; this one is to be read, and to run where nothing can be compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from kcpg.core.kcp.kcp import Kcp
from kcpg.core.kcp.params import HEADER_BYTES, KcpParams
from kcpg.core.kcptun import fec, smux
from kcpg.core.kcptun.cipher import DATAGRAM_BYTES, Cipher, derive, overhead
from kcpg.core.plainwire import Datagrams, Path, PlainConv, PlainWire
from kcpg.core.replaycache import ReplayCache
from kcpg.core.units import diff32

# Datagrams remembered, sent and received. Those with a link's first segment have a memory of their own:
# without that one, nothing of a link that somebody repeats reaches a target.
REMEMBERED = 1 << 17
REMEMBERED_OPENINGS = 1 << 14
REMEMBERED_MS = 7 * 86_400_000  # The format has no time: what bounds the memory is the two numbers above
SN_AT, UNA_AT = 12, 16  # In a segment's header
FIRST_SN = bytes(4)
ENTROPY_BYTES = 4096  # Of nonces, fetched together

ACK_HOLD_MS = 2  # As of the native conversations: an answer takes its request's acknowledgement along

# A kcptun takes no more before it has accepted the link, and drops the rest.
FIRST_WINDOW = 32

# The floor of kcp-go's time-outs: its acknowledgements wait for its next tick.
MIN_RTO_MS = {True: 30, False: 100}  # By whether `nodelay` is set


@dataclass(frozen=True, slots=True)
class Format:
    """What both ends must have alike, and how large datagrams are. `fec`: data and parity shards, unless the
    peer is found to have others. `follows`: whatever the peer does."""

    crypt: str = "aes"
    password: bytes = field(default=b"it's a secrect", repr=False)
    datagram_bytes: int = 1350
    fec: tuple[int, int] = (0, 0)
    follows: bool = False

    @property
    def kcp_mtu(self) -> int:
        """Bytes of segments in a datagram."""
        return (
            self.datagram_bytes
            - overhead(self.crypt)
            - (fec.OVERHEAD_BYTES if self.has_fec or self.follows else 0)
        )

    @property
    def has_fec(self) -> bool:
        """Shards instead of bare segments."""
        return all(self.fec)


class TunConv(PlainConv["TunWire"]):
    """One path's conversation."""

    def __init__(self, wire: TunWire, number: int, params: KcpParams, user: Any, path: Path) -> None:
        self.path = path
        self._params = params
        first = replace(
            params, snd_wnd=min(params.snd_wnd, FIRST_WINDOW), min_rto_ms=MIN_RTO_MS[params.nodelay > 0]
        )
        super().__init__(wire, number, first, user, DATAGRAM_BYTES, wire.format.kcp_mtu)
        self.kcp.ack_hold_ms = ACK_HOLD_MS
        self.behind_ms = -1  # When the peer seemed to know less than it did: see `TunWire._input`
        self.heard = False  # Anything came
        self.sender = fec.ShardSender() if wire.format.has_fec else None
        self.receiver: fec.ShardReceiver | None = None
        wire.convs[path] = self

    def write(self, data: bytes) -> int:
        """Queue bytes of the stream while there is room; how many."""
        if self.closed:
            return len(data)
        taken = self.kcp.write(data)
        if taken:
            self.wire.mark(self)
        return taken

    def write_frames(self, version: int, stream: int, data: bytes, step: int) -> bytes:
        """Queue bytes as smux frames of at most `step` of data; what there was no room for."""
        if self.closed:
            return b""
        queued = smux.frames(version, stream, data, step)
        return queued[self.write(queued) :]

    def read(self, limit: int) -> bytes:
        """Bytes of the stream; b"": none now."""
        kcp = self.kcp
        data = kcp.read(limit)
        while not data and kcp.at_end:  # a segment without bytes, which means nothing here
            kcp.recv()
            data = kcp.read(limit)
        if kcp.wants_flush:
            self.wire.mark(self)
        return data

    def move_to(self, path: Path) -> None:
        """The peer is there from now on."""
        self.wire.convs.pop(self.path, None)
        self.path = path
        self.wire.convs[path] = self

    def heard_fec(self) -> None:
        """Send shards as the peer does: see `fec`."""
        if self.receiver is None:
            self.sender = None
            return
        if self.sender is None and self.wire.format.follows:
            self.sender = fec.ShardSender()
        sender, found = self.sender, self.receiver.shape
        if sender is None:
            return
        if found.data:
            shape = found.data, found.parity
        elif found.without_parity >= fec.WITHOUT_PARITY and self.wire.format.has_fec:
            shape = self.wire.format.fec
        else:
            return
        if (sender.data, sender.parity) != shape:
            sender.use(*shape)

    def opened(self) -> None:
        """The peer has acknowledged something: its whole window may be used."""
        self._params, params = replace(self._params, snd_wnd=0), self._params
        if params.snd_wnd:
            self.kcp.set_windows(params.snd_wnd, params.rcv_wnd)

    @property
    def is_behind(self) -> bool:
        """The peer seems to have forgotten what it had."""
        return self.behind_ms > self.heard_ms

    @property
    def is_opening(self) -> bool:
        """Nothing is acknowledged yet."""
        return self._params.snd_wnd > 0


class TunWire(PlainWire[TunConv]):
    """`stranger(path, body)`: whose a datagram is that no conversation expects; None: nobody's."""

    def __init__(
        self,
        wire_format: Format,
        entropy: Callable[[int], bytes],
        stranger: Callable[[Path, bytes], TunConv | None],
    ) -> None:
        super().__init__(Kcp)
        self.format = wire_format
        self.convs: dict[Path, TunConv] = {}
        self._cipher = Cipher(wire_format.crypt, derive(wire_format.password))
        self._entropy = entropy
        self._nonces = b""
        self._nonce_at = 0
        self._stranger = stranger
        self.seen = ReplayCache(REMEMBERED, REMEMBERED_MS)
        self.openings = ReplayCache(REMEMBERED_OPENINGS, REMEMBERED_MS)

    def converse(self, number: int, params: KcpParams, path: Path) -> TunConv:
        """A conversation by this path."""
        return TunConv(self, number, params, None, path)

    def parser(self, version: int) -> smux.Parser:
        """One for a conversation's frames."""
        return smux.Parser(version)

    # -- out --

    def forget(self, conv: TunConv) -> None:
        super().forget(conv)
        if self.convs.get(conv.path) is conv:
            del self.convs[conv.path]

    def _seal(self, conv: TunConv, blocks: list[bytes], out: Datagrams) -> None:
        sock, addr = conv.path
        cipher, sender = self._cipher, conv.sender
        for block in blocks:
            for frame in sender.frames(block) if sender is not None else (block,):
                datagram = cipher.seal(self._nonce(), frame)
                if cipher.marks:
                    self.seen.add(datagram[cipher.mark], self.now_ms)
                out.append((sock, addr, datagram))

    def _nonce(self) -> bytes:
        size = self._cipher.nonce_bytes
        at = self._nonce_at
        if at + size > len(self._nonces):
            self._nonces, at = self._entropy(ENTROPY_BYTES), 0
        self._nonce_at = at + size
        return self._nonces[at : at + size]

    # -- in --

    def receive(self, sock: int, addr: bytes, datagram: bytes, now_ms: int) -> None:
        self.now_ms = now_ms
        if len(datagram) > DATAGRAM_BYTES:
            self.drop("long")
            return
        body = self._cipher.open(datagram)
        if body is None:
            self.drop("auth")
            return
        kind = body[4:6]
        if kind in fec.KINDS:
            self._shard((sock, addr), datagram, body, kind == fec.KINDS[0])
            return
        conv = self._whose((sock, addr), datagram, body)
        if conv is not None:
            self._input(conv, body, False)
            self._fed(conv)
            if conv.sender is not None:
                conv.heard_fec()

    def _shard(self, path: Path, datagram: bytes, body: bytes, is_data: bool) -> None:
        block = body[fec.SHARD_BYTES :]
        number = int.from_bytes(body[:4], "little")
        if is_data:
            size = int.from_bytes(block[: fec.SIZE_BYTES], "little")
            if not fec.SIZE_BYTES + HEADER_BYTES <= size <= len(block):
                self.drop("shard_malformed")
                return
            segments = block[fec.SIZE_BYTES : size]
            conv = self._whose(path, datagram, segments)
            if conv is None:
                return
            self._input(conv, segments, False)
        else:
            conv = self._whose(path, datagram, None)
            if conv is None:
                return
        if conv.closed:
            return
        if conv.receiver is None:
            conv.receiver = fec.ShardReceiver(conv.number)
        untrusted = conv.receiver.untrusted
        rebuilt = conv.receiver.take(number, is_data, block)
        for segments in rebuilt:
            self._input(conv, segments, True)
        if is_data or rebuilt:
            self._fed(conv)
        conv.heard_fec()
        if conv.receiver.untrusted > untrusted:
            self.drop("fec_untrusted", conv.receiver.untrusted - untrusted)

    def _whose(self, path: Path, datagram: bytes, segments: bytes | None) -> TunConv | None:
        """The conversation that a datagram is for, if it is new and known. `segments` None: parity, which
        does not say its number."""
        mark = datagram[self._cipher.mark] if self._cipher.marks else b""
        if mark and (mark in self.seen or mark in self.openings):
            self.drop("replay")
            return None
        conv = self.convs.get(path)
        if segments is not None:
            if len(segments) < HEADER_BYTES:
                self.drop("short")
                return None
            if conv is None or int.from_bytes(segments[:4], "little") != conv.number:
                conv = self._stranger(path, segments)
            if mark and conv is not None and segments[SN_AT:UNA_AT] == FIRST_SN:
                self.openings.add(mark, self.now_ms)
        if conv is None:
            self.drop("conv_unknown")
            return None
        if mark:
            self.seen.add(mark, self.now_ms)
        if not conv.heard:
            conv.heard = self.alert = True
        conv.rx_bytes += len(datagram)
        conv.rx_datagrams += 1
        return conv

    def _input(self, conv: TunConv, block: bytes, rebuilt: bool) -> None:
        """A kcptun that was restarted takes our datagrams for a new conversation of this number: it
        acknowledges them one by one, and never what came before. So it is not heard if what it has in order
        is less than what it had."""
        kcp = conv.kcp
        if not rebuilt:
            if diff32(int.from_bytes(block[UNA_AT : UNA_AT + 4], "little"), kcp.snd_una) >= 0:
                conv.heard_ms = self.now_ms
            else:
                conv.behind_ms = self.now_ms
        if kcp.input(block, self.now_ms, rebuilt) < 0:
            self.drop("kcp_malformed")
        if conv.is_opening and kcp.snd_una:
            conv.opened()
