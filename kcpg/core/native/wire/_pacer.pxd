"""See kcpg/core/pacer.py. Included by _wire.pxd."""

cdef enum:
    BURST_MS = 2
    BURST_DATAGRAMS = 10
    QUANTUM_RTT = 12                # of time: of a round trip, ...
    QUANTUM_MS = 4                  # ... at most, and as long as a burst ...
    QUANTUM_BYTES = 89600           # ... is no larger
    SCALE = 8000                    # bit-milliseconds per byte


cdef struct pacer_t:
    int64_t rate_bps                # 0: no limit
    int64_t burst                   # these two in bit-milliseconds
    int64_t credit
    int64_t last_ms
    int64_t quantum_ms              # what may leave is saved up for this long ...
    int64_t next_ms                 # ... until this time
