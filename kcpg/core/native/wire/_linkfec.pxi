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
        cdef fec_shard_t* shard = self.rx.rebuilt      # they stay until the next shard comes
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
        """Protect by this plan from now on; `bulk`: also conversations with much to send."""
        cdef bytes parity = bytes(plan.parity)
        if fec_tx_use(&self.tx, plan.data, <const uint8_t*>parity, wait_ms) < 0:
            raise MemoryError()
        self.bulk = bulk
        return 0

    cdef bint wants(self, uint32_t queued) noexcept:
        """Whether to protect a conversation with this many segments waiting."""
        return self.tx.data > 0 and (self.bulk or queued <= BULK_SEGMENTS)

    cdef void protect(self, Tx* tx, int at, uint32_t room, int64_t now_ms) noexcept:
        """Make a shard of a datagram with room for its header, where it lies, if it may be one and fits."""
        cdef uint8_t* p = tx.buf + tx.off[at] + HEADER_BYTES
        cdef uint32_t n = tx.len[at] - HEADER_BYTES - SHARD_ROOM_BYTES - TAG_BYTES
        if n + FEC_ROOM_BYTES > room or not has_data(p + SHARD_ROOM_BYTES, n):
            tx.off[at] += SHARD_ROOM_BYTES
            tx.len[at] -= SHARD_ROOM_BYTES
            return
        p[0] = <uint8_t>T_FEC_DATA
        fec_tx_data(&self.tx, p + TYPE_BYTES, p + SHARD_ROOM_BYTES, n, now_ms)

    cdef void expire(self, int64_t now_ms) noexcept:
        """Close a group whose time has come: its parity is ready."""
        fec_tx_expire(&self.tx, now_ms)

    cdef uint32_t parity(self, uint8_t* p, uint32_t room) noexcept:
        """Write the next parity frame to `p`: its bytes; 0: it does not fit any more, and is lost."""
        cdef uint32_t n = self.parity_ready_bytes()
        fec_tx_parity(&self.tx, p + TYPE_BYTES)
        if n > room:            # datagrams became smaller meanwhile
            return 0
        p[0] = <uint8_t>T_FEC_PARITY
        self.parity_bytes += n
        return n

    cdef uint32_t parity_ready_bytes(self) noexcept:
        """How long the next parity frame is; 0: there is none."""
        cdef uint32_t n = fec_tx_parity_bytes(&self.tx)
        return TYPE_BYTES + n if n > 0 else 0

    cdef int64_t deadline(self) noexcept:
        """When there is parity to send; -1: never."""
        return 0 if self.tx.ready != NULL else fec_tx_deadline(&self.tx)

    # In.

    cdef bint receive(self, int frame_type, const uint8_t* p, uint32_t n) noexcept:
        """Take in a shard. True: the frame it carries is news; those it makes known stand in `rx.rebuilt`."""
        if frame_type == T_FEC_DATA:
            fec_rx_data(&self.rx, p, n)
        else:
            fec_rx_parity(&self.rx, p, n)
        return self.rx.fresh


cdef bint has_data(const uint8_t* p, uint32_t n) noexcept nogil:
    """A user's packet, or a push among the segments of the frame p[0..n)."""
    cdef uint32_t at = TYPE_BYTES
    while p[0] == T_KCP and at < n:
        if p[at + 4] == CMD_PUSH:
            return True
        at += KCP_HEADER_BYTES + get32(p + at + 20)
    return p[0] == T_DATAGRAM
