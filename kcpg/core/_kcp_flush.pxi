# Part of _kcp.pyx: what leaves, and when.

cdef enum:
    PROBE_MIN_MS = 30           # no window probe sooner, however short the RTT: the reader needs time to read
    PROBE_MAX_MS = 120000       # KCP: IKCP_PROBE_LIMIT


# --- flush ----------------------------------------------------------------------------------------

cdef inline uint8_t* put_header(kcp_t* k, uint8_t* p, uint8_t cmd, uint32_t ts, uint32_t sn) noexcept nogil:
    """A header with this conversation's window and una, no fragments and no payload."""
    put32(p, k.conv)
    p[4] = cmd
    p[5] = 0
    put16(p + 6, k.told_wnd)
    put32(p + 8, ts)
    put32(p + 12, sn)
    put32(p + 16, k.rcv_nxt)
    put32(p + 20, 0)
    return p + KCP_HEADER


cdef bint flush_empty(kcp_t* k, Tx* tx, uint8_t cmd, uint32_t ts, uint32_t sn) noexcept nogil:
    cdef uint8_t* p = tx_need(tx, KCP_HEADER)
    if p == NULL:
        return False
    k.told_wnd = rcv_window(k)
    put_header(k, p, cmd, ts, sn)
    return True


cdef bint flush_acks(kcp_t* k, Tx* tx) noexcept nogil:
    cdef uint32_t j = 0
    cdef ack_t ack
    if k.ack_below_due:
        if not flush_empty(k, tx, CMD_ACK, k.ack_below.ts, k.ack_below.sn):
            return False
        k.ack_below_due = False
        k.acks_sent += 1
    while j < k.ack_count:
        ack = k.acks[j]
        # what rcv_nxt has passed since is covered by the una of the segment above
        if diff32(ack.sn, k.rcv_nxt) >= 0:
            if not flush_empty(k, tx, CMD_ACK, ack.ts, ack.sn):
                break
            k.rcv.flags[ack.sn & (k.rcv.cap - 1)] &= <uint8_t>~RCV_ACK_DUE
            k.acks_sent += 1
        j += 1
    k.ack_count -= j
    if k.ack_count > 0:
        memmove(k.acks, k.acks + j, k.ack_count * sizeof(ack_t))
        return False
    if k.ack_cap > RING_KEEP:
        free(k.acks)
        k.acks = NULL
        k.ack_cap = 0
    return True


