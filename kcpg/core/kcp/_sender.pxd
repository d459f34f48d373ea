# Part of _kcp.pxd: segments in flight, [snd_una, snd_nxt). Twin: sender.py.

cdef void kcp_expect_rtt(kcp_t* k, uint32_t rtt_ms) noexcept nogil
cdef void kcp_hurry(kcp_t* k, uint64_t now_ms) noexcept nogil


cdef inline uint32_t kcp_in_flight(const kcp_t* k) noexcept nogil:
    """Segments from the first unacknowledged one to the last one sent."""
    return k.snd_nxt - k.snd_una


cdef inline bint kcp_idle(const kcp_t* k) noexcept nogil:
    """All that was queued has arrived."""
    return k.snd_end == k.snd_una


cdef inline uint32_t kcp_window(const kcp_t* k) noexcept nogil:
    """Segments that may be in flight."""
    cdef uint32_t window = k.snd_wnd if k.snd_wnd < k.rmt_wnd else k.rmt_wnd
    if not k.nc and k.cwnd < window:
        window = k.cwnd
    return window
