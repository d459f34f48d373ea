# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled KCP engine: rings of segment fields, payload in pool slots, no allocation per segment.

Behaves as the plain-Python `kcpg.core.kcp.kcp.Kcp`, datagram for datagram; read that for the why of each
rule. `_kcp.pxd` declares the C functions and says how the parts are cut. Here stand a conversation's life,
input and flush.
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport INT64_MAX
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memmove, memset

include "_pool.pxi"
include "_rings.pxi"
include "_receiver.pxi"
include "_sendqueue.pxi"
include "_cwnd.pxi"
include "_recovery.pxi"
include "_recall.pxi"
include "_sender.pxi"
include "_ackmap.pxi"

cdef enum:
    FETCH_AHEAD = 4             # segments: what memory delivers while that many are copied
    CACHE_LINE = 64

cdef extern from * nogil:
    void __builtin_prefetch(const void* memory, int for_writing, int locality)


# -- a conversation's life --

cdef int kcp_set_mtu(kcp_t* k, uint32_t kcp_mtu) noexcept nogil:
    """Of datagrams and segments made from now on. 0; -1: not in 25 .. 24 + pool.slot_bytes."""
    if k.pool == NULL or kcp_mtu <= KCP_HEADER_BYTES or kcp_mtu - KCP_HEADER_BYTES > k.pool.slot_bytes:
        return -1
    k.mss = kcp_mtu - KCP_HEADER_BYTES
    return 0


cdef void kcp_set_windows(kcp_t* k, uint32_t snd_wnd, uint32_t rcv_wnd) noexcept nogil:
    """Change the windows (segments; they count as 1 .. 65,535)."""
    k.snd_wnd = min(max(snd_wnd, <uint32_t>1), <uint32_t>WINDOW_MAX)
    k.rcv_wnd = min(max(rcv_wnd, <uint32_t>1), <uint32_t>WINDOW_MAX)
    rcv_check_tell(k)


cdef int kcp_init(
    kcp_t* k, Pool* pool, uint32_t conv, uint32_t kcp_mtu, const kcp_params_t* params
) noexcept nogil:
    """Begin a conversation; allocates nothing. 0, or -1 as kcp_set_mtu()."""
    memset(k, 0, sizeof(kcp_t))
    k.pool = pool
    k.share = &pool.alone
    if kcp_set_mtu(k, kcp_mtu) < 0:
        k.pool = NULL
        return -1
    k.conv = conv
    k.told_wnd = WINDOW_MAX
    kcp_set_windows(k, params.snd_wnd, params.rcv_wnd)
    k.told_wnd = k.rcv_wnd
    k.rmt_wnd = REMOTE_WINDOW_START
    cwnd_init(k)
    k.nodelay = params.nodelay
    k.interval_ms = params.interval_ms
    k.resend = params.resend
    k.nc = params.nc
    k.min_rto_ms = params.min_rto_ms
    k.rto_ms = RTO_START_MS
    k.probe_at = -1
    k.tell_at = k.told_first = -1
    k.ack_at = -1
    k.acked_ms = k.hold_until = k.rack_at = -1
    return 0


cdef void kcp_start_at(kcp_t* k, uint32_t sn) noexcept nogil:
    """Set the first sn of both directions, before any use."""
    cdef int i
    k.snd_una = k.snd_nxt = k.snd_end = k.snd_top = k.rack_end = sn
    k.rcv_read = k.rcv_nxt = k.rcv_end = sn
    for i in range(MAP_FLUSHES):
        k.map_lowest[i] = sn


cdef void kcp_count_for(kcp_t* k, share_t* share) noexcept nogil:
    """What is held counts for this link from now on."""
    cdef share_t held
    cdef uint32_t i
    memset(&held, 0, sizeof(share_t))
    for i in range(k.snd.cap):
        held.tx_slots += k.snd.slot[i] != NULL
    for i in range(k.rcv.cap):
        if k.rcv.slot[i] != NULL:
            held.rx_slots += 1
            held.rx_bytes += k.rcv.len[i]
    held.rings = k.snd.cap * <size_t>SND_ENTRY + k.rcv.cap * <size_t>RCV_ENTRY
    share_move(&held, k.share, share)
    k.share = share


