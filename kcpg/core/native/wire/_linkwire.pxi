"""The data plane of one link; see linkwire.py. Included by _wire.pyx."""
from kcpg.core.native.wire.pieces import Pieces
from kcpg.core.pacer import MOST_BPS


cdef class LinkWire:
    """The conversations of one link, sealed under its keys and sent on its path."""

    OVERHEAD = OVERHEAD_BYTES

    def __init__(self, Wire wire not None, user):
        self.wire = wire
        self.user = user
        self.convs, self.epochs = {}, {}
        self.dirty, self.sparse = deque(), deque()
        self.watched = True
        self.rx_last_ms = self.tx_last_ms = self.heeded_ms = NOT_YET_MS
        self.srtt_ms = self.rtt_hint_ms = -1
        self._datagram_bytes = min(<uint32_t>DEFAULT_DATAGRAM_BYTES, wire.max_datagram)
        self.pieces = Pieces(wire.max_datagram)
        self.losses_before = NO_LOSSES
        pacer_init(&self.pacer)
        self.set_pace()

    # Keys and path.

    def install_rx(self, cid, str algorithm, bytes key, bytes iv):
        """Accept datagrams that carry `cid`, sealed under `key`; earlier epochs stay until `remove_rx`."""
        assert cid not in self.wire.epochs, "a CID names one epoch"
        self.order += 1
        epoch = RxEpoch(self, cid, self.order, Sealer(algorithm, key, iv))
        self.epochs[cid] = epoch
        self.wire.epochs[cid] = epoch

    def remove_rx(self, cid):
        """Forget an epoch; its late datagrams become strangers."""
        cdef RxEpoch epoch = self.epochs.pop(cid, None)
        if epoch is not None:
            self.losses_before = epoch.add_losses(self.losses_before)
            del self.wire.epochs[cid]
            self.wire.last_epoch = None

    def install_tx(self, cid, str algorithm, bytes key, bytes iv):
        """Seal under `key` from now on, for the peer's `cid`; packet numbers start at 0 again."""
        self.tx = TxEpoch(cid, Sealer(algorithm, key, iv))
        self.wire.wake(self)

    def set_path(self, int sock, bytes addr):
        """Send by this local socket to this address from now on."""
        to_path(&self.tx_path, sock, addr)
        self.has_path = True
        self.prove_path()

    def limit_path(self):
        """Nobody knows whether the peer receives there: send little, until `prove_path`."""
        credit_limit(&self.credit, self.tx_bytes)

    def prove_path(self):
        """The peer receives where the path leads: send what there is."""
        self.credit.is_limited = False
        self.wire.wake(self)

    @property
    def path(self):
        return from_path(&self.tx_path) if self.has_path else None

    @property
    def source(self):
        return from_path(&self.rx_path) if self.has_source else None

    @property
    def datagram_bytes(self):
        """Largest UDP payload now. Segments that were cut for a larger one travel in pieces."""
        return self._datagram_bytes

    @datagram_bytes.setter
    def datagram_bytes(self, uint32_t value):
        if value > self.wire.max_datagram:
            raise ValueError(f"datagrams of {value} bytes do not fit those of {self.wire.max_datagram}")
        if value == self._datagram_bytes:
            return
        self._datagram_bytes = value
        cdef Conv conv
        for conv in self.convs.values():
            kcp_set_mtu(&conv.k, self.segment_bytes(conv.is_long))
        self.longest = max(self.longest, self.segment_bytes(True) + OVERHEAD_BYTES)
        self.set_pace()

    @property
    def kcp_mtu(self):
        """Of segments cut now, headers included: as many as a datagram needs fill it."""
        return self.segment_bytes(False)

    cdef uint32_t segment_bytes(self, bint is_long) noexcept:
        """Of a segment that is protected, or of one of a long transfer, which is not."""
        cdef uint32_t room = self._datagram_bytes - OVERHEAD_BYTES - (0 if is_long else self.fec_room)
        return room // ((room + KCP_HEADER_BYTES + SLOT_BYTES - 1) // (KCP_HEADER_BYTES + SLOT_BYTES))

    @property
    def frame_room(self):
        """Bytes for the payload of a frame of data."""
        return self.data_room()

    cdef uint32_t data_room(self) noexcept:
        """Bytes for the payload of a frame of data."""
        return self._datagram_bytes - OVERHEAD_BYTES - self.fec_room

    @property
    def rate_bps(self):
        """The user's limit in bit/s of UDP payload, 0 for none."""
        return self._rate_bps

    @rate_bps.setter
    def rate_bps(self, value):
        if not (self._rate_bps and value):  # else what was saved up stays: this may come many times a second
            pacer_init(&self.pacer)
        self._rate_bps = min(value, MOST_BPS)
        self.set_pace()

    @property
    def pace_bps(self):
        """The rate that is kept now, 0 for none."""
        return self.pacer.rate_bps

    def adapt(self, control):
        """Let this controller find rate and flight from now on; before any conversation."""
        assert not self.convs
        self.flight = Flight(control)

    # FEC: see linkfec.py.

    def fec_use(self, plan, wait_ms, bulk):
        """Protect what leaves from now on by this plan; first before any conversation, as it takes room."""
        self.fec_room = FEC_ROOM_BYTES
        self.spares_bulk = not bulk
        self.link_fec().use(plan, wait_ms, bulk)
        self.wire.wake(self)

    def losses(self):
        """What the peer sent and did not arrive, since `counts_losses` was set; ask at even intervals."""
        cdef RxEpoch epoch
        counted = self.losses_before
        for epoch in self.epochs.values():
            epoch.judge_losses()
            counted = epoch.add_losses(counted)
        return counted

    cdef LinkFec link_fec(self):
        """This link's FEC, made when the first shard goes or comes."""
        if self.fec is None:
            self.fec = LinkFec(self.wire.fec_pool)
        return self.fec

    @property
    def outstanding(self):
        """Some conversation has sent data that is not acknowledged yet."""
        return self.outstanding_convs > 0

    def segment_counts(self):
        """What all conversations have counted; 65,535 of them take a millisecond or two."""
        cdef segment_counts_t total = self.segments_before
        cdef Conv conv
        for conv in self.convs.values():
            add_segments(&total, &conv.k)
        return total

    # Conversations.

    def open(self, uint32_t conv, params):
        """A new conversation with this number, which must be free."""
        assert conv not in self.convs
        made = Conv(self, conv, params)
        self.longest = max(self.longest, self.segment_bytes(True) + OVERHEAD_BYTES)
        self.convs[conv] = made
        return made

    def close(self, uint32_t conv):
        """Forget a conversation and everything it holds, at once."""
        cdef Conv gone = self.convs.pop(conv, None)
        if gone is None:
            return
        gone.closed, gone.user = True, None     # who knows it: as a cycle both would stay for long
        gone.bypass = None
        self.let_go(gone)
        gone.leave_timers()
        kcp_clear(&gone.k)

    def adopt(self, Conv conv not None, uint32_t number, params):
        """Take over, under this number, a conversation of a link wire that is about to be freed."""
        cdef LinkWire former = conv.link_wire
        assert number not in self.convs and conv.is_unheard and former.wire is self.wire
        del former.convs[conv.k.conv]
        former.let_go(conv)
        timer_remove(&self.wire.timers, conv)
        kcp_restart(&conv.k, number)
        self.convs[number] = conv
        self.longest = max(self.longest, self.segment_bytes(True) + OVERHEAD_BYTES)
        conv.join(self, params)
        conv.changed()

    cdef int let_go(self, Conv gone) except -1:
        """Count what a conversation has done here, and forget that it is under way."""
        add_segments(&self.segments_before, &gone.k)
        if self.flight is not None:
            self.flight.leave(gone)
        if gone.is_outstanding:
            gone.is_outstanding = False
            self.outstanding_convs -= 1
        self.last_conv = None

    def free(self):
        """Drop all conversations and keys. What was sealed already still leaves."""
        for conv in list(self.convs):
            self.close(conv)
        for cid in list(self.epochs):
            self.remove_rx(cid)
        self.tx = None
        self.fec = None
        self.dirty.clear()
        self.sparse.clear()
        if self.flight is not None:
            self.flight.clear()

    def hurry(self, now_ms):
        """The peer is there again, or somewhere else: send at once what waits for a later retransmission."""
        cdef Conv conv
        for conv in self.convs.values():
            kcp_hurry(&conv.k, now_ms)
            self.conv_changed(conv)

    @property
    def tx_pn(self):
        """Datagrams sent under the present key."""
        return 0 if self.tx is None else self.tx.pn

    @property
    def rx_pn(self):
        """The highest packet number of the newest epoch, but for path probes; -1: none."""
        return self.newest_pn if self.rx_cid is not None else -1

    def send(self, frame_type, bytes payload, path=None):
        """Seal one control frame now and let it leave with the next transmit, unpaced."""
        cdef Path to
        if self.tx is None or (path is None and not self.has_path):
            self.wire.count_drop("no_path")
            return
        if path is None:
            to = self.tx_path
        else:
            to_path(&to, path[0], path[1])
        cdef bytearray datagram = bytearray(HEADER_BYTES + TYPE_BYTES) + payload + bytes(TAG_BYTES)
        datagram[HEADER_BYTES] = frame_type
        if len(datagram) < MIN_DATAGRAM_BYTES:
            datagram += bytes(MIN_DATAGRAM_BYTES - len(datagram))
        if credit_left(&self.credit, self.tx_bytes) < len(datagram) and same_path(&to, &self.tx_path):
            self.wire.count_drop("path_limit")
        elif seal_one(self, datagram):
            self.wire.outbox.append((*from_path(&to), bytes(datagram)))

    # Receiving.

    cdef inline int rtt(self) noexcept:
        """The round trip as far as it is known; 0: unknown."""
        return max(self.srtt_ms if self.srtt_ms >= 0 else self.rtt_hint_ms, 0)

    cdef bint note_received(
            self, RxEpoch epoch, uint64_t pn, const Path* path, size_t size, bint probes, uint64_t now_ms):
        """Record an authentic datagram. True if it is the newest so far and came by another path.

        One that only probes its path is never that.
        """
        self.rx_last_ms = now_ms
        self.rx_datagrams += 1
        self.rx_bytes += size
        self.wire.events.heard(self)
        if self.counts_losses:
            epoch.note_losses(pn)
        if probes:
            return False
        if epoch.order < self.newest_order or (epoch.order == self.newest_order and pn < self.newest_pn):
            return False
        if epoch.order != self.newest_order or self.rx_cid is None:
            self.newest_order = epoch.order
            self.rx_cid = epoch.cid
        self.newest_pn = pn
        cdef bint is_new = not (self.has_source and same_path(path, &self.rx_path))
        credit_came(&self.credit, size, is_new)
        if self.credit.is_limited:
            self.wire.wake(self)
        if not is_new:
            return False
        self.rx_path = path[0]
        self.has_source = True
        return not (self.has_path and same_path(path, &self.tx_path))

    # Sending.

    cdef int mark_dirty(self, Conv conv) except -1:
        """This conversation has something to send: give it a turn."""
        self.urgent = self.urgent or conv.is_urgent()
        if not conv.is_dirty and not conv.closed:
            conv.is_dirty = True
            if self.in_turn or kcp_queued(&conv.k) > SPARSE_SEGMENTS:
                self.dirty.append(conv)
            else:
                self.sparse.append(conv)
            self.wire.wake(self)

    cdef int conv_changed(self, Conv conv) except -1:
        """Follow any change of a conversation: what it may send, what its user waits for, its next turn."""
        if conv.closed:
            return 0
        if self.spares_bulk:
            conv.fit()
        if self.flight is not None:
            self.flight.update(conv)
            conv.open_window()
            conv.thin_acks()
        self.note_outstanding(conv)
        self.note_heeded(conv)
        conv.notice()
        self.schedule(conv)

    cdef int note_outstanding(self, Conv conv) except -1:
        """Keep count of the conversations that have data under way; the first of them is an event."""
        cdef bint outstanding = kcp_in_flight(&conv.k) > 0
        if outstanding == conv.is_outstanding:
            return 0
        conv.is_outstanding = outstanding
        self.outstanding_convs += 1 if outstanding else -1
        if outstanding and self.outstanding_convs == 1:
            self.wire.events.begun(self)

    cdef void note_heeded(self, Conv conv) noexcept:
        """Take over what the conversation knows of the path and the peer."""
        if conv.k.srtt_ms > 0:
            self.srtt_ms = conv.k.srtt_ms
        self.resends_spurious += conv.k.resends_spurious - conv.heeded_spurious
        conv.heeded_spurious = conv.k.resends_spurious
        self.heeded_ms = max(self.heeded_ms, conv.k.acked_ms)

    cdef int schedule(self, Conv conv) except -1:
        """Give the conversation its next turn: now, or at its deadline."""
        if kcp_wants_flush(&conv.k) or (conv.packets_out is not None and conv.packets_out):
            self.mark_dirty(conv)
        elif conv.is_dirty and kcp_owes_ack(&conv.k):
            self.mark_dirty(conv)
        elif not conv.is_dirty:
            timer_set(&self.wire.timers, conv, kcp_deadline(&conv.k))

    cdef bint can_send(self):
        """There is something to send, or will be (parity), and a key and a path to send it with."""
        if not self.has_path or self.tx is None or (self.credit.is_limited and self.affordable() <= 0):
            return False
        return len(self.dirty) + len(self.sparse) > 0 or (self.fec is not None and self.fec.deadline() >= 0)

    cdef int64_t affordable(self) noexcept:
        """How many datagrams may leave by this path."""
        return credit_datagrams(&self.credit, self.tx_bytes, self._datagram_bytes, self.longest)

    cdef int64_t held_until(self):
        """-1: may send at once (or has nothing to send). Otherwise when the pacer lets data leave again."""
        cdef int64_t until, parity = -1 if self.fec is None else self.fec.deadline()
        cdef bint urgent
        if len(self.dirty) + len(self.sparse) == 0:
            return parity
        urgent = self.urgent or len(self.sparse) > 0
        until = pacer_ready_at(&self.pacer, max(self._datagram_bytes, self.longest), urgent)
        return parity if 0 <= parity < until else until

    cdef int turn(self, Tx* tx, uint64_t now_ms, int budget) except -1:
        """One round over the conversations that have something: about `budget` datagrams; how many."""
        cdef turn_t turn
        cdef uint64_t sent = self.tx_bytes
        cdef int64_t tokens
        if not self.can_send():
            return 0
        if self.flight is not None and self.flight.take_round(<int64_t>now_ms):
            self.measure(<int64_t>now_ms)
        tx.cur_path = self.tx_path
        tokens = pacer_tokens(&self.pacer, <int64_t>now_ms)
        if self.holds_back(<int64_t>now_ms, tokens):
            return 0
        cdef int most = tx.max_count
        if self.credit.is_limited:
            tx.max_count = <int>min(tx.count + self.affordable(), <int64_t>most)
        turn_begin(&turn, tx, self.fec, self._datagram_bytes, tokens, <int64_t>now_ms)
        self.round(&turn, budget)
        if self.flight is not None and not self.dirty:
            self.flight.run_dry()
        turn_finish(&turn, self.fec)
        tx.max_count = most
        if tx.has_long:
            cut_long(self, tx, turn.start)
        seal_vector(self, tx, turn.start)
        self.pay(&turn, self.tx_bytes - sent)
        return tx.count - turn.start

    cdef bint holds_back(self, int64_t now_ms, int64_t tokens):
        """Nothing may leave now, so that nobody needs to be asked."""
        cdef int64_t parity = -1 if self.fec is None else self.fec.deadline()
        if self.urgent or tokens == INT64_MAX or 0 <= parity <= now_ms:
            return False
        return tokens < KCP_HEADER_BYTES or (len(self.sparse) == 0 and pacer_saves(&self.pacer, now_ms))

    cdef int line_up(self) except -1:
        """Those with little to send go before the others."""
        if not self.sparse:
            return 0
        if self.dirty:
            self.dirty.extendleft(reversed(self.sparse))
            self.sparse.clear()
        else:
            self.dirty, self.sparse = self.sparse, self.dirty

    cdef int round(self, turn_t* turn, int budget) except -1:
        """Let each conversation that waits have its share, up to `budget` datagrams; see linkwire.py."""
        cdef Tx* tx = turn.tx
        cdef Conv conv
        cdef Py_ssize_t rounds = len(self.sparse), refused = -1
        cdef int max_segments
        cdef bint everybody = self.urgent
        self.line_up()
        if everybody or not pacer_saves(&self.pacer, turn.now_ms):
            rounds = len(self.dirty)
        tx.is_cold = rounds >= COLD_TURNS
        max_segments = budget if rounds == 1 else TURN_SEGMENTS
        self.in_turn = True
        self.urgent = False
        while rounds > 0 and tx.count - turn.start < budget and tx.count < tx.max_count:
            if refused >= 0 and not everybody:
                break
            rounds -= 1
            refused -= 1 if refused > 0 else 0
            conv = self.dirty.popleft()
            conv.is_dirty = False
            if not conv.closed and not self.serve(conv, turn, max_segments) and refused < 0:
                refused = len(self.dirty) - 1
        self.in_turn = False
        self.urgent = self.urgent or (everybody and rounds > 0)
        if refused >= 0:                    # whoever the pacer left nothing for is the first next time
            self.dirty.rotate(-refused)
        return 0

    cdef bint serve(self, Conv conv, turn_t* turn, int max_segments) except -1:
        """One conversation's share of a turn. False: the pacer left nothing for it."""
        cdef int64_t tokens
        cdef int answer
        self.turns += 1
        if conv.is_lone():
            self.wire.lone_ms = turn.now_ms
        if self.fec is not None:
            turn_shield(turn, self.fec, self.fec.wants(kcp_queued(&conv.k)))
        conv.flush_packets(turn, self._rate_bps > 0)
        if self.flight is not None and kcp_queued(&conv.k) > 0:
            self.flight.admit(conv)
        tokens = turn.tx.tokens
        answer = self.flush(conv, turn, max_segments)
        if answer != KCP_DONE:
            self.mark_dirty(conv)   # the pacer, or its share, held something back, perhaps a resend
        self.conv_changed(conv)
        return answer != KCP_PACED or turn.tx.tokens != tokens

    cdef int flush(self, Conv conv, turn_t* turn, int max_segments):
        """The segments of a conversation; what `kcp_flush` answers."""
        cdef kcp_t* k = &conv.k
        cdef uint64_t fresh = k.segments_sent, late = k.segments_resent_rto
        cdef uint64_t again = k.segments_resent_fast + late
        cdef int answer = kcp_flush(k, turn.tx, <uint64_t>turn.now_ms, max_segments)
        self.segments_sent += k.segments_sent - fresh
        self.segments_resent += k.segments_resent_fast + k.segments_resent_rto - again
        self.timeouts += k.segments_resent_rto - late
        return answer

    cdef void pay(self, const turn_t* turn, uint64_t sent_bytes) noexcept:
        """Tell the pacer what a turn has sent."""
        if self._rate_bps:
            pacer_spend(&self.pacer, <int64_t>sent_bytes)
        else:
            pacer_spend(&self.pacer, turn_spent(turn))      # the controller's rate is one of data alone
        if turn.tx.tokens < <int64_t>self._datagram_bytes:
            pacer_save(&self.pacer)
            self.wire.paced_ms = turn.now_ms

    cdef int measure(self, int64_t now_ms) except -1:
        """One round of the controller."""
        self.flight.measure(now_ms, self.srtt_ms, not self.wire.is_alone(now_ms))
        self.set_pace()
        return 0

    cdef int set_pace(self) except -1:
        """The lower of the user's and the controller's rate, as bits of UDP payload if it is the user's."""
        cdef int64_t rate = self._rate_bps
        cdef int64_t found = 0 if self.flight is None else self.flight.control.rate_bps
        if found > 0 and rate > 0:
            found = found * self._datagram_bytes // (self._datagram_bytes - OVERHEAD_BYTES)
        if found > 0 and (rate == 0 or found < rate):
            rate = found
        cdef int64_t quantum_ms = 1 if self.flight is None else self.flight.quantum_ms
        pacer_change(&self.pacer, rate, self._datagram_bytes, quantum_ms)
