# Part of _kcp.pyx: the slot pool, the rings, and the life of a conversation.

cdef enum:
    RING_START = 8              # entries of a ring at first use: an idle conversation stays under a kilobyte
    RING_KEEP = 64              # an empty ring larger than this is given back
    CHUNK_SLOTS_MIN = 8         # a pool doubles its size from this chunk ...
    CHUNK_SLOTS_MAX = 512       # ... to this one (0.7 MB of 1,400-byte slots)
    SLOT_ALIGN = 16             # of slots; a chunk's first so many bytes chain the chunks
    WINDOW_MAX = 65535          # the window field on the wire has 16 bits
    RTO_START_MS = 200          # KCP: IKCP_RTO_DEF
    RTO_MAX_MS = 60000          # KCP: IKCP_RTO_MAX
    REMOTE_WINDOW_START = 128   # KCP: IKCP_WND_RCV, assumed until the peer says
    SSTHRESH_MIN = 2            # KCP: IKCP_THRESH_MIN

    # flags of a segment in the send ring
    SND_ACKED = 1
    SND_STREAM = 2              # made by write(): more bytes may be added while it is queued
    SND_LATE = 4                # to be resent: its time is over ...
    SND_TAIL = 8                # ... or to hear of it sooner
    SND_COPY = 16               # a resend that is to be followed by a copy
    # flags of a segment in the receive ring
    RCV_HERE = 1
    RCV_ACK_DUE = 2             # its acknowledgement is in `acks`
    RCV_READY = 4               # unordered: part of a complete message in the ready chain
    RCV_DONE = 8                # unordered: delivered, waits for the gap before it to close


cdef Pool* pool_new(uint32_t slot_bytes, size_t max_slots) noexcept nogil:
    cdef Pool* pool = <Pool*>calloc(1, sizeof(Pool))
    if pool != NULL:
        pool.slot_bytes = slot_bytes
        pool.max_slots = max_slots
    return pool


cdef void pool_free(Pool* pool) noexcept nogil:
    cdef void* chunk
    cdef void* following
    if pool == NULL:
        return
    chunk = pool.chunks
    while chunk != NULL:
        memcpy(&following, chunk, sizeof(void*))
        free(chunk)
        chunk = following
    free(pool.free)
    free(pool)


cdef bint pool_grow(Pool* pool) noexcept nogil:
    cdef size_t stride = (pool.slot_bytes + SLOT_ALIGN - 1) // SLOT_ALIGN * SLOT_ALIGN
    cdef size_t count = pool.total
    cdef uint8_t* chunk
    cdef void* grown
    cdef size_t i
    if count < CHUNK_SLOTS_MIN:
        count = CHUNK_SLOTS_MIN
    if count > CHUNK_SLOTS_MAX:
        count = CHUNK_SLOTS_MAX
    if pool.max_slots != 0 and count > pool.max_slots - pool.total:
        count = pool.max_slots - pool.total
    if count == 0:
        return False
    chunk = <uint8_t*>malloc(SLOT_ALIGN + stride * count)
    if chunk == NULL:
        return False
    grown = realloc(pool.free, (pool.total + count) * sizeof(uint8_t*))
    if grown == NULL:
        free(chunk)
        return False
    pool.free = <uint8_t**>grown
    memcpy(chunk, &pool.chunks, sizeof(void*))
    pool.chunks = chunk
    for i in range(count):      # none is free now; the first slot of the chunk is the first to be taken
        pool.free[i] = chunk + SLOT_ALIGN + stride * (count - 1 - i)
    pool.total += count
    return True


cdef inline uint32_t ring_cap(uint32_t cap, uint32_t need) noexcept nogil:
    if cap < RING_START:
        cap = RING_START
    while cap < need:
        cap *= 2
    return cap


cdef bint snd_reserve(kcp_t* k, uint32_t extra) noexcept nogil:
    """Make place for `extra` segments after snd_end; False without memory."""
    cdef snd_ring_t old = k.snd
    cdef snd_ring_t new
    cdef uint32_t need = k.snd_end - k.snd_una + extra
    cdef uint32_t sn, a, b
    cdef uint8_t* block
    if need <= old.cap:
        return True
    new.cap = ring_cap(old.cap, need)
    block = <uint8_t*>calloc(new.cap, sizeof(uint8_t*) + 2 * 4 + 3 * 2 + 2)
    if block == NULL:
        return False
    new.slot = <uint8_t**>block
    new.ts = <uint32_t*>(new.slot + new.cap)
    new.first_ts = new.ts + new.cap
    new.rto = <uint16_t*>(new.first_ts + new.cap)
    new.len = new.rto + new.cap
    new.fastack = new.len + new.cap
    new.frg = <uint8_t*>(new.fastack + new.cap)
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
        new.fastack[b] = old.fastack[a]
        new.frg[b] = old.frg[a]
        new.flags[b] = old.flags[a]
        sn += 1
    free(old.slot)
    k.snd = new
    return True


