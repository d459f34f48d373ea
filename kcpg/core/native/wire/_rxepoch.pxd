"""See rxepoch.py. Included by _wire.pxd."""

cdef enum:
    LOSS_SCAN = 4096


@cython.final
cdef class RxEpoch:
    cdef LinkWire owner
    cdef uint32_t cid
    cdef uint32_t order
    cdef Sealer sealer
    cdef Replay replay
    cdef fec_losses_t losses
    cdef uint64_t settled           # packet numbers below it are late by now if they did not come

    cdef void note_losses(self, uint64_t pn) noexcept
    cdef void judge_losses(self) noexcept
    cdef object add_losses(self, object before)
