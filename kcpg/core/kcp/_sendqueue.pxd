# Part of _kcp.pxd: segments that were not sent yet, [snd_nxt, snd_end). Twin: sendqueue.py.

cdef int kcp_write_begin(kcp_t* k, iovec* iov, int max_iov) noexcept nogil
cdef void kcp_write_commit(kcp_t* k, size_t nbytes) noexcept nogil
cdef size_t kcp_write_bytes(kcp_t* k, const uint8_t* data, size_t n) noexcept nogil
cdef int kcp_send_message(kcp_t* k, const uint8_t* data, size_t n) noexcept nogil
cdef int kcp_send_vector(kcp_t* k, const iovec* iov, int iov_count) noexcept nogil


cdef inline uint32_t kcp_queued(const kcp_t* k) noexcept nogil:
    """Segments not yet sent."""
    return k.snd_end - k.snd_nxt


cdef inline bint kcp_may_queue(const kcp_t* k) noexcept nogil:
    """Whether the pool has slots for this sender."""
    if k.pool == NULL:
        return False
    if k.snd_end - k.snd_una + k.fresh < KCP_SHARE:
        return pool_spares(k.pool, 0)
    return pool_is_fair(k.pool, k.snd_end - k.snd_una + k.fresh)


cdef inline int kcp_room(const kcp_t* k) noexcept nogil:
    """Segments that may be queued now."""
    cdef uint32_t queued = kcp_queued(k)
    if queued >= KCP_QUEUE_SEGMENTS or not kcp_may_queue(k):
        return 0
    return <int>(KCP_QUEUE_SEGMENTS - queued)
