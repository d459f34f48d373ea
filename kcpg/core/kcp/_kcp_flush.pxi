# Part of _kcp.pyx: what leaves, and when.

cdef enum:
    NO_WAIT = 0x7FFFFFFF
    PROBE_MIN_MS = 30           # no window probe sooner, however short the RTT: the reader needs time to read
    PROBE_MAX_MS = 120000       # KCP: IKCP_PROBE_LIMIT
    FETCH_AHEAD = 4             # segments: what memory delivers while that many are copied
    CACHE_LINE = 64

cdef extern from * nogil:
    void __builtin_prefetch(const void* memory, int for_writing, int locality)


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
    return p + KCP_HEADER_BYTES


cdef bint flush_empty(kcp_t* k, Tx* tx, uint8_t cmd, uint32_t ts, uint32_t sn) noexcept nogil:
    cdef uint8_t* p = tx_need(tx, KCP_HEADER_BYTES)
    if p == NULL:
        return False
    k.told_wnd = rcv_window(k)
    put_header(k, p, cmd, ts, sn)
    return True


cdef bint flush_acks(kcp_t* k, Tx* tx) noexcept nogil:
    """What is due: all beyond a gap; of those before it the newest, as una says the rest."""
    cdef bint any_told = k.ack_below_due
    cdef ack_t ack
    if k.ack_below_due:
        if not flush_empty(k, tx, CMD_ACK, k.ack_below.ts, k.ack_below.sn):
            return False
        k.ack_below_due = False
        k.ack_at = -1
        k.acks_sent += 1
    while k.ack_done < k.ack_count:
        ack = k.acks[k.ack_done]
        # what rcv_nxt has passed since is covered by the una of the segment above
        if diff32(ack.sn, k.rcv_nxt) >= 0:
            if not flush_empty(k, tx, CMD_ACK, ack.ts, ack.sn):
                return False
            k.rcv.flags[ack.sn & (k.rcv.cap - 1)] &= <uint8_t>~RCV_ACK_DUE
            k.acks_sent += 1
            k.ack_credit += ACK_CREDIT
            any_told = True
        k.ack_done += 1
    if any_told and k.ack_maps and k.rcv_end != k.rcv_nxt:
        flush_map(k, tx)
    if k.ack_count > 0:
        if any_told and not k.ack_maps:
            flush_acks_again(k, tx)
        keep_acks(k)
    return True


cdef void flush_acks_again(kcp_t* k, Tx* tx) noexcept nogil:
    """Fill the open datagram with what the last one told, the newest first: that one may have been lost."""
    cdef ack_t ack
    while k.ack_told > 0 and k.ack_credit >= ACK_COST:
        if not tx.is_open or tx.open_len + KCP_HEADER_BYTES > tx.limit:
            break
        ack = k.acks[k.ack_told - 1]
        if diff32(ack.sn, k.rcv_nxt) >= 0:
            flush_empty(k, tx, CMD_ACK, ack.ts, ack.sn)
            k.acks_sent += 1
            k.ack_credit -= ACK_COST
        k.ack_told -= 1
    k.ack_credit = min(k.ack_credit, <uint32_t>(ACKS_AGAIN * ACK_COST))


cdef void keep_acks(kcp_t* k) noexcept nogil:
    """Remember what was told for the first time now, to tell it again; nothing where no gap is left."""
    cdef uint32_t first = k.ack_fresh
    cdef uint32_t count = k.ack_count - first
    if k.ack_maps or k.rcv_end == k.rcv_nxt:
        k.ack_told = k.ack_fresh = k.ack_done = k.ack_count = k.ack_credit = 0
        if k.ack_cap > RING_KEEP and k.rcv_end == k.rcv_nxt:
            free(k.acks)
            k.acks = NULL
            k.ack_cap = 0
        return
    if count == 0:
        count = k.ack_told
        first = 0
    elif count > ACKS_AGAIN:
        first += count - ACKS_AGAIN
        count = ACKS_AGAIN
    if first > 0:
        memmove(k.acks, k.acks + first, count * sizeof(ack_t))
    k.ack_told = k.ack_fresh = k.ack_done = k.ack_count = count


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


