# Part of _kcp.pyx: the congestion window that ikcp has, for conversations with nc = False. Twin: cwnd.py.

cdef enum:
    SSTHRESH_MIN = 2            # IKCP_THRESH_MIN


cdef inline void cwnd_init(kcp_t* k) noexcept nogil:
    """One segment may be in flight."""
    k.cwnd = 1
    k.ssthresh = SSTHRESH_MIN
    k.incr = k.mss


cdef void cwnd_grow(kcp_t* k) noexcept nogil:
    """New data was acknowledged: slow start up to ssthresh, then about one segment per round trip."""
    if k.cwnd >= k.rmt_wnd:
        return
    if k.cwnd < k.ssthresh:
        k.cwnd += 1
        k.incr += k.mss
    else:
        k.incr = max(k.incr, k.mss)
        k.incr += k.mss * k.mss // k.incr + k.mss // 16
        if (k.cwnd + 1) * k.mss <= k.incr:
            k.cwnd = (k.incr + k.mss - 1) // k.mss
    if k.cwnd > k.rmt_wnd:
        k.cwnd = k.rmt_wnd
        k.incr = k.rmt_wnd * k.mss


cdef inline void cwnd_after_skips(kcp_t* k) noexcept nogil:
    """Segments were resent because overtaken: halve what may be in flight."""
    k.ssthresh = max(kcp_in_flight(k) // 2, <uint32_t>SSTHRESH_MIN)
    k.cwnd = k.ssthresh + <uint32_t>k.resend
    k.incr = k.cwnd * k.mss


cdef inline void cwnd_after_timeout(kcp_t* k, uint32_t window) noexcept nogil:
    """Segments were resent after a time-out: start again with one segment in flight."""
    k.ssthresh = max(window // 2, <uint32_t>SSTHRESH_MIN)
    k.cwnd = 1
    k.incr = k.mss


cdef inline void cwnd_remember(kcp_t* k) noexcept nogil:
    """A time-out has come that may turn out to have been needless."""
    k.undo_cwnd = k.cwnd
    k.undo_ssthresh = k.ssthresh


cdef inline void cwnd_undo(kcp_t* k) noexcept nogil:
    """That time-out was needless: nothing was lost."""
    k.cwnd = max(k.cwnd, k.undo_cwnd)
    k.ssthresh = max(k.ssthresh, k.undo_ssthresh)
    k.incr = max(k.incr, k.cwnd * k.mss)
