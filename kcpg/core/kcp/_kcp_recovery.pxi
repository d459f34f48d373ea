# Part of _kcp.pyx: what was lost, and how acknowledgements tell.
#
# The ts that an acknowledgement echoes names the very transmission that arrived. As in RACK (RFC 8985), what
# was sent before that one is lost once it is overdue by a reordering window; a time-out only sends a probe,
# and the answer tells what else is missing, or that nothing was (F-RTO, RFC 5682).

cdef enum:
    REORDER_MIN_MS = 3          # reordering window: some ticks of the clock; else srtt / 4 (RFC 8985)
    RTO_MARGIN_MS = 5           # between srtt and RTO at least: ticks of both clocks and a batch at the peer
    LATE_MS = 2                 # a time-out noticed later than this: we were not running, answers lie unread
    TIMEOUT_SEGMENTS = 2        # resent by a time-out: the oldest, and one more as the probe may be lost too
    THIN_SEGMENTS = 16          # in flight with nothing queued: somebody waits for each, copies cost little;
    COPY_MS = 5                 # a resend is followed by one, outside the burst that may hit it


cdef struct echo_t:             # what the acknowledgements of one datagram say
    uint32_t ts                 # the latest transmission that arrived: when ...
    uint32_t sn                 # ... and which
    bint found
    bint first                  # it was a first transmission
    bint before_timeout         # something sent before the time-out arrived


# --- measured times -------------------------------------------------------------------------------

