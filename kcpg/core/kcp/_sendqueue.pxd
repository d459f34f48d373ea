# Part of _kcp.pxd: segments that were not sent yet, [snd_nxt, snd_end). Twin: sendqueue.py.

cdef int kcp_write_begin(kcp_t* k, iovec* iov, int max_iov) noexcept nogil
cdef void kcp_write_commit(kcp_t* k, size_t nbytes) noexcept nogil
cdef size_t kcp_write_bytes(kcp_t* k, const uint8_t* data, size_t n) noexcept nogil
cdef int kcp_send_message(kcp_t* k, const uint8_t* data, size_t n) noexcept nogil
cdef int kcp_send_vector(kcp_t* k, const iovec* iov, int iov_count) noexcept nogil


cdef inline uint32_t kcp_queued(const kcp_t* k) noexcept nogil:
    """Segments not yet sent."""
    return k.snd_end - k.snd_nxt


cdef inline uint32_t snd_may_queue(const kcp_t* k, uint32_t in_flight) noexcept nogil:
    """Segments that the pool has for this sender's queue, with so many in flight."""
    cdef size_t own = min(<size_t>(k.snd_end - k.snd_una), k.share.tx_slots)
    cdef size_t others = k.share.tx_slots - own
    cdef size_t link, left, moving, there, least
    if pool_calm(k.pool, k.snd_end - k.snd_una + KCP_QUEUE_SEGMENTS):
        return KCP_QUEUE_SEGMENTS
    link = pool_link_share(k.pool, k.pool.max_slots >> KCP_SPARE_LOG, own)
    left = link - others if link > others else 0
    moving = pool_moving(k.pool, left)
    moving = moving - in_flight if moving > in_flight else 0
    there = k.pool.max_slots - k.pool.live + kcp_queued(k)
    least = <size_t>KCP_SHARE if k.rmt_wnd > 0 and pool_has_spare(k.pool) else pool_least(k.pool)
    return <uint32_t>min(min(moving, there), max(share_stopped(link, left), least))


cdef inline int kcp_room(const kcp_t* k) noexcept nogil:
    """Segments that may be queued now."""
    cdef uint32_t queued = kcp_queued(k)
    cdef uint32_t most
    if queued >= KCP_QUEUE_SEGMENTS or k.pool == NULL:
        return 0
    most = min(<uint32_t>KCP_QUEUE_SEGMENTS, snd_may_queue(k, kcp_in_flight(k)))
    return <int>(most - queued) if most > queued else 0


cdef inline int kcp_most_room(const kcp_t* k) noexcept nogil:
    """Room when all that is queued will have left, as far as others give way no more."""
    return 0 if k.pool == NULL else <int>min(<uint32_t>KCP_QUEUE_SEGMENTS, snd_may_queue(k, 0))
