# Part of _kcp.pyx: what has arrived beyond a gap as bits in the payload of an acknowledgement. Declared in
# _ackmap.pxd; twin: ackmap.py, which has the format.

cdef enum:
    MAP_BASE = 4                # bytes before the bits


cdef inline uint32_t map_note_flush(kcp_t* k) noexcept nogil:
    """Remember what this flush acknowledges; answers the lowest sn that the last MAP_FLUSHES flushes did."""
    cdef uint32_t base = k.rcv_end
    cdef uint32_t lowest = k.rcv_end
    cdef uint32_t j
    for j in range(<uint32_t>MAP_FLUSHES):
        if diff32(k.map_lowest[j], base) < 0:
            base = k.map_lowest[j]
    for j in range(k.ack_count):
        if diff32(k.acks[j].sn, lowest) < 0:
            lowest = k.acks[j].sn
    k.map_lowest[k.map_next] = lowest
    k.map_next = (k.map_next + 1) % MAP_FLUSHES
    return base


cdef void map_make(kcp_t* k, Tx* tx) noexcept nogil:
    """Put the bits behind the acknowledgement that this flush has put into the open datagram last."""
    cdef uint32_t mask = k.rcv.cap - 1
    cdef uint32_t base = map_note_flush(k)
    cdef uint32_t j, span
    cdef int32_t count
    cdef uint8_t* at
    if diff32(base, k.rcv_nxt) <= 0:
        base = k.rcv_nxt + 1
    count = min((diff32(k.rcv_end, base) + 7) // 8, min(tx_space(tx), <int32_t>MAP_BYTES) - MAP_BASE)
    if count <= 0:
        return
    if diff32(k.rcv_end, base) > 8 * count:
        base = k.rcv_end - <uint32_t>(8 * count)    # the newest segments count
    at = tx_need(tx, MAP_BASE + <uint32_t>count)    # in the same datagram, as it fits
    put32(at - 4, MAP_BASE + <uint32_t>count)       # len of the acknowledgement
    put32(at, base)
    at += MAP_BASE
    memset(at, 0, count)
    span = k.rcv_end - base
    for j in range(span):
        at[j >> 3] |= <uint8_t>((k.rcv.flags[(base + j) & mask] & RCV_HERE != 0) << (j & 7))


cdef bint map_arrived(kcp_t* k, const uint8_t* p, uint32_t n) noexcept nogil:
    """The peer has these segments; of which transmission is not said. Answers whether that is news."""
    cdef uint32_t mask = k.snd.cap - 1
    cdef bint news = False
    cdef uint32_t base, bits, j, sn, i
    n = min(n, <uint32_t>MAP_BYTES)
    if n <= MAP_BASE or k.snd_una == k.snd_nxt:
        return False
    base = get32(p)
    for j in range(8 * (n - MAP_BASE)):
        bits = p[MAP_BASE + (j >> 3)]
        sn = base + j
        if not bits >> (j & 7) & 1 or diff32(sn, k.snd_una) < 0 or diff32(sn, k.snd_nxt) >= 0:
            continue
        i = sn & mask
        if k.snd.flags[i] & SND_ACKED:
            continue
        snd_note_needless(k, i)
        snd_arrived(k, i)
        news = True
    return news