cdef void kcp_restart(kcp_t* k, uint32_t conv) noexcept nogil:
    """Begin anew under another number, with all that was sent and all counters at 0: see Kcp.is_unheard."""
    cdef uint32_t sn = k.snd_una
    cdef uint32_t i
    while sn != k.snd_nxt:
        i = sn & (k.snd.cap - 1)
        k.snd.flags[i] = 0
        k.snd.rto[i] = k.snd.skips[i] = 0
        sn += 1
    k.conv = conv
    k.snd_nxt = k.snd_top = k.rack_end = k.snd_una
    k.rmt_wnd = REMOTE_WINDOW_START
    cwnd_init(k)
    k.srtt_ms = k.rttvar_ms = k.srtt8 = k.rttvar8 = k.reorder_ms = k.rack_rtt_ms = 0
    k.rto_ms = RTO_START_MS
    k.probe_at = k.acked_ms = k.hold_until = k.rack_at = -1
    k.ask = k.fast_due = False
    k.rack_known = k.tail_probed = k.overdue = k.timed_out = k.late = k.overtaken = False
    k.segments_sent = k.segments_resent_fast = k.segments_resent_rto = k.segments_resent_tail = 0
    k.resends_spurious = k.acks_sent = k.bytes_sent = k.acked_bytes = 0


cdef void kcp_clear(kcp_t* k) noexcept nogil:
    """Give back slots and rings; nothing is sent or taken from now on. Safe twice."""
    cdef uint32_t i
    for i in range(k.snd.cap):
        snd_drop_slot(k, i)
    for i in range(k.rcv.cap):
        rcv_drop_slot(k, i)
    if k.pool != NULL:
        ring_count(k, k.snd.cap, 0, SND_ENTRY)
        ring_count(k, k.rcv.cap, 0, RCV_ENTRY)
    free(k.snd.slot)
    free(k.rcv.slot)
    free(k.acks)
    memset(&k.snd, 0, sizeof(snd_ring_t))
    memset(&k.rcv, 0, sizeof(rcv_ring_t))
    k.acks = NULL
    k.ack_cap = k.ack_count = k.ack_told = k.ack_fresh = k.ack_done = 0
    k.ack_below_due = k.ask = k.tell = k.fast_due = False
    k.probe_at = k.tell_at = k.rack_at = k.ack_at = -1
    k.snd_nxt = k.snd_end = k.snd_top = k.rack_end = k.snd_una
    k.rcv_nxt = k.rcv_end = k.rcv_read
    k.fresh = k.rcv_held = k.rcv_offset = k.ready_count = 0
    k.pool = NULL
    k.share = NULL


# -- input --

cdef inline int input_malformed(const kcp_t* k, const uint8_t* p, size_t n) noexcept nogil:
    """Why the segment at p[0..n) cannot be taken, as kcp_input() answers; KCP_OK: it can."""
    cdef uint32_t size
    cdef uint8_t cmd
    if n < KCP_HEADER_BYTES:
        return KCP_SHORT
    if get32(p) != k.conv:
        return KCP_WRONG_CONV
    size = get32(p + 20)
    cmd = p[4]
    if size > n - KCP_HEADER_BYTES:
        return KCP_SHORT
    if cmd < CMD_PUSH or cmd > CMD_TELL:
        return KCP_UNKNOWN_CMD
    return KCP_SHORT if cmd == CMD_PUSH and size > k.pool.slot_bytes else KCP_OK


cdef inline void input_una(kcp_t* k, const uint8_t* p, bint rebuilt, heard_t* heard) noexcept nogil:
    """Take una and the peer's window from a header. Both are stale where una lies behind."""
    cdef uint32_t una = get32(p + 16)
    if diff32(una, heard.una) >= 0 and diff32(k.snd_top, una) >= 0:
        heard.una = una
        if not rebuilt:
            k.rmt_wnd = get16(p + 6)


