"""See linkfec.py. Included by _wire.pxd."""

cdef enum:
    FEC_ROOM_BYTES = 11
    BULK_SEGMENTS = 64
    LONG_SEGMENTS = 512


@cython.final
cdef class LinkFec:
    cdef SegmentPool pool
    cdef fec_tx_t tx
    cdef fec_rx_t rx
    cdef bint bulk                  # protect also conversations with much to send
    cdef readonly uint64_t parity_bytes

    cdef int use(self, object plan, uint32_t wait_ms, bint bulk) except -1
    cdef bint wants(self, uint32_t queued) noexcept
    cdef void protect(self, Tx* tx, int at, uint32_t room, int64_t now_ms) noexcept
    cdef void expire(self, int64_t now_ms) noexcept
    cdef uint32_t parity(self, uint8_t* p, uint32_t room) noexcept
    cdef uint32_t parity_ready_bytes(self) noexcept
    cdef int64_t deadline(self) noexcept
    cdef bint receive(self, int frame_type, const uint8_t* p, uint32_t n) noexcept
