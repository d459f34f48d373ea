# Part of _seal.pxd: block ciphers in CFB mode, and AES-128-GCM, for formats that are not ours. No twin: plain
# Python calls `cryptography` and pycryptodomex.

cdef enum:
    CFB_LANES = 64              # datagrams that are encrypted side by side
    CFB_BYTES = 2048            # of one datagram at most
    CFB_BLOCK = 16              # of a cipher at most

ctypedef int (*block_fn)(void* state, const uint8_t* data, uint8_t* out, size_t n) noexcept nogil

# One key of one cipher. The IV never changes, so that what is added to the first block does not, either.
cdef struct CfbC:
    block_fn blocks             # encrypts n bytes, whole blocks of theirs, each for itself
    void* state
    uint32_t size               # of a block: 8 or 16
    bint is_evp                 # whose `state` is
    uint8_t first[CFB_BLOCK]    # the encrypted IV

cdef bint cfb_begin(CfbC* c, str cipher, bytes key, const uint8_t* iv) except -1
cdef void cfb_end(CfbC* c) noexcept
cdef int cfb_seal(const CfbC* c, uint8_t** at, const uint32_t* length, int count) noexcept nogil
cdef int cfb_open(const CfbC* c, uint8_t* p, uint32_t n) noexcept nogil

cdef bint gcm128_begin(SealerC* c, bytes key) except -1
cdef void gcm128_end(SealerC* c) noexcept
cdef int gcm128_seal(SealerC* c, uint8_t* nonce12, size_t n) noexcept nogil
cdef int gcm128_open(SealerC* c, uint8_t* nonce12, size_t n) noexcept nogil
