# Part of _kcp.pyx: messages and stream bytes into the send queue, and from one conversation to another.

# --- filling the queue ----------------------------------------------------------------------------

cdef inline void snd_append(kcp_t* k, uint8_t* slot, uint32_t n, uint8_t frg, uint8_t flags) noexcept nogil:
    """Queue one segment; snd_reserve() has made place for it."""
    cdef uint32_t i = k.snd_end & (k.snd.cap - 1)
    k.snd.slot[i] = slot
    k.snd.len[i] = <uint16_t>n
    k.snd.frg[i] = frg
    k.snd.flags[i] = flags
    k.snd.fastack[i] = 0
    k.snd_end += 1


cdef inline uint32_t snd_tail_space(const kcp_t* k) noexcept nogil:
    """Bytes that may be added to the last queued segment: only if write() made it and it was never sent."""
    cdef uint32_t i = (k.snd_end - 1) & (k.snd.cap - 1)
    if k.snd_end == k.snd_nxt or not k.snd.flags[i] & SND_STREAM or k.snd.len[i] >= k.mss:
        return 0
    return k.mss - k.snd.len[i]


cdef int kcp_write_begin(kcp_t* k, iovec* iov, int max_iov) noexcept nogil:
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
    while <int>k.fresh < room and kcp_may_queue(k):
        slot = slot_get(k.pool)
        if slot == NULL:
            break
        k.snd.slot[(k.snd_end + k.fresh) & (k.snd.cap - 1)] = slot
        k.fresh += 1
        iov[count].iov_base = slot
        iov[count].iov_len = k.mss
        count += 1
    return count


cdef void kcp_write_commit(kcp_t* k, size_t nbytes) noexcept nogil:
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


cdef int kcp_send_vector(kcp_t* k, const iovec* iov, int iov_count) noexcept nogil:
    cdef size_t total = 0
    cdef size_t at = 0
    cdef uint32_t count, j, n, filled, piece
    cdef uint32_t begin = k.snd_end
    cdef uint8_t* slot
    cdef uint8_t frg
    cdef int v
    for v in range(iov_count):
        total += iov[v].iov_len
    if total > <size_t>k.mss * KCP_MAX_FRAGMENTS:
        return -1
    snd_drop_fresh(k)
    count = <uint32_t>((total + k.mss - 1) // k.mss) if total > 0 else 1
    if k.pool == NULL or not snd_reserve(k, count):
        return -2
    v = 0
    for j in range(count):
        n = <uint32_t>min(total, <size_t>k.mss)
        slot = NULL
        if n > 0:
            slot = slot_get(k.pool)
            if slot == NULL:
                while k.snd_end != begin:
                    k.snd_end -= 1
                    snd_drop_slot(k, k.snd_end & (k.snd.cap - 1))
                return -2
        total -= n
        filled = 0
        while filled < n:
            piece = <uint32_t>min(<size_t>(n - filled), iov[v].iov_len - at)
            if piece > 0:
                memcpy(slot + filled, <const uint8_t*>iov[v].iov_base + at, piece)
            filled += piece
            at += piece
            if at == iov[v].iov_len:
                v += 1
                at = 0
        frg = <uint8_t>(count - 1 - j)
        if j == 0 and k.mark_first:
            frg |= FRG_FIRST
        snd_append(k, slot, n, frg, 0)
    return 0


cdef int kcp_send_message(kcp_t* k, const uint8_t* data, size_t n) noexcept nogil:
    cdef iovec iov
    iov.iov_base = <void*>data
    iov.iov_len = n
    return kcp_send_vector(k, &iov, 1)


cdef int64_t kcp_move_stream(kcp_t* src, kcp_t* dst) noexcept nogil:
    cdef iovec[64] taken
    cdef iovec[64] given
    cdef int64_t moved = 0
    cdef size_t batch, piece
    cdef int here, there, i, j
    if dst.pool == NULL:
        return 0
    while True:
        here = kcp_read_begin(src, taken, 64)
        batch = 0
        for i in range(here):
            batch += taken[i].iov_len
        there = kcp_write_begin(dst, given, <int>min(batch // dst.mss + 2, <size_t>64)) if here > 0 else 0
        batch = 0
        i = j = 0
        while i < here and j < there:
            piece = min(taken[i].iov_len, given[j].iov_len)
            memcpy(given[j].iov_base, taken[i].iov_base, piece)
            batch += piece
            taken[i].iov_base = <uint8_t*>taken[i].iov_base + piece
            taken[i].iov_len -= piece
            given[j].iov_base = <uint8_t*>given[j].iov_base + piece
            given[j].iov_len -= piece
            i += taken[i].iov_len == 0
            j += given[j].iov_len == 0
        kcp_write_commit(dst, batch)
        kcp_read_commit(src, batch)
        if batch == 0:
            return moved
        moved += <int64_t>batch


cdef int kcp_move_message(kcp_t* src, kcp_t* dst) noexcept nogil:
    cdef iovec[128] iov
    cdef int size = kcp_peek_size(src)
    cdef int wanted, answer
    if size < 0 or dst.pool == NULL:
        return 0
    wanted = max((size + <int>dst.mss - 1) // <int>dst.mss, 1)
    if wanted > kcp_room(dst):
        return 0
    answer = kcp_send_vector(dst, iov, kcp_message_begin(src, iov))
    if answer == -2:
        return 0
    rcv_take_message(src)
    return 1 if answer == 0 else -1
