# Part of _kcp.pxd: segments that have arrived, [rcv_read, rcv_end). Twin: receiver.py.

cdef void kcp_set_unordered(kcp_t* k) noexcept nogil
cdef int kcp_read_begin(kcp_t* k, iovec* iov, int max_iov) noexcept nogil
cdef void kcp_read_commit(kcp_t* k, size_t nbytes) noexcept nogil
cdef size_t kcp_read_bytes(kcp_t* k, uint8_t* out, size_t n) noexcept nogil
cdef int kcp_peek_size(const kcp_t* k) noexcept nogil
cdef int kcp_message_begin(kcp_t* k, iovec* iov) noexcept nogil
cdef int kcp_recv_message(kcp_t* k, uint8_t* out, size_t n) noexcept nogil


cdef inline bint kcp_owes_ack(const kcp_t* k) noexcept nogil:
    """Something that arrived is not acknowledged yet."""
    return k.ack_below_due or k.ack_count > k.ack_done


cdef inline uint32_t kcp_unread(const kcp_t* k) noexcept nogil:
    """Segments that wait for the reader; unordered: those beyond a gap too."""
    return k.rcv_held if k.unordered else k.rcv_nxt - k.rcv_read


cdef inline bint kcp_readable(const kcp_t* k) noexcept nogil:
    """A complete message is there."""
    if k.unordered:
        return k.ready_count > 0
    return k.rcv_nxt != k.rcv_read and (
        k.rcv_nxt - k.rcv_read > <uint32_t>(k.rcv.frg[k.rcv_read & (k.rcv.cap - 1)] & FRG_REST)
    )


cdef inline bint kcp_at_end(const kcp_t* k) noexcept nogil:
    """The next message is there and empty: the stream's END."""
    return kcp_peek_size(k) == 0
