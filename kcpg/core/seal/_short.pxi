# Part of _seal.pyx: AES-GCM of short datagrams, from pycryptodomex's compiled AES and GHASH. No twin: plain
# Python gains nothing from it.
#
# EVP takes some 3,000 instructions per datagram before the first byte is encrypted, spread over so much code
# that a node which has just been woken finds hardly any of it in its caches. Here two calls into two small
# libraries are enough: AES of all counter blocks, and GHASH of everything (NIST SP 800-38D, 7.1, 7.2). They
# are not pycryptodomex's public interface, so if one is missing or gives another answer, EVP does everything.

cdef enum:
    AES_BLOCK = 16
    SHORT_BYTES = 256           # beyond it, EVP with its wider instructions is soon as fast
    SHORT_AAD = 16              # a header of ours takes 8
    SHORT_BLOCKS = 17           # of key stream: one for the tag

ctypedef int (*aes_start_fn)(const uint8_t* key, size_t n, void** state) noexcept nogil
ctypedef int (*ecb_start_fn)(void* aes, void** state) noexcept nogil
ctypedef int (*ecb_fn)(void* state, const uint8_t* data, uint8_t* out, size_t n) noexcept nogil
ctypedef int (*ghash_fn)(uint8_t* out, const uint8_t* blocks, size_t n, const uint8_t* start,
                         const void* tables) noexcept nogil
ctypedef int (*ghash_start_fn)(const uint8_t* subkey, void** tables) noexcept nogil
ctypedef int (*stop_fn)(void* state) noexcept nogil

cdef struct ShortLibrary:
    aes_start_fn aes_start
    ecb_start_fn ecb_start
    ecb_fn ecb
    stop_fn ecb_stop            # ends the AES state as well
    ghash_start_fn ghash_start
    ghash_fn ghash
    stop_fn ghash_stop

cdef ShortLibrary short
memset(&short, 0, sizeof(ShortLibrary))


cdef void* _library(str module) except *:
    """One of pycryptodomex's extension modules; NULL if there is none."""
    spec = find_spec(module)
    if spec is None or not spec.has_location:
        return NULL
    return dlopen(<bytes>spec.origin.encode(), RTLD_NOW | RTLD_LOCAL)


cdef bint _load_short() except -1:
    """Find everything; False if something is missing, or the processor has no instructions for it."""
    cdef ShortLibrary s
    cdef void* aes
    cdef void* ecb
    cdef void* ghash
    if not (_cpu_features.have_aes_ni() and _cpu_features.have_clmul()):
        return False
    aes = _library("Cryptodome.Cipher._raw_aesni")
    ecb = _library("Cryptodome.Cipher._raw_ecb")
    ghash = _library("Cryptodome.Hash._ghash_clmul")
    if aes == NULL or ecb == NULL or ghash == NULL:
        return False
    s.aes_start = <aes_start_fn>dlsym(aes, b"AESNI_start_operation")
    s.ecb_start = <ecb_start_fn>dlsym(ecb, b"ECB_start_operation")
    s.ecb = <ecb_fn>dlsym(ecb, b"ECB_encrypt")
    s.ecb_stop = <stop_fn>dlsym(ecb, b"ECB_stop_operation")
    s.ghash_start = <ghash_start_fn>dlsym(ghash, b"ghash_expand_clmul")
    s.ghash = <ghash_fn>dlsym(ghash, b"ghash_clmul")
    s.ghash_stop = <stop_fn>dlsym(ghash, b"ghash_destroy_clmul")
    if (s.aes_start == NULL or s.ecb_start == NULL or s.ecb == NULL or s.ecb_stop == NULL
            or s.ghash_start == NULL or s.ghash == NULL or s.ghash_stop == NULL):
        return False
    memcpy(&short, &s, sizeof(ShortLibrary))
    return True


SHORT = _load_short()   # and not seen to give wrong answers


cdef void* _aes(const uint8_t* key) noexcept nogil:
    """AES-256 under this key for `short.ecb`, which `short.ecb_stop` ends. NULL: refused."""
    cdef void* aes = NULL
    cdef void* ecb = NULL
    if short.ecb == NULL or short.aes_start(key, 32, &aes) != 0:
        return NULL
    return ecb if short.ecb_start(aes, &ecb) == 0 else NULL


cdef void _end_short(SealerC* c) noexcept nogil:
    """Give back what _begin_short() made, if anything."""
    if c.aes != NULL:
        short.ecb_stop(c.aes)
    if c.ghash != NULL:
        short.ghash_stop(c.ghash)
    c.aes = c.ghash = NULL


