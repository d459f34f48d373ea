# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Seals datagrams in place: the compiled twin of `kcpg.core.seal.seal` and, in `_replay`, of `replay`.

The AEADs are OpenSSL's, from whatever libcrypto the system has: it is opened at run time and its prototypes
are declared here, so that nothing of OpenSSL is needed to build and a newer library is used as soon as it is
installed. AES-GCM is libipsec-mb's where that is installed. What a library makes is compared with
pycryptodomex's answer before it is used; where all are missing or differ, the plain-Python twin does the work
(about 0.5 us more per packet).
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

import hmac
from importlib.util import find_spec

from Cryptodome.Cipher import AES
from Cryptodome.Util import _cpu_features

from kcpg.core.seal import seal as twin

cdef extern from "<dlfcn.h>" nogil:
    void* dlopen(const char* name, int flags)
    void* dlsym(void* handle, const char* name)
    int RTLD_NOW
    int RTLD_LOCAL

cdef extern from "_checksum.h" nogil:
    void kcpg_checksum(const uint8_t* aad, size_t aadlen, const uint8_t* p, size_t n, uint8_t* out)
    void kcpg_obscure(const uint8_t* key, uint8_t* buf, size_t n)

cdef enum:
    TAG_BYTES = 16

# -- checksums in the place of AEADs --

cdef inline void _nonce(SealerC* c, uint64_t pn, uint8_t* out) noexcept nogil:
    """The 12 bytes of a packet's nonce: the IV, with the number exclusive-ored into the last 8 of them."""
    cdef int i
    memcpy(out, c.iv, 12)
    for i in range(8):
        out[11 - i] ^= <uint8_t>(pn >> (8 * i))


cdef void _checksum_tag(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                        const uint8_t* buf, size_t n, uint8_t* tag) noexcept nogil:
    """The 16-byte tag of `none` and `XOR`: a remainder mixed with the nonce, as `_Checksum` in seal.py."""
    cdef uint8_t nonce[12]
    cdef int i
    _nonce(c, pn, nonce)
    kcpg_checksum(aad, aadlen, buf, n, tag)
    for i in range(12):
        tag[i] ^= nonce[i]


cdef bint _differs(const uint8_t* a, const uint8_t* b) noexcept nogil:
    """Whether two tags differ, in a time that does not tell where."""
    cdef int i
    cdef uint8_t found = 0
    for i in range(TAG_BYTES):
        found |= a[i] ^ b[i]
    return found != 0


cdef int _none_seal(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                    uint8_t* buf, size_t n) noexcept nogil:
    _checksum_tag(c, pn, aad, aadlen, buf, n, buf + n)
    return 0


cdef int _none_open(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                    uint8_t* buf, size_t n) noexcept nogil:
    cdef uint8_t tag[16]
    n -= TAG_BYTES
    _checksum_tag(c, pn, aad, aadlen, buf, n, tag)
    return -1 if _differs(tag, buf + n) else 0


cdef int _xor_seal(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                   uint8_t* buf, size_t n) noexcept nogil:
    _checksum_tag(c, pn, aad, aadlen, buf, n, buf + n)
    kcpg_obscure(c.key, buf, n)
    return 0


cdef int _xor_open(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                   uint8_t* buf, size_t n) noexcept nogil:
    kcpg_obscure(c.key, buf, n - TAG_BYTES)
    return _none_open(c, pn, aad, aadlen, buf, n)


include "_evp.pxi"
include "_short.pxi"
include "_ipsec.pxi"
include "_cfb.pxi"

# -- sealing --


cdef int _twin_seal(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                    uint8_t* buf, size_t n) noexcept nogil:
    """As sealer_seal(), by the plain-Python Sealer."""
    with gil:
        try:
            sealed = (<object>c.twin).seal(pn, aad[:aadlen], buf[:n])
        except Exception:
            return -1
        memcpy(buf, PyBytes_AS_STRING(sealed), n + TAG_BYTES)
    return 0


cdef int _twin_open(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                    uint8_t* buf, size_t n) noexcept nogil:
    """As sealer_open(), by the plain-Python Sealer."""
    with gil:
        try:
            opened = (<object>c.twin).open(pn, aad[:aadlen], buf[:n])
        except Exception:
            return -1
        if opened is None:
            return -1
        memcpy(buf, PyBytes_AS_STRING(opened), n - TAG_BYTES)
    return 0


cdef int sealer_seal(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                     uint8_t* buf, size_t n) noexcept nogil:
    """Encrypt n bytes of `buf` in place and write the 16-byte tag behind them.

    0; -1: the library refused, so `buf` is undefined and must not be sent.
    """
    return c.seal(c, pn, aad, aadlen, buf, n)


