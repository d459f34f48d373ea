"""The data plane of one link; see bundle.py. Included by _wire.pyx."""


cdef class Bundle:
    """The conversations of one link, sealed under its keys and sent on its path; see bundle.py."""

    OVERHEAD = OVERHEAD_BYTES

    def __init__(self, Wire wire not None, user):
        self.wire = wire
        self.user = user
        self.convs = {}
        self.epochs = {}
        self.dirty, self.sparse = deque(), deque()
        self.watched = True
        self.rx_last_ms = self.tx_last_ms = self.heeded_ms = -1
        self.srtt_ms = -1
        self.max_payload = min(<uint32_t>DEFAULT_DATAGRAM_BYTES, wire.max_datagram)
        self.pieces = Pieces(wire.max_datagram)
        self.refilled_ms = -1
        self.newest_order = 0
        self.capped = deque()
        self.losses_before = NO_LOSSES
        self.rate_bps = 0

    # Keys and path.

    def install_rx(self, cid, str algorithm, bytes key, bytes iv):
        """Accept datagrams that carry `cid`, sealed under `key`; earlier epochs stay until `remove_rx`."""
        assert cid not in self.wire.epochs, "a CID names one epoch"
        cdef RxEpoch epoch = RxEpoch()
        self.order += 1
        epoch.bundle = self
        epoch.cid = cid
        epoch.order = self.order
        epoch.sealer = Sealer(algorithm, key, iv)
        replay_init(&epoch.replay)
        self.epochs[cid] = epoch
        self.wire.epochs[cid] = epoch

    def remove_rx(self, cid):
        """Forget an epoch; its late datagrams become strangers."""
        cdef RxEpoch epoch = self.epochs.pop(cid, None)
        if epoch is not None:
            self.losses_before = add_losses(self.losses_before, epoch)
            del self.wire.epochs[cid]
            self.wire.last_epoch = None

    def install_tx(self, cid, str algorithm, bytes key, bytes iv):
        """Seal under `key` from now on, for the peer's `cid`; packet numbers start at 0 again."""
        self.tx_cid = cid
        self.tx_sealer = Sealer(algorithm, key, iv)
        self.tx_pn = 0
        self.wire.wake(self)

    def set_path(self, int sock, bytes addr):
        """Send by this local socket to this address from now on."""
        to_path(&self.tx_path, sock, addr)
        self.has_path = True
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
        return self.max_payload

    @datagram_bytes.setter
    def datagram_bytes(self, uint32_t value):
        assert value <= self.wire.max_datagram
        self.max_payload = value
        cdef Conv conv
        for conv in self.convs.values():
            kcp_set_mtu(&conv.k, self.segment_bytes(conv.is_long))
        self.longest = max(self.longest, self.segment_bytes(True) + OVERHEAD_BYTES)
        self.set_pace()

    @property
    def kcp_mtu(self):
        """Of segments cut now, headers included: as many as a datagram needs fill it."""
        return self.segment_bytes(False)

    cdef uint32_t segment_bytes(self, bint is_long):
        """Of a segment that is protected, or of one of a long transfer, which is not."""
        cdef uint32_t room = self.max_payload - OVERHEAD_BYTES - (0 if is_long else self.fec_room)
        return room // ((room + KCP_HEADER_BYTES + SLOT_BYTES - 1) // (KCP_HEADER_BYTES + SLOT_BYTES))

    @property
    def frame_room(self):
        """Bytes for the payload of a frame of data."""
        return self.data_room()

    cdef uint32_t data_room(self):
        return self.max_payload - OVERHEAD_BYTES - self.fec_room

    @property
    def rate_bps(self):
        """The user's limit in bit/s of UDP payload, 0 for none."""
        return self.configured

    @rate_bps.setter
    def rate_bps(self, int64_t value):
        self.configured = value
        self.refilled_ms = -1
        self.rate = 0
        self.set_pace()

    @property
    def pace_bps(self):
        """The rate that is kept now, 0 for none."""
        return self.rate

    def adapt(self, control):
        """Let this controller find rate and flight from now on; before any conversation."""
        assert not self.convs
        self.control = control
        self.flight_max = control.flight_bytes

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
        total = self.losses_before
        for epoch in self.epochs.values():
            fec_losses_scan(&epoch.losses, &epoch.replay, epoch.settled)
            epoch.settled = epoch.replay.next
            total = add_losses(total, epoch)
        return total

    cdef LinkFec link_fec(self):
        if self.fec is None:
            self.fec = LinkFec(self.wire.fec_pool)
        return self.fec

    @property
    def flight(self):
        """Bytes of segments sent and not acknowledged."""
        return self.sent_bytes - self.acked_bytes

    @property
    def outstanding(self):
        """Some conversation has sent data that is not acknowledged yet."""
        return self.busy > 0

    def segment_counts(self):
        """What all conversations have counted; 65,535 of them take a millisecond or two."""
        cdef segment_counts_t total = self.segments_before
        cdef Conv conv
        for conv in self.convs.values():
            count_segments(&total, &conv.k)
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
        count_segments(&self.segments_before, &gone.k)
        self.tally(gone)
        self.sent_bytes -= <int64_t>(gone.seen_sent - gone.seen_acked)      # nobody will acknowledge it
        self.release()
        if gone.is_busy:
            gone.is_busy = False
            self.busy -= 1
        self.last_conv = gone.bypass = None
        gone.leave_timers()
        kcp_clear(&gone.k)

    def free(self):
        """Drop all conversations and keys. What was sealed already still leaves."""
        for conv in list(self.convs):
            self.close(conv)
        for cid in list(self.epochs):
            self.remove_rx(cid)
        self.tx_sealer = None
        self.fec = None
        self.dirty.clear()
        self.sparse.clear()
        self.capped.clear()

    def hurry(self, now_ms):
        """The peer is there again, or somewhere else: send at once what waits for a later retransmission."""
        cdef Conv conv
        for conv in self.convs.values():
            kcp_hurry(&conv.k, now_ms)
            self.settle(conv)

    @property
    def rx_pn(self):
        """The highest packet number of the newest epoch, but for path probes; -1: none."""
        return self.newest_pn if self.rx_cid is not None else -1

    def send(self, type, bytes payload, path=None):
        """Seal one control frame now and let it leave with the next transmit, unpaced."""
        cdef Path to
        if self.tx_sealer is None or (path is None and not self.has_path):
            self.wire.count_drop("no_path")
            return
        if path is None:
            to = self.tx_path
        else:
            to_path(&to, path[0], path[1])
        plaintext = bytes((type,)) + payload
        if len(plaintext) < MIN_DATAGRAM_BYTES - HEADER_BYTES - TAG_BYTES:
            plaintext += bytes(MIN_DATAGRAM_BYTES - HEADER_BYTES - TAG_BYTES - len(plaintext))
        cdef uint32_t size = <uint32_t>(HEADER_BYTES + len(plaintext) + TAG_BYTES)
        cdef bytearray datagram = bytearray(HEADER_BYTES) + plaintext + bytes(TAG_BYTES)
        cdef Tx one
        cdef uint32_t off = 0
        memset(&one, 0, sizeof(one))
        one.buf = <uint8_t*>datagram
        one.off = &off
        one.len = &size
        one.count = 1
        seal_range(self, &one, 0)
        if one.count:
            self.wire.outbox.append((*from_path(&to), bytes(datagram)))

    # Receiving.

    cdef bint note_received(
            self, RxEpoch epoch, uint64_t pn, const Path* path, size_t size, bint probes, uint64_t now_ms):
        """Record an authentic datagram. True if it is the newest so far and came by another path.

        One that only probes its path is never that.
        """
        self.rx_last_ms = now_ms
        self.rx_datagrams += 1
        self.rx_bytes += size
        if not self.is_heard:
            self.is_heard = True
            self.wire.events.append((HEARD, self))
        if self.watched and not self.is_urgent:
            self.is_urgent = True
            self.wire.urgent += 1
        if self.counts_losses and pn >= epoch.losses.next + LOSS_SCAN:
            fec_losses_scan(&epoch.losses, &epoch.replay, 0)
        if probes:
            return False
        if epoch.order < self.newest_order or (epoch.order == self.newest_order and pn < self.newest_pn):
            return False
        if epoch.order != self.newest_order or self.rx_cid is None:
            self.newest_order = epoch.order
            self.rx_cid = epoch.cid
        self.newest_pn = pn
        if self.has_source and same_path(path, &self.rx_path):
            return False
        self.rx_path = path[0]
        self.has_source = True
        return not (self.has_path and same_path(path, &self.tx_path))

    # Sending.

    cdef void mark_dirty(self, Conv conv):
        if not conv.is_dirty and not conv.closed:
            conv.is_dirty = True
            if self.in_turn or kcp_queued(&conv.k) > SPARSE_SEGMENTS:
                self.dirty.append(conv)
            else:
                self.sparse.append(conv)
            self.wire.wake(self)

    cdef void settle(self, Conv conv):
        """After any change of a conversation: queue it, or arm its deadline."""
        if conv.closed:
            return
        cdef bint busy = kcp_in_flight(&conv.k) > 0
        if self.spares_bulk:
            conv.fit()
        if self.control is not None:
            if self.tally(conv):
                self.release()
            if kcp_queued(&conv.k) > 0:
                self.admit(conv)
            if conv.k.rcv_wnd < conv.rcv_limit and conv.k.segments_received > WINDOW_START_SEGMENTS // 2:
                conv.open_window()
        if busy != conv.is_busy:
            conv.is_busy = busy
            self.busy += 1 if busy else -1
            if busy and self.busy == 1 and not self.has_begun:
                self.has_begun = True
                self.wire.events.append((BEGUN, self))
        if conv.k.srtt_ms > 0:
            self.srtt_ms = conv.k.srtt_ms
        self.heeded_ms = max(self.heeded_ms, conv.k.acked_ms)
        if conv.want_room and kcp_room(&conv.k) >= conv.wake_segments():
            conv.want_room = False
            conv.raise_events(EV_WRITABLE)
        if conv.want_drained and conv.is_drained():
            conv.want_drained = False
            self.wire.events.append((DRAINED, conv))
        if kcp_wants_flush(&conv.k) or (conv.packets_out is not None and conv.packets_out):
            self.mark_dirty(conv)
        elif not conv.is_dirty:
            timer_set(&self.wire.timers, conv, kcp_deadline(&conv.k))

    cdef bint tally(self, Conv conv):
        """Bring the totals up to date with this conversation. True: something was acknowledged."""
        cdef kcp_t* k = &conv.k
        cdef uint64_t sent = k.bytes_sent + KCP_HEADER_BYTES * k.segments_sent
        cdef uint64_t resent = k.segments_resent_fast + k.segments_resent_rto - k.resends_spurious
        cdef uint64_t acked
        if kcp_in_flight(k) == 0:
            conv.acked_empty = sent - k.acked_bytes
        acked = k.acked_bytes + conv.acked_empty - conv.seen_acked
        self.sent_bytes += <int64_t>(sent - conv.seen_sent)
        self.acked_bytes += <int64_t>acked
        self.first_segments += <int64_t>(k.segments_sent - conv.seen_first)
        self.resent_segments += <int64_t>(resent - conv.seen_resent)
        conv.seen_sent = sent
        conv.seen_acked += acked
        conv.seen_first = k.segments_sent
        conv.seen_resent = resent
        return acked > 0

    cdef void admit(self, Conv conv):
        """Set the window to what the flight has room for; without room the conversation waits its turn."""
        cdef kcp_t* k = &conv.k
        cdef int64_t piece = k.mss + KCP_HEADER_BYTES
        cdef int64_t room = self.flight_max - (self.sent_bytes - self.acked_bytes)
        cdef int64_t own = <int64_t>(conv.seen_sent - conv.seen_acked) // piece
        cdef int64_t allowed = room // piece + 1 if room > 0 and not conv.is_capped else 0
        if allowed + own < SPARSE_SEGMENTS:
            allowed = SPARSE_SEGMENTS - own
        if allowed == 0 and not conv.is_capped:
            conv.is_capped = True
            self.capped.append(conv)
        allowed += kcp_in_flight(k)
        k.snd_wnd = <uint32_t>allowed if allowed < conv.snd_limit else conv.snd_limit

    cdef void release(self):
        """Let those go on that waited longest, as many as the flight has room for."""
        cdef int64_t room = self.flight_max - (self.sent_bytes - self.acked_bytes)
        cdef Conv conv
        cdef uint32_t wanted
        while room > 0 and self.capped:
            conv = self.capped.popleft()
            conv.is_capped = False
            if conv.closed:
                continue
            self.admit(conv)
            wanted = min(kcp_queued(&conv.k), <uint32_t>TURN_SEGMENTS)
            room -= <int64_t>wanted * (conv.k.mss + KCP_HEADER_BYTES)
            if kcp_wants_flush(&conv.k):
                self.mark_dirty(conv)

    cdef int measure(self, int64_t now_ms) except -1:
        """One round of the controller."""
        self.control.round(
            now_ms, Totals(self.sent_bytes, self.acked_bytes, self.first_segments, self.resent_segments),
            self.srtt_ms, self.starved_at)
        self.round_due = self.control.due_ms
        self.flight_max = self.control.flight_bytes
        self.set_pace()
        self.release()
        return 0

    cdef void set_pace(self):
        """The lower of the user's and the controller's rate, as bits of UDP payload if it is the user's."""
        cdef int64_t floor = <int64_t>BURST_DATAGRAMS * self.max_payload * SCALE
        cdef int64_t rate = self.configured
        cdef int64_t found = 0 if self.control is None else self.control.rate_bps
        cdef bint fresh = self.rate == 0
        if found > 0 and rate > 0:
            found = found * self.max_payload // (self.max_payload - OVERHEAD_BYTES)
        if found > 0 and (rate == 0 or found < rate):
            rate = found
        self.rate = rate
        self.burst = rate * BURST_MS if rate * BURST_MS > floor else floor
        if fresh or self.credit > self.burst:
            self.credit = self.burst

    cdef bint sendable(self):
        if not self.has_path or self.tx_sealer is None:
            return False
        return len(self.dirty) + len(self.sparse) > 0 or (self.fec is not None and self.fec.deadline() >= 0)

    cdef void refill(self, int64_t now_ms):
        if self.refilled_ms >= 0 and now_ms > self.refilled_ms:
            self.credit += (now_ms - self.refilled_ms) * self.rate
            if self.credit > self.burst:
                self.credit = self.burst
        self.refilled_ms = max(self.refilled_ms, now_ms)

    cdef int64_t held_until(self):
        """-1: may send at once (or has nothing to send). Otherwise when the pacer lets data leave again."""
        cdef int64_t missing, until
        cdef int64_t parity = -1 if self.fec is None else self.fec.deadline()
        if len(self.dirty) + len(self.sparse) == 0:
            return parity
        if self.rate == 0 or self.refilled_ms < 0:
            return -1
        missing = <int64_t>max(self.max_payload, self.longest) * SCALE
        missing = (missing if missing < self.burst else self.burst) - self.credit
        until = self.refilled_ms
        if missing > 0:
            until += (missing + self.rate - 1) // self.rate
        return parity if 0 <= parity < until else until

    cdef int turn(self, Tx* tx, uint64_t now_ms, int budget) except -1:
        """One round over the conversations that have something: about `budget` datagrams; how many."""
        cdef Conv conv
        cdef LinkFec fec = self.fec
        cdef int start = tx.count, segments, answer
        cdef Py_ssize_t rounds, served = -1
        cdef int64_t tokens, before
        cdef uint64_t fresh, again, late, sent = self.tx_bytes
        if not self.sendable():
            return 0
        if self.control is not None and <int64_t>now_ms >= self.round_due:
            self.measure(now_ms)
        if self.sparse:
            if self.dirty:
                self.dirty.extendleft(reversed(self.sparse))
                self.sparse.clear()
            else:
                self.dirty, self.sparse = self.sparse, self.dirty
        rounds = len(self.dirty)
        segments = budget if rounds == 1 else TURN_SEGMENTS
        tx.cur_path = self.tx_path
        tx.head_room = HEADER_BYTES + TYPE_BYTES
        tx.tail_room = TAG_BYTES
        tx.limit = self.max_payload - OVERHEAD_BYTES
        tx.frame_type = <uint8_t>T_KCP
        tx.is_cold = rounds >= COLD_TURNS
        tx.tokens = INT64_MAX
        if self.rate:
            self.refill(now_ms)
            tx.tokens = self.credit // SCALE if self.credit > 0 else 0
        tokens = tx.tokens
        if fec is not None:
            fec.begin(tx, self.max_payload - HEADER_BYTES - TAG_BYTES, <int64_t>now_ms)
        self.in_turn = True
        while rounds > 0 and tx.count - start < budget and tx.count < tx.max_count:
            rounds -= 1
            conv = self.dirty.popleft()
            conv.is_dirty = False
            if conv.closed:
                continue
            if fec is not None:
                fec.shield(tx, kcp_queued(&conv.k))
            if conv.packets_out is not None and conv.packets_out:
                conv.packets_turn(tx)
            if self.control is not None and kcp_queued(&conv.k) > 0:
                self.admit(conv)
            fresh = conv.k.segments_sent
            late = conv.k.segments_resent_rto
            again = conv.k.segments_resent_fast + late
            before = tx.tokens
            answer = kcp_flush(&conv.k, tx, now_ms, segments)
            self.segments_sent += conv.k.segments_sent - fresh
            self.segments_resent += conv.k.segments_resent_fast + conv.k.segments_resent_rto - again
            self.timeouts += conv.k.segments_resent_rto - late
            if answer == KCP_PACED and served < 0 and tx.tokens == before:
                served = len(self.dirty) - rounds
            if answer != KCP_DONE:
                self.mark_dirty(conv)   # the pacer, or its share, held something back, perhaps a resend
            self.settle(conv)
        self.in_turn = False
        if served > 0 and rounds == 0:
            self.dirty.rotate(-served)      # whoever the pacer left nothing for is the first next time
        if not self.dirty and not self.capped:
            self.starved_at = self.sent_bytes
        tx_close(tx)
        if fec is not None:
            fec.finish(tx)
        if tx.has_long:
            cut_long(self, tx, start)
        seal_range(self, tx, start)
        if self.rate and self.configured:
            self.credit -= <int64_t>(self.tx_bytes - sent) * SCALE
        elif self.rate:
            self.credit -= (tokens - tx.tokens) * SCALE     # the controller's rate is one of data alone
        return tx.count - start