cdef bint _begin_short(SealerC* c, const uint8_t* key) noexcept nogil:
    """Set up AES and GHASH under a key; False: refused."""
    cdef uint8_t subkey[AES_BLOCK]
    memset(subkey, 0, AES_BLOCK)
    c.aes = _aes(key)
    if (c.aes != NULL and short.ecb(c.aes, subkey, subkey, AES_BLOCK) == 0
            and short.ghash_start(subkey, &c.ghash) == 0):
        return True
    _end_short(c)
    return False


cdef inline int _key_stream(SealerC* c, uint64_t pn, size_t n, uint8_t* out) noexcept nogil:
    """A block for the tag and as many as n bytes need."""
    cdef uint8_t first[AES_BLOCK]
    cdef int i, blocks = 1 + <int>((n + AES_BLOCK - 1) // AES_BLOCK)
    _nonce(c, pn, first)
    first[12] = first[13] = first[14] = 0
    for i in range(blocks):     # at most SHORT_BLOCKS, so one byte counts
        first[15] = <uint8_t>(i + 1)
        memcpy(out + AES_BLOCK * i, first, AES_BLOCK)
    return short.ecb(c.aes, out, out, AES_BLOCK * blocks)


cdef inline void _pad(uint8_t* to, size_t* at, const uint8_t* data, size_t n) noexcept nogil:
    """Append data and zeros up to a whole block."""
    cdef size_t end = (n + AES_BLOCK - 1) // AES_BLOCK * AES_BLOCK
    memcpy(to + at[0], data, n)
    memset(to + at[0] + n, 0, end - n)
    at[0] += end


cdef inline int _short_tag(SealerC* c, const uint8_t* mask, const uint8_t* aad, size_t aadlen,
                           const uint8_t* buf, size_t n, uint8_t* tag) noexcept nogil:
    """GHASH of header and ciphertext, encrypted with the first block of the key stream (`mask`)."""
    cdef uint8_t blocks[SHORT_AAD + SHORT_BYTES + AES_BLOCK]
    cdef uint8_t zero[AES_BLOCK]
    cdef size_t at = 0
    cdef int i
    memset(zero, 0, AES_BLOCK)
    _pad(blocks, &at, aad, aadlen)
    _pad(blocks, &at, buf, n)
    memset(blocks + at, 0, AES_BLOCK)       # both lengths in bits, of 64 bits, big-endian
    blocks[at + 7] = <uint8_t>(8 * aadlen)
    blocks[at + 14] = <uint8_t>(n >> 5)
    blocks[at + 15] = <uint8_t>(n << 3)
    if short.ghash(tag, blocks, at + AES_BLOCK, zero, c.ghash) != 0:
        return -1
    for i in range(TAG_BYTES):
        tag[i] ^= mask[i]
    return 0


cdef inline void _apply(uint8_t* buf, const uint8_t* stream, size_t n) noexcept nogil:
    """Exclusive-or the key stream into n bytes."""
    cdef size_t i
    for i in range(n):
        buf[i] ^= stream[i]


cdef int _short_seal(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                     uint8_t* buf, size_t n) noexcept nogil:
    """As sealer_seal(), by pycryptodomex, or by EVP where the datagram is not short."""
    cdef uint8_t stream[SHORT_BLOCKS * AES_BLOCK]
    if n > SHORT_BYTES or aadlen > SHORT_AAD:
        return _evp_seal(c, pn, aad, aadlen, buf, n)
    if _key_stream(c, pn, n, stream) != 0:
        return -1
    _apply(buf, stream + AES_BLOCK, n)
    return _short_tag(c, stream, aad, aadlen, buf, n, buf + n)


cdef int _short_open(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                     uint8_t* buf, size_t n) noexcept nogil:
    """As sealer_open(), by pycryptodomex, or by EVP where the datagram is not short."""
    cdef uint8_t stream[SHORT_BLOCKS * AES_BLOCK]
    cdef uint8_t tag[TAG_BYTES]
    if n - TAG_BYTES > SHORT_BYTES or aadlen > SHORT_AAD:
        return _evp_open(c, pn, aad, aadlen, buf, n)
    n -= TAG_BYTES
    if (_key_stream(c, pn, n, stream) != 0 or _short_tag(c, stream, aad, aadlen, buf, n, tag) != 0
            or _differs(tag, buf + n)):
        return -1
    _apply(buf, stream + AES_BLOCK, n)
    return 0
