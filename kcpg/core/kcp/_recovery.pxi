# Part of _kcp.pyx: round-trip times, and which transmissions have arrived for certain. Twin: recovery.py.
#
# The ts that an acknowledgement echoes names the very transmission that arrived. As in RACK (RFC 8985), what
# was sent before that one is lost once it is overdue by a reordering window; a time-out only sends a probe,
# and the answer tells what else is missing, or that nothing was (F-RTO, RFC 5682).

cdef enum:
    RTO_START_MS = 200          # IKCP_RTO_DEF
    RTO_MAX_MS = 60000          # IKCP_RTO_MAX
    RTO_MARGIN_MS = 5           # between srtt and RTO at least: ticks of both clocks and a batch at the peer
    REORDER_MIN_MS = 3          # reordering window: some ticks of the clock; else srtt / 4 (RFC 8985)


cdef struct echo_t:             # what the acknowledgements of one datagram say
    uint32_t ts                 # the latest transmission that arrived: when ...
    uint32_t sn                 # ... and which
    bint found
    bint first                  # it was a first transmission
    bint before_timeout         # something sent before the time-out arrived


cdef inline bint is_later(uint32_t ts, uint32_t sn, uint32_t than_ts, uint32_t than_sn) noexcept nogil:
    """Of two transmissions; within one millisecond they leave in order of sn."""
    cdef int32_t by = diff32(ts, than_ts)
    return by > 0 or (by == 0 and diff32(sn, than_sn) > 0)


# -- round-trip times --

cdef inline uint32_t rtt_margin(const kcp_t* k) noexcept nogil:
    """Between srtt and RTO at least: samples may know nothing of acknowledgements held back."""
    return RTO_MARGIN_MS + k.ack_hold_ms


cdef void kcp_expect_rtt(kcp_t* k, uint32_t rtt_ms) noexcept nogil:
    """Until there is a sample the RTO goes by this round trip, which is known from elsewhere."""
    if k.srtt8 == 0:
        k.rto_ms = min(max(2 * rtt_ms + rtt_margin(k), k.min_rto_ms), <uint32_t>RTO_MAX_MS)


cdef void rtt_sample(kcp_t* k, int32_t rtt) noexcept nogil:
    """Smooth one round-trip time (RFC 6298) and derive the RTO.

    In eighths of a millisecond: with KCP's whole ones srtt, and so the RTO, stays up to 7 ms below a short
    RTT. The variation shrinks once per round trip, not per sample: the many samples of one datagram would
    make it forget.
    """
    cdef uint32_t rtt8, delta8, spread
    if rtt < 0 or rtt > RTO_MAX_MS:
        return
    rtt8 = 8 * <uint32_t>max(rtt, 1)
    if k.srtt8 == 0:
        k.srtt8 = rtt8
        k.rttvar8 = rtt8 // 2
        k.rttvar_shrinks_at = k.clock_ms + rtt
    else:
        delta8 = rtt8 - k.srtt8 if rtt8 > k.srtt8 else k.srtt8 - rtt8
        if delta8 > k.rttvar8 or k.clock_ms >= k.rttvar_shrinks_at:
            k.rttvar8 = (3 * k.rttvar8 + delta8) // 4
            k.rttvar_shrinks_at = k.clock_ms + k.srtt_ms
        k.srtt8 = (7 * k.srtt8 + rtt8 + 3) // 8
    k.srtt_ms = (k.srtt8 + 4) // 8
    k.rttvar_ms = (k.rttvar8 + 4) // 8
    spread = max(max(k.interval_ms, k.rttvar8 // 2), max(k.srtt_ms // 4, rtt_margin(k)))
    k.rto_ms = min(max(k.srtt_ms + spread, k.min_rto_ms), <uint32_t>RTO_MAX_MS)


# -- what was overtaken --

cdef inline uint32_t rack_window(const kcp_t* k) noexcept nogil:
    """How many milliseconds a segment may be overtaken by without being lost."""
    cdef uint32_t window = max(max(k.srtt_ms // 4, k.reorder_ms), <uint32_t>REORDER_MIN_MS)
    return min(window, max(k.srtt_ms, <uint32_t>REORDER_MIN_MS))


cdef inline void rack_note_reordering(kcp_t* k, uint32_t ts) noexcept nogil:
    """The transmission of time `ts` arrived after a later one: wait longer for the next."""
    if k.rack_known and diff32(k.rack_ts, ts) > 0:
        k.reorder_ms = max(k.reorder_ms, min(k.rack_ts - ts + 1, k.srtt_ms))


cdef inline void rack_note_needed(kcp_t* k) noexcept nogil:
    """A resend arrived that nothing made needless: the reordering window may shrink."""
    k.reorder_ms -= (k.reorder_ms + 15) // 16


cdef inline void rack_extend(kcp_t* k, uint32_t end) noexcept nogil:
    """Segments before `end` may have been overtaken."""
    if diff32(end, k.rack_end) > 0:
        k.rack_end = end


cdef inline void rack_update(kcp_t* k, const echo_t* echo) noexcept nogil:
    """Something arrived: remember the latest transmission, and what it may have overtaken."""
    if not k.rack_known or is_later(echo.ts, echo.sn, k.rack_ts, k.rack_sn):
        k.rack_known = True
        k.rack_ts = echo.ts
        k.rack_sn = echo.sn
        k.rack_rtt_ms = <uint32_t>k.clock_ms - echo.ts
    # first transmissions leave in order of sn; a copy may have overtaken all that was sent before it
    rack_extend(k, echo.sn if echo.first else k.snd_nxt)


cdef inline void rack_settle(kcp_t* k) noexcept nogil:
    """Nothing before snd_una is of interest any more."""
    if diff32(k.snd_una, k.rack_end) >= 0:
        k.rack_end = k.snd_una
        k.rack_at = -1


cdef uint32_t count_overtaken(
    const uint8_t* flags, const uint32_t* ts, uint32_t n, uint32_t newest, int32_t window
) noexcept nogil:
    """How many missing segments were sent so long before `newest`. Vectorised too."""
    cdef uint32_t i
    cdef uint32_t found = 0
    for i in range(n):
        found += (flags[i] & SND_ACKED == 0) & (diff32(newest, ts[i]) >= window)
    return found


cdef uint32_t kcp_missing(const kcp_t* k) noexcept nogil:
    """Segments of which the last copy was overtaken by more than a reordering window: lost, by all that is
    known, and not sent again yet."""
    cdef uint32_t first, n, part
    cdef int32_t window
    if k.snd_una == k.snd_nxt or not k.rack_known or not (k.fast_due or k.rack_at >= 0):
        return 0
    window = <int32_t>rack_window(k)
    first = k.snd_una & (k.snd.cap - 1)
    n = k.rack_end - k.snd_una
    part = min(n, k.snd.cap - first)
    return (
        count_overtaken(k.snd.flags + first, k.snd.ts + first, part, k.rack_ts, window)
        + count_overtaken(k.snd.flags, k.snd.ts, n - part, k.rack_ts, window))