cdef inline void fetch_ahead(kcp_t* k, uint32_t sn) noexcept nogil:
    """Have the memory of a segment that is soon sent brought into the second-level cache."""
    cdef uint32_t i = (sn + FETCH_AHEAD) & (k.snd.cap - 1)
    cdef uint32_t at = 0
    if diff32(k.snd_end, sn) > FETCH_AHEAD and k.snd.slot[i] != NULL:
        while at < k.snd.len[i]:
            __builtin_prefetch(k.snd.slot[i] + at, 0, 2)
            at += CACHE_LINE


cdef int flush_push(kcp_t* k, Tx* tx, uint32_t sn, uint32_t now32, int* left) noexcept nogil:
    """Send the segment `sn` and set its times from its rto; whatever forbids it leaves it untouched."""
    cdef uint32_t i = sn & (k.snd.cap - 1)
    cdef uint32_t n = k.snd.len[i]
    cdef uint8_t* p
    if left[0] <= 0:
        return KCP_MORE
    if tx.tokens < <int64_t>(KCP_HEADER_BYTES + n):
        return KCP_PACED
    p = tx_need(tx, KCP_HEADER_BYTES + n)
    if p == NULL:
        return KCP_MORE
    left[0] -= 1
    tx.tokens -= KCP_HEADER_BYTES + n
    k.told_wnd = rcv_window(k)
    put_header(k, p, CMD_PUSH, now32, sn)
    p[5] = k.snd.frg[i]
    put32(p + 20, n)
    if tx.is_cold:
        fetch_ahead(k, sn)
    if n > 0:
        memcpy(p + KCP_HEADER_BYTES, k.snd.slot[i], n)
    k.snd.ts[i] = now32
    k.snd.fastack[i] = 0
    return KCP_DONE


cdef inline void back_off(kcp_t* k, uint32_t i) noexcept nogil:
    cdef uint32_t rto = max(<uint32_t>k.snd.rto[i], k.rto_ms)
    if k.nodelay <= 0:
        rto += max(rto, k.rto_ms)
    elif k.nodelay == 1:
        rto += rto // 2
    else:
        rto += k.rto_ms // 2
    k.snd.rto[i] = <uint16_t>min(rto, <uint32_t>RTO_MAX_MS)


cdef inline bint is_lost(kcp_t* k, uint32_t i, uint32_t sn, uint32_t now32, int32_t* wait) noexcept nogil:
    """Overtaken, and that for long enough or often enough; otherwise `wait` until it counts as lost."""
    cdef uint32_t ts = k.snd.ts[i]
    wait[0] = NO_WAIT
    if not k.rack_known or not is_later(k.rack_ts, k.rack_sn, ts, sn):
        return False
    if k.resend <= 0:
        wait[0] = diff32(ts + rto_of(k, i), now32)
        return wait[0] <= 0
    wait[0] = diff32(ts + overtaken_wait(k), now32)
    if wait[0] <= 0:
        return True
    if k.snd.fastack[i] < k.resend:
        return False
    if now32 - ts < k.srtt_ms // 2:
        # two copies within one srtt already: these skips tell nothing about the second
        k.snd.fastack[i] = 0
        return False
    return diff32(k.rack_ts, ts) >= <int32_t>k.reorder_ms


cdef inline int32_t snd_resent(kcp_t* k, uint32_t i, bint lost) noexcept nogil:
    """Count a resend and why it was made; answers when it is to be followed by a copy."""
    cdef uint8_t marks = k.snd.flags[i] & (SND_LATE | SND_TAIL)
    k.snd.flags[i] &= <uint8_t>~(SND_LATE | SND_TAIL | SND_COPY)
    if marks:
        k.overdue = False
        k.hold_until = -1
    if marks & SND_LATE or (lost and not marks and k.resend <= 0):
        back_off(k, i)
        k.lost = True
        k.segments_resent_rto += 1
        return NO_WAIT
    if marks:
        k.tail_probed = True
        k.segments_resent_tail += 1
        return NO_WAIT
    k.segments_resent_fast += 1
    if not lost:
        return NO_WAIT
    k.skipped = True
    if k.snd_end != k.snd_nxt or k.snd_nxt - k.snd_una > THIN_SEGMENTS:
        return NO_WAIT
    k.snd.flags[i] |= SND_COPY
    return COPY_MS


