"""What leaves in one turn of a link; see turn.py. Included by _wire.pyx.

A turn builds its datagrams at the end of the wire's vector, from `start` on; they are sealed afterwards.
"""


cdef void turn_begin(
        turn_t* turn, Tx* tx, LinkFec fec, uint32_t datagram_bytes, int64_t tokens, int64_t now_ms) noexcept:
    """Prepare the vector; the parity of a group whose time has come is the first thing in it."""
    turn.tx = tx
    turn.start = turn.first = tx.count
    turn.longest = datagram_bytes - HEADER_BYTES - TAG_BYTES
    turn.tokens = tx.tokens = tokens
    turn.now_ms = now_ms
    turn.shielded = False
    tx.head_room = HEADER_BYTES + TYPE_BYTES
    tx.tail_room = TAG_BYTES
    tx.limit = datagram_bytes - OVERHEAD_BYTES
    tx.frame_type = <uint8_t>T_KCP
    if fec is not None:
        fec.expire(now_ms)
        turn_parity(turn, fec)
        turn.first = tx.count


cdef inline int64_t turn_spent(const turn_t* turn) noexcept nogil:
    """Tokens that were taken."""
    return turn.tokens - turn.tx.tokens


cdef void turn_shield(turn_t* turn, LinkFec fec, bint wanted) noexcept:
    """Whether what follows is to be protected: keep room for the headers of shards, or do not."""
    if wanted == turn.shielded:
        return
    turn_finish(turn, fec)
    turn.shielded = wanted
    if wanted:
        turn.tx.head_room += SHARD_ROOM_BYTES
        turn.tx.limit -= FEC_ROOM_BYTES


cdef bint turn_packet(turn_t* turn, uint32_t conv, bytes packet):
    """A user's packet in a datagram of its own; False: there is no room for it."""
    cdef Tx* tx = turn.tx
    cdef uint8_t* p
    tx_close(tx)
    tx.frame_type = <uint8_t>T_DATAGRAM
    p = tx_need(tx, <uint32_t>(len(packet) + 4))
    tx.frame_type = <uint8_t>T_KCP
    if p == NULL:
        return False
    put32(p, conv)
    memcpy(p + 4, <const uint8_t*>packet, len(packet))
    tx_close(tx)
    return True


cdef void turn_finish(turn_t* turn, LinkFec fec) noexcept:
    """Close the open datagram, and make shards of those that were built with room for it."""
    cdef Tx* tx = turn.tx
    cdef int i
    tx_close(tx)
    if turn.shielded:
        for i in range(turn.first, tx.count):
            fec.protect(tx, i, turn.longest, turn.now_ms)
        turn.shielded = False
        tx.head_room -= SHARD_ROOM_BYTES
        tx.limit += FEC_ROOM_BYTES
        turn_parity(turn, fec)
    turn.first = tx.count


cdef void turn_parity(turn_t* turn, LinkFec fec) noexcept:
    """Datagrams of the parity that is ready."""
    cdef Tx* tx = turn.tx
    cdef uint32_t n = fec.parity_ready_bytes()
    while n > 0 and tx.count < tx.max_count and tx.used + HEADER_BYTES + n + TAG_BYTES <= tx.cap:
        n = fec.parity(tx.buf + tx.used + HEADER_BYTES, turn.longest)
        if n > 0:
            tx.off[tx.count] = <uint32_t>tx.used
            tx.len[tx.count] = HEADER_BYTES + n + TAG_BYTES
            tx.path[tx.count] = tx.cur_path
            tx.used += HEADER_BYTES + n + TAG_BYTES
            tx.count += 1
        n = fec.parity_ready_bytes()
