"""The data plane of one link, in plain Python: its keys, conversations, pacing and turn-taking."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.kcp.params import DONE, PACED
from kcpg.core.native.wire import frames
from kcpg.core.native.wire.conv import SEGMENT_HEADER_BYTES, SLOT_BYTES, Conv
from kcpg.core.native.wire.counters import SEGMENTS, add_segments
from kcpg.core.native.wire.events import BEGUN, HEARD
from kcpg.core.native.wire.linkfec import FEC_ROOM_BYTES, LinkFec, due
from kcpg.core.native.wire.pieces import Pieces, cut
from kcpg.core.native.wire.rxepoch import NO_LOSSES, RxEpoch, settle, total
from kcpg.core.native.wire.turn import BUILD_DATAGRAMS, HEADER_BYTES, OVERHEAD_BYTES, TAG_BYTES, Batch, Turn
from kcpg.core.pacer import Pacer
from kcpg.core.rate import RateController, Totals
from kcpg.core.seal.seal import Sealer

if TYPE_CHECKING:
    from kcpg.core.fec.plan import Plan
    from kcpg.core.native.wire.wire import Path, Wire

DEFAULT_DATAGRAM_BYTES = 1400
"""Fits an Ethernet path of 1,500 bytes with IPv6 and 52 bytes of some other tunnel in between."""

TURN_SEGMENTS = 16
"""What one conversation may send before the next has its turn; unreliable packets count apart."""

SPARSE_SEGMENTS = 4
"""A conversation with no more than this waiting goes before the others, and with no more than this under way
it need not wait for theirs: keystrokes beside a download."""

NEVER_MS = -1


class Bundle:
    """The conversations of one link, sealed under its keys and sent on its path.

    Facts: `rx_last_ms`, `tx_last_ms`, `heeded_ms` (the peer acknowledged data; -1: never), `rx_datagrams`,
    `rx_bytes`, `tx_datagrams`, `tx_bytes`, `tx_pn` (datagrams sent in this epoch), `rx_cid` (the CID by which
    the newest authentic datagram came), `rx_pn` (the highest packet number of that epoch, -1: none),
    `segments_sent`, `segments_resent` and `timeouts` (segments sent again as nothing was heard of them) of
    all conversations, `srtt_ms` (-1: unknown), `source` and `path` (socket, address), `fec` (None: none yet).

    `counts_losses`: somebody asks for `losses()`.
    """

    OVERHEAD = OVERHEAD_BYTES

    def __init__(self, wire: Wire, user: object) -> None:
        self.wire = wire
        self.user = user
        self.accept: Callable[[int], Conv | None] | None = None
        self.watched = True
        """Whatever comes for this link is news for its user, not only what asks for it: see `Wire.news`."""
        self.convs: dict[int, Conv] = {}
        self.path: Path | None = None
        self.source: Path | None = None
        self.rx_last_ms = self.tx_last_ms = self.heeded_ms = NEVER_MS
        self.rx_datagrams = self.rx_bytes = self.tx_datagrams = self.tx_bytes = 0
        self.tx_pn = 0
        self.segments_sent = self.segments_resent = self.timeouts = 0
        self._segments_before = Counter(dict.fromkeys(SEGMENTS, 0))  # of conversations that are over
        self.pieces = Pieces(wire.max_datagram)
        self._pieces_sent = 0
        self._longest = 0  # datagram that a segment may need, if it was cut before the path shrank
        self.rx_cid: int | None = None
        self.srtt_ms = -1
        self.fec: LinkFec | None = None
        self.counts_losses = False
        self._fec_room = 0
        self._spares_bulk = False  # FEC leaves bulk out
        self._losses_before = NO_LOSSES  # of epochs that are over
        self._datagram_bytes = DEFAULT_DATAGRAM_BYTES
        self.control: RateController | None = None
        self._rate_bps = 0
        self._flight_max = 0
        self._totals = Totals()
        self._starved_at = 0
        self._round_due = 0
        self._capped: deque[Conv] = deque()  # wait for _flight_max
        self._in_turn = False
        self._pacer = Pacer(0, DEFAULT_DATAGRAM_BYTES)
        self._epochs: dict[int, RxEpoch] = {}
        self._order = 0
        self._newest = (0, -1)
        self._tx_cid = 0
        self._tx: Sealer | None = None
        self._dirty: deque[Conv] = deque()
        self._sparse: deque[Conv] = deque()  # go before them
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
        epoch = self._epochs.pop(cid, None)
        if epoch is not None:
            self._losses_before = total(self._losses_before, [epoch])
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
        """Largest UDP payload now. Segments that were cut for a larger one travel in pieces."""
        return self._datagram_bytes

    @datagram_bytes.setter
    def datagram_bytes(self, value: int) -> None:
        assert value <= self.wire.max_datagram
        self._datagram_bytes = value
        for conv in self.convs.values():
            conv.kcp_mtu = self.segment_bytes(conv.is_long)
        self._longest = max(self._longest, self.segment_bytes(True) + self.OVERHEAD)
        self._set_pace()

    @property
    def kcp_mtu(self) -> int:
        """Of segments cut now, headers included: as many as a datagram needs fill it."""
        return self.segment_bytes(False)

    def segment_bytes(self, is_long: bool) -> int:
        """Of a segment that is protected, or of one of a long transfer, which is not."""
        room = self._datagram_bytes - self.OVERHEAD - (0 if is_long else self._fec_room)
        return room // -(-room // (SEGMENT_HEADER_BYTES + SLOT_BYTES))

    @property
    def frame_room(self) -> int:
        """Bytes for the payload of a frame of data."""
        return self._datagram_bytes - self.OVERHEAD - self._fec_room

    @property
    def rate_bps(self) -> int:
        """The user's limit in bit/s of UDP payload, 0 for none."""
        return self._rate_bps

    @rate_bps.setter
    def rate_bps(self, value: int) -> None:
        self._rate_bps = value
        self._pacer = Pacer(0, self._datagram_bytes)
        self._set_pace()

    @property
    def pace_bps(self) -> int:
        """The rate that is kept now, 0 for none."""
        return self._pacer.rate_bps

    def adapt(self, control: RateController) -> None:
        """Let this controller find rate and flight from now on; before any conversation."""
        assert not self.convs
        self.control = control
        self._flight_max = control.flight_bytes

    # FEC: see kcpg.core.native.wire.linkfec.

    def fec_use(self, plan: Plan, wait_ms: int, bulk: bool) -> None:
        """Protect what leaves from now on by this plan; first before any conversation, as it takes room."""
        self._fec_room = FEC_ROOM_BYTES
        self._spares_bulk = not bulk
        self._link_fec().use(plan, wait_ms, bulk)
        self._wake()

    def losses(self) -> frames.Losses:
        """What the peer sent and did not arrive, since `counts_losses` was set; ask at even intervals."""
        settle(self._epochs.values())
        return total(self._losses_before, self._epochs.values())

    def receive_shard(self, type: int, payload: bytes, sock: int, addr: bytes, now_ms: int) -> None:
        """A FEC_DATA or FEC_PARITY frame (called by the wire)."""
        self._link_fec().receive(self, type, payload, sock, addr, now_ms)

    def _link_fec(self) -> LinkFec:
        self.fec = self.fec or LinkFec(self.wire.max_datagram)
        return self.fec

    @property
    def flight(self) -> int:
        """Bytes of segments sent and not acknowledged."""
        return self._totals.sent - self._totals.acked

    @property
    def outstanding(self) -> bool:
        """Some conversation has sent data that is not acknowledged yet."""
        return bool(self._busy)

    def segment_counts(self) -> dict[str, int]:
        """What all conversations have counted, also those that are over, by the names of `SEGMENTS`."""
        total = Counter(self._segments_before)
        for conv in self.convs.values():
            add_segments(total, conv)
        return dict(total)

    # Conversations.

    def open(self, conv: int, params: KcpParams) -> Conv:
        """A new conversation with this number, which must be free."""
        assert conv not in self.convs
        self.convs[conv] = made = Conv(self, conv, params)
        self._longest = max(self._longest, self.segment_bytes(True) + self.OVERHEAD)
        return made

    def close(self, conv: int) -> None:
        """Forget a conversation and everything it holds, at once."""
        gone = self.convs.pop(conv, None)
        if gone is not None:
            gone.closed = True
            gone.user = None  # which knows the conversation: as a cycle both would stay for long
            add_segments(self._segments_before, gone)
            self._tally(gone)
            all, unacked = self._totals, gone.seen.sent - gone.seen.acked  # which nobody will acknowledge
            self._totals = Totals(all.sent - unacked, all.acked, all.first, all.resent)
            self._release()
            self.wire.arm(gone, None)
            gone.clear()
            self._busy.discard(gone)

    def free(self) -> None:
        """Drop all conversations and keys. What was sealed already still leaves."""
        for conv in list(self.convs):
            self.close(conv)
        for cid in list(self._epochs):
            self.remove_rx(cid)
        self._tx = None
        self.fec = None
        for waiting in (self._dirty, self._sparse, self._capped):
            waiting.clear()

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
        self.wire.tell_once(HEARD, self, self.watched)
        if self.counts_losses:
            epoch.note_losses(pn)
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
            if self._in_turn or conv.queued > SPARSE_SEGMENTS:
                self._dirty.append(conv)
            else:
                self._sparse.append(conv)
            self._wake()

    def settle(self, conv: Conv) -> None:
        """After any change of a conversation: queue it, or arm its deadline."""
        if conv.closed:
            return
        if self._spares_bulk:
            conv.fit()
        if self.control is not None:
            if self._tally(conv):
                self._release()
            if conv.queued:
                self._admit(conv)
            conv.open_window()
        if conv.in_flight:
            if not self._busy:
                self.wire.tell_once(BEGUN, self, False)
            self._busy.add(conv)
        else:
            self._busy.discard(conv)
        self.srtt_ms = conv.srtt_ms or self.srtt_ms
        if conv.acked_ms > self.heeded_ms:
            self.heeded_ms = conv.acked_ms
        conv.notice()
        if conv.wants_flush or conv.packets_out:
            self.mark_dirty(conv)
        elif not conv.is_dirty:
            self.wire.arm(conv, conv.deadline)

    def held_until(self) -> int | None:
        """None: may send at once (or has nothing to send). Otherwise when the pacer lets data leave again."""
        if self._dirty or self._sparse:
            until = self._pacer.ready_at(max(self._datagram_bytes, self._longest))
            return until if until is None else due(self.fec, until)
        return due(self.fec, None)

    def can_send(self) -> bool:
        """There is something to send, or will be (parity), and a key and a path to send it with."""
        waits = self._dirty or self._sparse or due(self.fec, None) is not None
        return bool(waits) and self._tx is not None and self.path is not None

    def turn(self, now_ms: int, budget: int, batch: Batch) -> list[tuple[int, bytes, bytes]]:
        """At most about `budget` datagrams: one round over the conversations that have something."""
        path = self.path
        if path is None or not self.can_send():
            return []
        if self.control is not None and now_ms >= self._round_due:
            self._measure(now_ms)
        self._dirty.extendleft(reversed(self._sparse))
        self._sparse.clear()
        start, sent, tokens = batch.count, self.tx_bytes, self._pacer.tokens(now_ms)
        tokens = None if tokens is None else max(0, tokens)
        turn = Turn(batch, self.fec, self._datagram_bytes, tokens, now_ms)
        self._round(now_ms, start, budget, batch, turn)
        if not self._dirty and not self._capped:
            self._starved_at = self._totals.sent
        whole = [frame for frame in turn.finish() if self._fits(frame)]
        batch.count = start + len(whole)
        datagrams = [(*path, self.seal(frame)) for frame in whole]
        if self._rate_bps:
            self._pacer.spend(self.tx_bytes - sent)
        elif tokens is not None and turn.tokens is not None:
            self._pacer.spend(tokens - turn.tokens)  # the controller's rate is one of data alone
        return datagrams

    def _round(self, now_ms: int, start: int, budget: int, batch: Batch, turn: Turn) -> None:
        """Let each conversation that waits have its share, until there are `budget` more than `start`."""
        rounds, served, most = len(self._dirty), -1, min(start + budget, BUILD_DATAGRAMS)
        max_segments = budget if rounds == 1 else TURN_SEGMENTS
        self._in_turn = True
        while rounds and batch.count < most:
            rounds -= 1
            conv = self._dirty.popleft()
            conv.is_dirty = False
            if conv.closed:
                continue
            turn.shield(self.fec is not None and self.fec.wants(conv.queued))
            self._flush_packets(conv, turn)
            if self.control is not None and conv.queued:
                self._admit(conv)
            tokens = turn.tokens
            answer = self._flush(conv, now_ms, turn, max_segments)
            if answer == PACED and served < 0 and turn.tokens == tokens:
                served = len(self._dirty) - rounds
            if answer != DONE:
                self.mark_dirty(conv)  # the pacer, or its share, held something back, perhaps a resend
            self.settle(conv)
        self._in_turn = False
        if served > 0 and not rounds:
            self._dirty.rotate(-served)  # whoever the pacer left nothing for is the first next time

    def _flush_packets(self, conv: Conv, turn: Turn) -> None:
        """The unreliable packets of a conversation, each in a datagram of its own."""
        if conv.packets_out:
            turn.close()
        for _ in range(min(TURN_SEGMENTS, len(conv.packets_out))):
            if self._rate_bps and turn.tokens is not None and turn.tokens <= 0:
                break
            packet = conv.packets_out[0]
            if not turn.packet(conv.conv.to_bytes(4, "little") + packet):
                break
            conv.packets_out.popleft()
            if self._rate_bps and turn.tokens is not None:
                turn.tokens -= len(packet) + 4

    def _flush(self, conv: Conv, now_ms: int, turn: Turn, max_segments: int) -> int:
        """The segments of a conversation; what its `flush_into` answers."""
        fresh, late = conv.segments_sent, conv.segments_resent_rto
        again = conv.segments_resent_fast + late
        answer = conv.flush_into(turn, now_ms, max_segments)
        self.segments_sent += conv.segments_sent - fresh
        self.segments_resent += conv.segments_resent_fast + conv.segments_resent_rto - again
        self.timeouts += conv.segments_resent_rto - late
        return answer

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

    def _fits(self, frame: bytes) -> bool:
        """Whether the path takes this frame; one that is too long leaves in pieces, ahead of others."""
        room = self._datagram_bytes - self.OVERHEAD
        if len(frame) <= 1 + room:
            return True
        self._pieces_sent = (self._pieces_sent + 1) & 0xFFFFFFFF
        for piece in cut(frame, self._pieces_sent, room):
            self.send(frames.PIECE, piece)
        return False

    # The controller: see kcpg.core.rate.

    def _tally(self, conv: Conv) -> bool:
        """Bring the totals up to date with this conversation. True: something was acknowledged."""
        seen, all = conv.seen, self._totals
        resent = conv.segments_resent_fast + conv.segments_resent_rto - conv.resends_spurious
        sent = conv.bytes_sent + SEGMENT_HEADER_BYTES * conv.segments_sent
        if not conv.in_flight:
            conv.acked_empty = sent - conv.acked_bytes
        conv.seen = now = Totals(sent, conv.acked_bytes + conv.acked_empty, conv.segments_sent, resent)
        self._totals = Totals(
            all.sent + now.sent - seen.sent,
            all.acked + now.acked - seen.acked,
            all.first + now.first - seen.first,
            all.resent + now.resent - seen.resent,
        )
        return now.acked > seen.acked

    def _admit(self, conv: Conv) -> None:
        """Set the window to what the flight has room for; without room the conversation waits its turn."""
        room, own = self._flight_max - self.flight, (conv.seen.sent - conv.seen.acked) // conv.kcp_mtu
        allowed = room // conv.kcp_mtu + 1 if room > 0 and not conv.is_capped else 0
        if allowed + own < SPARSE_SEGMENTS:
            allowed = SPARSE_SEGMENTS - own
        if allowed == 0 and not conv.is_capped:
            conv.is_capped = True
            self._capped.append(conv)
        conv.set_windows(min(conv.in_flight + allowed, conv.windows[0]), conv.rcv_wnd)

    def _release(self) -> None:
        """Let those go on that waited longest, as many as the flight has room for."""
        room = self._flight_max - self.flight
        while room > 0 and self._capped:
            conv = self._capped.popleft()
            conv.is_capped = False
            if conv.closed:
                continue
            self._admit(conv)
            room -= min(conv.queued, TURN_SEGMENTS) * conv.kcp_mtu
            if conv.wants_flush:
                self.mark_dirty(conv)

    def _measure(self, now_ms: int) -> None:
        """One round of the controller."""
        assert self.control is not None
        self.control.round(now_ms, self._totals, self.srtt_ms, self._starved_at)
        self._round_due = self.control.due_ms
        self._flight_max = self.control.flight_bytes
        self._set_pace()
        self._release()

    def _set_pace(self) -> None:
        """The lower of the user's and the controller's rate, as bits of UDP payload if it is the user's."""
        rate, found = self._rate_bps, self.control.rate_bps if self.control is not None else 0
        if rate and found:
            found = found * self._datagram_bytes // (self._datagram_bytes - self.OVERHEAD)
        self._pacer.change(min(rate, found) if rate and found else rate or found, self._datagram_bytes)

    def _wake(self) -> None:
        if self.can_send():
            self.wire.wake(self)
