# Part of _fec.pxd: the erasure code. Twin: code.py.

cdef enum:
    FEC_MAX_SHARDS = 255        # D + R

cdef void fec_encode_row(uint8_t* dst, const uint8_t* src, uint8_t coef, size_t n) noexcept nogil
cdef void fec_columns(uint8_t* out, int data, int parity) noexcept nogil
