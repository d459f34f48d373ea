# Part of _kcp.pyx: messages and stream bytes into the queue of what was not sent yet. Declared in
# _sendqueue.pxd; twin: sendqueue.py.

cdef inline void snd_append(kcp_t* k, uint8_t* slot, uint32_t n, uint8_t frg, uint8_t flags) noexcept nogil:
    """Queue one segment, for which snd_reserve() has made room."""
    cdef uint32_t i = k.snd_end & (k.snd.cap - 1)
    k.snd.slot[i] = slot
    k.snd.len[i] = <uint16_t>n
    k.snd.frg[i] = frg
    k.snd.flags[i] = flags
    k.snd.skips[i] = 0
    k.snd_end += 1


cdef inline uint32_t snd_tail_space(const kcp_t* k) noexcept nogil:
    """Bytes that may be added to the last queued segment: only if write() made it and it was never sent."""
    cdef uint32_t i = (k.snd_end - 1) & (k.snd.cap - 1)
    if k.snd_end == k.snd_nxt or not k.snd.flags[i] & SND_STREAM or k.snd.len[i] >= k.mss:
        return 0
    return k.mss - k.snd.len[i]


cdef int kcp_write_begin(kcp_t* k, iovec* iov, int max_iov) noexcept nogil:
    """Where stream bytes may be put: free space of the last segment, then fresh slots.

    Answers the number of iovecs; 0: no room. A commit should follow, of 0 bytes too: it gives back the slots
    that were not used.
    """
    cdef uint32_t space = snd_tail_space(k)
    cdef uint32_t i
    cdef int count = 0
    cdef int room
    cdef uint8_t* slot
    snd_drop_fresh(k)
    room = kcp_room(k)
    if max_iov <= 0:
        return 0
    if space > 0:
        i = (k.snd_end - 1) & (k.snd.cap - 1)
        iov[0].iov_base = k.snd.slot[i] + k.snd.len[i]
        iov[0].iov_len = space
        count = 1
    if room > max_iov - count:
        room = max_iov - count
    if not snd_reserve(k, <uint32_t>room):
        return count
    while <int>k.fresh < room:
        slot = slot_get(k.pool)
        if slot == NULL:
            break
        k.share.tx_slots += 1
        k.snd.slot[(k.snd_end + k.fresh) & (k.snd.cap - 1)] = slot
        k.fresh += 1
        iov[count].iov_base = slot
        iov[count].iov_len = k.mss
        count += 1
    return count


cdef void kcp_write_commit(kcp_t* k, size_t nbytes) noexcept nogil:
    """Queue the first `nbytes` of what kcp_write_begin() gave, which hold stream bytes now."""
    cdef uint32_t space = snd_tail_space(k)
    cdef uint32_t n
    if space > nbytes:
        space = <uint32_t>nbytes
    if space > 0:
        k.snd.len[(k.snd_end - 1) & (k.snd.cap - 1)] += <uint16_t>space
        nbytes -= space
    while nbytes > 0 and k.fresh > 0:
        n = k.mss if nbytes > k.mss else <uint32_t>nbytes
        k.fresh -= 1
        snd_append(k, k.snd.slot[k.snd_end & (k.snd.cap - 1)], n, 0, SND_STREAM)
        nbytes -= n
    snd_drop_fresh(k)


cdef size_t kcp_write_bytes(kcp_t* k, const uint8_t* data, size_t n) noexcept nogil:
    """Queue stream bytes while there is room; answers how many were taken."""
    cdef iovec[64] iov
    cdef size_t taken = 0
    cdef size_t piece, batch
    cdef int count, j, want
    if k.pool == NULL:
        return 0
    while taken < n:
        want = <int>min((n - taken) // k.mss + 2, <size_t>64)
        count = kcp_write_begin(k, iov, want)
        if count == 0:
            break
        batch = 0
        for j in range(count):
            piece = min(iov[j].iov_len, n - taken)
            memcpy(iov[j].iov_base, data + taken, piece)
            taken += piece
            batch += piece
        kcp_write_commit(k, batch)
    return taken


cdef struct gather_t:           # where in a vector the next byte is taken from
    const iovec* iov
    size_t at


cdef inline void gather(gather_t* source, uint8_t* out, uint32_t n) noexcept nogil:
    """Copy the next `n` bytes of a vector, which holds as many."""
    cdef uint32_t filled = 0
    cdef uint32_t piece
    while filled < n:
        piece = <uint32_t>min(<size_t>(n - filled), source.iov.iov_len - source.at)
        if piece > 0:
            memcpy(out + filled, <const uint8_t*>source.iov.iov_base + source.at, piece)
        filled += piece
        source.at += piece
        if source.at == source.iov.iov_len:
            source.iov += 1
            source.at = 0


cdef inline void snd_unqueue(kcp_t* k, uint32_t end) noexcept nogil:
    """Take back what was queued from `end` on."""
    cdef uint64_t acked_bytes = k.acked_bytes
    while k.snd_end != end:
        k.snd_end -= 1
        snd_drop_slot(k, k.snd_end & (k.snd.cap - 1))
    k.acked_bytes = acked_bytes


cdef int kcp_send_vector(kcp_t* k, const iovec* iov, int iov_count) noexcept nogil:
    """Queue one message, cut into fragments, whatever kcp_room() says. An empty one is a stream's END.

    Answers 0; -1: too long for KCP_MAX_FRAGMENTS; -2: no memory. In both cases nothing was queued.
    """
    cdef gather_t source
    cdef size_t total = 0
    cdef uint32_t begin = k.snd_end
    cdef uint32_t count, j, n
    cdef uint8_t* slot
    cdef uint8_t first_mark = FRG_FIRST if k.mark_first else 0
    cdef int v
    for v in range(iov_count):
        total += iov[v].iov_len
    if total > <size_t>k.mss * KCP_MAX_FRAGMENTS:
        return -1
    snd_drop_fresh(k)
    count = <uint32_t>((total + k.mss - 1) // k.mss) if total > 0 else 1
    if k.pool == NULL or not snd_reserve(k, count):
        return -2
    source.iov = iov
    source.at = 0
    for j in range(count):
        n = <uint32_t>min(total, <size_t>k.mss)
        slot = NULL
        if n > 0:
            slot = slot_get(k.pool)
            if slot == NULL:
                snd_unqueue(k, begin)
                return -2
            k.share.tx_slots += 1
            gather(&source, slot, n)
        total -= n
        snd_append(k, slot, n, <uint8_t>(count - 1 - j) | first_mark, 0)
        first_mark = 0
    return 0


cdef int kcp_send_message(kcp_t* k, const uint8_t* data, size_t n) noexcept nogil:
    """Queue one message of `n` bytes; answers as kcp_send_vector()."""
    cdef iovec iov
    iov.iov_base = <void*>data
    iov.iov_len = n
    return kcp_send_vector(k, &iov, 1)
