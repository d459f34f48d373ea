"""The data plane of one link, in plain Python: its keys, conversations, pacing and turn-taking."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.kcp.params import DONE, PACED
from kcpg.core.kcp.pool import LinkShare
from kcpg.core.native.wire import frames
from kcpg.core.native.wire.conv import SEGMENT_HEADER_BYTES, SPARSE_SEGMENTS, Conv
from kcpg.core.native.wire.counters import SEGMENTS, add_segments
from kcpg.core.native.wire.flight import Flight
from kcpg.core.native.wire.headers import OVERHEAD_BYTES
from kcpg.core.native.wire.linkfec import FEC_ROOM_BYTES, LinkFec, due
from kcpg.core.native.wire.pathcredit import PathCredit
from kcpg.core.native.wire.pieces import Pieces
from kcpg.core.native.wire.rxepoch import NO_LOSSES, RxEpoch
from kcpg.core.native.wire.turn import BUILD_DATAGRAMS, SLOT_BYTES, TURN_SEGMENTS, Batch, Turn
from kcpg.core.native.wire.txepoch import TxEpoch
from kcpg.core.pacer import MOST_BPS, Pacer
from kcpg.core.seal.seal import Sealer

if TYPE_CHECKING:
    from kcpg.core.congestion import CongestionController
    from kcpg.core.fec.plan import Plan
    from kcpg.core.native.wire.wire import Path, Wire

# Fits an Ethernet path of 1,500 bytes with IPv6 and 52 bytes of some other tunnel in between.
DEFAULT_DATAGRAM_BYTES = 1400

NOT_YET_MS = -1  # something has never happened


class LinkWire:
    """The conversations of one link, sealed under its keys and sent on its path.

    Facts: `rx_last_ms`, `tx_last_ms`, `heeded_ms` (the peer acknowledged data; -1: never), `rx_datagrams`,
    `rx_bytes`, `tx_datagrams`, `tx_bytes`, `rx_cid` (the CID by which the newest authentic datagram came),
    `segments_sent`, `segments_resent` and `timeouts` (segments sent again as nothing was heard of them) of
    all conversations, `srtt_ms` (-1: unknown; `rtt_hint_ms` is what others know of it), `source` and `path`
    (socket, address), `fec` (None: none yet), `flight` (None: no controller limits it).
    """

    OVERHEAD = OVERHEAD_BYTES

    def __init__(self, wire: Wire, user: object) -> None:
        self.wire = wire
        self.user = user
        self.accept: Callable[[int], Conv | None] | None = None
        self.watched = True  # all that comes for this link is news, not only control frames: see `Wire.news`
        self.convs: dict[int, Conv] = {}
        self.share = LinkShare(wire.pool)
        self.path: Path | None = None
        self.source: Path | None = None
        self._credit = PathCredit()
        self.rx_last_ms = self.tx_last_ms = self.heeded_ms = NOT_YET_MS
        self.rx_datagrams = self.rx_bytes = self.tx_datagrams = self.tx_bytes = 0
        self.segments_sent = self.segments_resent = self.resends_spurious = self.timeouts = 0
        self._segments_before = Counter(dict.fromkeys(SEGMENTS, 0))  # of conversations that are over
        self.pieces = Pieces(wire.max_datagram)
        self._longest = 0  # datagram that a segment may need, if it was cut before the path shrank
        self.rx_cid: int | None = None
        self.srtt_ms = self.rtt_hint_ms = -1
        self.fec: LinkFec | None = None
        self.counts_losses = False  # nobody asks for `losses()`
        self._fec_room = self._rate_bps = self._order = 0
        self._spares_bulk = False  # FEC leaves bulk out
        self._losses_before = NO_LOSSES  # of epochs that are over
        self._datagram_bytes = DEFAULT_DATAGRAM_BYTES
        self.flight: Flight | None = None
        self._in_turn = False
        self.turns = 0  # of conversations, so far
        self.urgent = False  # something may leave that waits neither for the pacer nor for a quantum
        self._pacer = Pacer(0, DEFAULT_DATAGRAM_BYTES)
        self._epochs: dict[int, RxEpoch[LinkWire]] = {}
        self._newest = (0, -1)
        self._tx: TxEpoch | None = None
        self._dirty: deque[Conv] = deque()
        self._sparse: deque[Conv] = deque()  # go before them
        self._outstanding = 0  # conversations that have data under way

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
            self._losses_before = epoch.add_losses(self._losses_before)
            del self.wire.epochs[cid]

    def install_tx(self, cid: int, algorithm: str, key: bytes, iv: bytes) -> None:
        """Seal under `key` from now on, for the peer's `cid`; packet numbers start at 0 again."""
        self._tx = TxEpoch(cid, Sealer(algorithm, key, iv))
        self._wake()

    def set_path(self, sock: int, addr: bytes) -> None:
        """Send by this local socket to this address from now on."""
        self.path = (sock, addr)
        self.prove_path()

    def limit_path(self) -> None:
        """Nobody knows whether the peer receives there: send little, until `prove_path`."""
        self._credit.limit(self.tx_bytes)

    def prove_path(self) -> None:
        """The peer receives where the path leads: send what there is."""
        self._credit.is_limited = False
        self._wake()

    @property
    def datagram_bytes(self) -> int:
        """Largest UDP payload now. Segments that were cut for a larger one travel in pieces."""
        return self._datagram_bytes

    @datagram_bytes.setter
    def datagram_bytes(self, value: int) -> None:
        if value > self.wire.max_datagram:
            raise ValueError(f"datagrams of {value} bytes do not fit those of {self.wire.max_datagram}")
        if value == self._datagram_bytes:
            return
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
        if not (self._rate_bps and value):  # else what was saved up stays: this may come many times a second
            self._pacer = Pacer(0, self._datagram_bytes)
        self._rate_bps = min(value, MOST_BPS)
        self._set_pace()

    @property
    def pace_bps(self) -> int:
        """The rate that is kept now, 0 for none."""
        return self._pacer.rate_bps

    def adapt(self, control: CongestionController) -> None:
        """Let this controller find rate and flight from now on; before any conversation."""
        assert not self.convs
        self.flight = Flight(control)

    # FEC: see kcpg.core.native.wire.linkfec.

    def fec_use(self, plan: Plan, wait_ms: int, bulk: bool) -> None:
        """Protect what leaves from now on by this plan; first before any conversation, as it takes room."""
        self._fec_room = FEC_ROOM_BYTES
        self._spares_bulk = not bulk
        self.link_fec().use(plan, wait_ms, bulk)
        self._wake()

    def losses(self) -> frames.Losses:
        """What the peer sent and did not arrive, since `counts_losses` was set; ask at even intervals."""
        counted = self._losses_before
        for epoch in self._epochs.values():
            epoch.judge_losses()
            counted = epoch.add_losses(counted)
        return counted

    def link_fec(self) -> LinkFec:
        """This link's FEC, made when the first shard goes or comes."""
        self.fec = self.fec or LinkFec(self.wire.max_datagram)
        return self.fec

    @property
    def outstanding(self) -> bool:
        """Some conversation has sent data that is not acknowledged yet."""
        return self._outstanding > 0

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
            self._let_go(gone)
            gone.clear()

    def adopt(self, conv: Conv, number: int, params: KcpParams) -> None:
        """Take over, under this number, a conversation of a link wire that is about to be freed.

        Nobody has heard of it (`Kcp.is_unheard`), so it begins anew here, with all that was sent.
        """
        former = conv.link_wire
        assert number not in self.convs and conv.is_unheard and former.wire is self.wire
        del former.convs[conv.conv]
        former._let_go(conv)
        conv.restart(number)
        self.convs[number] = conv
        self._longest = max(self._longest, self.segment_bytes(True) + self.OVERHEAD)
        conv.join(self, params)
        conv.note_change()

    def _let_go(self, gone: Conv) -> None:
        """Count what a conversation has done here, and forget that it is under way."""
        add_segments(self._segments_before, gone)
        if self.flight is not None:
            self.flight.leave(gone)
        if gone.is_outstanding:
            gone.is_outstanding = False
            self._outstanding -= 1
        self.wire.timers.forget(gone)

    def free(self) -> None:
        """Drop all conversations and keys. What was sealed already still leaves."""
        for conv in list(self.convs):
            self.close(conv)
        for cid in list(self._epochs):
            self.remove_rx(cid)
        self._tx = None
        self.fec = None
        self._dirty.clear()
        self._sparse.clear()
        if self.flight is not None:
            self.flight.clear()

    def hurry(self, now_ms: int) -> None:
        """The peer is there again, or somewhere else: send at once what waits for a later retransmission."""
        for conv in self.convs.values():
            conv.hurry(now_ms)
            self.conv_changed(conv)

    @property
    def tx_pn(self) -> int:
        """Datagrams sent under the present key."""
        return 0 if self._tx is None else self._tx.pn

    @property
    def rx_pn(self) -> int:
        """The highest packet number of the newest epoch, but for path probes; -1: none."""
        return self._newest[1]

    def send(self, frame_type: int, payload: bytes, path: Path | None = None) -> None:
        """Seal one control frame now and let it leave with the next transmit, unpaced."""
        path = path or self.path
        if self._tx is None or path is None:
            self.wire.drop("no_path")
            return
        size = OVERHEAD_BYTES + max(len(payload), frames.MIN_PAYLOAD_BYTES)
        if path == self.path and self._credit.left(self.tx_bytes) < size:
            self.wire.drop("path_limit")
            return
        self.wire.outbox.append((*path, self.seal(bytes((frame_type,)) + payload)))

    @property
    def rtt_ms(self) -> int:
        """The round trip as far as it is known; -1: unknown."""
        return self.srtt_ms if self.srtt_ms >= 0 else self.rtt_hint_ms

    # Receiving, called by the wire.

    def note_received(
        self, epoch: RxEpoch[LinkWire], pn: int, path: Path, size: int, probes: bool, now_ms: int
    ) -> bool:
        """Record an authentic datagram. True if it is the newest so far and came by another path.

        One that only probes its path is never that.
        """
        self.rx_last_ms = now_ms
        self.rx_datagrams += 1
        self.rx_bytes += size
        self.wire.events.heard(self)
        if self.counts_losses:
            epoch.note_losses(pn)
        if probes or (epoch.order, pn) < self._newest:
            return False
        self._newest = (epoch.order, pn)
        self.rx_cid = epoch.cid
        is_new = path != self.source
        self._credit.came(size, is_new)
        self.source = path
        if self._credit.is_limited:
            self._wake()
        return is_new and path != self.path

    # Sending.

    def mark_dirty(self, conv: Conv) -> None:
        """This conversation has something to send: give it a turn."""
        self.urgent = self.urgent or conv.is_urgent
        if not conv.is_dirty and not conv.closed:
            conv.is_dirty = True
            goes_first = not self._in_turn and conv.queued <= SPARSE_SEGMENTS
            (self._sparse if goes_first else self._dirty).append(conv)
            self._wake()

    def conv_changed(self, conv: Conv) -> None:
        """Follow any change of a conversation: what it may send, what its user waits for, its next turn."""
        if conv.closed:
            return
        if self._spares_bulk:
            conv.fit()
        if self.flight is not None:
            self.flight.update(conv)
            conv.open_window()
            conv.thin_acks()
        self._note_outstanding(conv)
        self._note_heeded(conv)
        conv.notice()
        self._schedule(conv)

    def _note_outstanding(self, conv: Conv) -> None:
        """Keep count of the conversations that have data under way; the first of them is an event."""
        outstanding = conv.in_flight > 0
        if outstanding == conv.is_outstanding:
            return
        conv.is_outstanding = outstanding
        self._outstanding += 1 if outstanding else -1
        if outstanding and self._outstanding == 1:
            self.wire.events.begun(self)

    def _note_heeded(self, conv: Conv) -> None:
        """Take over what the conversation knows of the path and the peer."""
        self.srtt_ms = conv.srtt_ms or self.srtt_ms
        self.resends_spurious += conv.resends_spurious - conv.heeded_spurious
        conv.heeded_spurious = conv.resends_spurious
        self.heeded_ms = max(self.heeded_ms, conv.acked_ms)

    def _schedule(self, conv: Conv) -> None:
        """Give the conversation its next turn: now, or at its deadline."""
        if conv.wants_flush or conv.packets_out or (conv.is_dirty and conv.owes_ack):
            self.mark_dirty(conv)
        elif not conv.is_dirty:
            self.wire.timers.set(conv, conv.deadline)

    def held_until(self) -> int | None:
        """None: may send at once (or has nothing to send). Otherwise when the pacer lets data leave again."""
        if self._dirty or self._sparse:
            urgent = self.urgent or bool(self._sparse)
            until = self._pacer.ready_at(max(self._datagram_bytes, self._longest), urgent)
            return until if until is None else due(self.fec, until)
        return due(self.fec, None)

    def can_send(self) -> bool:
        """There is something to send, or will be (parity), and a key and a path to send it with."""
        waits = self._dirty or self._sparse or due(self.fec, None) is not None
        return bool(waits) and self._tx is not None and self.path is not None and self._affordable() > 0

    def _affordable(self) -> int:
        """How many datagrams may leave by this path."""
        return self._credit.datagrams(self.tx_bytes, self._datagram_bytes, self._longest)

    def turn(self, now_ms: int, budget: int, batch: Batch) -> list[tuple[int, bytes, bytes]]:
        """At most about `budget` datagrams: one round over the conversations that have something."""
        path = self.path
        if path is None or not self.can_send():
            return []
        if self.flight is not None and self.flight.take_round(now_ms):
            self.flight.measure(now_ms, self.srtt_ms, not self.wire.is_alone(now_ms))
            self._set_pace()
        sent, tokens = self.tx_bytes, self._pacer.tokens(now_ms)
        if self._holds_back(now_ms, tokens):
            return []
        batch.most = min(batch.count + self._affordable(), BUILD_DATAGRAMS)
        turn = Turn(batch, self.fec, self._datagram_bytes, tokens, now_ms)
        self._round(turn, budget)
        if self.flight is not None and not self._dirty:
            self.flight.run_dry()
        whole = self.pieces.cut_long(turn.finish(), self._datagram_bytes - self.OVERHEAD, self.send)
        batch.count, batch.most = turn.start + len(whole), BUILD_DATAGRAMS
        datagrams = [(*path, self.seal(frame)) for frame in whole]
        self._pay(turn, self.tx_bytes - sent)
        return datagrams

    def _holds_back(self, now_ms: int, tokens: int | None) -> bool:
        """Nothing may leave now, so that nobody needs to be asked."""
        parity = due(self.fec, None)
        if self.urgent or tokens is None or (parity is not None and parity <= now_ms):
            return False
        return tokens < SEGMENT_HEADER_BYTES or (not self._sparse and self._pacer.saves(now_ms))

    def _round(self, turn: Turn, budget: int) -> None:
        """Let those that wait have their share, up to `budget` datagrams; only those with little while the
        pacer saves up, and nobody more once it has left one nothing."""
        few, everybody = len(self._sparse), self.urgent
        self._dirty.extendleft(reversed(self._sparse))
        self._sparse.clear()
        saves = not everybody and self._pacer.saves(turn.now_ms)
        rounds, refused = few if saves else len(self._dirty), -1
        max_segments = budget if rounds == 1 else TURN_SEGMENTS
        self._in_turn, self.urgent = True, False
        most = min(turn.start + budget, turn.batch.most)
        while rounds and turn.batch.count < most and (refused < 0 or everybody):
            rounds -= 1
            refused -= refused > 0
            conv = self._dirty.popleft()
            conv.is_dirty = False
            if not conv.closed and not self._serve(conv, turn, max_segments) and refused < 0:
                refused = len(self._dirty) - 1
        self._in_turn = False
        self.urgent = self.urgent or (everybody and rounds > 0)
        if refused >= 0:  # whoever the pacer left nothing for is the first next time
            self._dirty.rotate(-refused)

    def _serve(self, conv: Conv, turn: Turn, max_segments: int) -> bool:
        """One conversation's share of a turn. False: the pacer left nothing for it."""
        self.turns += 1
        if conv.is_lone:
            self.wire.lone_ms = turn.now_ms
        turn.shield(self.fec is not None and self.fec.wants(conv.queued))
        conv.flush_packets(turn, self._rate_bps > 0)
        if self.flight is not None and conv.queued:
            self.flight.admit(conv)
        tokens = turn.tokens
        answer = self._flush(conv, turn, max_segments)
        if answer != DONE:
            self.mark_dirty(conv)  # the pacer, or its share, held something back, perhaps a resend
        self.conv_changed(conv)
        return answer != PACED or turn.tokens != tokens

    def _flush(self, conv: Conv, turn: Turn, max_segments: int) -> int:
        """The segments of a conversation; what its `flush_into` answers."""
        fresh, late = conv.segments_sent, conv.segments_resent_rto
        again = conv.segments_resent_fast + late
        answer = conv.flush_into(turn, turn.now_ms, max_segments)
        self.segments_sent += conv.segments_sent - fresh
        self.segments_resent += conv.segments_resent_fast + conv.segments_resent_rto - again
        self.timeouts += conv.segments_resent_rto - late
        return answer

    def _pay(self, turn: Turn, sent_bytes: int) -> None:
        """Tell the pacer what a turn has sent."""
        if self._rate_bps:
            self._pacer.spend(sent_bytes)
        else:
            self._pacer.spend(turn.spent)  # the controller's rate is one of data alone
        if turn.tokens is not None and turn.tokens < self._datagram_bytes:
            self._pacer.save()
            self.wire.paced_ms = turn.now_ms

    def seal(self, plaintext: bytes) -> bytes:
        """One masked datagram of type byte and payload, under the next packet number."""
        assert self._tx is not None
        plaintext = plaintext.ljust(1 + frames.MIN_PAYLOAD_BYTES, b"\0")
        datagram = self.wire.mask(*self._tx.seal(plaintext))
        self.tx_datagrams += 1
        self.tx_bytes += len(datagram)
        self.tx_last_ms = self.wire.now_ms
        return datagram

    def _set_pace(self) -> None:
        """The lower of the user's and the controller's rate, as bits of UDP payload if it is the user's."""
        rate, found = self._rate_bps, self.flight.control.rate_bps if self.flight is not None else 0
        if rate and found:
            found = found * self._datagram_bytes // (self._datagram_bytes - self.OVERHEAD)
        quantum_ms = self.flight.quantum_ms if self.flight is not None else 1
        rate = min(rate, found) if rate and found else rate or found
        self._pacer.change(rate, self._datagram_bytes, quantum_ms)

    def _wake(self) -> None:
        if self.can_send():
            self.wire.wake(self)
