# Part of _kcp.pxd: a pool of equal slots of memory, handed out last in, first out. No twin: memory, which
# Python looks after. Names begin with `pool_` or `slot_`.

cdef enum:
    # Who may take how much of a limited pool: see pool.py.
    KCP_LEAST_LOG = 12          # a conversation has max_slots >> 12 each way, ...
    KCP_LEAST = 2               # ... at least this, whatever others hold
    KCP_SHARE = 32              # and this, or ...
    KCP_MOVING_LOG = 7          # ... max_slots >> 7 in flight, while less than three quarters are in use
    KCP_CALM_LOG = 3            # with less than max_slots >> 3 in use nothing is rationed ...
    KCP_CALM_WINDOW_LOG = 4     # ... to who wants max_slots >> 4 at most
    KCP_SPARE_LOG = 2           # what waits to be sent leaves max_slots >> 2 for what arrives
    KCP_PART_LOG = 3            # of what its link has left: what one may hold
    KCP_LATE_STOPS = 4          # and this many times that of what was under way when it stopped
    KCP_WASTE_LOG = 2           # a link's slots may be emptier than its data by max_slots >> 2, at most ...
    KCP_WASTE_BYTES = 25165824  # ... this
    KCP_RING_LOG = 10           # bytes of a ring of segments, as slots

cdef struct share_t:            # what the conversations of one link hold
    size_t rx_slots
    size_t rx_bytes             # payload in them
    size_t tx_slots
    size_t rings                # bytes of the rings of segments

cdef struct Pool:
    uint8_t** free          # total - live of them; apart from the slots, which have left the cache by then
    void* chunks            # the first bytes of each chunk point to the next one
    uint32_t slot_bytes
    size_t live             # slots handed out now
    size_t total            # slots that exist
    size_t max_slots        # most slots that are ever made; 0: no limit
    size_t rings            # bytes of the rings of segments, which count as well
    uint64_t refused        # arrivals for which somebody had no share left
    share_t alone           # of conversations that belong to no link

cdef Pool* pool_new(uint32_t slot_bytes, size_t max_slots) noexcept nogil
cdef void pool_free(Pool* pool) noexcept nogil
cdef bint pool_grow(Pool* pool) noexcept nogil


cdef inline uint8_t* slot_get(Pool* pool) noexcept nogil:
    """One slot of `slot_bytes`; NULL: at the limit, without memory, or `pool` is NULL."""
    if pool == NULL or (pool.live == pool.total and not pool_grow(pool)):
        return NULL
    pool.live += 1
    return pool.free[pool.total - pool.live]


cdef inline size_t pool_used(const Pool* pool) noexcept nogil:
    """Slots in use, and the rings as slots."""
    return pool.live + (pool.rings >> KCP_RING_LOG)


cdef inline bint pool_calm(const Pool* pool, size_t wanted) noexcept nogil:
    """So little is in use, and wanted, that nobody need look further."""
    if pool.max_slots == 0:
        return True
    if wanted > pool.max_slots >> KCP_CALM_WINDOW_LOG:
        return False
    return pool_used(pool) <= pool.max_slots >> KCP_CALM_LOG


cdef inline size_t pool_least(const Pool* pool) noexcept nogil:
    """Slots that each direction of a conversation may hold in any case, while there are any."""
    return max(min(pool.max_slots >> KCP_LEAST_LOG, <size_t>KCP_SHARE), <size_t>KCP_LEAST)


cdef inline bint pool_has_spare(const Pool* pool) noexcept nogil:
    """Less than three quarters are in use."""
    return pool_used(pool) + (pool.max_slots >> KCP_SPARE_LOG) < pool.max_slots


cdef inline size_t pool_moving(const Pool* pool, size_t left) noexcept nogil:
    """Slots for one that moves, whose link has so many left."""
    cdef size_t least = pool_least(pool)
    if pool_has_spare(pool):
        least = max(pool.max_slots >> KCP_MOVING_LOG, <size_t>KCP_SHARE)
    return max(left >> KCP_PART_LOG, least)


cdef inline size_t pool_link_share(const Pool* pool, size_t spare, size_t own) noexcept nogil:
    """Slots that one link may hold now, with `spare` left free; the asker's `own` do not count."""
    cdef size_t used = pool_used(pool) + spare - own
    cdef size_t left = pool.max_slots - used if pool.max_slots > used else 0
    return left * left // pool.max_slots


cdef inline size_t share_stopped(size_t link, size_t left) noexcept nogil:
    """Of a link's share, of which `left` is free: what one may hold that does not move."""
    return left * left // (link << KCP_PART_LOG) if link > 0 else 0


cdef inline bint share_wastes(const share_t* share, const Pool* pool) noexcept nogil:
    """Whether a link's slots and rings are much larger than what they hold."""
    cdef size_t most = min(pool.max_slots * pool.slot_bytes >> KCP_WASTE_LOG, <size_t>KCP_WASTE_BYTES)
    return share.rx_slots * pool.slot_bytes + share.rings > share.rx_bytes + most


cdef inline void slot_put(Pool* pool, uint8_t* slot) noexcept nogil:
    """Give back a slot that slot_get() of this pool gave."""
    pool.free[pool.total - pool.live] = slot
    pool.live -= 1
