# Part of _kcp.pyx: pushes into the receive ring; messages, stream bytes and acknowledgements out of it.
# Declared in _receiver.pxd; twin: receiver.py.

cdef enum:
    TELL_OFTEN_MS = 250         # an opened window is told again until the peer is heard to know of it: see
    TELL_OFTEN_FOR_MS = 30000   # receiver.py
    TELL_SELDOM_MS = 5000
    TELL_FOR_MS = 120000
    ACK_BATCH_SEGMENTS = 64     # acknowledged together at most
    ACKS_AGAIN = 32             # acknowledgements beyond a gap kept to be told again
    ACK_COST = 8                # telling one again costs eight eighths, ...
    ACK_CREDIT = 5              # ... telling one earns five: 1.6 x 24 bytes are < 3 % of a full segment
    ACK_CREDIT_DUPLICATE = 80   # a needless copy came, as an acknowledgement was lost: ten are far cheaper


# -- window --

cdef struct allowance_t:        # what the pool has for a receiver, in segments
    size_t left                 # for its link
    size_t moving               # for one that keeps up with what comes
    size_t stopped              # for one that does not


cdef void rcv_allowance(const kcp_t* k, allowance_t* has) noexcept nogil:
    """How much of the pool is left for this receiver, with what it holds."""
    cdef size_t own = min(<size_t>k.rcv_held, k.share.rx_slots)
    cdef size_t link = pool_link_share(k.pool, 0, own)
    cdef size_t others = k.share.rx_slots - own
    has.left = link - others if link > others else 0
    has.moving = pool_moving(k.pool, has.left)
    has.stopped = max(share_stopped(link, has.left), pool_least(k.pool))


cdef inline uint32_t rcv_first_message(const kcp_t* k) noexcept nogil:
    """Segments of the message that stands first, which in less could never be complete; 0: unknown."""
    cdef uint32_t i = k.rcv_read & (k.rcv.cap - 1)
    if k.rcv_read == k.rcv_end or k.rcv.flags[i] & (RCV_HERE | RCV_DONE) != RCV_HERE:
        return 0
    return <uint32_t>(k.rcv.frg[i] & FRG_REST) + 1


cdef inline uint32_t rcv_full(const kcp_t* k) noexcept nogil:
    """The window of a reader that has taken everything: what the pool has for it, the user's at most."""
    cdef allowance_t has
    if pool_calm(k.pool, k.rcv_wnd):
        return k.rcv_wnd
    rcv_allowance(k, &has)
    return min(k.rcv_wnd, <uint32_t>has.moving)


cdef inline uint32_t rcv_limit(const kcp_t* k, uint32_t taken, bint is_late) noexcept nogil:
    """Segments from rcv_read on that are kept, with `taken` of them here. The more wait for the reader the
    fewer, unless little of the pool is in use. `is_late`: they may be under way since it read faster."""
    cdef allowance_t has
    cdef size_t limit
    cdef uint32_t whole = rcv_first_message(k) if k.rcv_wnd < KCP_MAX_FRAGMENTS else 0
    if pool_calm(k.pool, k.rcv_wnd):
        return max(k.rcv_wnd, whole)
    whole = rcv_first_message(k)
    rcv_allowance(k, &has)
    if taken < has.stopped:
        limit = has.moving if is_late else has.moving - (has.moving - has.stopped) * taken // has.stopped
    else:
        limit = has.moving if is_late and taken < KCP_LATE_STOPS * has.stopped else taken
    limit = min(limit, <size_t>k.rcv_wnd)
    return max(<uint32_t>limit, whole if whole <= has.left else 0)


cdef inline uint32_t rcv_window(const kcp_t* k) noexcept nogil:
    """The window to advertise, in segments. Unordered: what is held beyond a gap counts too."""
    cdef uint32_t taken = k.rcv_nxt - k.rcv_read
    cdef uint32_t limit
    if k.unordered and k.rcv_held > taken:
        taken = k.rcv_held
    limit = rcv_limit(k, taken, False)
    return limit - taken if limit > taken else 0


cdef inline void rcv_check_tell(kcp_t* k) noexcept nogil:
    """Tell the peer when a window that was nearly shut (a quarter) is half open again."""
    cdef uint32_t full = rcv_full(k) if k.told_wnd * 4 < k.rcv_wnd else 0
    if k.told_wnd * 4 < full and rcv_window(k) * 2 >= full:
        k.tell = k.tells_on = True
        k.told_first = k.tell_at = -1


