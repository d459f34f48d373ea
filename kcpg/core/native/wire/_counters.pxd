"""See counters.py. Included by _wire.pxd."""


ctypedef struct segment_counts_t:   # names of counters.SEGMENTS
    uint64_t segments_sent
    uint64_t segments_resent_fast
    uint64_t segments_resent_rto
    uint64_t segments_resent_tail
    uint64_t resends_spurious
    uint64_t segments_received
    uint64_t duplicates_received
    uint64_t bytes_sent
