"""See linkwire.py. Included by _wire.pxd."""

cdef enum:
    DEFAULT_DATAGRAM_BYTES = 1400
    NOT_YET_MS = -1


@cython.final
cdef class LinkWire:
    cdef readonly Wire wire
    cdef public object user
    cdef public object accept
    cdef public bint watched
    cdef bint is_heard              # these three stand in the wire's events ...
    cdef bint is_urgent             # ... that it was heard is one to act on now
    cdef bint has_begun
    cdef bint has_moved
    cdef int frames                 # of its control frames stand there
    cdef readonly dict convs
    cdef Conv last_conv
    cdef share_t share              # what its conversations hold of the pool
    cdef Path tx_path
    cdef bint has_path
    cdef Path rx_path
    cdef bint has_source
    cdef path_credit_t credit       # of the path that it sends by
    cdef readonly int64_t rx_last_ms
    cdef readonly int64_t tx_last_ms
    cdef readonly int64_t heeded_ms
    cdef readonly uint64_t rx_datagrams
    cdef readonly uint64_t rx_bytes
    cdef readonly uint64_t tx_datagrams
    cdef readonly uint64_t tx_bytes
    cdef readonly uint64_t segments_sent
    cdef readonly uint64_t segments_resent
    cdef readonly uint64_t timeouts
    cdef segment_counts_t segments_before       # of conversations that are over
    cdef readonly int srtt_ms
    cdef public int rtt_hint_ms     # as linkwire.py
    cdef readonly uint64_t resends_spurious
    cdef readonly object pieces
    cdef uint32_t pieces_sent
    cdef uint32_t longest           # datagram that a segment may need, if it was cut before the path shrank
    cdef uint32_t _datagram_bytes
    cdef int64_t _rate_bps
    cdef pacer_t pacer
    cdef dict epochs
    cdef uint32_t order
    cdef readonly object rx_cid
    cdef uint32_t newest_order
    cdef uint64_t newest_pn
    cdef TxEpoch tx                 # None: no key
    cdef object dirty               # deque of Conv
    cdef object sparse              # deque of those that go before them
    cdef bint is_active
    cdef bint in_turn
    cdef readonly uint64_t turns    # of conversations, so far
    cdef bint urgent                # something may leave that waits neither for the pacer nor for a quantum
    cdef int outstanding_convs
    cdef readonly Flight flight     # None: no controller limits it
    cdef readonly LinkFec fec       # None: none yet
    cdef uint32_t fec_room          # bytes of each datagram that are kept free for it
    cdef bint spares_bulk           # it leaves bulk out
    cdef public bint counts_losses
    cdef object losses_before       # of epochs that are over

    cdef uint32_t segment_bytes(self, bint is_long) noexcept
    cdef uint32_t data_room(self) noexcept
    cdef int rtt(self) noexcept
    cdef LinkFec link_fec(self)
    cdef bint note_received(
        self, RxEpoch epoch, uint64_t pn, const Path* path, size_t size, bint probes, uint64_t now_ms)

    # After any change of a conversation.
    cdef int conv_changed(self, Conv conv) except -1
    cdef int let_go(self, Conv gone) except -1
    cdef int note_outstanding(self, Conv conv) except -1
    cdef void note_heeded(self, Conv conv) noexcept
    cdef int schedule(self, Conv conv) except -1
    cdef int mark_dirty(self, Conv conv) except -1

    cdef bint can_send(self)
    cdef int64_t affordable(self) noexcept
    cdef int64_t held_until(self)
    cdef int measure(self, int64_t now_ms) except -1
    cdef int set_pace(self) except -1

    # A turn.
    cdef int turn(self, Tx* tx, uint64_t now_ms, int budget) except -1
    cdef bint holds_back(self, int64_t now_ms, int64_t tokens)
    cdef int line_up(self) except -1
    cdef int round(self, turn_t* turn, int budget) except -1
    cdef bint serve(self, Conv conv, turn_t* turn, int max_segments) except -1
    cdef int flush(self, Conv conv, turn_t* turn, int max_segments)
    cdef void pay(self, const turn_t* turn, uint64_t sent_bytes) noexcept
