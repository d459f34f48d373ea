"""See pathcredit.py. Included by _wire.pxd."""

cdef enum:
    PATH_CREDIT = 3     # times the bytes that came from an address may be sent to it, until it has answered

cdef struct path_credit_t:
    bint is_limited
    int64_t came
    int64_t sent_before
