"""See conv.py. Included by _wire.pxd."""

cdef enum:
    EV_READABLE = 1
    EV_WRITABLE = 2
    WRITABLE_ROOM_SEGMENTS = 64     # a starved writer is woken at this much room
    PACKET_MAX_BYTES = 65535        # a user's largest UDP packet
    ACK_HOLD_MS = 2
    ACK_BATCH_RTT = 8               # acknowledgements wait for each other: of a round trip, ...
    ACK_BATCH_MS = 10               # ... at most, ...
    ACK_BATCH_AFTER = 128           # ... after so many segments
    LONE_SEGMENTS = 16              # under way where somebody waits for each bit
    SPARSE_SEGMENTS = 4             # queued where it goes before others
    DATAGRAM_QUEUE = 256            # unreliable packets held per conversation and direction
    WINDOW_START_SEGMENTS = 1024    # of the receive window where it grows


@cython.final
cdef class Conv(Kcp):
    cdef SegmentPool segment_pool
    cdef readonly LinkWire link_wire
    cdef public object user
    cdef readonly int events
    cdef readonly bint closed
    cdef public bint want_room
    cdef public bint want_drained
    cdef bint is_dirty
    cdef bint is_outstanding
    cdef bint is_capped
    cdef uint64_t heeded_spurious   # needless resends that the link wire has counted
    cdef bint is_long               # it is a long transfer: see linkfec.py
    cdef uint64_t bulk_from         # segments sent before this transfer in bulk
    cdef int timer                  # place in the wire's timers, -1: none
    cdef object packets_out         # deques, made at the first unreliable packet
    cdef object packets_in
    cdef public int packets_limit   # as conv.py
    cdef uint32_t snd_limit         # windows the user gave; with a controller those of `k` stay below them
    cdef uint32_t rcv_limit
    cdef totals_t seen              # what the link's flight holds of this conversation
    cdef int64_t acked_empty        # bytes of acknowledged segments without payload, known when all is
    cdef readonly Bypass bypass     # takes what little comes past the splice; None: nobody does
    cdef readonly uint64_t bypassed     # bytes or packets that it took

    cdef bint put_packet(self, const uint8_t* p, size_t n, bint datagram) except -1
    cdef bint put_datagram(self, const uint8_t* p, size_t n) except -1
    cdef int take_packet(self, uint8_t* to) except -2
    cdef int return_packet(self, const uint8_t* p, size_t n) except -1
    cdef bint is_served(self)
    cdef int leave_timers(self) except -1
    cdef int join(self, LinkWire link_wire, object params) except -1
    cdef int changed(self) except -1    # after anything that the user did to `k`
    cdef int raise_events(self, int events) except -1
    cdef bint is_drained(self) noexcept
    cdef void thin_acks(self) noexcept
    cdef bint is_urgent(self) noexcept
    cdef bint is_lone(self) noexcept
    cdef int flush_packets(self, turn_t* turn, bint paced) except -1
    cdef int notice(self) except -1
    cdef int wake_segments(self) noexcept
    cdef void fit(self) noexcept
    cdef void open_window(self) noexcept
