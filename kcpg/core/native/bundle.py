"""The data plane of one link, in plain Python: its keys, conversations, pacing and turn-taking."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from kcpg.core.kcp import KcpParams
from kcpg.core.native import frames
from kcpg.core.native.conv import Conv
from kcpg.core.pacer import Pacer
from kcpg.core.replay import ReplayWindow
from kcpg.core.seal import Sealer

if TYPE_CHECKING:
    from kcpg.core.native.wire import Path, Wire

HEADER_BYTES = 8
TAG_BYTES = 16
DEFAULT_DATAGRAM_BYTES = 1400
"""Fits an Ethernet path of 1,500 bytes with IPv6 and 52 bytes of some other tunnel in between."""

TURN_SEGMENTS = 16
"""Deficit round robin: what one conversation may send before the next has its turn."""

NEVER_MS = -1


class RxEpoch:
    """What opens datagrams of one CID, and how new they are."""

    __slots__ = ("bundle", "cid", "order", "replay", "sealer")

    def __init__(self, bundle: Bundle, cid: int, order: int, sealer: Sealer) -> None:
        self.bundle = bundle
        self.cid = cid
        self.order = order
        self.sealer = sealer
        self.replay = ReplayWindow()


class Bundle:
    """The conversations of one link, sealed under its keys and sent on its path.

    Facts: `rx_last_ms`, `tx_last_ms` (-1: never), `rx_datagrams`, `rx_bytes`, `tx_datagrams`, `tx_bytes`,
    `tx_pn` (datagrams sent in this epoch), `rx_cid` (the CID by which the newest authentic datagram came),
    `rx_pn` (the highest packet number of that epoch, -1: none), `segments_sent` and `segments_resent` of all
    conversations, `srtt_ms` (-1: unknown), `source` and `path` (socket, address).
    """

    OVERHEAD = HEADER_BYTES + 1 + TAG_BYTES

    def __init__(self, wire: Wire, user: object) -> None:
        self.wire = wire
        self.user = user
        self.accept: Callable[[int], Conv | None] | None = None
        self.convs: dict[int, Conv] = {}
        self.path: Path | None = None
        self.source: Path | None = None
        self.rx_last_ms = self.tx_last_ms = NEVER_MS
        self.rx_datagrams = self.rx_bytes = self.tx_datagrams = self.tx_bytes = 0
        self.tx_pn = 0
        self.segments_sent = self.segments_resent = 0
        self.rx_cid: int | None = None
        self.srtt_ms = -1
        self._datagram_bytes = DEFAULT_DATAGRAM_BYTES
        self._rate_bps = 0
        self._pacer = Pacer(0, DEFAULT_DATAGRAM_BYTES)
        self._epochs: dict[int, RxEpoch] = {}
        self._order = 0
        self._newest = (0, -1)
        self._tx_cid = 0
        self._tx: Sealer | None = None
        self._dirty: deque[Conv] = deque()
        self._busy: set[Conv] = set()

    # Keys and path.

    def install_rx(self, cid: int, algorithm: str, key: bytes, iv: bytes) -> None:
        """Accept datagrams that carry `cid`, sealed under `key`; earlier epochs stay until `remove_rx`."""
        assert cid not in self.wire.epochs, "a CID names one epoch"
        self._order += 1
        epoch = RxEpoch(self, cid, self._order, Sealer(algorithm, key, iv))
        self._epochs[cid] = self.wire.epochs[cid] = epoch

    def remove_rx(self, cid: int) -> None:
        """Forget an epoch; its late datagrams become strangers."""
        if self._epochs.pop(cid, None) is not None:
            del self.wire.epochs[cid]

    def install_tx(self, cid: int, algorithm: str, key: bytes, iv: bytes) -> None:
        """Seal under `key` from now on, for the peer's `cid`; packet numbers start at 0 again."""
        self._tx_cid, self._tx, self.tx_pn = cid, Sealer(algorithm, key, iv), 0
        self._wake()

    def set_path(self, sock: int, addr: bytes) -> None:
        """Send by this local socket to this address from now on."""
        self.path = (sock, addr)
        self._wake()

    @property
    def datagram_bytes(self) -> int:
        """Largest UDP payload; conversations opened later cut their segments to it."""
        return self._datagram_bytes

    @datagram_bytes.setter
    def datagram_bytes(self, value: int) -> None:
        assert value <= self.wire.max_datagram
        self._datagram_bytes = value
        self._pacer = Pacer(self._rate_bps, value)

    @property
    def rate_bps(self) -> int:
        """Sending rate in bit/s of UDP payload, 0 for no limit."""
        return self._rate_bps

    @rate_bps.setter
    def rate_bps(self, value: int) -> None:
        self._rate_bps = value
        self._pacer = Pacer(value, self._datagram_bytes)

    @property
    def outstanding(self) -> bool:
        """Some conversation has sent data that is not acknowledged yet."""
        return bool(self._busy)

    # Conversations.

    def open(self, conv: int, params: KcpParams) -> Conv:
        """A new conversation with this number, which must be free."""
        assert conv not in self.convs
        self.convs[conv] = made = Conv(self, conv, params)
        return made

    def close(self, conv: int) -> None:
        """Forget a conversation and everything it holds, at once."""
        gone = self.convs.pop(conv, None)
        if gone is not None:
            gone.closed = True
            gone.clear()
            self._busy.discard(gone)

    def free(self) -> None:
        """Drop all conversations and keys. What was sealed already still leaves."""
        for conv in list(self.convs):
            self.close(conv)
        for cid in list(self._epochs):
            self.remove_rx(cid)
        self._tx = None
        self._dirty.clear()

    def hurry(self, now_ms: int) -> None:
        """The peer is there again, or somewhere else: send at once what waits for a later retransmission."""
        for conv in self.convs.values():
            conv.hurry(now_ms)
            self.settle(conv)

    @property
    def rx_pn(self) -> int:
        """The highest packet number of the newest epoch, but for path probes; -1: none."""
        return self._newest[1]

    def send(self, type: int, payload: bytes, path: Path | None = None) -> None:
        """Seal one control frame now and let it leave with the next transmit, unpaced."""
        path = path or self.path
        if self._tx is None or path is None:
            self.wire.drop("no_path")
            return
        self.wire.outbox.append((*path, self.seal(bytes((type,)) + payload)))

    # Receiving, called by the wire.

    def note_received(
        self, epoch: RxEpoch, pn: int, path: Path, size: int, probes: bool, now_ms: int
    ) -> bool:
        """Record an authentic datagram. True if it is the newest so far and came by another path.

        One that only probes its path is never that.
        """
        self.rx_last_ms = now_ms
        self.rx_datagrams += 1
        self.rx_bytes += size
        if probes or (epoch.order, pn) < self._newest:
            return False
        self._newest = (epoch.order, pn)
        self.rx_cid = epoch.cid
        if path == self.source:
            return False
        self.source = path
        return path != self.path

    # Sending.

    def mark_dirty(self, conv: Conv) -> None:
        """This conversation has something to send: give it a turn."""
        if not conv.is_dirty and not conv.closed:
            conv.is_dirty = True
            self._dirty.append(conv)
            self._wake()

    def settle(self, conv: Conv) -> None:
        """After any change of a conversation: queue it, or arm its deadline."""
        if conv.closed:
            return
        if conv.in_flight:
            self._busy.add(conv)
        else:
            self._busy.discard(conv)
        if conv.srtt_ms > 0:
            self.srtt_ms = conv.srtt_ms
        conv.notice_room()
        if conv.wants_flush or conv.packets_out:
            self.mark_dirty(conv)
        else:
            self.wire.arm(conv)

    def held_until(self) -> int | None:
        """None: may send at once (or has nothing to send). Otherwise when the pacer lets data leave again."""
        return self._pacer.ready_at(self._datagram_bytes) if self._dirty else None

    def can_send(self) -> bool:
        """There is something to send, and a key and a path to send it with."""
        return bool(self._dirty) and self._tx is not None and self.path is not None

    def turn(self, now_ms: int, budget: int) -> list[tuple[int, bytes, bytes]]:
        """At most about `budget` datagrams: one round over the conversations that have something."""
        path = self.path
        if path is None or self._tx is None:
            return []
        plain: list[bytes] = []
        open_piece = b""
        for _ in range(len(self._dirty)):
            if len(plain) >= budget:
                break
            conv = self._dirty.popleft()
            conv.is_dirty = False
            if conv.closed:
                continue
            for piece in self._flush(conv, now_ms, plain):
                if open_piece and len(open_piece) + len(piece) > self._datagram_bytes - self.OVERHEAD:
                    plain.append(_KCP_TYPE + open_piece)
                    open_piece = b""
                open_piece += piece
        if open_piece:
            plain.append(_KCP_TYPE + open_piece)
        return [(*path, self.seal(p)) for p in plain]

    def seal(self, plaintext: bytes) -> bytes:
        """One masked datagram of type byte and payload, under the next packet number."""
        assert self._tx is not None
        floor = frames.MIN_DATAGRAM_BYTES - HEADER_BYTES - TAG_BYTES
        if len(plaintext) < floor:
            plaintext += bytes(floor - len(plaintext))
        header = self._tx_cid.to_bytes(4, "big") + (self.tx_pn & 0xFFFFFFFF).to_bytes(4, "big")
        datagram = self.wire.mask(header, self._tx.seal(self.tx_pn, header, plaintext))
        self.tx_pn += 1
        self.tx_datagrams += 1
        self.tx_bytes += len(datagram)
        self.tx_last_ms = self.wire.now_ms
        return datagram

    def _flush(self, conv: Conv, now_ms: int, plain: list[bytes]) -> list[bytes]:
        """One conversation's turn: its packets go to `plain`, its segments are returned."""
        tokens = self._pacer.tokens(now_ms)
        quantum = TURN_SEGMENTS * conv.kcp_mtu
        conv.deficit = min(conv.deficit + quantum, 2 * quantum)
        while conv.packets_out and conv.deficit > 0 and (tokens is None or tokens > 0):
            packet = conv.packets_out.popleft()
            plain.append(_DATAGRAM_TYPE + conv.conv.to_bytes(4, "little") + packet)
            conv.deficit -= len(packet)
            self._pacer.spend(len(packet) + 4 + self.OVERHEAD)
            tokens = self._pacer.tokens(now_ms)
        allowed = conv.deficit if tokens is None else min(conv.deficit, tokens)
        fresh, again = conv.segments_sent, conv.segments_resent_fast + conv.segments_resent_rto
        pieces = conv.flush(now_ms, max(0, allowed))
        self.segments_sent += conv.segments_sent - fresh
        self.segments_resent += conv.segments_resent_fast + conv.segments_resent_rto - again
        sent = sum(map(len, pieces))
        conv.deficit -= sent
        self._pacer.spend(sent + len(pieces) * self.OVERHEAD)
        self.settle(conv)
        if conv.deadline is not None and conv.deadline <= now_ms:
            self.mark_dirty(conv)  # the pacer, or its share, held a retransmission back
        if not conv.is_dirty:
            conv.deficit = 0
        return pieces

    def _wake(self) -> None:
        if self.can_send():
            self.wire.wake(self)


_KCP_TYPE = bytes((frames.KCP,))
_DATAGRAM_TYPE = bytes((frames.DATAGRAM,))
