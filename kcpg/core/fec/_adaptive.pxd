# Part of _fec.pxd: losses, counted from the replay window. Twin: adaptive.py, its LossCounter.

cdef struct fec_losses_t:       # of one epoch
    uint64_t next               # first number not yet judged
    bint in_burst
    uint64_t expected
    uint64_t lost
    uint64_t bursts

cdef void fec_losses_scan(fec_losses_t* losses, const Replay* replay, uint64_t settled) noexcept nogil


cdef class LossCounter:
    cdef fec_losses_t losses