cdef int flush_resends(kcp_t* k, Tx* tx, int64_t now, int* left) noexcept nogil:
    """Every segment that is marked or lost, in order of sn."""
    cdef uint32_t mask = k.snd.cap - 1
    cdef uint32_t now32 = <uint32_t>now
    cdef uint32_t sn = k.snd_una
    cdef int64_t earliest = INT64_MAX
    cdef int32_t wait
    cdef bint lost
    cdef uint32_t i
    cdef int answer
    while sn != k.rack_end:
        i = sn & mask
        if not k.snd.flags[i] & SND_ACKED:
            lost = is_lost(k, i, sn, now32, &wait)
            if k.snd.flags[i] & SND_COPY:
                wait = min(wait, diff32(k.snd.ts[i] + COPY_MS, now32))
            if lost or wait <= 0 or k.snd.flags[i] & (SND_LATE | SND_TAIL):
                answer = flush_push(k, tx, sn, now32, left)
                if answer != KCP_DONE:
                    return answer
                wait = snd_resent(k, i, lost)
            earliest = min(earliest, now + wait)
        sn += 1
    k.rack_at = earliest if earliest < now + NO_WAIT else -1
    k.fast_due = False
    return KCP_DONE


cdef int flush_new(kcp_t* k, Tx* tx, int64_t now, int* left) noexcept nogil:
    cdef uint32_t window = kcp_window(k)
    cdef uint32_t now32 = <uint32_t>now
    cdef uint32_t i
    cdef int answer
    while k.snd_nxt != k.snd_end and k.snd_nxt - k.snd_una < window:
        answer = flush_push(k, tx, k.snd_nxt, now32, left)
        if answer != KCP_DONE:
            return answer
        i = k.snd_nxt & (k.snd.cap - 1)
        k.snd.first_ts[i] = now32
        k.sent_ms = now
        k.snd.rto[i] = 0
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
    k.clock_ms = now
    if not flush_acks(k, tx) or not flush_probes(k, tx, now):
        return KCP_MORE
    if k.snd_nxt != k.snd_una:
        snd_timeout(k)
        if k.fast_due or 0 <= k.rack_at <= now:
            answer = flush_resends(k, tx, now, &max_segments)
            if answer != KCP_MORE and (k.lost or k.skipped):
                snd_shrink_window(k)
    if answer == KCP_DONE:
        answer = flush_new(k, tx, now, &max_segments)
    return answer


cdef int64_t kcp_deadline(const kcp_t* k) noexcept nogil:
    cdef int64_t earliest = INT64_MAX
    if k.snd_nxt != k.snd_una:
        earliest = snd_deadline(k)
        if k.rack_at >= 0:
            earliest = min(earliest, k.rack_at)
    if k.probe_at >= 0:
        earliest = min(earliest, k.probe_at)
    if k.tell_at >= 0:
        earliest = min(earliest, k.tell_at)
    if k.ack_at >= 0:
        earliest = min(earliest, k.ack_at)
    return -1 if earliest == INT64_MAX else earliest


cdef bint kcp_wants_flush(const kcp_t* k) noexcept nogil:
    if (k.ack_below_due and k.ack_at < 0) or k.ack_count > k.ack_done or k.ask or k.tell or k.fast_due:
        return True
    if k.snd_end == k.snd_nxt:
        return False
    if k.snd_nxt - k.snd_una < kcp_window(k):
        return True
    # a closed window with nothing on its way that could bring news: flush() starts the probe's clock
    return k.rmt_wnd == 0 and k.snd_nxt == k.snd_una and k.probe_at < 0