cdef bint rcv_reserve(kcp_t* k, uint32_t need) noexcept nogil:
    """Make place for `need` segments from rcv_read on; False without memory."""
    cdef rcv_ring_t old = k.rcv
    cdef rcv_ring_t new
    cdef uint32_t sn, a, b
    cdef uint8_t* block
    if need <= old.cap:
        return True
    new.cap = ring_cap(old.cap, need)
    block = <uint8_t*>calloc(new.cap, sizeof(uint8_t*) + 4 + 2 + 2)
    if block == NULL:
        return False
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
    if k.snd.slot[i] != NULL:
        k.acked_bytes += KCP_HEADER_BYTES + k.snd.len[i]
        slot_put(k.pool, k.snd.slot[i])
        k.snd.slot[i] = NULL


cdef inline void rcv_drop_slot(kcp_t* k, uint32_t i) noexcept nogil:
    if k.rcv.slot[i] != NULL:
        slot_put(k.pool, k.rcv.slot[i])
        k.rcv.slot[i] = NULL


cdef void snd_drop_fresh(kcp_t* k) noexcept nogil:
    """Give back the slots of a write_begin() that no commit used."""
    cdef uint32_t sn = k.snd_end
    cdef uint64_t acked_bytes = k.acked_bytes
    while k.fresh > 0:
        snd_drop_slot(k, sn & (k.snd.cap - 1))
        sn += 1
        k.fresh -= 1
    k.acked_bytes = acked_bytes


cdef inline void snd_shrink(kcp_t* k) noexcept nogil:
    if k.snd.cap > RING_KEEP and k.snd_una == k.snd_end and k.fresh == 0:
        free(k.snd.slot)
        memset(&k.snd, 0, sizeof(snd_ring_t))


cdef inline void rcv_shrink(kcp_t* k) noexcept nogil:
    if k.rcv.cap > RING_KEEP and k.rcv_read == k.rcv_end:
        free(k.rcv.slot)
        memset(&k.rcv, 0, sizeof(rcv_ring_t))


cdef int kcp_set_mtu(kcp_t* k, uint32_t kcp_mtu) noexcept nogil:
    if k.pool == NULL or kcp_mtu <= KCP_HEADER_BYTES or kcp_mtu - KCP_HEADER_BYTES > k.pool.slot_bytes:
        return -1
    k.mss = kcp_mtu - KCP_HEADER_BYTES
    return 0


cdef void kcp_set_windows(kcp_t* k, uint32_t snd_wnd, uint32_t rcv_wnd) noexcept nogil:
    k.snd_wnd = min(max(snd_wnd, <uint32_t>1), <uint32_t>WINDOW_MAX)
    k.rcv_wnd = min(max(rcv_wnd, <uint32_t>1), <uint32_t>WINDOW_MAX)
    rcv_check_tell(k)


cdef int kcp_init(
    kcp_t* k, Pool* pool, uint32_t conv, uint32_t kcp_mtu, const kcp_params_t* params
) noexcept nogil:
    memset(k, 0, sizeof(kcp_t))
    k.pool = pool
    if kcp_set_mtu(k, kcp_mtu) < 0:
        k.pool = NULL
        return -1
    k.conv = conv
    k.told_wnd = WINDOW_MAX
    kcp_set_windows(k, params.snd_wnd, params.rcv_wnd)
    k.told_wnd = k.rcv_wnd
    k.rmt_wnd = REMOTE_WINDOW_START
    k.cwnd = 1
    k.ssthresh = SSTHRESH_MIN
    k.incr = k.mss
    k.nodelay = params.nodelay
    k.interval_ms = params.interval_ms
    k.resend = params.resend
    k.nc = params.nc
    k.min_rto_ms = params.min_rto_ms
    k.rto_ms = RTO_START_MS
    k.probe_at = -1
    k.tell_at = -1
    k.ack_at = -1
    k.progress_ms = k.hold_until = k.rack_at = -1
    return 0


cdef void kcp_start_at(kcp_t* k, uint32_t sn) noexcept nogil:
    cdef int i
    k.snd_una = k.snd_nxt = k.snd_end = k.rack_end = sn
    k.rcv_read = k.rcv_nxt = k.rcv_end = sn
    for i in range(MAP_FLUSHES):
        k.map_lowest[i] = sn


cdef void kcp_clear(kcp_t* k) noexcept nogil:
    cdef uint32_t i
    for i in range(k.snd.cap):
        snd_drop_slot(k, i)
    for i in range(k.rcv.cap):
        rcv_drop_slot(k, i)
    free(k.snd.slot)
    free(k.rcv.slot)
    free(k.acks)
    memset(&k.snd, 0, sizeof(snd_ring_t))
    memset(&k.rcv, 0, sizeof(rcv_ring_t))
    k.acks = NULL
    k.ack_cap = k.ack_count = k.ack_told = k.ack_fresh = k.ack_done = 0
    k.ack_below_due = k.ask = k.tell = k.fast_due = False
    k.probe_at = k.tell_at = k.rack_at = k.ack_at = -1
    k.snd_nxt = k.snd_end = k.rack_end = k.snd_una
    k.rcv_nxt = k.rcv_end = k.rcv_read
    k.fresh = k.rcv_held = k.rcv_offset = k.ready_count = 0
    k.pool = NULL
