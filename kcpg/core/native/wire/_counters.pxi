"""What conversations count; see counters.py. Included by _wire.pyx."""


cdef void add_segments(segment_counts_t* total, const kcp_t* k) noexcept nogil:
    """Add what a conversation has counted so far."""
    total.segments_sent += k.segments_sent
    total.segments_resent_fast += k.segments_resent_fast
    total.segments_resent_rto += k.segments_resent_rto
    total.segments_resent_tail += k.segments_resent_tail
    total.resends_spurious += k.resends_spurious
    total.segments_received += k.segments_received
    total.duplicates_received += k.duplicates_received
    total.bytes_sent += k.bytes_sent