cdef int sealer_open(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                     uint8_t* buf, size_t n) noexcept nogil:
    """Decrypt `buf` in place, the last 16 of whose n bytes are the tag.

    0: authentic; -1: forged, and `buf` is undefined.
    """
    if n < TAG_BYTES:
        return -1
    return c.open(c, pn, aad, aadlen, buf, n)


COMPILED = ("ipsec-mb", "libcrypto")   # in order of preference, before those of the twin
_trusted = {}   # (library, algorithm) -> it gave the known answers; at most eight entries


cdef class Sealer:
    """Seals or opens the packets of one direction and epoch with one key, as `kcpg.core.seal.seal.Sealer`.

    `library`: None for the best, or one of `COMPILED` or of `kcpg.core.seal.seal.LIBRARIES`.
    """

    def __cinit__(self, str algorithm, bytes key, bytes iv, library=None):
        twin.check_material(algorithm, key, iv)
        self.algorithm = algorithm
        memcpy(self.c.iv, PyBytes_AS_STRING(twin.nonce_base(algorithm, iv)), 12)
        if algorithm == "none":
            self.c.seal, self.c.open = _none_seal, _none_open
            self.backend = "built-in"
        elif algorithm == "XOR":
            memcpy(self.c.key, PyBytes_AS_STRING(key), 32)
            self.c.seal, self.c.open = _xor_seal, _xor_open
            self.backend = "built-in"
        elif library is None:
            for each in COMPILED:
                if _trust(each, algorithm) and _use(self, each, twin.data_key(algorithm, key, iv)):
                    break
        elif library in COMPILED and not _use(self, library, twin.data_key(algorithm, key, iv)):
            raise ValueError(f"no {algorithm} in {library}")
        if self.c.seal == NULL:
            _use_twin(self, twin.Sealer(algorithm, key, iv, library))

    def __dealloc__(self):
        if self.c.enc != NULL:
            evp.free(self.c.enc)
        if self.c.dec != NULL:
            evp.free(self.c.dec)
        _end_short(&self.c)
        _end_ipsec(&self.c)
        memset(&self.c, 0, sizeof(SealerC))

    def seal(self, uint64_t pn, bytes aad, bytes plaintext):
        """Ciphertext with the 16-byte tag appended."""
        cdef size_t n = len(plaintext)
        cdef bytes out = PyBytes_FromStringAndSize(NULL, n + TAG_BYTES)
        cdef uint8_t* buf = <uint8_t*>PyBytes_AS_STRING(out)
        memcpy(buf, PyBytes_AS_STRING(plaintext), n)
        if sealer_seal(&self.c, pn, <const uint8_t*>PyBytes_AS_STRING(aad), len(aad), buf, n) != 0:
            raise RuntimeError(f"{self.backend} refused to encrypt")
        return out

    def open(self, uint64_t pn, bytes aad, bytes sealed):
        """The plaintext, or None if `sealed` was not sealed under this key, number and header."""
        cdef size_t n = len(sealed)
        cdef bytes out = PyBytes_FromStringAndSize(PyBytes_AS_STRING(sealed), n)
        cdef uint8_t* buf = <uint8_t*>PyBytes_AS_STRING(out)
        if sealer_open(&self.c, pn, <const uint8_t*>PyBytes_AS_STRING(aad), len(aad), buf, n) != 0:
            return None
        return out[:n - TAG_BYTES]


cdef bint _use(Sealer s, str library, bytes key):
    """Have this library do the work; False if it does not have the algorithm."""
    return _use_ipsec(s, key) if library == "ipsec-mb" else _use_libcrypto(s, key)


cdef bint _use_ipsec(Sealer s, bytes key):
    """Have libipsec-mb do the work; False if it does not have the algorithm."""
    cdef const uint8_t* raw = <const uint8_t*>PyBytes_AS_STRING(key)
    if not IPSEC or s.algorithm != "AES-GCM" or not _begin_ipsec(&s.c, raw):
        return False
    s.c.seal, s.c.open = _ipsec_seal, _ipsec_open
    s.backend = IPSEC
    return True


