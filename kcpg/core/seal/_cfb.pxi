# Part of _seal.pyx: block ciphers in CFB mode, and AES-128-GCM, for formats that are not ours. Declared in
# _cfb.pxd; no twin: plain Python calls `cryptography` and pycryptodomex.
#
# CFB is C(i) = P(i) xor E(C(i-1)): no block of a datagram can be encrypted before the one before it. A
# library's CFB therefore leaves most of the processor idle, and so does any that takes one datagram at a
# time. Here the blocks at the same place of many datagrams are one call of the cipher alone (ECB): for
# 1,350 bytes OpenSSL 3.0 takes 0.17 us in this way, 2.1 us in its own. What is received has all its
# ciphertext there, so that one call does for all of it.

ctypedef int (*block_start_fn)(const uint8_t* key, size_t n, void** state) noexcept nogil

# OpenSSL's name of the cipher, or the module of pycryptodomex and the function that begins there; the size of
# a block. OpenSSL 3 has some ciphers in a provider that is not loaded by itself.
_BLOCK_CIPHERS = {
    "aes": (b"EVP_aes_256_ecb", 16),
    "aes-128": (b"EVP_aes_128_ecb", 16),
    "aes-192": (b"EVP_aes_192_ecb", 16),
    "sm4": (b"EVP_sm4_ecb", 16),
    "3des": (b"EVP_des_ede3_ecb", 8),
    "blowfish": (("Cryptodome.Cipher._raw_blowfish", b"Blowfish_start_operation"), 8),
    "cast5": (("Cryptodome.Cipher._raw_cast", b"CAST_start_operation"), 8),
}


cdef int _evp_blocks(void* state, const uint8_t* data, uint8_t* out, size_t n) noexcept nogil:
    """Whole blocks by libcrypto."""
    cdef int done = 0
    return 0 if evp.encrypt_update(state, out, &done, data, <int>n) == 1 and done == <int>n else -1


cdef bint _begin_evp_blocks(CfbC* c, bytes getter_name, const uint8_t* key) except -1:
    """Have libcrypto do the work; False: it has no such cipher."""
    cdef getter_fn getter = NULL if evp.handle == NULL else <getter_fn>dlsym(evp.handle, getter_name)
    cdef void* cipher = NULL if getter == NULL else getter()
    if cipher == NULL:
        return False
    c.state = evp.new()
    if (c.state == NULL or evp.encrypt_init(c.state, cipher, NULL, key, NULL) != 1
            or evp.set_padding(c.state, 0) != 1):
        evp.free(c.state)
        c.state = NULL
        return False
    c.blocks = _evp_blocks
    c.is_evp = True
    return True


cdef bint _begin_raw_blocks(CfbC* c, str module, bytes start_name, bytes key) except -1:
    """Have one of pycryptodomex's compiled ciphers do the work; False: it is not there."""
    cdef void* library = _library(module)
    cdef void* ecb = _library("Cryptodome.Cipher._raw_ecb")
    cdef block_start_fn start
    cdef ecb_start_fn ecb_start
    cdef void* cipher = NULL
    if library == NULL or ecb == NULL:
        return False
    start = <block_start_fn>dlsym(library, start_name)
    ecb_start = <ecb_start_fn>dlsym(ecb, b"ECB_start_operation")
    c.blocks = <block_fn>dlsym(ecb, b"ECB_encrypt")
    _raw_end.stop = <stop_fn>dlsym(ecb, b"ECB_stop_operation")
    if start == NULL or ecb_start == NULL or c.blocks == NULL or _raw_end.stop == NULL:
        return False
    if start(<const uint8_t*>PyBytes_AS_STRING(key), len(key), &cipher) != 0:
        return False
    if ecb_start(cipher, &c.state) != 0:
        c.state = NULL
        return False
    return True


cdef struct RawEnd:
    stop_fn stop                # ends the cipher's state as well

cdef RawEnd _raw_end
_raw_end.stop = NULL


cdef bint cfb_begin(CfbC* c, str cipher, bytes key, const uint8_t* iv) except -1:
    """Set up a cipher by its name in kcptun; False: no library here has it."""
    memset(c, 0, sizeof(CfbC))
    if cipher not in _BLOCK_CIPHERS:
        return False
    where, size = _BLOCK_CIPHERS[cipher]
    c.size = size
    if isinstance(where, bytes):
        if not _begin_evp_blocks(c, where, <const uint8_t*>PyBytes_AS_STRING(key)):
            return False
    elif not _begin_raw_blocks(c, where[0], where[1], key):
        return False
    if c.blocks(c.state, iv, c.first, c.size) != 0:
        cfb_end(c)
        return False
    return True


