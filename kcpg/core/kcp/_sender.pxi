# Part of _kcp.pyx: segments in flight: what acknowledgements say of them, time-outs, and what leaves when.
# Declared in _sender.pxd; twin: sender.py.

cdef enum:
    NO_WAIT = 0x7FFFFFFF        # no time to wait for: the segment was not overtaken
    PROBE_MIN_MS = 30           # no window probe sooner, however short the RTT: the reader needs time to read
    PROBE_MAX_MS = 120000       # IKCP_PROBE_LIMIT
    LATE_MS = 2                 # a time-out noticed later than this: we were not running, answers lie unread
    TIMEOUT_SEGMENTS = 2        # resent by a time-out: the oldest, and one more as the probe may be lost too
    THIN_SEGMENTS = 16          # in flight with nothing queued: somebody waits for each, copies cost little;
    COPY_MS = 5                 # a resend is followed by one, outside the burst that may hit it


cdef struct heard_t:            # what one datagram acknowledges
    uint32_t una                # all before it
    bint acked                  # segments one by one, of which ...
    uint32_t highest            # ... this is the highest, with the ts that it echoed
    uint32_t highest_ts
    bint sampled                # first transmissions among them, of which ...
    uint32_t sample_ts          # ... this is the latest
    bint mapped                 # segments by bits
    echo_t echo


# -- acknowledgements --

cdef inline uint32_t snd_age(const kcp_t* k, uint32_t i) noexcept nogil:
    """Milliseconds since the last transmission of entry `i`."""
    return <uint32_t>k.clock_ms - k.snd.ts[i]


cdef inline void snd_arrived(kcp_t* k, uint32_t i) noexcept nogil:
    """The segment of entry `i` is known to have arrived."""
    snd_drop_slot(k, i)
    k.snd.flags[i] |= SND_ACKED
    k.snd.skips[i] = 0


cdef inline void snd_note_needless(kcp_t* k, uint32_t i) noexcept nogil:
    """Count the last resend of entry `i` if its copy cannot have been answered yet."""
    if k.snd.ts[i] != k.snd.first_ts[i] and snd_age(k, i) < k.srtt_ms // 2:
        k.resends_spurious += 1


cdef inline void snd_heed_echo(kcp_t* k, uint32_t i, uint32_t sn, uint32_t ts, echo_t* echo) noexcept nogil:
    """The acknowledgement of `sn`, just arrived, names the transmission of time `ts`."""
    if diff32(ts, k.snd.first_ts[i]) < 0 or diff32(k.snd.ts[i], ts) < 0:
        return
    if ts != k.snd.ts[i]:
        k.resends_spurious += 1
    elif ts != k.snd.first_ts[i]:
        rack_note_needed(k)
    rack_note_reordering(k, ts)
    if k.timed_out and diff32(ts, k.timeout_ts) < 0:
        echo.before_timeout = True
    if not echo.found or is_later(ts, sn, echo.ts, echo.sn):
        echo.found = True
        echo.ts = ts
        echo.sn = sn
        echo.first = ts == k.snd.first_ts[i]


cdef inline void snd_take_ack(kcp_t* k, uint32_t sn, uint32_t ts, heard_t* heard) noexcept nogil:
    """One acknowledgement of a datagram. snd_acknowledge() follows when all were taken."""
    cdef uint32_t i = sn & (k.snd.cap - 1)
    if diff32(sn, k.snd_una) < 0 or diff32(sn, k.snd_nxt) >= 0 or k.snd.flags[i] & SND_ACKED:
        return
    if ts == k.snd.first_ts[i] and (not heard.sampled or diff32(ts, heard.sample_ts) > 0):
        heard.sampled = True
        heard.sample_ts = ts
    if not heard.acked or diff32(sn, heard.highest) > 0:
        heard.acked = True
        heard.highest = sn
        heard.highest_ts = ts
    snd_heed_echo(k, i, sn, ts, &heard.echo)
    snd_arrived(k, i)


cdef void snd_heed_una(kcp_t* k, uint32_t una, echo_t* echo) noexcept nogil:
    """What una adds to the acknowledgements: the first segment it covers, and the last, may lack one."""
    cdef uint32_t i = k.snd_una & (k.snd.cap - 1)
    if not k.snd.flags[i] & SND_ACKED:
        if k.snd.ts[i] == k.snd.first_ts[i]:
            rack_note_reordering(k, k.snd.ts[i])
        else:
            snd_note_needless(k, i)
    i = (una - 1) & (k.snd.cap - 1)
    if k.timed_out and not k.snd.flags[i] & SND_ACKED and diff32(k.snd.ts[i], k.timeout_ts) < 0:
        echo.before_timeout = True