cdef inline void rcv_stop_telling(kcp_t* k) noexcept nogil:
    """The peer knows of the window."""
    k.tells_on = False
    k.told_first = k.tell_at = -1


cdef inline void rcv_note_tell(kcp_t* k, uint32_t first_pause_ms) noexcept nogil:
    """The window was told: when it is to be told again, unless the peer answers."""
    cdef int64_t since = k.clock_ms - k.told_first
    k.tell = False
    k.tell_at = -1
    if not k.tells_on:
        return
    if k.told_first < 0:
        k.told_first = k.clock_ms
        k.tell_at = k.clock_ms + first_pause_ms
    elif since < TELL_FOR_MS:
        k.tell_at = k.clock_ms + (TELL_OFTEN_MS if since < TELL_OFTEN_FOR_MS else TELL_SELDOM_MS)
    else:
        rcv_stop_telling(k)


# -- acknowledgements due --

cdef inline bint rcv_gap(const kcp_t* k) noexcept nogil:
    """Something has arrived beyond a missing segment."""
    return k.rcv_end != k.rcv_nxt


cdef inline bint rcv_acks_due(const kcp_t* k) noexcept nogil:
    """Something is to be acknowledged at once."""
    return (k.ack_below_due and k.ack_at < 0) or k.ack_count > k.ack_done


cdef inline int64_t rcv_hold_until(kcp_t* k, uint32_t size) noexcept nogil:
    """Until when the acknowledgement of a segment of this size may wait, -1: not at all; see receiver.py."""
    cdef bint first = not k.ack_below_due
    k.ack_waits = 1 if first else k.ack_waits + 1
    if size == 0 or rcv_gap(k) or (not first and k.ack_at < 0):
        return -1
    if size < k.mss:
        return k.clock_ms + k.ack_hold_ms if first and k.ack_hold_ms > 0 else -1
    if k.clock_ms - k.ack_told_ms >= k.ack_batch_ms or k.ack_waits >= ACK_BATCH_SEGMENTS:
        return -1
    return k.ack_told_ms + 2 * <int64_t>k.ack_batch_ms


cdef inline void rcv_acknowledge_below(kcp_t* k, uint32_t sn, uint32_t ts, int64_t hold_until) noexcept nogil:
    """A segment came that una covers; its acknowledgement waits until then, -1: not at all."""
    k.ack_at = hold_until
    # of two copies the first: its ts tells whether the second was needed
    if not k.ack_below_due or diff32(sn, k.ack_below.sn) > 0:
        k.ack_below.sn = sn
        k.ack_below.ts = ts
        k.ack_below_due = True


cdef void rcv_acknowledge_beyond(kcp_t* k, uint32_t sn, uint32_t ts) noexcept nogil:
    """A segment came beyond a gap. Without memory it is not acknowledged: the peer sends it again."""
    cdef uint32_t i = sn & (k.rcv.cap - 1)
    cdef uint32_t cap
    cdef void* grown
    if k.rcv.flags[i] & RCV_ACK_DUE:
        return
    if k.ack_count == k.ack_cap:
        cap = ring_cap(k.ack_cap, k.ack_count + 1)
        grown = realloc(k.acks, cap * sizeof(ack_t))
        if grown == NULL:
            return
        k.acks = <ack_t*>grown
        k.ack_cap = cap
    k.rcv.flags[i] |= RCV_ACK_DUE
    k.acks[k.ack_count].sn = sn
    k.acks[k.ack_count].ts = ts
    k.ack_count += 1


cdef void rcv_keep_acks(kcp_t* k) noexcept nogil:
    """A flush has told all: keep what it told beyond a gap to tell it again, unless bits do that."""
    cdef uint32_t first = k.ack_fresh
    cdef uint32_t count = k.ack_count - first
    if k.ack_maps or not rcv_gap(k):
        k.ack_told = k.ack_fresh = k.ack_done = k.ack_count = k.ack_credit = 0
        if k.ack_cap > RING_KEEP and not rcv_gap(k):
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


# -- unordered delivery --

