# Part of _kcp.pyx: the segments of one datagram, and what they say about the flight.

cdef enum:
    CMD_PUSH = 81
    CMD_ACK = 82
    CMD_ASK = 83
    CMD_TELL = 84


# --- input ----------------------------------------------------------------------------------------

cdef void snd_sample(kcp_t* k, int32_t rtt) noexcept nogil:
    """Smooth one round-trip time (RFC 6298 in KCP's integers) and derive the RTO."""
    cdef uint32_t delta, spread
    if rtt < 0 or rtt > RTO_MAX_MS:
        return
    if k.srtt_ms == 0:
        k.srtt_ms = <uint32_t>rtt
        k.rttvar_ms = <uint32_t>rtt // 2
    else:
        delta = <uint32_t>rtt - k.srtt_ms if <uint32_t>rtt > k.srtt_ms else k.srtt_ms - <uint32_t>rtt
        k.rttvar_ms = (3 * k.rttvar_ms + delta) // 4
        k.srtt_ms = (7 * k.srtt_ms + <uint32_t>rtt) // 8
    k.srtt_ms = max(k.srtt_ms, <uint32_t>1)
    spread = max(k.interval_ms, 4 * k.rttvar_ms)
    k.rto_ms = min(max(k.srtt_ms + spread, k.min_rto_ms), <uint32_t>RTO_MAX_MS)


cdef inline void snd_ack(kcp_t* k, uint32_t i) noexcept nogil:
    snd_drop_slot(k, i)
    k.snd.flags[i] |= SND_ACKED
    k.snd.fastack[i] = 0


cdef void snd_advance(kcp_t* k, uint32_t una) noexcept nogil:
    """All before `una` has arrived; go on over what was acknowledged one by one."""
    cdef uint32_t mask = k.snd.cap - 1
    while k.snd_una != una:
        snd_drop_slot(k, k.snd_una & mask)
        k.snd_una += 1
    while k.snd_una != k.snd_nxt and k.snd.flags[k.snd_una & mask] & SND_ACKED:
        k.snd_una += 1
    if k.snd_una == k.snd_nxt:
        k.fast_due = False
        snd_shrink(k)


cdef bint skip_span(
    const uint8_t* flags, const uint32_t* ts, uint16_t* fastack, uint32_t n,
    uint32_t newest, uint32_t threshold
) noexcept nogil:
    """One loop without branches, so that the C compiler vectorises it."""
    cdef uint32_t i
    cdef uint32_t due = 0
    cdef uint32_t count
    for i in range(n):
        count = fastack[i] + <uint32_t>((not flags[i] & SND_ACKED) & (diff32(newest, ts[i]) >= 0))
        fastack[i] = <uint16_t>count
        due |= <uint32_t>(count >= threshold)
    return due != 0


cdef void snd_skip(kcp_t* k, uint32_t end, uint32_t newest) noexcept nogil:
    """Count a skip for each segment before `end` whose last transmission was not after `newest`."""
    cdef uint32_t first = k.snd_una & (k.snd.cap - 1)
    cdef uint32_t n = end - k.snd_una
    cdef uint32_t part = min(n, k.snd.cap - first)
    cdef uint32_t threshold = <uint32_t>k.resend
    if skip_span(k.snd.flags + first, k.snd.ts + first, k.snd.fastack + first, part, newest, threshold):
        k.fast_due = True
    if skip_span(k.snd.flags, k.snd.ts, k.snd.fastack, n - part, newest, threshold):
        k.fast_due = True


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


cdef int kcp_input(kcp_t* k, const uint8_t* p, size_t n, uint64_t now_ms) noexcept nogil:
    cdef uint32_t una = k.snd_una
    cdef uint32_t una_before = k.snd_una
    cdef uint32_t sn, ts, seg_una, size, i
    cdef uint32_t max_sn = 0
    cdef uint32_t max_ts = 0
    cdef uint32_t sample_ts = 0
    cdef bint acked = False
    cdef bint sampled = False
    cdef int answer = KCP_OK
    cdef uint8_t cmd
    if n == 0:
        return KCP_SHORT
    if k.pool == NULL:
        return KCP_OK
    while n > 0:
        if n < KCP_HEADER:
            answer = KCP_SHORT
            break
        if get32(p) != k.conv:
            answer = KCP_CONV
            break
        size = get32(p + 20)
        cmd = p[4]
        if size > n - KCP_HEADER:
            answer = KCP_SHORT
            break
        if cmd < CMD_PUSH or cmd > CMD_TELL:
            answer = KCP_CMD
            break
        if cmd == CMD_PUSH and size > k.pool.slot_bytes:
            answer = KCP_SHORT
            break
        ts = get32(p + 8)
        sn = get32(p + 12)
        seg_una = get32(p + 16)
        if diff32(seg_una, una) >= 0 and diff32(k.snd_nxt, seg_una) >= 0:
            una = seg_una
            k.rmt_wnd = get16(p + 6)
        if cmd == CMD_PUSH:
            rcv_push(k, sn, ts, p[5], p + KCP_HEADER, size)
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
                snd_ack(k, i)
        elif cmd == CMD_ASK:
            k.tell = True
        p += KCP_HEADER + size
        n -= KCP_HEADER + size
    if sampled:
        snd_sample(k, diff32(<uint32_t>now_ms, sample_ts))
    if acked or una != una_before:
        snd_advance(k, una)
        if acked and k.resend > 0 and diff32(max_sn, k.snd_una) > 0:
            snd_skip(k, max_sn, max_ts)
        if k.snd_una != una_before and not k.nc:
            snd_grow_window(k)
    if k.rmt_wnd > 0:
        k.probe_at = -1
    return answer
