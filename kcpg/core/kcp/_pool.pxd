# Part of _kcp.pxd: a pool of equal slots of memory, handed out last in, first out. No twin: memory, which
# Python looks after. Names begin with `pool_` or `slot_`.

cdef enum:
    # Who may take how much of a limited pool. If it filled up with segments that wait to be sent, or that
    # wait for a gap to close, nothing could arrive any more that frees it.
    KCP_SHARE = 32              # segments that each direction of a conversation may hold in any case
    KCP_SPARE_WRITER = 2        # beyond that: what is queued leaves max_slots >> 2 free, ...
    KCP_FAIR_WRITER = 3         # ... and a sender holds at most an eighth of what all have left of that
    KCP_SPARE_READER = 3        # what arrives leaves max_slots >> 3 free

cdef struct Pool:
    uint8_t** free          # total - live of them; apart from the slots, which have left the cache by then
    void* chunks            # the first bytes of each chunk point to the next one
    uint32_t slot_bytes
    size_t live             # slots handed out now
    size_t total            # slots that exist
    size_t max_slots        # most slots that are ever made; 0: no limit

cdef Pool* pool_new(uint32_t slot_bytes, size_t max_slots) noexcept nogil
cdef void pool_free(Pool* pool) noexcept nogil
cdef bint pool_grow(Pool* pool) noexcept nogil


cdef inline uint8_t* slot_get(Pool* pool) noexcept nogil:
    """One slot of `slot_bytes`; NULL: at the limit, without memory, or `pool` is NULL."""
    if pool == NULL or (pool.live == pool.total and not pool_grow(pool)):
        return NULL
    pool.live += 1
    return pool.free[pool.total - pool.live]


cdef inline bint pool_spares(const Pool* pool, size_t spare) noexcept nogil:
    """Whether one slot may be taken with `spare` left free; always true of a pool without a limit."""
    return pool.max_slots == 0 or pool.live + spare < pool.max_slots


cdef inline bint pool_is_fair(const Pool* pool, size_t held) noexcept nogil:
    """Whether a sender that holds so many slots may have one more. The fewer are left, the fewer it may hold:
    so many that wait for slow readers leave as much to one that comes later as they have themselves. (Dynamic
    thresholds: Choudhury and Hahne, 1998.)"""
    cdef size_t kept = pool.live + (pool.max_slots >> KCP_SPARE_WRITER)
    if pool.max_slots == 0:
        return True
    return kept < pool.max_slots and held <= (pool.max_slots - kept) >> KCP_FAIR_WRITER


cdef inline void slot_put(Pool* pool, uint8_t* slot) noexcept nogil:
    """Give back a slot that slot_get() of this pool gave."""
    pool.free[pool.total - pool.live] = slot
    pool.live -= 1