cdef inline uint32_t reorder_window(const kcp_t* k) noexcept nogil:
    cdef uint32_t window = max(max(k.srtt_ms // 4, k.reorder_ms), <uint32_t>REORDER_MIN_MS)
    return min(window, max(k.srtt_ms, <uint32_t>REORDER_MIN_MS))


cdef inline uint32_t rto_margin(const kcp_t* k) noexcept nogil:
    """Between srtt and RTO at least: samples may know nothing of acknowledgements held back."""
    return RTO_MARGIN_MS + k.ack_hold_ms


cdef void snd_sample(kcp_t* k, int32_t rtt) noexcept nogil:
    """Smooth one round-trip time (RFC 6298) and derive the RTO.

    In eighths of a millisecond: KCP's whole ones stay up to 7 ms below a short RTT, and the RTO with them.
    The variation shrinks once per round trip, not per sample: a datagram's worth of them would forget it.
    """
    cdef uint32_t rtt8, delta8, spread
    if rtt < 0 or rtt > RTO_MAX_MS:
        return
    rtt8 = 8 * <uint32_t>max(rtt, 1)
    if k.srtt8 == 0:
        k.srtt8 = rtt8
        k.rttvar8 = rtt8 // 2
        k.rttvar_at = k.clock_ms + rtt
    else:
        delta8 = rtt8 - k.srtt8 if rtt8 > k.srtt8 else k.srtt8 - rtt8
        if delta8 > k.rttvar8 or k.clock_ms >= k.rttvar_at:
            k.rttvar8 = (3 * k.rttvar8 + delta8) // 4
            k.rttvar_at = k.clock_ms + k.srtt_ms
        k.srtt8 = (7 * k.srtt8 + rtt8 + 3) // 8
    k.srtt_ms = (k.srtt8 + 4) // 8
    k.rttvar_ms = (k.rttvar8 + 4) // 8
    spread = max(max(k.interval_ms, k.rttvar8 // 2), max(k.srtt_ms // 4, rto_margin(k)))
    k.rto_ms = min(max(k.srtt_ms + spread, k.min_rto_ms), <uint32_t>RTO_MAX_MS)


cdef inline void note_reordering(kcp_t* k, uint32_t ts) noexcept nogil:
    """The transmission of time `ts` arrived after a later one: wait longer for the next."""
    if k.rack_known and diff32(k.rack_ts, ts) > 0:
        k.reorder_ms = max(k.reorder_ms, min(k.rack_ts - ts + 1, k.srtt_ms))


# --- acknowledgements -----------------------------------------------------------------------------

cdef inline bint is_later(uint32_t ts, uint32_t sn, uint32_t than_ts, uint32_t than_sn) noexcept nogil:
    """Of two transmissions; within one millisecond they leave in order of sn."""
    cdef int32_t by = diff32(ts, than_ts)
    return by > 0 or (by == 0 and diff32(sn, than_sn) > 0)


cdef inline void heed_echo(kcp_t* k, uint32_t i, uint32_t sn, uint32_t ts, echo_t* echo) noexcept nogil:
    """The acknowledgement of `sn`, just arrived, names the transmission of time `ts`."""
    if diff32(ts, k.snd.first_ts[i]) < 0 or diff32(k.snd.ts[i], ts) < 0:
        return
    if ts != k.snd.ts[i]:
        k.resends_spurious += 1
    elif ts != k.snd.first_ts[i] and k.reorder_ms > 0:
        k.reorder_ms -= (k.reorder_ms + 15) // 16   # a resend was needed: we wait long enough
    note_reordering(k, ts)
    if k.timed_out and diff32(ts, k.timeout_ts) < 0:
        echo.before_timeout = True
    if not echo.found or is_later(ts, sn, echo.ts, echo.sn):
        echo.found = True
        echo.ts = ts
        echo.sn = sn
        echo.first = ts == k.snd.first_ts[i]


cdef void heed_una(kcp_t* k, uint32_t una, echo_t* echo) noexcept nogil:
    """What una says beyond the acknowledgements: the first segment it covers, and the last, may have none."""
    cdef uint32_t i = k.snd_una & (k.snd.cap - 1)
    if not k.snd.flags[i] & SND_ACKED:
        if k.snd.ts[i] == k.snd.first_ts[i]:
            note_reordering(k, k.snd.ts[i])
        elif <uint32_t>k.clock_ms - k.snd.ts[i] < k.srtt_ms // 2:
            k.resends_spurious += 1     # the copy cannot have been answered yet
    i = (una - 1) & (k.snd.cap - 1)
    if k.timed_out and not k.snd.flags[i] & SND_ACKED and diff32(k.snd.ts[i], k.timeout_ts) < 0:
        echo.before_timeout = True


cdef void answer_timeout(kcp_t* k, const echo_t* echo) noexcept nogil:
    """Something sent before it arrived: the time-out was too early. Something sent by it: it was not."""
    if echo.before_timeout:
        k.timed_out = False
        if not k.nc:
            k.cwnd = max(k.cwnd, k.undo_cwnd)
            k.ssthresh = max(k.ssthresh, k.undo_ssthresh)
            k.incr = max(k.incr, k.cwnd * k.mss)
    elif echo.found:
        k.timed_out = False


cdef void snd_progress(kcp_t* k, uint32_t una, const echo_t* echo) noexcept nogil:
    """All before `una` has arrived; go on over what was acknowledged one by one."""
    cdef uint32_t mask = k.snd.cap - 1
    cdef uint32_t end
    k.progress_ms = k.clock_ms
    k.hold_until = -1
    k.tail_probed = k.overdue = False
    if echo.found:
        if not k.rack_known or is_later(echo.ts, echo.sn, k.rack_ts, k.rack_sn):
            k.rack_known = True
            k.rack_ts = echo.ts
            k.rack_sn = echo.sn
            k.rack_rtt_ms = <uint32_t>k.clock_ms - echo.ts
        # first transmissions leave in order of sn; a copy may have overtaken all that was sent before it
        end = echo.sn if echo.first else k.snd_nxt
        if diff32(end, k.rack_end) > 0:
            k.rack_end = end
    while k.snd_una != una:
        snd_drop_slot(k, k.snd_una & mask)
        k.snd_una += 1
    while k.snd_una != k.snd_nxt and k.snd.flags[k.snd_una & mask] & SND_ACKED:
        k.snd_una += 1
    if diff32(k.snd_una, k.rack_end) >= 0:
        k.rack_end = k.snd_una
        k.rack_at = -1
    if k.snd_una == k.snd_nxt:
        k.fast_due = k.rack_known = k.timed_out = False
        snd_shrink(k)


cdef bint skip_span(
    const uint8_t* flags, const uint32_t* ts, uint16_t* fastack, uint32_t n,
    uint32_t newest, uint32_t threshold, int32_t reordering
) noexcept nogil:
    """One loop without branches, so that the C compiler vectorises it."""
    cdef uint32_t i
    cdef uint32_t due = 0
    cdef uint32_t count
    for i in range(n):
        count = fastack[i] + <uint32_t>((not flags[i] & SND_ACKED) & (diff32(newest, ts[i]) >= 0))
        fastack[i] = <uint16_t>count
        due |= <uint32_t>((count >= threshold) & (diff32(newest, ts[i]) >= reordering))
    return due != 0


cdef void snd_skip(kcp_t* k, uint32_t end, uint32_t newest) noexcept nogil:
    """Count a skip for each segment before `end` whose last transmission was not after `newest`."""
    cdef uint32_t first = k.snd_una & (k.snd.cap - 1)
    cdef uint32_t n = end - k.snd_una
    cdef uint32_t part = min(n, k.snd.cap - first)
    cdef uint32_t threshold = <uint32_t>k.resend
    cdef int32_t by = <int32_t>k.reorder_ms
    if diff32(end, k.rack_end) > 0:
        k.rack_end = end
    if skip_span(k.snd.flags + first, k.snd.ts + first, k.snd.fastack + first, part, newest, threshold, by):
        k.fast_due = True
    if skip_span(k.snd.flags, k.snd.ts, k.snd.fastack, n - part, newest, threshold, by):
        k.fast_due = True


cdef int32_t overtaken_span(
    const uint8_t* flags, const uint32_t* ts, uint32_t n, uint32_t newest
) noexcept nogil:
    """How long before `newest` the oldest missing segment was sent, -1: none was. Vectorised too."""
    cdef uint32_t i
    cdef int32_t most = -1
    cdef int32_t age
    for i in range(n):
        age = -1 if flags[i] & SND_ACKED else diff32(newest, ts[i])
        most = age if age > most else most
    return most


cdef inline uint32_t overtaken_wait(const kcp_t* k) noexcept nogil:
    """From its transmission until an overtaken segment is lost. resend = 0 leaves it to the RTO."""
    return k.rack_rtt_ms + reorder_window(k) if k.resend > 0 else k.rto_ms


cdef void find_overtaken(kcp_t* k) noexcept nogil:
    """When the oldest overtaken segment is lost. Known once, it is the flush then that looks again."""
    cdef uint32_t first, n, part
    cdef int32_t age, wait
    if k.fast_due or k.rack_at >= 0 or k.rack_end == k.snd_una or not k.rack_known:
        return
    first = k.snd_una & (k.snd.cap - 1)
    n = k.rack_end - k.snd_una
    part = min(n, k.snd.cap - first)
    age = overtaken_span(k.snd.flags + first, k.snd.ts + first, part, k.rack_ts)
    age = max(age, overtaken_span(k.snd.flags, k.snd.ts, n - part, k.rack_ts))
    if age < 0:
        return
    wait = diff32(k.rack_ts - <uint32_t>age + overtaken_wait(k), <uint32_t>k.clock_ms)
    if wait <= 0:
        k.fast_due = True
    else:
        k.rack_at = k.clock_ms + wait


# --- time-outs ------------------------------------------------------------------------------------

cdef inline uint32_t rto_of(const kcp_t* k, uint32_t i) noexcept nogil:
    """A segment's own RTO; before its first time-out the conversation's, as known by now."""
    if k.snd.rto[i] == 0:
        return k.rto_ms + (k.rto_ms >> 3 if k.nodelay <= 0 else 0)
    return max(<uint32_t>k.snd.rto[i], k.rto_ms)


cdef inline int64_t timeout_at(const kcp_t* k, uint32_t wait) noexcept nogil:
    """`wait` after the oldest segment left, and not while acknowledgements come in."""
    cdef int64_t left_ms = k.clock_ms - (<uint32_t>k.clock_ms - k.snd.ts[k.snd_una & (k.snd.cap - 1)])
    cdef int64_t at = left_ms + wait
    if k.progress_ms >= 0:
        at = max(at, k.progress_ms + reorder_window(k))
    return at


cdef int64_t tail_at(const kcp_t* k) noexcept nogil:
    """When the oldest segment is sent again ahead of its time-out, once; INT64_MAX: not at all.

    Whatever new was sent in the meantime asks for an answer as well.
    """
    cdef uint32_t wait = k.srtt_ms + max(k.srtt_ms, rto_margin(k))
    if k.srtt_ms == 0 or k.tail_probed or k.snd.rto[k.snd_una & (k.snd.cap - 1)] != 0:
        return INT64_MAX
    return max(timeout_at(k, wait), k.sent_ms + wait)


cdef int64_t snd_deadline(const kcp_t* k) noexcept nogil:
    """The next time-out or tail probe; something is in flight."""
    cdef int64_t at = timeout_at(k, rto_of(k, k.snd_una & (k.snd.cap - 1)))
    return max(min(at, tail_at(k)), k.hold_until)


cdef void snd_timeout(kcp_t* k) noexcept nogil:
    """Mark what a time-out that has come resends: the oldest segments, not the window, as nobody knows
    yet of any loss. Noticed late it waits again, as long as it was late: answers may lie unread.
    """
    cdef uint32_t mask = k.snd.cap - 1
    cdef uint32_t now32 = <uint32_t>k.clock_ms
    cdef uint32_t sn = k.snd_una
    cdef uint32_t j
    cdef int64_t at = snd_deadline(k)
    if k.clock_ms < at:
        return
    if not k.overdue:
        k.overdue = True
        if k.clock_ms - at > LATE_MS:
            k.hold_until = k.clock_ms + min(k.clock_ms - at, <int64_t>k.rto_ms)
            return
    if timeout_at(k, rto_of(k, sn & mask)) > k.clock_ms:
        k.snd.flags[sn & mask] |= SND_TAIL
        sn += 1
    else:
        for j in range(<uint32_t>TIMEOUT_SEGMENTS):
            if sn == k.snd_nxt or k.snd.flags[sn & mask] & SND_ACKED:
                break
            if j > 0 and now32 - k.snd.ts[sn & mask] < rto_of(k, sn & mask):
                break
            k.snd.flags[sn & mask] |= SND_LATE
            sn += 1
        if not k.timed_out:
            k.timed_out = True
            k.timeout_ts = now32
            k.undo_cwnd = k.cwnd
            k.undo_ssthresh = k.ssthresh
    if diff32(sn, k.rack_end) > 0:
        k.rack_end = sn
    k.fast_due = True


cdef void kcp_hurry(kcp_t* k, uint64_t now_ms) noexcept nogil:
    cdef int64_t now = <int64_t>now_ms
    cdef uint32_t now32 = <uint32_t>now
    cdef uint32_t sn = k.snd_una
    cdef uint32_t i = sn & (k.snd.cap - 1)
    k.clock_ms = now
    if sn != k.snd_nxt and k.snd.rto[i] > k.rto_ms:
        while sn != k.snd_nxt:
            i = sn & (k.snd.cap - 1)
            k.snd.rto[i] = 0
            # what was sent less than a first wait ago is not late by any measure: that wait is enough
            if not k.snd.flags[i] & SND_ACKED and now32 - k.snd.ts[i] >= k.rto_ms:
                k.snd.flags[i] |= SND_LATE
                k.rack_end = k.snd_nxt
                k.rack_at = k.hold_until = now
            sn += 1
    if k.probe_at >= 0:
        k.probe_wait_ms = max(k.rto_ms, <uint32_t>PROBE_MIN_MS)
        k.probe_at = min(k.probe_at, now)