cdef bint _use_libcrypto(Sealer s, bytes key):
    """Have libcrypto do the work; False if it does not have the algorithm."""
    cdef void* cipher = _cipher(s.algorithm)
    cdef const uint8_t* raw = <const uint8_t*>PyBytes_AS_STRING(key)
    cdef bint ocb = s.algorithm == "AES-OCB"
    if cipher == NULL:
        return False
    s.c.enc = _context(cipher, ocb, True, raw)
    s.c.dec = _context(cipher, ocb, False, raw)
    if s.c.enc == NULL or s.c.dec == NULL:
        return False
    s.c.seal, s.c.open = _evp_seal, _evp_open
    s.backend = LIBCRYPTO
    if SHORT and s.algorithm == "AES-GCM" and _begin_short(&s.c, raw):
        s.c.seal, s.c.open = _short_seal, _short_open
    return True


cdef _use_twin(Sealer s, sealer):
    """Have the plain-Python Sealer do the work."""
    s._twin = sealer
    s.c.twin = <void*>sealer
    s.c.seal, s.c.open = _twin_seal, _twin_open
    s.backend = sealer.backend


def _trust(str library, str algorithm):
    """Whether a library makes what pycryptodomex makes; found out once for each algorithm."""
    global SHORT
    if (library, algorithm) not in _trusted:
        _trusted[library, algorithm] = _answers(library, algorithm)
        if not _trusted[library, algorithm] and SHORT and (library, algorithm) == ("libcrypto", "AES-GCM"):
            SHORT = False
            _trusted[library, algorithm] = _answers(library, algorithm)
    return _trusted[library, algorithm]


def _answers(str library, str algorithm):
    """Whether a library has the algorithm and gives the known answers."""
    key, iv = bytes(range(32)), bytes(range(100, 100 + twin.iv_bytes(algorithm)))
    try:
        return twin.known_answer_holds(Sealer(algorithm, key, iv, library), key, iv)
    except (ValueError, RuntimeError):
        return False


# -- header mask --

cdef int mask_batch(MaskC* c, const uint8_t* samples16, uint8_t* out16, int n) noexcept nogil:
    """AES-256-ECB of n packed samples of 16 bytes into n blocks of 16 (may be the same memory).

    The mask of a datagram is the first 8 bytes of its block. 0; -1: the library refused.
    """
    cdef int done = 0
    if n <= 0:
        return 0
    if c.aes != NULL:
        return short.ecb(c.aes, samples16, out16, 16 * n)
    if c.ctx != NULL:
        return 0 if evp.encrypt_update(c.ctx, out16, &done, samples16, 16 * n) == 1 and done == 16 * n else -1
    with gil:
        try:
            blocks = (<object>c.twin).masks(samples16[:16 * n])
        except Exception:
            return -1
        memcpy(out16, PyBytes_AS_STRING(blocks), 16 * n)
    return 0


cdef _free_mask(HeaderMask m):
    """End whatever a mask was keyed with."""
    if m.c.ctx != NULL:
        evp.free(m.c.ctx)
    if m.c.aes != NULL:
        short.ecb_stop(m.c.aes)
    m.c.ctx = m.c.aes = NULL


cdef class HeaderMask:
    """Turns samples of ciphertext into header masks, as `kcpg.core.seal.seal.HeaderMask`."""

    def __cinit__(self, bytes key, library=None):
        assert len(key) == 32
        cdef const uint8_t* raw = <const uint8_t*>PyBytes_AS_STRING(key)
        if library is None or library == "libcrypto":
            self.c.aes = _aes(raw) if SHORT else NULL
            self.c.ctx = NULL if self.c.aes != NULL else _ecb_context(raw)
            self.backend = LIBCRYPTO if self.c.aes == NULL else "pycryptodomex"
            if ((self.c.aes != NULL or self.c.ctx != NULL)
                    and self.masks(_SAMPLES) != AES.new(key, AES.MODE_ECB).encrypt(_SAMPLES)):
                _free_mask(self)
        if self.c.aes == NULL and self.c.ctx == NULL:
            self._twin = twin.HeaderMask(key, library)
            self.c.twin = <void*>self._twin
            self.backend = self._twin.backend

    def __dealloc__(self):
        _free_mask(self)

    def masks(self, bytes samples):
        """For packed samples of 16 bytes as many blocks of 16; the mask is the first 8 bytes of a block."""
        cdef int n = len(samples) // 16
        cdef bytes out = PyBytes_FromStringAndSize(NULL, 16 * n)
        if mask_batch(&self.c, <const uint8_t*>PyBytes_AS_STRING(samples),
                      <uint8_t*>PyBytes_AS_STRING(out), n) != 0:
            raise RuntimeError(f"{self.backend} refused to encrypt")
        return out

    def mask(self, bytes sample):
        """The 8 mask bytes for one 16-byte sample."""
        return self.masks(sample)[:8]


_SAMPLES = bytes(range(32))   # two blocks, for the known answer


include "_replay.pxi"
include "_salted.pxi"