cdef void snd_answer_timeout(kcp_t* k, const echo_t* echo) noexcept nogil:
    """Something sent before it arrived: the time-out was needless. Something sent by it: it was not."""
    if not k.timed_out:
        return
    if echo.before_timeout:
        k.timed_out = False
        if not k.nc:
            cwnd_undo(k)
    elif echo.found:
        k.timed_out = False


cdef void snd_progress_to(kcp_t* k, uint32_t una, const echo_t* echo) noexcept nogil:
    """All before `una` has arrived; go on over what was acknowledged one by one."""
    cdef uint32_t mask = k.snd.cap - 1
    k.acked_ms = k.clock_ms
    k.hold_until = -1
    k.tail_probed = k.overdue = False
    if echo.found:
        rack_update(k, echo)
    while k.snd_una != una:
        snd_drop_slot(k, k.snd_una & mask)
        k.snd_una += 1
    while k.snd_una != k.snd_nxt and k.snd.flags[k.snd_una & mask] & SND_ACKED:
        k.snd_una += 1
    rack_settle(k)
    if k.snd_una == k.snd_nxt:
        k.fast_due = k.rack_known = k.timed_out = False
        snd_shrink(k)


cdef bint skips_of(
    const uint8_t* flags, const uint32_t* ts, uint16_t* skips, uint32_t n,
    uint32_t newest, uint32_t threshold, int32_t reorder_ms
) noexcept nogil:
    """Whether one is to be resent. One loop without branches, so that the C compiler vectorises it."""
    cdef uint32_t i
    cdef uint32_t due = 0
    cdef uint32_t count
    for i in range(n):
        count = skips[i] + <uint32_t>((not flags[i] & SND_ACKED) & (diff32(newest, ts[i]) >= 0))
        skips[i] = <uint16_t>count
        due |= <uint32_t>((count >= threshold) & (diff32(newest, ts[i]) >= reorder_ms))
    return due != 0


cdef void snd_count_skips(kcp_t* k, uint32_t highest, uint32_t newest) noexcept nogil:
    """Something sent no earlier than a segment's last copy has arrived: that copy was overtaken."""
    cdef uint32_t first = k.snd_una & (k.snd.cap - 1)
    cdef uint32_t n = highest - k.snd_una
    cdef uint32_t part = min(n, k.snd.cap - first)
    cdef uint32_t threshold = <uint32_t>k.resend
    cdef int32_t by = <int32_t>k.reorder_ms
    rack_extend(k, highest)
    if skips_of(k.snd.flags + first, k.snd.ts + first, k.snd.skips + first, part, newest, threshold, by):
        k.fast_due = True
    if skips_of(k.snd.flags, k.snd.ts, k.snd.skips, n - part, newest, threshold, by):
        k.fast_due = True


