"""The data plane of a native tunnel leg in plain Python: datagrams in, datagrams out, every drop counted.

The readable reference of the compiled `_wire`, its twin in tests, and the fallback where it was not built.
One `Wire` serves all links of a leg: it finds the link by CID, never by address; opens, tells frames apart,
feeds conversations, and lets what they have to send leave in turns. It decides nothing about links: what
needs a decision is handed out by `take_events`.
"""

from __future__ import annotations

from collections import deque
from struct import Struct

from kcpg.core.kcp.pool import Pool
from kcpg.core.native.wire import frames
from kcpg.core.native.wire.conv import READABLE, SEGMENT_HEADER_BYTES, WRITABLE, Conv
from kcpg.core.native.wire.events import Event, Events
from kcpg.core.native.wire.headers import HEADER_BYTES
from kcpg.core.native.wire.linkwire import LinkWire
from kcpg.core.native.wire.rxepoch import RxEpoch
from kcpg.core.native.wire.turn import BUILD_DATAGRAMS, SLOT_BYTES, Batch
from kcpg.core.seal.seal import HeaderMask, xor
from kcpg.core.timers import Timers
from kcpg.core.units import earliest

__all__ = ["READABLE", "UNKNOWN_CONV", "WRITABLE", "LinkWire", "Conv", "Path", "Wire"]

NEVER_MS = 1 << 62  # longer than any round trip
SHORT_BYTES = 800  # a segment with less is not one of bulk, on whatever path

Path = tuple[int, bytes]  # A local socket and the peer's address: where datagrams go and where they came from

# Type of the frame that tells the link of a segment for an unknown conversation (payload: its number).
UNKNOWN_CONV = -1

# Most datagrams of one transmit call, about 5 ms of work, so that receiving gets its turn.
TRANSMIT_DATAGRAMS = 512

TURN_DATAGRAMS = 64  # Most datagrams of one link before the next link has its turn: one GSO run

# While a link sends in bulk, what comes is acknowledgements, few by themselves; and late ones would make
# the rate look higher than it is. It does so if the pacer held it back within this time.
BULK_MS = 100

# After something for which somebody may wait, data is neither saved up nor left in a socket for this long.
LONE_MS = 1000

# How long datagrams may be left in the socket, to be taken together: a part of the round trip, and at most.
COALESCE_RTT = 8
COALESCE_MS = 8

# A node that is called later than it asked for shares its processor. Every wait costs it more then, so that
# it is treated as one for whose datagrams somebody waits.
LATE_MS = 2

_SEGMENT = Struct("<IBBHIIII")
_PUSH = 81
_ASK_WINDOW = 83


