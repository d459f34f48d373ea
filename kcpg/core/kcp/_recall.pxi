# Part of _kcp.pyx: segments that the peer had no room for. Twin: sender.py. It stands apart
# from _sender.pxi because a file has at most 500 lines.

cdef void snd_recall(kcp_t* k, uint32_t edge) noexcept nogil:
    """The peer tells a window that ends at `edge`: what was sent beyond, and has not arrived, is neither
    lost nor in flight. It is the next to be sent once the window admits it."""
    cdef uint32_t i
    if k.mark_first or diff32(k.snd_nxt, edge) <= 0:
        return                  # an unordered receiver tells less than it takes
    while k.snd_nxt != edge and k.snd_nxt != k.snd_una:
        i = (k.snd_nxt - 1) & (k.snd.cap - 1)
        if k.snd.flags[i] & SND_ACKED:
            break
        k.snd_nxt -= 1
        k.snd.flags[i] = 0
        k.segments_sent -= 1
        k.bytes_sent -= k.snd.len[i]
    if diff32(k.rack_end, k.snd_nxt) > 0:
        k.rack_end = k.snd_nxt
    if k.snd_una == k.snd_nxt:
        k.fast_due = k.rack_known = k.timed_out = k.overdue = False
        k.rack_at = k.hold_until = -1


cdef void snd_recalled_in_vain(kcp_t* k, uint32_t una) noexcept nogil:
    """What was recalled has arrived after all, up to `una`."""
    cdef uint32_t i
    while k.snd_nxt != una:
        i = k.snd_nxt & (k.snd.cap - 1)
        k.snd.ts[i] = k.snd.first_ts[i] = <uint32_t>k.clock_ms
        k.snd.rto[i] = k.snd.skips[i] = 0
        k.segments_sent += 1
        k.bytes_sent += k.snd.len[i]
        k.snd_nxt += 1
