# cython: language_level=3
"""C interface of the compiled seal: AEAD, header mask and replay window, without a Python object per packet.

Everything here may be called without the GIL and never allocates. Nothing here is thread-safe: a `SealerC`, a
`MaskC` and a `Replay` belong to the one thread that drives their wire.
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

# buf holds n plaintext bytes and room for 16 more. Encrypts in place, writes the tag at buf + n, returns 0;
# -1 if the library refused (then buf is undefined and must not be sent).
cdef int sealer_seal(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                     uint8_t* buf, size_t n) noexcept nogil

# buf holds n bytes of which the last 16 are the tag. Decrypts in place; 0 authentic, -1 forged (then buf is
# undefined).
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

# AES-256-ECB of n samples of 16 bytes, packed, into n blocks of 16 bytes (may be the same memory). The mask
# of a datagram is the first 8 bytes of its block. 0, or -1 if the library refused.
cdef int mask_batch(MaskC* c, const uint8_t* samples16, uint8_t* out16, int n) noexcept nogil

cdef class HeaderMask:
    cdef MaskC c
    cdef readonly str backend
    cdef object _twin


# RFC 6479 window. 8,192 numbers back from the highest need 129 words of 64, as the highest may stand anywhere
# in its word.
cdef enum:
    REPLAY_WINDOW = 8192
    REPLAY_WORDS = 129

cdef struct Replay:
    uint64_t next           # highest committed number + 1; 0: nothing yet
    uint64_t word[129]

cdef void replay_init(Replay* r) noexcept nogil
cdef bint replay_check(Replay* r, uint64_t pn) noexcept nogil       # may still be accepted (changes nothing)
cdef void replay_commit(Replay* r, uint64_t pn) noexcept nogil      # only after the packet was authenticated
cdef uint64_t replay_expand(Replay* r, uint32_t pn32) noexcept nogil

cdef class ReplayWindow:
    cdef Replay r