cdef void cfb_end(CfbC* c) noexcept:
    """Let go of the cipher."""
    if c.state != NULL and c.is_evp:
        evp.free(c.state)
    elif c.state != NULL:
        _raw_end.stop(c.state)
    c.state = NULL


cdef inline void _xor(uint8_t* p, const uint8_t* mask, uint32_t n) noexcept nogil:
    """p[0..n) ^= mask[0..n)."""
    cdef uint32_t i
    for i in range(n):
        p[i] ^= mask[i]


cdef inline void _xor8(uint8_t* p, const uint8_t* mask) noexcept nogil:
    cdef uint64_t a, b
    memcpy(&a, p, 8)
    memcpy(&b, mask, 8)
    a ^= b
    memcpy(p, &a, 8)


cdef int cfb_seal(const CfbC* c, uint8_t** at, const uint32_t* length, int count) noexcept nogil:
    """Encrypt `count` datagrams in place, at most CFB_LANES; each is longer than a block. -1: refused."""
    cdef uint8_t blocks[CFB_BLOCK * CFB_LANES]
    cdef int lane[CFB_LANES]
    cdef uint32_t size = c.size, offset = c.size, n
    cdef uint8_t* p
    cdef int i, lanes = count, kept
    for i in range(count):
        lane[i] = i
        _xor(at[i], c.first, size)
        memcpy(blocks + size * i, at[i], size)
    while lanes > 0:
        if c.blocks(c.state, blocks, blocks, size * lanes) != 0:
            return -1
        kept = 0
        for i in range(lanes):
            p = at[lane[i]] + offset
            n = length[lane[i]] - offset
            if n <= size:
                _xor(p, blocks + size * i, n)
                continue
            _xor8(p, blocks + size * i)
            if size == 16:
                _xor8(p + 8, blocks + size * i + 8)
            memcpy(blocks + size * kept, p, size)
            lane[kept] = lane[i]
            kept += 1
        lanes = kept
        offset += size
    return 0


cdef int cfb_open(const CfbC* c, uint8_t* p, uint32_t n) noexcept nogil:
    """Decrypt a datagram in place: more than a block, at most CFB_BYTES. -1: refused."""
    cdef uint8_t stream[CFB_BYTES + CFB_BLOCK]
    cdef uint32_t before = (n - 1) // c.size * c.size       # all blocks but the last one
    memcpy(stream, c.first, c.size)
    if c.blocks(c.state, p, stream + c.size, before) != 0:
        return -1
    _xor(p, stream, n)
    return 0


cdef bint gcm128_begin(SealerC* c, bytes key) except -1:
    """Set up AES-128-GCM; False: libcrypto does not have it."""
    cdef getter_fn getter = NULL if evp.handle == NULL else <getter_fn>dlsym(evp.handle, b"EVP_aes_128_gcm")
    cdef void* cipher = NULL if getter == NULL else getter()
    memset(c, 0, sizeof(SealerC))
    if cipher == NULL:
        return False
    c.enc = _context(cipher, False, True, <const uint8_t*>PyBytes_AS_STRING(key))
    c.dec = _context(cipher, False, False, <const uint8_t*>PyBytes_AS_STRING(key))
    if c.enc == NULL or c.dec == NULL:
        gcm128_end(c)
        return False
    return True


cdef void gcm128_end(SealerC* c) noexcept:
    """Let go of the cipher."""
    if c.enc != NULL:
        evp.free(c.enc)
    if c.dec != NULL:
        evp.free(c.dec)
    c.enc = c.dec = NULL


cdef int gcm128_seal(SealerC* c, uint8_t* nonce12, size_t n) noexcept nogil:
    """Encrypt the n bytes behind a nonce in place and write the tag behind them. -1: refused."""
    memcpy(c.iv, nonce12, 12)
    return _evp_seal(c, 0, NULL, 0, nonce12 + 12, n)


cdef int gcm128_open(SealerC* c, uint8_t* nonce12, size_t n) noexcept nogil:
    """Decrypt the n bytes behind a nonce, the last 16 of which are the tag. -1: forged."""
    memcpy(c.iv, nonce12, 12)
    return _evp_open(c, 0, NULL, 0, nonce12 + 12, n)
