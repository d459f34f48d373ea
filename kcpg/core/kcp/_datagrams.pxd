# Part of _kcp.pxd: datagrams, built back to back in one buffer as segments are flushed. Twin: datagrams.py.
# Names begin with `tx_`.

cdef enum:
    PATH_ADDRESS_BYTES = 44     # sockaddr_in6 and the local IPv6 address (kcpg.net.addr)

cdef struct Path:
    uint16_t sock
    uint8_t addrlen
    uint8_t addr[PATH_ADDRESS_BYTES]

cdef struct Tx:
    uint8_t* buf
    size_t cap
    size_t used             # bytes of finished datagrams; the open one begins here
    uint32_t* off           # per finished datagram: where it begins (its head room) ...
    uint32_t* len           # ... its length, head and tail room included ...
    Path* path              # ... and where it goes (NULL: paths are not kept)
    int count
    int max_count
    uint32_t head_room      # bytes kept before and after the segments of each datagram for the dialect
    uint32_t tail_room
    uint32_t limit          # most segment bytes in one datagram
    Path cur_path           # path of the next datagram to be opened; call tx_close() before changing it
    size_t open_at
    uint32_t open_len       # segment bytes in the open datagram
    bint is_open
    bint has_long           # some datagram is longer than `limit`
    int64_t tokens          # bytes of push segments that may still be sent (pacer)
    uint8_t frame_type      # put into the last byte of the head room when a datagram is opened
    bint is_cold            # what is queued exceeds the processor's caches: fetch ahead


cdef inline void tx_close(Tx* tx) noexcept nogil:
    """Finish the open datagram, if there is one."""
    if not tx.is_open:
        return
    tx.off[tx.count] = <uint32_t>tx.open_at
    tx.len[tx.count] = tx.head_room + tx.open_len + tx.tail_room
    if tx.path != NULL:
        tx.path[tx.count] = tx.cur_path
    tx.used = tx.open_at + tx.head_room + tx.open_len + tx.tail_room
    tx.count += 1
    tx.is_open = False


cdef inline uint8_t* tx_need(Tx* tx, uint32_t n) noexcept nogil:
    """Room for `n` more segment bytes, in the open datagram or a new one; NULL: `cap` or `max_count` is met.

    A piece longer than `limit` (a segment cut before the MTU shrank) travels alone, in a longer datagram.
    """
    cdef uint8_t* at
    cdef uint32_t want
    if tx.is_open and tx.open_len + n > tx.limit:
        tx_close(tx)
    if not tx.is_open:
        want = tx.head_room + (n if n > tx.limit else tx.limit) + tx.tail_room
        if tx.count >= tx.max_count or tx.used + want > tx.cap:
            return NULL
        tx.is_open = True
        tx.has_long |= n > tx.limit
        tx.open_at = tx.used
        tx.open_len = 0
        if tx.head_room > 0:
            tx.buf[tx.open_at + tx.head_room - 1] = tx.frame_type
    at = tx.buf + tx.open_at + tx.head_room + tx.open_len
    tx.open_len += n
    return at


cdef inline int32_t tx_space(const Tx* tx) noexcept nogil:
    """Bytes that the open datagram takes; 0: none is open. Negative: it is a long one."""
    return <int32_t>tx.limit - <int32_t>tx.open_len if tx.is_open else 0
