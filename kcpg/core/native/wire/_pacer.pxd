"""See kcpg/core/pacer.py. Included by _wire.pxd."""

cdef enum:
    BURST_MS = 2
    BURST_DATAGRAMS = 10
    SCALE = 8000                    # bit-milliseconds per byte


cdef struct pacer_t:
    int64_t rate_bps                # 0: no limit
    int64_t burst                   # these two in bit-milliseconds
    int64_t credit
    int64_t last_ms