cdef bint flush_probes(kcp_t* k, Tx* tx, int64_t now) noexcept nogil:
    cdef uint32_t pause = max(k.rto_ms, <uint32_t>PROBE_MIN_MS)
    if k.rmt_wnd > 0 or k.snd_end == k.snd_nxt or k.snd_nxt != k.snd_una:
        k.probe_at = -1
    elif k.probe_at < 0:
        k.probe_wait_ms = pause
        k.probe_at = now + pause
    elif now >= k.probe_at:
        k.ask = True
        k.probe_wait_ms = min(k.probe_wait_ms + k.probe_wait_ms // 2, <uint32_t>PROBE_MAX_MS)
        k.probe_at = now + k.probe_wait_ms
    if 0 <= k.tell_at <= now:
        k.tell = True
    if k.ask:
        if not flush_empty(k, tx, CMD_ASK, 0, 0):
            return False
        k.ask = False
    if k.tell:
        if not flush_empty(k, tx, CMD_TELL, 0, 0):
            return False
        k.tell = False
        if k.tells_left > 0:
            k.tells_left -= 1
        k.tell_at = now + pause if k.tells_left > 0 else -1
    return True


cdef int flush_push(kcp_t* k, Tx* tx, uint32_t sn, uint32_t now32, int* left) noexcept nogil:
    """Send the segment `sn` and set its times from its rto; whatever forbids it leaves it untouched."""
    cdef uint32_t i = sn & (k.snd.cap - 1)
    cdef uint32_t n = k.snd.len[i]
    cdef uint8_t* p
    if left[0] <= 0:
        return KCP_MORE
    if tx.tokens < <int64_t>(KCP_HEADER + n):
        return KCP_PACED
    p = tx_need(tx, KCP_HEADER + n)
    if p == NULL:
        return KCP_MORE
    left[0] -= 1
    tx.tokens -= KCP_HEADER + n
    k.told_wnd = rcv_window(k)
    put_header(k, p, CMD_PUSH, now32, sn)
    p[5] = k.snd.frg[i]
    put32(p + 20, n)
    if n > 0:
        memcpy(p + KCP_HEADER, k.snd.slot[i], n)
    k.snd.ts[i] = now32
    k.snd.fastack[i] = 0
    return KCP_DONE


cdef inline void back_off(kcp_t* k, uint32_t i) noexcept nogil:
    cdef uint32_t rto = k.snd.rto[i]
    if k.nodelay <= 0:
        rto += max(rto, k.rto_ms)
    elif k.nodelay == 1:
        rto += rto // 2
    else:
        rto += k.rto_ms // 2
    k.snd.rto[i] = <uint16_t>min(rto, <uint32_t>RTO_MAX_MS)


cdef int flush_resends(kcp_t* k, Tx* tx, int64_t now, int* left) noexcept nogil:
    """Every segment whose time has come or that was skipped often enough, in order of sn."""
    cdef uint32_t mask = k.snd.cap - 1
    cdef uint32_t now32 = <uint32_t>now
    cdef uint32_t sn = k.snd_una
    cdef int64_t earliest = INT64_MAX
    cdef bint late, skipped
    cdef uint32_t i
    cdef int answer
    while sn != k.snd_nxt:
        i = sn & mask
        if not k.snd.flags[i] & SND_ACKED:
            late = diff32(now32, k.snd.resend_at[i]) >= 0
            skipped = not late and k.resend > 0 and k.snd.fastack[i] >= k.resend
            if skipped and now32 - k.snd.ts[i] < k.srtt_ms // 2:
                # two copies within one srtt already: these skips tell nothing about the second
                k.snd.fastack[i] = 0
                skipped = False
            if late or skipped:
                answer = flush_push(k, tx, sn, now32, left)
                if answer != KCP_DONE:
                    return answer
                if late:
                    back_off(k, i)
                    k.lost = True
                    k.segments_resent_rto += 1
                else:
                    k.skipped = True
                    k.segments_resent_fast += 1
                k.snd.resend_at[i] = now32 + k.snd.rto[i]
            earliest = min(earliest, now + diff32(k.snd.resend_at[i], now32))
        sn += 1
    k.next_resend = earliest
    k.fast_due = False
    return KCP_DONE


cdef int flush_new(kcp_t* k, Tx* tx, int64_t now, int* left) noexcept nogil:
    cdef uint32_t window = kcp_window(k)
    cdef uint32_t now32 = <uint32_t>now
    cdef uint32_t i, first_wait
    cdef int answer
    if k.snd_nxt == k.snd_una:
        k.next_resend = INT64_MAX
    first_wait = k.rto_ms + (k.rto_ms >> 3 if k.nodelay <= 0 else 0)
    while k.snd_nxt != k.snd_end and k.snd_nxt - k.snd_una < window:
        answer = flush_push(k, tx, k.snd_nxt, now32, left)
        if answer != KCP_DONE:
            return answer
        i = k.snd_nxt & (k.snd.cap - 1)
        k.snd.first_ts[i] = now32
        k.snd.rto[i] = <uint16_t>k.rto_ms
        k.snd.resend_at[i] = now32 + first_wait
        k.next_resend = min(k.next_resend, now + first_wait)
        k.snd_nxt += 1
        k.segments_sent += 1
        k.bytes_sent += k.snd.len[i]
    return KCP_DONE


cdef void snd_shrink_window(kcp_t* k) noexcept nogil:
    """ikcp's answer to losses, once for all resends of a flush."""
    cdef uint32_t window = kcp_window(k)
    if k.skipped:
        k.ssthresh = max((k.snd_nxt - k.snd_una) // 2, <uint32_t>SSTHRESH_MIN)
        k.cwnd = k.ssthresh + <uint32_t>k.resend
        k.incr = k.cwnd * k.mss
    if k.lost:
        k.ssthresh = max(window // 2, <uint32_t>SSTHRESH_MIN)
        k.cwnd = 1
        k.incr = k.mss
    k.lost = k.skipped = False


cdef int kcp_flush(kcp_t* k, Tx* tx, uint64_t now_ms, int max_segments) noexcept nogil:
    cdef int64_t now = <int64_t>now_ms
    cdef int answer = KCP_DONE
    if k.pool == NULL:
        return KCP_DONE
    if not flush_acks(k, tx) or not flush_probes(k, tx, now):
        return KCP_MORE
    if k.snd_nxt != k.snd_una and (k.fast_due or now >= k.next_resend):
        answer = flush_resends(k, tx, now, &max_segments)
        if answer != KCP_MORE and (k.lost or k.skipped):
            snd_shrink_window(k)
    if answer == KCP_DONE:
        answer = flush_new(k, tx, now, &max_segments)
    return answer


cdef void kcp_hurry(kcp_t* k, uint64_t now_ms) noexcept nogil:
    cdef int64_t now = <int64_t>now_ms
    cdef uint32_t now32 = <uint32_t>now
    cdef uint32_t sn = k.snd_una
    cdef uint32_t i
    while sn != k.snd_nxt:
        i = sn & (k.snd.cap - 1)
        # what was sent less than a first wait ago is not late by any measure
        if not k.snd.flags[i] & SND_ACKED and k.snd.rto[i] > k.rto_ms and now32 - k.snd.ts[i] >= k.rto_ms:
            k.snd.rto[i] = <uint16_t>k.rto_ms
            if diff32(k.snd.resend_at[i], now32) > 0:
                k.snd.resend_at[i] = now32
            k.next_resend = now
        sn += 1
    if k.probe_at >= 0:
        k.probe_wait_ms = max(k.rto_ms, <uint32_t>PROBE_MIN_MS)
        k.probe_at = min(k.probe_at, now)


cdef int64_t kcp_deadline(const kcp_t* k) noexcept nogil:
    cdef int64_t earliest = INT64_MAX
    if k.snd_nxt != k.snd_una:
        earliest = k.next_resend
    if k.probe_at >= 0:
        earliest = min(earliest, k.probe_at)
    if k.tell_at >= 0:
        earliest = min(earliest, k.tell_at)
    return -1 if earliest == INT64_MAX else earliest


cdef bint kcp_wants_flush(const kcp_t* k) noexcept nogil:
    if k.ack_below_due or k.ack_count > 0 or k.ask or k.tell or k.fast_due:
        return True
    if k.snd_end == k.snd_nxt:
        return False
    if k.snd_nxt - k.snd_una < kcp_window(k):
        return True
    # a closed window with nothing on its way that could bring news: flush() starts the probe's clock
    return k.rmt_wnd == 0 and k.snd_nxt == k.snd_una and k.probe_at < 0
