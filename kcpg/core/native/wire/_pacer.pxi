"""A token bucket in time; see kcpg/core/pacer.py, which both dialects use. Included by _wire.pyx."""


cdef void pacer_init(pacer_t* p) noexcept nogil:
    """Without a rate, until `pacer_change` sets one."""
    p.rate_bps = p.burst = p.credit = 0
    p.last_ms = NOT_YET_MS
    p.quantum_ms = 1
    p.next_ms = 0


cdef void pacer_change(
        pacer_t* p, int64_t rate_bps, uint32_t datagram_bytes, int64_t quantum_ms) noexcept nogil:
    """Another rate from now on; what was saved up stays, as far as the new bucket holds it."""
    cdef int64_t floor = <int64_t>BURST_DATAGRAMS * datagram_bytes * SCALE
    cdef bint limited = p.rate_bps > 0
    p.rate_bps = rate_bps
    p.quantum_ms = quantum_ms
    p.burst = max(p.rate_bps * (BURST_MS if quantum_ms == 1 else 2 * quantum_ms + BURST_MS), floor)
    if not limited or p.credit > p.burst:
        p.credit = p.burst


cdef int64_t pacer_tokens(pacer_t* p, int64_t now_ms) noexcept nogil:
    """Bytes that may leave at `now_ms`; 0 while in debt, INT64_MAX when nothing is limited."""
    if p.rate_bps == 0:
        return INT64_MAX
    if p.last_ms >= 0 and now_ms > p.last_ms:
        # Not after the product, which a long rest takes beyond 64 bits.
        if now_ms - p.last_ms > (p.burst - p.credit) // p.rate_bps:
            p.credit = p.burst
        else:
            p.credit += (now_ms - p.last_ms) * p.rate_bps
    if now_ms > p.last_ms:
        p.last_ms = now_ms
    return p.credit // SCALE if p.credit > 0 else 0


cdef inline void pacer_spend(pacer_t* p, int64_t sent_bytes) noexcept nogil:
    """Take `sent_bytes` out of the bucket, into debt if need be."""
    if p.rate_bps > 0:
        p.credit -= sent_bytes * SCALE


cdef inline void pacer_save(pacer_t* p) noexcept nogil:
    """All that may leave has left: save up for the next quantum."""
    if p.rate_bps > 0 and p.last_ms >= 0:
        p.next_ms = p.last_ms + p.quantum_ms


cdef inline bint pacer_saves(const pacer_t* p, int64_t now_ms) noexcept nogil:
    """What may leave is saved up now."""
    return now_ms < p.next_ms - p.quantum_ms // 2 and p.rate_bps > 0


cdef int64_t pacer_ready_at(const pacer_t* p, uint32_t need_bytes, bint urgent) noexcept nogil:
    """The first ms at which `need_bytes` may leave, as seen from the last call of `pacer_tokens`; -1: now."""
    cdef int64_t at_ms
    cdef int64_t missing = <int64_t>need_bytes * SCALE
    if p.rate_bps == 0 or p.last_ms < 0:
        return -1
    missing = (missing if missing < p.burst else p.burst) - p.credit
    at_ms = p.last_ms + ((missing + p.rate_bps - 1) // p.rate_bps if missing > 0 else 0)
    return at_ms if urgent or at_ms > p.next_ms else p.next_ms
