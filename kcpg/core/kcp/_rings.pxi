# Part of _kcp.pyx: the rings of segments, which grow and shrink with what they hold. Declared in _rings.pxd.
# No twin: plain Python has dictionaries.

cdef enum:
    RING_START = 8              # entries of a ring at first use: an idle conversation stays under a kilobyte
    RING_KEEP = 64              # an empty ring larger than this is given back
    SND_ENTRY = 24              # bytes of an entry: a pointer, two times, three 16-bit fields and two flags
    RCV_ENTRY = 16              # a pointer, a number, a 16-bit field and two flags

    # flags of a segment in the send ring
    SND_ACKED = 1
    SND_STREAM = 2              # made by kcp_write_*(): more bytes may be added while it is queued
    SND_LATE = 4                # to be resent: its time is over ...
    SND_TAIL = 8                # ... or to hear of it sooner
    SND_COPY = 16               # a resend that is to be followed by a copy
    # flags of a segment in the receive ring
    RCV_HERE = 1
    RCV_ACK_DUE = 2             # its acknowledgement is in `acks`
    RCV_READY = 4               # unordered: part of a complete message in the ready chain
    RCV_DONE = 8                # unordered: delivered, waits for the gap before it to close


cdef inline uint32_t ring_cap(uint32_t cap, uint32_t need) noexcept nogil:
    """The entries of a ring of `cap` once it has to hold `need`: a power of two."""
    if cap < RING_START:
        cap = RING_START
    while cap < need:
        cap *= 2
    return cap


cdef inline void ring_count(kcp_t* k, uint32_t before, uint32_t cap, size_t entry) noexcept nogil:
    """A ring of `before` entries has `cap` now."""
    k.pool.rings = k.pool.rings + cap * entry - before * entry
    k.share.rings = k.share.rings + cap * entry - before * entry


cdef inline bint rcv_affords(const kcp_t* k, size_t ring_bytes) noexcept nogil:
    """Whether the pool, and the link's share, have so many bytes for a receive ring."""
    if k.pool.max_slots == 0:
        return True
    return (not share_wastes(k.share, k.pool)
            and pool_used(k.pool) + (ring_bytes >> KCP_RING_LOG) < k.pool.max_slots)


cdef bint snd_reserve(kcp_t* k, uint32_t extra) noexcept nogil:
    """Make room for `extra` segments after snd_end; False without memory."""
    cdef snd_ring_t old = k.snd
    cdef snd_ring_t new
    cdef uint32_t need = k.snd_end - k.snd_una + extra
    cdef uint32_t sn, a, b
    cdef uint8_t* block
    if need <= old.cap:
        return True
    new.cap = ring_cap(old.cap, need)
    block = <uint8_t*>calloc(new.cap, SND_ENTRY)
    if block == NULL:
        return False
    ring_count(k, old.cap, new.cap, SND_ENTRY)
    new.slot = <uint8_t**>block
    new.ts = <uint32_t*>(new.slot + new.cap)
    new.first_ts = new.ts + new.cap
    new.rto = <uint16_t*>(new.first_ts + new.cap)
    new.len = new.rto + new.cap
    new.skips = new.len + new.cap
    new.frg = <uint8_t*>(new.skips + new.cap)
    new.flags = new.frg + new.cap
    sn = k.snd_una
    while sn != k.snd_end + k.fresh:
        a = sn & (old.cap - 1)
        b = sn & (new.cap - 1)
        new.slot[b] = old.slot[a]
        new.ts[b] = old.ts[a]
        new.first_ts[b] = old.first_ts[a]
        new.rto[b] = old.rto[a]
        new.len[b] = old.len[a]
        new.skips[b] = old.skips[a]
        new.frg[b] = old.frg[a]
        new.flags[b] = old.flags[a]
        sn += 1
    free(old.slot)
    k.snd = new
    return True


cdef bint rcv_reserve(kcp_t* k, uint32_t need) noexcept nogil:
    """Make room for `need` segments from rcv_read on; False without memory."""
    cdef rcv_ring_t old = k.rcv
    cdef rcv_ring_t new
    cdef uint32_t sn, a, b
    cdef uint8_t* block
    if need <= old.cap:
        return True
    new.cap = ring_cap(old.cap, need)
    if new.cap > RING_START and not rcv_affords(k, (new.cap - old.cap) * RCV_ENTRY):
        return False
    block = <uint8_t*>calloc(new.cap, RCV_ENTRY)
    if block == NULL:
        return False
    ring_count(k, old.cap, new.cap, RCV_ENTRY)
    new.slot = <uint8_t**>block
    new.next = <uint32_t*>(new.slot + new.cap)
    new.len = <uint16_t*>(new.next + new.cap)
    new.frg = <uint8_t*>(new.len + new.cap)
    new.flags = new.frg + new.cap
    sn = k.rcv_read
    while sn != k.rcv_end:
        a = sn & (old.cap - 1)
        b = sn & (new.cap - 1)
        new.slot[b] = old.slot[a]
        new.next[b] = old.next[a]
        new.len[b] = old.len[a]
        new.frg[b] = old.frg[a]
        new.flags[b] = old.flags[a]
        sn += 1
    free(old.slot)
    k.rcv = new
    return True


cdef inline void snd_drop_slot(kcp_t* k, uint32_t i) noexcept nogil:
    """Give back the payload of entry `i`, whose segment has arrived."""
    if k.snd.slot[i] != NULL:
        k.acked_bytes += KCP_HEADER_BYTES + k.snd.len[i]
        k.share.tx_slots -= 1
        slot_put(k.pool, k.snd.slot[i])
        k.snd.slot[i] = NULL


cdef inline void rcv_drop_slot(kcp_t* k, uint32_t i) noexcept nogil:
    """Give back the payload of entry `i`."""
    if k.rcv.slot[i] != NULL:
        k.share.rx_slots -= 1
        k.share.rx_bytes -= k.rcv.len[i]
        slot_put(k.pool, k.rcv.slot[i])
        k.rcv.slot[i] = NULL


cdef void snd_drop_fresh(kcp_t* k) noexcept nogil:
    """Give back the slots of a kcp_write_begin() that no commit used."""
    cdef uint32_t sn = k.snd_end
    cdef uint64_t acked_bytes = k.acked_bytes
    while k.fresh > 0:
        snd_drop_slot(k, sn & (k.snd.cap - 1))
        sn += 1
        k.fresh -= 1
    k.acked_bytes = acked_bytes


cdef inline void snd_shrink(kcp_t* k) noexcept nogil:
    """Free a large send ring that holds nothing."""
    if k.snd.cap > RING_KEEP and k.snd_una == k.snd_end and k.fresh == 0:
        ring_count(k, k.snd.cap, 0, SND_ENTRY)
        free(k.snd.slot)
        memset(&k.snd, 0, sizeof(snd_ring_t))


cdef inline void rcv_shrink(kcp_t* k) noexcept nogil:
    """Free a large receive ring that holds nothing."""
    if k.rcv.cap > RING_KEEP and k.rcv_read == k.rcv_end:
        ring_count(k, k.rcv.cap, 0, RCV_ENTRY)
        free(k.rcv.slot)
        memset(&k.rcv, 0, sizeof(rcv_ring_t))