cdef int32_t longest_overtaken(
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


cdef inline uint32_t snd_overtaken_wait(const kcp_t* k) noexcept nogil:
    """From its transmission until an overtaken segment is lost. resend = 0 leaves it to the RTO."""
    return k.rack_rtt_ms + rack_window(k) if k.resend > 0 else k.rto_ms


cdef void snd_find_overtaken(kcp_t* k) noexcept nogil:
    """When the oldest overtaken segment is lost. The flush at that time looks again."""
    cdef uint32_t first, n, part
    cdef int32_t age, wait
    if k.fast_due or k.rack_at >= 0 or k.rack_end == k.snd_una or not k.rack_known:
        return
    first = k.snd_una & (k.snd.cap - 1)
    n = k.rack_end - k.snd_una
    part = min(n, k.snd.cap - first)
    age = longest_overtaken(k.snd.flags + first, k.snd.ts + first, part, k.rack_ts)
    age = max(age, longest_overtaken(k.snd.flags, k.snd.ts, n - part, k.rack_ts))
    if age < 0:
        return
    wait = diff32(k.rack_ts - <uint32_t>age + snd_overtaken_wait(k), <uint32_t>k.clock_ms)
    if wait <= 0:
        k.fast_due = True
    else:
        k.rack_at = k.clock_ms + wait


cdef inline void snd_sample(kcp_t* k, const heard_t* heard) noexcept nogil:
    """Measure the RTT by the newest echo of a first transmission: those of later ones tell less."""
    if heard.sampled:
        rtt_sample(k, diff32(<uint32_t>k.clock_ms, heard.sample_ts))


cdef inline void snd_acknowledge(kcp_t* k, heard_t* heard) noexcept nogil:
    """What one datagram acknowledged: all before una, one by one, and by bits."""
    cdef uint32_t una_before = k.snd_una
    if diff32(heard.una, k.snd_nxt) > 0:
        snd_recalled_in_vain(k, heard.una)
    if not heard.acked and not heard.mapped and heard.una == una_before:
        return
    if heard.una != una_before:
        snd_heed_una(k, heard.una, &heard.echo)
    snd_answer_timeout(k, &heard.echo)
    snd_progress_to(k, heard.una, &heard.echo)
    if heard.acked and k.resend > 0 and diff32(heard.highest, k.snd_una) > 0:
        snd_count_skips(k, heard.highest, heard.highest_ts)
    snd_find_overtaken(k)
    if k.snd_una != una_before and not k.nc:
        cwnd_grow(k)


# -- window probes --

cdef inline bint snd_shut_out(const kcp_t* k) noexcept nogil:
    """Only the peer's window keeps the queue waiting, and nothing in flight could bring news of it."""
    return k.rmt_wnd == 0 and k.snd_end != k.snd_nxt and k.snd_nxt == k.snd_una


cdef inline uint32_t snd_probe_pause(const kcp_t* k) noexcept nogil:
    return max(k.rto_ms, <uint32_t>PROBE_MIN_MS)


cdef inline void snd_probe(kcp_t* k) noexcept nogil:
    """Ask for the window when it is the only thing that keeps the queue waiting."""
    if not snd_shut_out(k):
        k.probe_at = -1
    elif k.probe_at < 0:
        k.probe_wait_ms = snd_probe_pause(k)
        k.probe_at = k.clock_ms + k.probe_wait_ms
    elif k.clock_ms >= k.probe_at:
        k.ask = True
        k.probe_wait_ms = min(k.probe_wait_ms + k.probe_wait_ms // 2, <uint32_t>PROBE_MAX_MS)
        k.probe_at = k.clock_ms + k.probe_wait_ms


# -- time-outs --

cdef inline uint32_t snd_rto_of(const kcp_t* k, uint32_t i) noexcept nogil:
    """A segment's own RTO; before its first time-out the conversation's, as known by now."""
    if k.snd.rto[i] == 0:
        return k.rto_ms + (k.rto_ms >> 3 if k.nodelay <= 0 else 0)
    return max(<uint32_t>k.snd.rto[i], k.rto_ms)


cdef inline int64_t snd_timeout_at(const kcp_t* k, uint32_t wait) noexcept nogil:
    """`wait` after the oldest segment left, and not while acknowledgements come in."""
    cdef int64_t at = k.clock_ms - snd_age(k, k.snd_una & (k.snd.cap - 1)) + wait
    if k.acked_ms >= 0:
        at = max(at, k.acked_ms + rack_window(k))
    return at


cdef int64_t snd_tail_at(const kcp_t* k) noexcept nogil:
    """When the oldest segment is sent again ahead of its time-out, once; INT64_MAX: not at all.

    Whatever new was sent in the meantime asks for an answer as well.
    """
    cdef uint32_t wait = k.srtt_ms + max(k.srtt_ms, rtt_margin(k))
    if k.srtt_ms == 0 or k.tail_probed or k.snd.rto[k.snd_una & (k.snd.cap - 1)] != 0:
        return INT64_MAX
    return max(snd_timeout_at(k, wait), k.sent_ms + wait)


cdef int64_t snd_timer(const kcp_t* k) noexcept nogil:
    """The next time-out or tail probe; something is in flight."""
    cdef int64_t at = snd_timeout_at(k, snd_rto_of(k, k.snd_una & (k.snd.cap - 1)))
    return max(min(at, snd_tail_at(k)), k.hold_until)


cdef inline uint32_t snd_mark_late(kcp_t* k) noexcept nogil:
    """Mark the oldest segments for a resend; answers the first sn that is not marked."""
    cdef uint32_t sn = k.snd_una
    cdef uint32_t i, j
    for j in range(<uint32_t>TIMEOUT_SEGMENTS):
        i = sn & (k.snd.cap - 1)
        if sn == k.snd_nxt or k.snd.flags[i] & SND_ACKED:
            break
        if j > 0 and snd_age(k, i) < snd_rto_of(k, i):
            break
        k.snd.flags[i] |= SND_LATE
        sn += 1
    return sn


cdef void snd_time_out(kcp_t* k) noexcept nogil:
    """Mark what a time-out that has come resends: the oldest segments, not the window, as no loss is
    known yet. Noticed late it waits once more, for as long as it was late: answers may lie unread.
    """
    cdef uint32_t sn = k.snd_una
    cdef uint32_t i = sn & (k.snd.cap - 1)
    cdef int64_t at = snd_timer(k)
    if k.clock_ms < at:
        return
    if not k.overdue:
        k.overdue = True
        if k.clock_ms - at > LATE_MS:
            k.hold_until = k.clock_ms + min(k.clock_ms - at, <int64_t>k.rto_ms)
            return
    if snd_timeout_at(k, snd_rto_of(k, i)) > k.clock_ms:
        k.snd.flags[i] |= SND_TAIL
        sn += 1
    else:
        sn = snd_mark_late(k)
        if not k.timed_out:
            k.timed_out = True
            k.timeout_ts = <uint32_t>k.clock_ms
            cwnd_remember(k)
    rack_extend(k, sn)
    k.fast_due = True


cdef inline void snd_back_off(kcp_t* k, uint32_t i) noexcept nogil:
    """Lengthen the RTO of entry `i` after a time-out, as `nodelay` says."""
    cdef uint32_t rto = max(<uint32_t>k.snd.rto[i], k.rto_ms)
    if k.nodelay <= 0:
        rto += rto
    elif k.nodelay == 1:
        rto += rto // 2
    else:
        rto += k.rto_ms // 2
    k.snd.rto[i] = <uint16_t>min(rto, <uint32_t>RTO_MAX_MS)


cdef void kcp_hurry(kcp_t* k, uint64_t now_ms) noexcept nogil:
    """The peer is there again after a silence: undo the back-off of resends and window probes, and resend
    what was sent longer ago than a first wait.
    """
    cdef int64_t now = <int64_t>now_ms
    cdef uint32_t sn = k.snd_una
    cdef uint32_t i = sn & (k.snd.cap - 1)
    k.clock_ms = now
    if sn != k.snd_nxt and k.snd.rto[i] > k.rto_ms:
        while sn != k.snd_nxt:
            i = sn & (k.snd.cap - 1)
            k.snd.rto[i] = 0
            if not k.snd.flags[i] & SND_ACKED and snd_age(k, i) >= k.rto_ms:
                k.snd.flags[i] |= SND_LATE
                k.rack_end = k.snd_nxt
                k.rack_at = k.hold_until = now
            sn += 1
    if k.probe_at >= 0:
        k.probe_wait_ms = snd_probe_pause(k)
        k.probe_at = min(k.probe_at, now)


# -- flush --

cdef inline bint snd_wants_flush(const kcp_t* k) noexcept nogil:
    """A segment or a probe could be sent right now."""
    if k.fast_due or k.ask:
        return True
    if k.snd_end == k.snd_nxt:
        return False
    # a closed window with nothing on its way that could bring news: the flush starts the probe's clock
    return kcp_in_flight(k) < kcp_window(k) or (snd_shut_out(k) and k.probe_at < 0)


cdef inline int64_t snd_deadline(const kcp_t* k) noexcept nogil:
    """When the sender must be flushed even if nothing else happens; INT64_MAX: nothing is outstanding."""
    cdef int64_t earliest = INT64_MAX
    if k.snd_nxt != k.snd_una:
        earliest = snd_timer(k)
        if k.rack_at >= 0:
            earliest = min(earliest, k.rack_at)
    if k.probe_at >= 0:
        earliest = min(earliest, k.probe_at)
    return earliest


cdef inline void snd_shrink_window(kcp_t* k) noexcept nogil:
    """The answer to losses, once for all resends of a flush."""
    cdef uint32_t window = kcp_window(k)
    if k.overtaken:
        cwnd_after_skips(k)
    if k.late:
        cwnd_after_timeout(k, window)
    k.late = k.overtaken = False


cdef inline int32_t snd_wait_until_lost(kcp_t* k, uint32_t i, uint32_t sn) noexcept nogil:
    """Milliseconds until an overtaken segment counts as lost, 0 if it does; NO_WAIT: it was not overtaken."""
    cdef int32_t wait
    if not k.rack_known or not is_later(k.rack_ts, k.rack_sn, k.snd.ts[i], sn):
        return NO_WAIT
    if k.resend <= 0:
        return max(<int32_t>(snd_rto_of(k, i) - snd_age(k, i)), 0)
    wait = <int32_t>(snd_overtaken_wait(k) - snd_age(k, i))
    if wait <= 0:
        return 0
    if k.snd.skips[i] < k.resend:
        return wait
    if snd_age(k, i) < k.srtt_ms // 2:
        k.snd.skips[i] = 0      # two copies within one srtt: these skips tell nothing about the second
        return wait
    return 0 if diff32(k.rack_ts, k.snd.ts[i]) >= <int32_t>k.reorder_ms else wait


cdef inline int32_t snd_resent(kcp_t* k, uint32_t i, bint lost) noexcept nogil:
    """Count a resend and why it was made; answers when a copy is to follow (NO_WAIT: none is)."""
    cdef uint8_t marks = k.snd.flags[i] & (SND_LATE | SND_TAIL)
    k.snd.ts[i] = <uint32_t>k.clock_ms
    k.snd.skips[i] = 0
    k.snd.flags[i] &= <uint8_t>~(SND_LATE | SND_TAIL | SND_COPY)
    if marks:
        k.overdue = False
        k.hold_until = -1
    if marks & SND_LATE or (lost and not marks and k.resend <= 0):
        snd_back_off(k, i)
        k.segments_resent_rto += 1
        k.late = True
    elif marks:
        k.tail_probed = True
        k.segments_resent_tail += 1
    else:
        k.segments_resent_fast += 1
        k.overtaken |= lost
        if lost and k.snd_end == k.snd_nxt and kcp_in_flight(k) <= THIN_SEGMENTS:
            k.snd.flags[i] |= SND_COPY
            return COPY_MS
    return NO_WAIT


cdef inline int snd_flush_resends(kcp_t* k, Tx* tx, int* left) noexcept nogil:
    """Send every segment that is marked or lost, in order of sn; answers as kcp_flush()."""
    cdef uint32_t mask = k.snd.cap - 1
    cdef uint32_t sn = k.snd_una
    cdef int64_t earliest = INT64_MAX
    cdef int32_t wait
    cdef bint lost
    cdef uint32_t i
    cdef int answer
    while sn != k.rack_end:
        i = sn & mask
        if not k.snd.flags[i] & SND_ACKED:
            wait = snd_wait_until_lost(k, i, sn)
            lost = wait == 0
            if k.snd.flags[i] & SND_COPY:
                wait = min(wait, <int32_t>(COPY_MS - snd_age(k, i)))
            if wait <= 0 or k.snd.flags[i] & (SND_LATE | SND_TAIL):
                answer = flush_push(k, tx, sn, left)
                if answer != KCP_DONE:
                    return answer
                wait = snd_resent(k, i, lost)
            earliest = min(earliest, k.clock_ms + wait)
        sn += 1
    k.rack_at = earliest if earliest < k.clock_ms + NO_WAIT else -1
    k.fast_due = False
    return KCP_DONE


cdef inline int snd_flush_new(kcp_t* k, Tx* tx, int* left) noexcept nogil:
    """Send queued segments while the window admits more; answers as kcp_flush()."""
    cdef uint32_t window = kcp_window(k)
    cdef uint32_t i
    cdef int answer
    while k.snd_nxt != k.snd_end and kcp_in_flight(k) < window:
        answer = flush_push(k, tx, k.snd_nxt, left)
        if answer != KCP_DONE:
            return answer
        i = k.snd_nxt & (k.snd.cap - 1)
        k.snd.ts[i] = k.snd.first_ts[i] = <uint32_t>k.clock_ms
        k.snd.rto[i] = k.snd.skips[i] = 0
        k.sent_ms = k.clock_ms
        k.snd_nxt += 1
        if diff32(k.snd_nxt, k.snd_top) > 0:
            k.snd_top = k.snd_nxt
        k.segments_sent += 1
        k.bytes_sent += k.snd.len[i]
    return KCP_DONE


cdef inline int snd_flush(kcp_t* k, Tx* tx, int* left) noexcept nogil:
    """Resend what is due, then send what the window admits, until something forbids the next push."""
    cdef int answer = KCP_DONE
    if k.snd_nxt != k.snd_una:
        snd_time_out(k)
        if k.fast_due or 0 <= k.rack_at <= k.clock_ms:
            answer = snd_flush_resends(k, tx, left)
            if answer != KCP_MORE and (k.late or k.overtaken):
                snd_shrink_window(k)
    return answer if answer != KCP_DONE else snd_flush_new(k, tx, left)