cdef int kcp_input(kcp_t* k, const uint8_t* p, size_t n, uint64_t now_ms, bint rebuilt) noexcept nogil:
    """Take the segments of one datagram. KCP_OK, or the reason (negative) why the rest of it was discarded.

    `rebuilt`: FEC gave them back, so that their times and windows say nothing; see `Kcp.input`.
    """
    cdef uint32_t age = REBUILT_AGE_MS if rebuilt else 0
    cdef const uint8_t* bits = NULL
    cdef uint32_t bits_bytes = 0
    cdef uint32_t sn, ts, size
    cdef int answer = KCP_OK
    cdef bint told = False, was_shut = k.rmt_wnd == 0
    cdef heard_t heard
    if n == 0:
        return KCP_SHORT
    if k.pool == NULL:
        return KCP_OK
    k.clock_ms = <int64_t>now_ms
    memset(&heard, 0, sizeof(heard_t))
    heard.una = k.snd_una
    while n > 0:
        answer = input_malformed(k, p, n)
        if answer != KCP_OK:
            break
        input_una(k, p, rebuilt, &heard)
        ts = get32(p + 8) - age
        sn = get32(p + 12)
        size = get32(p + 20)
        if p[4] == CMD_PUSH:
            rcv_push(k, sn, ts, p[5], p + KCP_HEADER_BYTES, size)
        elif p[4] == CMD_ACK:
            snd_take_ack(k, sn, ts, &heard)
            if size > 0:
                bits = p + KCP_HEADER_BYTES
                bits_bytes = size
        elif p[4] == CMD_ASK:
            k.tell = True
        else:
            told = get32(p + 16) == heard.una and not rebuilt
            if k.told_first >= 0:
                rcv_stop_telling(k)     # it answers what was asked with the telling
        p += KCP_HEADER_BYTES + size
        n -= KCP_HEADER_BYTES + size
    snd_sample(k, &heard)       # first: which resends were needless is judged by it
    if bits_bytes > 0 and k.ack_maps:
        heard.mapped = map_arrived(k, bits, bits_bytes)
    snd_acknowledge(k, &heard)
    if told:
        snd_recall(k, heard.una + k.rmt_wnd)
    if k.rmt_wnd > 0:
        k.probe_at = -1
        if was_shut:
            kcp_hurry(k, now_ms)    # what had no room was resent in vain, ever more rarely
    return answer


# -- flush --

cdef inline uint8_t* put_header(kcp_t* k, uint8_t* p, uint8_t cmd, uint32_t ts, uint32_t sn) noexcept nogil:
    """A header with this conversation's window and una, no fragments and no payload."""
    k.told_wnd = rcv_window(k)
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
    """A segment without payload; False: there is no room."""
    cdef uint8_t* p = tx_need(tx, KCP_HEADER_BYTES)
    if p == NULL:
        return False
    put_header(k, p, cmd, ts, sn)
    return True


cdef inline void fetch_ahead(kcp_t* k, uint32_t sn) noexcept nogil:
    """Bring the memory of a segment that is soon to be sent into the second-level cache."""
    cdef uint32_t i = (sn + FETCH_AHEAD) & (k.snd.cap - 1)
    cdef uint32_t at = 0
    if diff32(k.snd_end, sn) > FETCH_AHEAD and k.snd.slot[i] != NULL:
        while at < k.snd.len[i]:
            __builtin_prefetch(k.snd.slot[i] + at, 0, 2)
            at += CACHE_LINE


cdef int flush_push(kcp_t* k, Tx* tx, uint32_t sn, int* left) noexcept nogil:
    """Put the segment `sn` into a datagram. KCP_DONE; KCP_MORE, KCP_PACED: why not, and nothing was done."""
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
    put_header(k, p, CMD_PUSH, <uint32_t>k.clock_ms, sn)
    p[5] = k.snd.frg[i]
    put32(p + 20, n)
    if tx.is_cold:
        fetch_ahead(k, sn)
    if n > 0:
        memcpy(p + KCP_HEADER_BYTES, k.snd.slot[i], n)
    return KCP_DONE


cdef void flush_acks_again(kcp_t* k, Tx* tx) noexcept nogil:
    """Fill the open datagram with what the last one told, the newest first: that one may have been lost."""
    cdef ack_t ack
    while k.ack_told > 0 and k.ack_credit >= ACK_COST and tx_space(tx) >= KCP_HEADER_BYTES:
        ack = k.acks[k.ack_told - 1]
        if diff32(ack.sn, k.rcv_nxt) >= 0:
            flush_empty(k, tx, CMD_ACK, ack.ts, ack.sn)
            k.acks_sent += 1
            k.ack_credit -= ACK_COST
        k.ack_told -= 1
    k.ack_credit = min(k.ack_credit, <uint32_t>(ACKS_AGAIN * ACK_COST))


cdef bint flush_acks(kcp_t* k, Tx* tx) noexcept nogil:
    """What is due: the newest before a gap, as una says the rest; all beyond it. False: there is no room."""
    cdef bint any_told = k.ack_below_due
    cdef ack_t ack
    if k.ack_below_due:
        if not flush_empty(k, tx, CMD_ACK, k.ack_below.ts, k.ack_below.sn):
            return False
        k.ack_below_due = False
        k.ack_at = -1
        k.ack_told_ms = k.clock_ms
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
    if any_told and k.ack_maps and rcv_gap(k):
        map_make(k, tx)
    if k.ack_count > 0 and any_told and not k.ack_maps:
        flush_acks_again(k, tx)
    if k.ack_count > 0 or k.ack_credit > 0:
        rcv_keep_acks(k)
    return True