cdef inline bint rcv_open(const kcp_t* k, uint32_t i) noexcept nogil:
    """A segment is there and belongs to no complete message yet."""
    return (k.rcv.flags[i] & (RCV_HERE | RCV_READY | RCV_DONE)) == RCV_HERE


cdef inline bint rcv_starts_message(const kcp_t* k, uint32_t sn) noexcept nogil:
    """Whether a message begins at `sn`: it is marked, or what stands before it ends one."""
    cdef uint32_t mask = k.rcv.cap - 1
    cdef uint32_t before = (sn - 1) & mask
    if k.rcv.frg[sn & mask] & FRG_FIRST or sn == k.rcv_read:
        return True
    return k.rcv.flags[before] & (RCV_READY | RCV_DONE) != 0 and k.rcv.frg[before] & FRG_REST == 0


cdef bint rcv_bounds(const kcp_t* k, uint32_t sn, uint32_t* first, uint32_t* last) noexcept nogil:
    """The message that `sn` belongs to, if all of it is there."""
    cdef uint32_t mask = k.rcv.cap - 1
    cdef uint32_t rest = k.rcv.frg[sn & mask] & FRG_REST
    cdef uint32_t i, j
    last[0] = sn + rest
    if diff32(last[0], k.rcv_end) >= 0:
        return False
    for j in range(1, rest + 1):
        i = (sn + j) & mask
        if not rcv_open(k, i) or k.rcv.frg[i] != rest - j:
            return False
    while not rcv_starts_message(k, sn):
        sn -= 1
        rest += 1
        i = sn & mask
        if not rcv_open(k, i) or k.rcv.frg[i] & FRG_REST != rest:
            return False
    first[0] = sn
    return True


cdef inline void rcv_make_ready(kcp_t* k, uint32_t first, uint32_t last) noexcept nogil:
    """Append the message of the segments `first` to `last` to the ready chain."""
    cdef uint32_t mask = k.rcv.cap - 1
    if k.ready_count == 0:
        k.ready_head = first
    else:
        k.rcv.next[k.ready_tail & mask] = first
    k.ready_tail = first
    k.ready_count += 1
    while first != last + 1:
        k.rcv.flags[first & mask] |= RCV_READY
        first += 1


cdef void rcv_complete(kcp_t* k, uint32_t sn) noexcept nogil:
    """Make ready the message that `sn` completes, and unmarked ones behind it, now recognisable."""
    cdef uint32_t mask = k.rcv.cap - 1
    cdef uint32_t first = 0
    cdef uint32_t last = 0
    while rcv_open(k, sn & mask) and rcv_bounds(k, sn, &first, &last):
        rcv_make_ready(k, first, last)
        sn = last + 1
        if diff32(sn, k.rcv_end) >= 0:
            return


cdef void kcp_set_unordered(kcp_t* k) noexcept nogil:
    """From now on every message is delivered as soon as all of it is there. Cannot be undone."""
    cdef uint32_t sn = k.rcv_read
    if k.unordered:
        return
    k.unordered = True
    while sn != k.rcv_end:
        rcv_complete(k, sn)
        sn += 1


# -- a push --

cdef inline bint rcv_keep(kcp_t* k, uint32_t sn, uint8_t frg, const uint8_t* data, uint32_t n) noexcept nogil:
    """Copy a new segment into the ring and count it; False without memory, or where its link has no share."""
    cdef uint8_t* slot = NULL
    cdef uint32_t i
    if n > 0 and (sn == k.rcv_read or rcv_affords(k, 0)):
        slot = slot_get(k.pool)
    if (n > 0 and slot == NULL) or not rcv_reserve(k, sn - k.rcv_read + 1):
        if slot != NULL:
            slot_put(k.pool, slot)
        return False
    if n > 0:
        memcpy(slot, data, n)
        k.share.rx_slots += 1
        k.share.rx_bytes += n
    i = sn & (k.rcv.cap - 1)
    k.rcv.slot[i] = slot
    k.rcv.len[i] = <uint16_t>n
    k.rcv.frg[i] = frg
    k.rcv.flags[i] = RCV_HERE
    k.rcv_held += 1
    k.segments_received += 1
    k.bytes_received += n
    return True


