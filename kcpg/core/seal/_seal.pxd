# cython: language_level=3
"""C interface of the compiled seal: AEAD, header mask and replay window, without a Python object per packet.

Everything here may be called without the GIL and never allocates. Nothing here is thread-safe: a `SealerC`, a
`MaskC` and a `Replay` belong to the one thread that drives their wire. Docstrings stand where functions are
defined.
"""
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef struct SealerC

ctypedef int (*seal_fn)(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                        uint8_t* buf, size_t n) noexcept nogil

# One key of one direction. The encrypting and the decrypting context are keyed once; a packet only sets its
# nonce.
cdef struct SealerC:
    seal_fn seal            # what sealer_seal() jumps to
    seal_fn open            # what sealer_open() jumps to
    void* enc               # EVP_CIPHER_CTX*, NULL where another library does the work
    void* dec
    void* aes               # of short datagrams of AES-GCM, NULL where EVP does all
    void* ghash
    void* gcm               # libipsec-mb's expanded key, NULL where another library does the work
    void* twin              # borrowed reference to the plain-Python Sealer, only for the fallback
    uint8_t iv[16]          # 12 bytes of nonce base: the packet number is mixed into the last 8 of them
    uint8_t key[32]         # XOR only: the repeated pad

cdef int sealer_seal(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                     uint8_t* buf, size_t n) noexcept nogil
cdef int sealer_open(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                     uint8_t* buf, size_t n) noexcept nogil

cdef class Sealer:
    cdef SealerC c
    cdef readonly str algorithm
    cdef readonly str backend
    cdef object _twin


cdef struct MaskC:
    void* aes               # pycryptodomex's AES, NULL where it has none that is fast
    void* ctx               # EVP_CIPHER_CTX* of AES-256-ECB, NULL for the Python fallback
    void* twin              # borrowed reference to the plain-Python HeaderMask, only for the fallback

cdef int mask_batch(MaskC* c, const uint8_t* samples16, uint8_t* out16, int n) noexcept nogil

cdef class HeaderMask:
    cdef MaskC c
    cdef readonly str backend
    cdef object _twin


include "_cfb.pxd"
include "_replay.pxd"
include "_salted.pxd"
