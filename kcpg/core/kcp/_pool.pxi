# Part of _kcp.pyx: how a pool of slots grows and ends; declared in _pool.pxd. No twin: memory, which Python
# looks after.

cdef enum:
    CHUNK_SLOTS_MIN = 8         # a pool doubles its size from this chunk ...
    CHUNK_SLOTS_MAX = 512       # ... to this one (0.7 MB of 1,400-byte slots)
    SLOT_ALIGN = 16             # of slots, and room for the pointer at the head of a chunk


cdef Pool* pool_new(uint32_t slot_bytes, size_t max_slots) noexcept nogil:
    """An empty pool of at most `max_slots` slots (0: any number); NULL without memory."""
    cdef Pool* pool = <Pool*>calloc(1, sizeof(Pool))
    if pool != NULL:
        pool.slot_bytes = slot_bytes
        pool.max_slots = max_slots
    return pool


cdef void pool_free(Pool* pool) noexcept nogil:
    """Free all memory of a pool, also that of slots still handed out; NULL is allowed."""
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


cdef void share_move(const share_t* held, share_t* former, share_t* share) noexcept nogil:
    """What one conversation holds belongs to another link from now on."""
    former.rx_slots -= held.rx_slots
    former.rx_bytes -= held.rx_bytes
    former.tx_slots -= held.tx_slots
    former.rings -= held.rings
    share.rx_slots += held.rx_slots
    share.rx_bytes += held.rx_bytes
    share.tx_slots += held.tx_slots
    share.rings += held.rings


cdef bint pool_grow(Pool* pool) noexcept nogil:
    """Add a chunk of slots to a pool that has none free; False at its limit or without memory."""
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
    for i in range(count):      # the first slot of the chunk is the first to be taken
        pool.free[i] = chunk + SLOT_ALIGN + stride * (count - 1 - i)
    pool.total += count
    return True
