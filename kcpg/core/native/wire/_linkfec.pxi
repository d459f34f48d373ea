"""FEC of one link; see linkfec.py. Included by _wire.pyx."""


# no_gc_clear: __dealloc__ gives the slots back, so the pool must still be there when a cycle is collected.
@cython.no_gc_clear
cdef class LinkFec:
    """Frames of data as shards of groups, out and in; see linkfec.py."""

    def __cinit__(self, SegmentPool pool not None):
        self.pool = pool
        fec_tx_init(&self.tx, pool.slots)
        fec_rx_init(&self.rx, pool.slots)

    def __dealloc__(self):
        fec_tx_clear(&self.tx)
        fec_rx_forget(&self.rx)

    @property
    def groups(self):
        return self.tx.group

    @property
    def rebuilt(self):
        return self.rx.recovered

    @property
    def lost(self):
        return self.rx.lost

    @property
    def malformed(self):
        return self.rx.malformed

    @property
    def held(self):
        cdef fec_shard_t* shard = self.rx.rebuilt      # stay until the next shard comes
        cdef int at, held = 0
        for at in range(FEC_GROUPS):
            if self.rx.groups[at].used:
                held += self.rx.groups[at].held
        while shard != NULL:
            held += 1
            shard = shard.next
        return held

    def forget(self):
        """Give up incomplete groups and the memory they hold."""
        fec_rx_forget(&self.rx)

    # Out.

    cdef int use(self, object plan, uint32_t wait_ms, bint bulk) except -1:
        cdef bytes parity = bytes(plan.parity)
        if fec_tx_use(&self.tx, plan.data, <const uint8_t*>parity, wait_ms) < 0:
            raise MemoryError()
        self.bulk = bulk
        return 0

    cdef void begin(self, Tx* tx, uint32_t longest, int64_t now_ms):
        """First thing in a turn: the parity of a group whose time has come."""
        self.longest = longest
        self.now_ms = now_ms
        self.shielded = False
        fec_tx_expire(&self.tx, now_ms)
        self.parity(tx)
        self.first = tx.count

    cdef void shield(self, Tx* tx, uint32_t queued):
        """Before a conversation with so many segments waiting: keep room for shard headers, or do not."""
        cdef bint wanted = self.tx.data > 0 and (self.bulk or queued <= BULK_SEGMENTS)
        if wanted == self.shielded:
            return
        self.finish(tx)
        self.shielded = wanted
        if wanted:
            tx.head_room += SHARD_ROOM_BYTES
            tx.limit -= FEC_ROOM_BYTES

    cdef void finish(self, Tx* tx):
        """Make shards of the datagrams that were built with room for it."""
        cdef uint8_t* p
        cdef uint32_t n
        cdef int i
        tx_close(tx)
        if self.shielded:
            for i in range(self.first, tx.count):
                p = tx.buf + tx.off[i] + HEADER_BYTES
                n = tx.len[i] - HEADER_BYTES - SHARD_ROOM_BYTES - TAG_BYTES
                if n + FEC_ROOM_BYTES > self.longest or not has_data(p + SHARD_ROOM_BYTES, n):
                    tx.off[i] += SHARD_ROOM_BYTES
                    tx.len[i] -= SHARD_ROOM_BYTES
                    continue
                p[0] = <uint8_t>T_FEC_DATA
                fec_tx_data(&self.tx, p + TYPE_BYTES, p + SHARD_ROOM_BYTES, n, self.now_ms)
            self.shielded = False
            tx.head_room -= SHARD_ROOM_BYTES
            tx.limit += FEC_ROOM_BYTES
            self.parity(tx)
        self.first = tx.count

    cdef void parity(self, Tx* tx):
        """Datagrams of the parity that is ready."""
        cdef uint8_t* p
        cdef uint32_t n = fec_tx_parity_bytes(&self.tx)
        while n > 0 and tx.count < tx.max_count and tx.used + n + OVERHEAD_BYTES <= tx.cap:
            p = tx.buf + tx.used + HEADER_BYTES
            fec_tx_parity(&self.tx, p + TYPE_BYTES)
            if TYPE_BYTES + n <= self.longest:        # else datagrams became smaller meanwhile
                p[0] = <uint8_t>T_FEC_PARITY
                tx.off[tx.count] = <uint32_t>tx.used
                tx.len[tx.count] = HEADER_BYTES + TYPE_BYTES + n + TAG_BYTES
                tx.path[tx.count] = tx.cur_path
                tx.used += HEADER_BYTES + TYPE_BYTES + n + TAG_BYTES
                tx.count += 1
                self.parity_bytes += TYPE_BYTES + n
            n = fec_tx_parity_bytes(&self.tx)

    cdef int64_t deadline(self):
        """When `begin` has something to send; -1: never."""
        return 0 if self.tx.ready != NULL else fec_tx_deadline(&self.tx)

    # In.

    cdef int receive(
            self, Bundle bundle, int type, const uint8_t* p, uint32_t n, uint64_t now_ms) except -1:
        """Take in a shard, and what it carries or makes known."""
        cdef uint64_t malformed = self.rx.malformed
        cdef fec_shard_t* shard
        if type == T_FEC_DATA:
            fec_rx_data(&self.rx, p, n)
        else:
            fec_rx_parity(&self.rx, p, n)
        if self.rx.malformed != malformed:
            bundle.wire.drop("fec_malformed", self.rx.malformed - malformed)
        if self.rx.fresh:
            bundle.wire.unwrap(bundle, p + FEC_HEADER_BYTES, n - FEC_HEADER_BYTES, False, now_ms)
        shard = self.rx.rebuilt     # stays until this object receives again, which nothing below does
        while shard != NULL:
            bundle.wire.unwrap(bundle, fec_body(shard) + FEC_PREFIX_BYTES, shard.len, True, now_ms)
            shard = shard.next
        return 0


cdef bint has_data(const uint8_t* p, uint32_t n) noexcept nogil:
    """A user's packet, or a push among the segments of the frame p[0..n)."""
    cdef uint32_t at = TYPE_BYTES
    while p[0] == T_KCP and at < n:
        if p[at + 4] == PUSH:
            return True
        at += KCP_HEADER_BYTES + get32(p + at + 20)
    return p[0] == T_DATAGRAM


cdef object add_losses(object before, RxEpoch epoch):
    """The losses `before`, and those of this epoch."""
    cdef fec_losses_t* more = &epoch.losses
    return Losses(before.expected + more.expected, before.lost + more.lost, before.bursts + more.bursts)
