# Part of _kcp.pyx: the segments of one datagram, and what they say about the flight.

cdef enum:
    CMD_PUSH = 81
    CMD_ACK = 82
    CMD_ASK = 83
    CMD_TELL = 84
    REBUILT_AGE_MS = 1 << 30    # as kcp_params.py


# --- input ----------------------------------------------------------------------------------------

cdef inline void snd_ack(kcp_t* k, uint32_t i) noexcept nogil:
    snd_drop_slot(k, i)
    k.snd.flags[i] |= SND_ACKED
    k.snd.fastack[i] = 0


cdef void snd_grow_window(kcp_t* k) noexcept nogil:
    """ikcp's congestion window after new data was acknowledged."""
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


cdef int kcp_input(kcp_t* k, const uint8_t* p, size_t n, uint64_t now_ms, bint rebuilt) noexcept nogil:
    cdef uint32_t una = k.snd_una
    cdef uint32_t una_before = k.snd_una
    cdef uint32_t sn, ts, seg_una, size, i
    cdef uint32_t max_sn = 0
    cdef uint32_t max_ts = 0
    cdef uint32_t sample_ts = 0
    cdef uint32_t age = REBUILT_AGE_MS if rebuilt else 0
    cdef bint acked = False
    cdef bint sampled = False
    cdef bint mapped = False
    cdef int answer = KCP_OK
    cdef uint8_t cmd
    cdef echo_t echo
    cdef const uint8_t* map_at = NULL
    cdef uint32_t map_bytes = 0
    if n == 0:
        return KCP_SHORT
    if k.pool == NULL:
        return KCP_OK
    k.clock_ms = <int64_t>now_ms
    memset(&echo, 0, sizeof(echo_t))
    while n > 0:
        if n < KCP_HEADER_BYTES:
            answer = KCP_SHORT
            break
        if get32(p) != k.conv:
            answer = KCP_WRONG_CONV
            break
        size = get32(p + 20)
        cmd = p[4]
        if size > n - KCP_HEADER_BYTES:
            answer = KCP_SHORT
            break
        if cmd < CMD_PUSH or cmd > CMD_TELL:
            answer = KCP_UNKNOWN_CMD
            break
        if cmd == CMD_PUSH and size > k.pool.slot_bytes:
            answer = KCP_SHORT
            break
        ts = get32(p + 8) - age
        sn = get32(p + 12)
        seg_una = get32(p + 16)
        if diff32(seg_una, una) >= 0 and diff32(k.snd_nxt, seg_una) >= 0:
            una = seg_una
            if not rebuilt:
                k.rmt_wnd = get16(p + 6)
        if cmd == CMD_PUSH:
            rcv_push(k, sn, ts, p[5], p + KCP_HEADER_BYTES, size)
        elif cmd == CMD_ACK:
            i = sn & (k.snd.cap - 1)
            if diff32(sn, k.snd_una) >= 0 and diff32(sn, k.snd_nxt) < 0 and not k.snd.flags[i] & SND_ACKED:
                if ts == k.snd.first_ts[i] and (not sampled or diff32(ts, sample_ts) > 0):
                    sample_ts = ts
                    sampled = True
                if not acked or diff32(sn, max_sn) > 0:
                    max_sn = sn
                    max_ts = ts
                    acked = True
                heed_echo(k, i, sn, ts, &echo)
                snd_ack(k, i)
            if size > 0:
                map_at = p + KCP_HEADER_BYTES
                map_bytes = size
        elif cmd == CMD_ASK:
            k.tell = True
        p += KCP_HEADER_BYTES + size
        n -= KCP_HEADER_BYTES + size
    if sampled:
        snd_sample(k, diff32(<uint32_t>now_ms, sample_ts))
    if map_bytes > 0 and k.ack_maps:
        mapped = heed_map(k, map_at, map_bytes)
    if acked or mapped or una != una_before:
        if una != una_before:
            heed_una(k, una, &echo)
        if k.timed_out:
            answer_timeout(k, &echo)
        snd_progress(k, una, &echo)
        if acked and k.resend > 0 and diff32(max_sn, k.snd_una) > 0:
            snd_skip(k, max_sn, max_ts)
        find_overtaken(k)
        if k.snd_una != una_before and not k.nc:
            snd_grow_window(k)
    if k.rmt_wnd > 0:
        k.probe_at = -1
    return answer