cdef inline void rcv_advance(kcp_t* k, uint32_t sn) noexcept nogil:
    """The segment `sn` was kept: move rcv_end and rcv_nxt, and make messages ready."""
    cdef uint32_t mask = k.rcv.cap - 1
    rcv_stop_telling(k)         # the peer sends
    if diff32(sn, k.rcv_end) >= 0:
        k.rcv_end = sn + 1
    while k.rcv_nxt != k.rcv_end and k.rcv.flags[k.rcv_nxt & mask] & RCV_HERE:
        k.rcv_nxt += 1
    if k.unordered:
        rcv_complete(k, sn)


cdef inline bint rcv_is_early(const kcp_t* k, uint32_t sn) noexcept nogil:
    """Nobody knows yet what this conversation is for: its first message takes little."""
    return k.early and sn - k.rcv_read >= KCP_SHARE and not kcp_readable(k)


cdef void rcv_push(
    kcp_t* k, uint32_t sn, uint32_t ts, uint8_t frg, const uint8_t* data, uint32_t n
) noexcept nogil:
    """One push segment of a datagram: kept, or counted as a duplicate or as refused."""
    if diff32(sn, k.rcv_nxt) < 0:
        k.duplicates_received += 1
        rcv_acknowledge_below(k, sn, ts, -1)
        return
    if sn - k.rcv_read >= rcv_limit(k, k.rcv_nxt - k.rcv_read, True) or rcv_is_early(k, sn):
        k.segments_refused += 1
        k.pool.refused += 1
        k.tell = True           # the peer believes in a larger window
        return
    if diff32(sn, k.rcv_end) < 0 and k.rcv.flags[sn & (k.rcv.cap - 1)] & RCV_HERE:
        k.duplicates_received += 1
        k.ack_credit += ACK_CREDIT_DUPLICATE
        rcv_acknowledge_beyond(k, sn, ts)
        return
    if not rcv_keep(k, sn, frg, data, n):
        k.segments_refused += 1
        k.pool.refused += 1
        k.tell = True
        return
    rcv_advance(k, sn)
    if diff32(sn, k.rcv_nxt) < 0:
        rcv_acknowledge_below(k, sn, ts, rcv_hold_until(k, n))
    else:
        rcv_acknowledge_beyond(k, sn, ts)


# -- delivery --

cdef inline void rcv_release(kcp_t* k, uint32_t sn) noexcept nogil:
    """The segment `sn` is delivered; call rcv_settle() after the last one."""
    cdef uint32_t i = sn & (k.rcv.cap - 1)
    rcv_drop_slot(k, i)
    k.rcv.flags[i] |= RCV_DONE
    k.rcv_held -= 1
    if sn == k.rcv_read:
        k.rcv_offset = 0


cdef inline void rcv_settle(kcp_t* k) noexcept nogil:
    """After a delivery: pass over what was delivered, and tell the window if it has opened."""
    cdef uint32_t mask = k.rcv.cap - 1
    while k.rcv_read != k.rcv_nxt and k.rcv.flags[k.rcv_read & mask] & RCV_DONE:
        k.rcv.flags[k.rcv_read & mask] = 0
        k.rcv_read += 1
    rcv_shrink(k)
    rcv_check_tell(k)


cdef inline uint32_t rcv_first(const kcp_t* k) noexcept nogil:
    """The first sn of the next message."""
    return k.ready_head if k.unordered else k.rcv_read


cdef inline uint32_t rcv_taken(const kcp_t* k, uint32_t sn) noexcept nogil:
    """Bytes of the segment `sn` that the stream reader took already."""
    return k.rcv_offset if sn == k.rcv_read else 0


cdef int kcp_peek_size(const kcp_t* k) noexcept nogil:
    """Bytes of the next message; -1: none is there."""
    cdef uint32_t sn, mask, j
    cdef int total
    if not kcp_readable(k):
        return -1
    sn = rcv_first(k)
    mask = k.rcv.cap - 1
    total = -<int>rcv_taken(k, sn)
    for j in range(<uint32_t>(k.rcv.frg[sn & mask] & FRG_REST) + 1):
        total += k.rcv.len[(sn + j) & mask]
    return total


