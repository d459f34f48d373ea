"""See txepoch.py. Included by _wire.pxd."""


@cython.final
cdef class TxEpoch:
    cdef uint32_t cid
    cdef Sealer sealer
    cdef uint64_t pn

    cdef bint seal(self, uint8_t* p, uint32_t size)