class Wire:
    """`max_datagram`: longest UDP payload taken or sent.

    `pool_bytes` bounds the memory of segments: see `kcpg.core.kcp.pool`.
    """

    def __init__(
        self, *, mask_rx: bytes, mask_tx: bytes, max_datagram: int, pool_bytes: int = 256 << 20
    ) -> None:
        self.max_datagram = max_datagram
        self.drops: dict[str, int] = {}
        self.epochs: dict[int, RxEpoch[LinkWire]] = {}
        self.outbox: deque[tuple[int, bytes, bytes]] = deque()
        self.now_ms = 0
        self.paced_ms = -BULK_MS  # when the pacer held something back last
        self.lone_ms = -LONE_MS  # when something short came or left last
        self._coalesce_ms = 0
        self._due_ms = NEVER_MS  # as `deadline` told last, and ...
        self._look_ms = NEVER_MS  # ... `coalesce_ms`
        self._nearest_ms = NEVER_MS  # round trip of the links that were heard since ...
        self._rx_path: Path = (0, b"")  # where the datagram in hand came from
        self._mask_rx = HeaderMask(mask_rx)
        self._mask_tx = HeaderMask(mask_tx)
        self._active: deque[LinkWire] = deque()
        self.timers: Timers[Conv] = Timers()
        self.events = Events()
        self.pool = Pool(pool_bytes // SLOT_BYTES)
        self.starved: dict[Conv, None] = {}  # those that wait for slots of the pool, in order

    def link_wire(self, user: object) -> LinkWire:
        """The data plane of a new link; it can send once it has a key and a path."""
        return LinkWire(self, user)

    def drop(self, reason: str, count: int = 1) -> None:
        """Count a discarded datagram or frame under its name."""
        self.drops[reason] = self.drops.get(reason, 0) + count

    # Out.

    def post(self, sock: int, addr: bytes, datagram: bytes) -> None:
        """Let a datagram that is complete (a handshake's) leave with the next transmit."""
        self.outbox.append((sock, addr, datagram))

    def mask(self, header: bytes, body: bytes) -> bytes:
        """The datagram of this clear header and sealed body as it goes over the wire."""
        return xor(header, self._mask_tx.mask(body[-16:])) + body

    def transmit(self, now_ms: int) -> list[tuple[int, bytes, bytes]]:
        """What may leave now, as (socket, address, datagram); call again while `backlog`."""
        out: list[tuple[int, bytes, bytes]] = []
        while len(out) < TRANSMIT_DATAGRAMS and (built := self._build(now_ms)):
            out += built
        return out

    def _build(self, now_ms: int) -> list[tuple[int, bytes, bytes]]:
        """One batch of what may leave now."""
        self.now_ms = now_ms
        if now_ms > self._due_ms + LATE_MS:
            self.lone_ms = now_ms
        self._due_ms = NEVER_MS
        for conv in self.timers.take_due(now_ms):
            conv.link_wire.urgent = True
            conv.link_wire.mark_dirty(conv)
        batch = Batch()
        out = self._posted(batch)
        held: list[LinkWire] = []
        while self._active and batch.count < BUILD_DATAGRAMS:
            link_wire = self._active[0]
            datagrams = link_wire.turn(now_ms, min(TURN_DATAGRAMS, BUILD_DATAGRAMS - batch.count), batch)
            out += datagrams
            self._active.popleft()  # only now, as its own turn may want to wake it
            if datagrams and _due(link_wire, now_ms):
                self._active.append(link_wire)
            elif link_wire.can_send():
                held.append(link_wire)
        self._active.extend(held)
        return out or self._posted(batch)  # where everything that had a turn went in pieces

    def _posted(self, batch: Batch) -> list[tuple[int, bytes, bytes]]:
        """What was posted, and control frames, which are sealed already."""
        out: list[tuple[int, bytes, bytes]] = []
        while self.outbox and batch.has_room(len(self.outbox[0][2])):
            out.append(self.outbox.popleft())
            batch.take(len(out[-1][2]))
        return out

    @property
    def backlog(self) -> bool:
        """More could leave at once."""
        return bool(self.outbox) or any(_due(b, self.now_ms) for b in self._active)

    def deadline(self) -> int | None:
        """When transmit must be called again though nothing else happens; None: never."""
        if self.outbox:
            return self.now_ms
        held = [link_wire.held_until() for link_wire in self._active if link_wire.can_send()]
        times = [self.now_ms if until is None else until for until in held]
        due_ms = earliest(min(times, default=None), self.timers.first())
        self._due_ms = NEVER_MS if due_ms is None else due_ms
        return due_ms

    def wake(self, link_wire: LinkWire) -> None:
        """This link has something to send (called by its link wire)."""
        if link_wire not in self._active:
            self._active.append(link_wire)

    # In.

    def receive(self, sock: int, addr: bytes, datagram: bytes, now_ms: int) -> None:
        """Take in one datagram. Never raises for its contents: what is wrong is counted in `drops`."""
        self.now_ms = now_ms
        self._rx_path = (sock, addr)
        if not frames.MIN_DATAGRAM_BYTES <= len(datagram) <= self.max_datagram:
            self.drop("short" if len(datagram) < frames.MIN_DATAGRAM_BYTES else "long")
            return
        header = xor(datagram[:HEADER_BYTES], self._mask_rx.mask(datagram[-16:]))
        body = datagram[HEADER_BYTES:]
        cid = int.from_bytes(header[:4], "big")
        epoch = self.epochs.get(cid)
        if epoch is None:
            self._stranger(cid, header, body)
            return
        plaintext = self._open(epoch, header, body)
        if plaintext is not None:
            self._dispatch(epoch.owner, plaintext[0], plaintext[1:])

    @property
    def held_slots(self) -> int:
        """Segment slots in use by all conversations."""
        return self.pool.live

    @property
    def is_short(self) -> bool:
        """Three quarters of the memory of segments are in use."""
        return not self.pool.has_spare

    def memory(self) -> dict[str, int]:
        """The memory of segments: bytes that there are at most, bytes in use, and segments that were refused
        as somebody had no share left.
        """
        pool = self.pool
        return {
            "limit_bytes": pool.max_slots * SLOT_BYTES,
            "used_bytes": pool.live * SLOT_BYTES,
            "refused": pool.refused,
        }

    def take_events(self) -> list[Event]:
        """What happened since the last call, in order: tuples of events.py."""
        self._feed()
        return self.events.take()

    @property
    def has_events(self) -> bool:
        """There are some, urgent or not."""
        return len(self.events) > 0

    @property
    def news(self) -> bool:
        """There are events that links or flows have to act on now."""
        self._feed()
        return self.events.urgent

    def _feed(self) -> None:
        """Tell those that waited for segments of the pool, longest first, that there are some again."""
        for conv in list(self.starved):
            if conv.closed or not conv.want_room:
                del self.starved[conv]
            elif conv.room >= conv.wake_room:
                del self.starved[conv]
                conv.want_room = False
                conv.raise_events(WRITABLE)

    def is_alone(self, now_ms: int) -> bool:
        """Somebody may wait for single datagrams: something short came or left a moment ago."""
        return now_ms - self.lone_ms < LONE_MS

    def coalesce_ms(self, now_ms: int) -> int:
        """How long the datagrams that come next may be left in the socket, to be taken together."""
        nearest_ms, self._nearest_ms = self._nearest_ms, NEVER_MS
        if nearest_ms < NEVER_MS:
            self._coalesce_ms = min(nearest_ms // COALESCE_RTT, COALESCE_MS)
        if now_ms > self._look_ms + LATE_MS:
            self.lone_ms = now_ms
        waits = self.is_alone(now_ms) or now_ms - self.paced_ms < BULK_MS
        coalesce_ms = 0 if waits else self._coalesce_ms
        self._look_ms = now_ms + coalesce_ms if coalesce_ms else NEVER_MS
        return coalesce_ms

    def _open(self, epoch: RxEpoch[LinkWire], header: bytes, body: bytes) -> bytes | None:
        pn = epoch.replay.expand(int.from_bytes(header[4:], "big"))
        if not epoch.replay.check(pn):
            self.drop("replay")
            return None
        plaintext = epoch.sealer.open(pn, header, body)
        if plaintext is None:
            self.drop("auth")
            return None
        epoch.replay.commit(pn)
        size = HEADER_BYTES + len(body)
        probes = plaintext[0] in frames.PATH_PROBES
        self._nearest_ms = min(self._nearest_ms, max(epoch.owner.rtt_ms, 0))
        if epoch.owner.note_received(epoch, pn, self._rx_path, size, probes, self.now_ms):
            self.events.moved(epoch.owner)
        return plaintext

    def _dispatch(self, link_wire: LinkWire, frame_type: int, payload: bytes) -> None:
        if frame_type in (frames.KCP, frames.DATAGRAM):
            self._data(link_wire, frame_type, payload, False)
        elif frame_type in (frames.FEC_DATA, frames.FEC_PARITY):
            self._shard(link_wire, frame_type, payload)
        elif frame_type == frames.PIECE:
            frame = link_wire.pieces.add(payload)
            if frame is not None:
                self._unwrap(link_wire, frame, False)
        elif frame_type in frames.CONTROL:
            self._frame(link_wire, frame_type, payload)
        elif frame_type != frames.PAD:
            self.drop("frame_unknown")

    def _shard(self, link_wire: LinkWire, frame_type: int, payload: bytes) -> None:
        """A shard, and the frames that come of it."""
        fec = link_wire.link_fec()
        malformed = fec.malformed
        for frame, rebuilt in fec.receive(frame_type, payload):
            self._unwrap(link_wire, frame, rebuilt)
        if fec.malformed != malformed:
            self.drop("fec_malformed", fec.malformed - malformed)

    def _unwrap(self, link_wire: LinkWire, frame: bytes, rebuilt: bool) -> None:
        """A frame that came as a shard, or in pieces."""
        if frame and frame[0] in (frames.KCP, frames.DATAGRAM):
            self._data(link_wire, frame[0], frame[1:], rebuilt)
        else:
            self.drop("frame_malformed")

    def _data(self, link_wire: LinkWire, frame_type: int, payload: bytes, rebuilt: bool) -> None:
        if frame_type == frames.KCP:
            self._segments(link_wire, payload, rebuilt)
        else:
            self._packet(link_wire, payload)

    def _segments(self, link_wire: LinkWire, payload: bytes, rebuilt: bool) -> None:
        """Cut a KCP frame into runs of one conversation each and feed them; nothing after a broken one."""
        at = 0
        while at < len(payload):
            start, first, pushes, asks, short = at, payload[at : at + 4], False, False, False
            while payload[at : at + 4] == first and len(payload) - at >= SEGMENT_HEADER_BYTES:
                _, command, _, _, _, _, _, length = _SEGMENT.unpack_from(payload, at)
                at += SEGMENT_HEADER_BYTES + length
                pushes |= command == _PUSH
                short |= command == _PUSH and 0 < length < SHORT_BYTES
                asks |= command == _ASK_WINDOW
                if at > len(payload):
                    break
            if at == start or at > len(payload):
                self.drop("kcp_malformed")
                return
            conv = link_wire.convs.get(int.from_bytes(first, "little"))
            if conv is None and pushes and link_wire.accept is not None:
                conv = link_wire.accept(int.from_bytes(first, "little"))
            if conv is not None:
                if short or (pushes and conv.unordered):
                    self.lone_ms = self.now_ms
                self._input(conv, payload[start:at], rebuilt)
                continue
            self.drop("conv_unknown")
            if pushes or asks:
                self._frame(link_wire, UNKNOWN_CONV, first)

    def _input(self, conv: Conv, run: bytes, rebuilt: bool) -> None:
        if conv.input(run, self.now_ms, rebuilt) < 0:
            self.drop("kcp_malformed")
        if conv.readable:
            conv.raise_events(READABLE)
        conv.link_wire.conv_changed(conv)

    def _packet(self, link_wire: LinkWire, payload: bytes) -> None:
        conv = link_wire.convs.get(int.from_bytes(payload[:4], "little")) if len(payload) >= 4 else None
        if conv is None:
            self.drop("conv_unknown" if len(payload) >= 4 else "frame_malformed")
            return
        self.lone_ms = self.now_ms
        conv.deliver(payload[4:])

    def _frame(self, link_wire: LinkWire, frame_type: int, payload: bytes) -> None:
        if not self.events.frame(link_wire, frame_type, payload, self._rx_path):
            self.drop("frames_overflow")

    def _stranger(self, cid: int, header: bytes, body: bytes) -> None:
        if not self.events.stranger(self._rx_path, cid, header, body):
            self.drop("strangers_overflow")


def _due(link_wire: LinkWire, now_ms: int) -> bool:
    until = link_wire.held_until()
    return link_wire.can_send() and (until is None or until <= now_ms)
