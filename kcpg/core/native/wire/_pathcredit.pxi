"""What may be sent to an address that has not answered; see pathcredit.py. Included by _wire.pyx."""


cdef inline void credit_came(path_credit_t* credit, int64_t size, bint is_new) noexcept nogil:
    """A datagram, in order, from where the last one came from too, or from another path."""
    credit.came = size if is_new else credit.came + size


cdef inline void credit_limit(path_credit_t* credit, int64_t sent_bytes) noexcept nogil:
    """From now on the link sends to where its newest datagrams came from."""
    credit.is_limited = True
    credit.sent_before = sent_bytes


cdef inline int64_t credit_left(const path_credit_t* credit, int64_t sent_bytes) noexcept nogil:
    """How many bytes may leave now."""
    if not credit.is_limited:
        return INT64_MAX
    return PATH_CREDIT * credit.came - (sent_bytes - credit.sent_before)


cdef int64_t credit_datagrams(
        const path_credit_t* credit, int64_t sent_bytes, int64_t datagram_bytes, int64_t longest
) noexcept nogil:
    """How many datagrams of a turn that is; 0 or less: none."""
    cdef int64_t left = credit_left(credit, sent_bytes)
    return left // (2 * longest if longest > datagram_bytes else datagram_bytes)