cdef inline bint flush_probes(kcp_t* k, Tx* tx) noexcept nogil:
    """The window, asked and told. False: there is no room."""
    snd_probe(k)
    if 0 <= k.tell_at <= k.clock_ms:
        k.tell = k.ask = True       # so that the peer answers even if it has nothing to send
    if k.ask:
        if not flush_empty(k, tx, CMD_ASK, 0, 0):
            return False
        k.ask = False
    if k.tell:
        if not flush_empty(k, tx, CMD_TELL, 0, 0):
            return False
        rcv_note_tell(k, snd_probe_pause(k))
    return True


cdef int kcp_flush(kcp_t* k, Tx* tx, uint64_t now_ms, int max_segments) noexcept nogil:
    """Put what may be sent now into `tx`, whose last datagram stays open for the next conversation.

    `max_segments`: most pushes of this call; acknowledgements and probes always pass. Answers KCP_DONE,
    KCP_MORE or KCP_PACED. A segment that is held back stays as it was.
    """
    if k.pool == NULL:
        return KCP_DONE
    k.clock_ms = <int64_t>now_ms
    if not flush_acks(k, tx) or not flush_probes(k, tx):
        return KCP_MORE
    return snd_flush(k, tx, &max_segments)


cdef int64_t kcp_deadline(const kcp_t* k) noexcept nogil:
    """When kcp_flush() must be called even if nothing else happens; -1: nothing is outstanding."""
    cdef int64_t earliest = snd_deadline(k)
    if k.tell_at >= 0:
        earliest = min(earliest, k.tell_at)
    if k.ack_at >= 0:
        earliest = min(earliest, k.ack_at)
    return -1 if earliest == INT64_MAX else earliest


cdef bint kcp_wants_flush(const kcp_t* k) noexcept nogil:
    """Something could be sent right now, the pacer permitting."""
    return rcv_acks_due(k) or k.tell or snd_wants_flush(k)


cdef bint kcp_passes_pacer(const kcp_t* k) noexcept nogil:
    """Something is to be sent that is no push: an acknowledgement, the window, or the question for it."""
    return kcp_owes_ack(k) or k.tell or k.ask


# -- from one conversation to another --

cdef inline size_t copy_vector(iovec* to, int to_count, iovec* source, int source_count) noexcept nogil:
    """Copy as many bytes as both vectors hold, and answer how many; both are used up on the way."""
    cdef size_t copied = 0
    cdef size_t piece
    cdef int i = 0
    cdef int j = 0
    while i < source_count and j < to_count:
        piece = min(source[i].iov_len, to[j].iov_len)
        memcpy(to[j].iov_base, source[i].iov_base, piece)
        copied += piece
        source[i].iov_base = <uint8_t*>source[i].iov_base + piece
        source[i].iov_len -= piece
        to[j].iov_base = <uint8_t*>to[j].iov_base + piece
        to[j].iov_len -= piece
        i += source[i].iov_len == 0
        j += to[j].iov_len == 0
    return copied


cdef int64_t kcp_move_stream(kcp_t* src, kcp_t* dst) noexcept nogil:
    """Hand on stream bytes until `src` is dry or `dst` has no room; answers how many."""
    cdef iovec[64] taken
    cdef iovec[64] given
    cdef int64_t moved = 0
    cdef size_t there
    cdef int taken_count, given_count, i
    if dst.pool == NULL:
        return 0
    while True:
        taken_count = kcp_read_begin(src, taken, 64)
        given_count = 0
        if taken_count > 0:
            there = 0
            for i in range(taken_count):
                there += taken[i].iov_len
            given_count = kcp_write_begin(dst, given, <int>min(there // dst.mss + 2, <size_t>64))
        there = copy_vector(given, given_count, taken, taken_count)
        kcp_write_commit(dst, there)
        kcp_read_commit(src, there)
        if there == 0:
            return moved
        moved += <int64_t>there


cdef int kcp_move_message(kcp_t* src, kcp_t* dst) noexcept nogil:
    """Hand on one message. 1; 0: none is there, or `dst` has no room; -1: too long for `dst`, discarded."""
    cdef iovec[128] iov
    cdef int size = kcp_peek_size(src)
    cdef int wanted, answer
    if size < 0 or dst.pool == NULL:
        return 0
    wanted = max((size + <int>dst.mss - 1) // <int>dst.mss, 1)
    if wanted > KCP_MAX_FRAGMENTS:
        rcv_take_message(src)
        return -1
    if wanted > kcp_room(dst):
        return 0
    answer = kcp_send_vector(dst, iov, kcp_message_begin(src, iov))
    if answer == -2:
        return 0
    rcv_take_message(src)
    return 1 if answer == 0 else -1


include "_face.pxi"