cdef int kcp_message_begin(kcp_t* k, iovec* iov) noexcept nogil:
    """Where the next message lies: answers the number of iovecs, at most 128; -1: none is there."""
    cdef uint32_t sn, mask, count, i, j, skip
    if not kcp_readable(k):
        return -1
    sn = rcv_first(k)
    mask = k.rcv.cap - 1
    count = (k.rcv.frg[sn & mask] & FRG_REST) + 1
    skip = rcv_taken(k, sn)
    for j in range(count):
        i = (sn + j) & mask
        iov[j].iov_base = k.rcv.slot[i] + skip if k.rcv.slot[i] != NULL else NULL
        iov[j].iov_len = k.rcv.len[i] - skip
        skip = 0
    return <int>count


cdef void rcv_take_message(kcp_t* k) noexcept nogil:
    """The next message, which is there, is delivered."""
    cdef uint32_t sn = rcv_first(k)
    cdef uint32_t mask = k.rcv.cap - 1
    cdef uint32_t count = (k.rcv.frg[sn & mask] & FRG_REST) + 1
    cdef uint32_t j
    if k.unordered:
        k.ready_head = k.rcv.next[sn & mask]
        k.ready_count -= 1
    for j in range(count):
        rcv_release(k, sn + j)
    rcv_settle(k)


cdef int kcp_recv_message(kcp_t* k, uint8_t* out, size_t n) noexcept nogil:
    """Take the next message, or discard it if `out` is NULL.

    Answers its bytes; -1: none is there; -2: it is longer than `n`, and kept.
    """
    cdef iovec[128] iov
    cdef int size = kcp_peek_size(k)
    cdef int count, j
    if size < 0:
        return -1
    if out != NULL:
        if <size_t>size > n:
            return -2
        count = kcp_message_begin(k, iov)
        for j in range(count):
            if iov[j].iov_len > 0:
                memcpy(out, iov[j].iov_base, iov[j].iov_len)
                out += iov[j].iov_len
    rcv_take_message(k)
    return size


cdef inline bint rcv_stream_at(const kcp_t* k, uint32_t sn) noexcept nogil:
    """`sn` is there, in order, a whole message of its own and not empty."""
    cdef uint32_t i
    if k.unordered or sn == k.rcv_nxt:
        return False
    i = sn & (k.rcv.cap - 1)
    return k.rcv.frg[i] & FRG_REST == 0 and k.rcv.len[i] > 0


cdef int kcp_read_begin(kcp_t* k, iovec* iov, int max_iov) noexcept nogil:
    """Where the next stream bytes lie, up to an empty message (END); answers the number of iovecs."""
    cdef uint32_t sn = k.rcv_read
    cdef uint32_t i, skip
    cdef int count = 0
    while count < max_iov and rcv_stream_at(k, sn):
        i = sn & (k.rcv.cap - 1)
        skip = rcv_taken(k, sn)
        iov[count].iov_base = k.rcv.slot[i] + skip
        iov[count].iov_len = k.rcv.len[i] - skip
        count += 1
        sn += 1
    return count


cdef void kcp_read_commit(kcp_t* k, size_t nbytes) noexcept nogil:
    """The first `nbytes` of what kcp_read_begin() gave are delivered."""
    cdef uint32_t sn = k.rcv_read
    cdef uint32_t left
    if nbytes == 0:
        return
    while nbytes > 0 and rcv_stream_at(k, sn):
        left = k.rcv.len[sn & (k.rcv.cap - 1)] - rcv_taken(k, sn)
        if nbytes < left:
            if sn != k.rcv_read:
                rcv_settle(k)   # rcv_read still names an earlier segment
            k.rcv_offset += <uint32_t>nbytes
            return
        rcv_release(k, sn)
        nbytes -= left
        sn += 1
    rcv_settle(k)


cdef size_t kcp_read_bytes(kcp_t* k, uint8_t* out, size_t n) noexcept nogil:
    """Take at most `n` stream bytes; answers how many were there."""
    cdef uint32_t sn = k.rcv_read
    cdef size_t taken = 0
    cdef size_t piece
    cdef uint32_t i, skip
    while taken < n and rcv_stream_at(k, sn):
        i = sn & (k.rcv.cap - 1)
        skip = rcv_taken(k, sn)
        piece = k.rcv.len[i] - skip
        if piece > n - taken:
            piece = n - taken
        memcpy(out + taken, k.rcv.slot[i] + skip, piece)
        taken += piece
        sn += 1
    kcp_read_commit(k, taken)
    return taken
