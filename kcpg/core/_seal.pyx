# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Seals datagrams in place: the compiled twin of `kcpg.core.seal` and `kcpg.core.replay`.

The AEADs are OpenSSL's, from whatever libcrypto the system has: it is opened at run time and its prototypes
are declared here, so that nothing of OpenSSL is needed to build and a newer library is used as soon as it is
installed. What it makes is compared with pycryptodomex's answer before it is used; where it is missing or
differs, the plain-Python twin does the work (about 0.5 us more per packet).
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from importlib.util import find_spec

from Cryptodome.Cipher import AES
from Cryptodome.Util import _cpu_features

from kcpg.core import seal as twin

cdef extern from "<dlfcn.h>" nogil:
    void* dlopen(const char* name, int flags)
    void* dlsym(void* handle, const char* name)
    int RTLD_NOW
    int RTLD_LOCAL

cdef extern from "_checksum.h" nogil:
    void kcpg_checksum(const uint8_t* aad, size_t aadlen, const uint8_t* p, size_t n, uint8_t* out)
    void kcpg_obscure(const uint8_t* key, uint8_t* buf, size_t n)

cdef enum:
    TAG = 16

ctypedef void* (*getter_fn)() noexcept nogil
ctypedef void* (*new_fn)() noexcept nogil
ctypedef void (*free_fn)(void*) noexcept nogil
ctypedef int (*init_fn)(void*, const void*, void*, const uint8_t*, const uint8_t*) noexcept nogil
ctypedef int (*update_fn)(void*, uint8_t*, int*, const uint8_t*, int) noexcept nogil
ctypedef int (*final_fn)(void*, uint8_t*, int*) noexcept nogil
ctypedef int (*ctrl_fn)(void*, int, int, void*) noexcept nogil
ctypedef int (*padding_fn)(void*, int) noexcept nogil
ctypedef const char* (*version_fn)(int) noexcept nogil

# The same in OpenSSL 1.1.1, 3 and 4: <openssl/evp.h>.
cdef enum:
    EVP_CTRL_AEAD_SET_IVLEN = 0x9
    EVP_CTRL_AEAD_GET_TAG = 0x10
    EVP_CTRL_AEAD_SET_TAG = 0x11

cdef struct Evp:
    void* handle
    new_fn new
    free_fn free
    init_fn encrypt_init
    init_fn decrypt_init
    update_fn encrypt_update
    update_fn decrypt_update
    final_fn encrypt_final
    final_fn decrypt_final
    ctrl_fn ctrl
    padding_fn set_padding
    version_fn version

cdef Evp evp
memset(&evp, 0, sizeof(Evp))


# --- libcrypto --------------------------------------------------------------------------------------------

cdef bint _load(bytes name):
    """Open one library and find every function; False if it is not there or too old."""
    cdef Evp e
    e.handle = dlopen(name, RTLD_NOW | RTLD_LOCAL)
    if e.handle == NULL:
        return False
    e.new = <new_fn>dlsym(e.handle, b"EVP_CIPHER_CTX_new")
    e.free = <free_fn>dlsym(e.handle, b"EVP_CIPHER_CTX_free")
    e.encrypt_init = <init_fn>dlsym(e.handle, b"EVP_EncryptInit_ex")
    e.decrypt_init = <init_fn>dlsym(e.handle, b"EVP_DecryptInit_ex")
    e.encrypt_update = <update_fn>dlsym(e.handle, b"EVP_EncryptUpdate")
    e.decrypt_update = <update_fn>dlsym(e.handle, b"EVP_DecryptUpdate")
    e.encrypt_final = <final_fn>dlsym(e.handle, b"EVP_EncryptFinal_ex")
    e.decrypt_final = <final_fn>dlsym(e.handle, b"EVP_DecryptFinal_ex")
    e.ctrl = <ctrl_fn>dlsym(e.handle, b"EVP_CIPHER_CTX_ctrl")
    e.set_padding = <padding_fn>dlsym(e.handle, b"EVP_CIPHER_CTX_set_padding")
    e.version = <version_fn>dlsym(e.handle, b"OpenSSL_version")
    if (e.new == NULL or e.free == NULL or e.encrypt_init == NULL or e.decrypt_init == NULL
            or e.encrypt_update == NULL or e.decrypt_update == NULL or e.encrypt_final == NULL
            or e.decrypt_final == NULL or e.ctrl == NULL or e.set_padding == NULL or e.version == NULL):
        return False
    memcpy(&evp, &e, sizeof(Evp))
    return True


def _open_libcrypto() -> str:
    """Load the newest libcrypto there is and give its name and version; "" if there is none."""
    ssl = find_spec("_ssl")   # Python's own: symbols are also looked up in what a library was linked with
    own = ssl.origin if ssl is not None and ssl.has_location else None
    for name in ("libcrypto.so.4", "libcrypto.so.3", own, "libcrypto.so.1.1"):
        if name and _load(name.encode()):
            return " ".join(evp.version(0).decode().split()[:2])
    return ""


LIBCRYPTO = _open_libcrypto()   # for example "OpenSSL 3.0.19"

_GETTERS = {
    "AES-GCM": b"EVP_aes_256_gcm",
    "AES-OCB": b"EVP_aes_256_ocb",
    "chacha20": b"EVP_chacha20_poly1305",
    "xchacha20": b"EVP_chacha20_poly1305",
    "ECB": b"EVP_aes_256_ecb",
}


cdef void* _cipher(str algorithm):
    """The library's object for a cipher, NULL if it was built without."""
    if evp.handle == NULL:
        return NULL
    cdef getter_fn getter = <getter_fn>dlsym(evp.handle, <bytes>_GETTERS[algorithm])
    return NULL if getter == NULL else getter()


cdef void* _context(const void* cipher, bint ocb, bint encrypt, const uint8_t* key):
    """A context with key and lengths set, so that a packet only sets its nonce. NULL: refused."""
    cdef void* ctx = evp.new()
    cdef init_fn init = evp.encrypt_init if encrypt else evp.decrypt_init
    if ctx == NULL:
        return NULL
    if (init(ctx, cipher, NULL, NULL, NULL) == 1
            and evp.ctrl(ctx, EVP_CTRL_AEAD_SET_IVLEN, 12, NULL) == 1
            and (not ocb or evp.ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, TAG, NULL) == 1)
            and init(ctx, NULL, NULL, key, NULL) == 1):
        return ctx
    evp.free(ctx)
    return NULL


# --- sealing ----------------------------------------------------------------------------------------------

cdef inline void _nonce(SealerC* c, uint64_t pn, uint8_t* out) noexcept nogil:
    cdef int i
    memcpy(out, c.iv, 12)
    for i in range(8):
        out[11 - i] ^= <uint8_t>(pn >> (8 * i))


cdef int _evp_seal(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                   uint8_t* buf, size_t n) noexcept nogil:
    cdef uint8_t nonce[12]
    cdef int done = 0
    cdef int last = 0
    _nonce(c, pn, nonce)
    if evp.encrypt_init(c.enc, NULL, NULL, NULL, nonce) != 1:
        return -1
    if aadlen and evp.encrypt_update(c.enc, NULL, &last, aad, <int>aadlen) != 1:
        return -1
    if n and evp.encrypt_update(c.enc, buf, &done, buf, <int>n) != 1:
        return -1
    # OCB holds its last blocks back until here.
    if evp.encrypt_final(c.enc, buf + done, &last) != 1:
        return -1
    return 0 if evp.ctrl(c.enc, EVP_CTRL_AEAD_GET_TAG, TAG, buf + n) == 1 else -1


cdef int _evp_open(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                   uint8_t* buf, size_t n) noexcept nogil:
    cdef uint8_t nonce[12]
    cdef int done = 0
    cdef int last = 0
    n -= TAG
    _nonce(c, pn, nonce)
    if evp.decrypt_init(c.dec, NULL, NULL, NULL, nonce) != 1:
        return -1
    if evp.ctrl(c.dec, EVP_CTRL_AEAD_SET_TAG, TAG, buf + n) != 1:
        return -1
    if aadlen and evp.decrypt_update(c.dec, NULL, &last, aad, <int>aadlen) != 1:
        return -1
    if n and evp.decrypt_update(c.dec, buf, &done, buf, <int>n) != 1:
        return -1
    return 0 if evp.decrypt_final(c.dec, buf + done, &last) == 1 else -1


cdef void _checksum_tag(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                        const uint8_t* buf, size_t n, uint8_t* tag) noexcept nogil:
    cdef uint8_t nonce[12]
    cdef int i
    _nonce(c, pn, nonce)
    kcpg_checksum(aad, aadlen, buf, n, tag)
    for i in range(12):
        tag[i] ^= nonce[i]


cdef bint _differs(const uint8_t* a, const uint8_t* b) noexcept nogil:
    cdef int i
    cdef uint8_t found = 0
    for i in range(TAG):
        found |= a[i] ^ b[i]
    return found != 0


cdef int _none_seal(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                    uint8_t* buf, size_t n) noexcept nogil:
    _checksum_tag(c, pn, aad, aadlen, buf, n, buf + n)
    return 0


cdef int _none_open(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                    uint8_t* buf, size_t n) noexcept nogil:
    cdef uint8_t tag[16]
    n -= TAG
    _checksum_tag(c, pn, aad, aadlen, buf, n, tag)
    return -1 if _differs(tag, buf + n) else 0


cdef int _xor_seal(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                   uint8_t* buf, size_t n) noexcept nogil:
    _checksum_tag(c, pn, aad, aadlen, buf, n, buf + n)
    kcpg_obscure(c.key, buf, n)
    return 0


cdef int _xor_open(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                   uint8_t* buf, size_t n) noexcept nogil:
    kcpg_obscure(c.key, buf, n - TAG)
    return _none_open(c, pn, aad, aadlen, buf, n)


include "_seal_short.pxi"


cdef int _twin_seal(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                    uint8_t* buf, size_t n) noexcept nogil:
    with gil:
        try:
            sealed = (<object>c.twin).seal(pn, aad[:aadlen], buf[:n])
        except Exception:
            return -1
        memcpy(buf, PyBytes_AS_STRING(sealed), n + TAG)
    return 0


cdef int _twin_open(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                    uint8_t* buf, size_t n) noexcept nogil:
    with gil:
        try:
            opened = (<object>c.twin).open(pn, aad[:aadlen], buf[:n])
        except Exception:
            return -1
        if opened is None:
            return -1
        memcpy(buf, PyBytes_AS_STRING(opened), n - TAG)
    return 0


cdef int sealer_seal(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                     uint8_t* buf, size_t n) noexcept nogil:
    return c.seal(c, pn, aad, aadlen, buf, n)


cdef int sealer_open(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                     uint8_t* buf, size_t n) noexcept nogil:
    if n < TAG:
        return -1
    return c.open(c, pn, aad, aadlen, buf, n)


_trusted = {}   # algorithm -> libcrypto gave the known answers; at most five entries


cdef class Sealer:
    """Seals or opens the packets of one direction and epoch with one key; see `kcpg.core.seal.Sealer`.

    `library`: None for the best, or "libcrypto", "cryptography", "pycryptodomex".
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
        elif library == "libcrypto":
            if not _use_libcrypto(self, twin.data_key(algorithm, key, iv)):
                raise ValueError(f"no {algorithm} in libcrypto")
        elif library is None and _trust(algorithm):
            _use_libcrypto(self, twin.data_key(algorithm, key, iv))
        if self.c.seal == NULL:
            _use_twin(self, twin.Sealer(algorithm, key, iv, library))

    def __dealloc__(self):
        if self.c.enc != NULL:
            evp.free(self.c.enc)
        if self.c.dec != NULL:
            evp.free(self.c.dec)
        _end_short(&self.c)
        memset(&self.c, 0, sizeof(SealerC))

    def seal(self, uint64_t pn, bytes aad, bytes plaintext):
        """Ciphertext with the 16-byte tag appended."""
        cdef size_t n = len(plaintext)
        cdef bytes out = PyBytes_FromStringAndSize(NULL, n + TAG)
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
        return out[:n - TAG]


cdef bint _use_libcrypto(Sealer s, bytes key):
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
    s._twin = sealer
    s.c.twin = <void*>sealer
    s.c.seal, s.c.open = _twin_seal, _twin_open
    s.backend = sealer.backend


def _trust(str algorithm):
    """Does libcrypto make what pycryptodomex makes? Asked once per algorithm."""
    global SHORT
    if algorithm not in _trusted:
        _trusted[algorithm] = _answers(algorithm)
        if not _trusted[algorithm] and SHORT and algorithm == "AES-GCM":
            SHORT = False
            _trusted[algorithm] = _answers(algorithm)
    return _trusted[algorithm]


def _answers(str algorithm):
    key, iv = bytes(range(32)), bytes(range(100, 100 + twin.iv_bytes(algorithm)))
    try:
        return twin.known_answer_holds(Sealer(algorithm, key, iv, "libcrypto"), key, iv)
    except (ValueError, RuntimeError):
        return False


# --- header mask ------------------------------------------------------------------------------------------

cdef int mask_batch(MaskC* c, const uint8_t* samples16, uint8_t* out16, int n) noexcept nogil:
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


cdef void* _ecb_context(const uint8_t* key):
    """A keyed context of AES-256-ECB; NULL: there is none."""
    cdef void* cipher = _cipher("ECB")
    cdef void* ctx = NULL if cipher == NULL else evp.new()
    if ctx != NULL and (evp.encrypt_init(ctx, cipher, NULL, key, NULL) != 1 or evp.set_padding(ctx, 0) != 1):
        evp.free(ctx)
        ctx = NULL
    return ctx


cdef _free_mask(HeaderMask m):
    if m.c.ctx != NULL:
        evp.free(m.c.ctx)
    if m.c.aes != NULL:
        short.ecb_stop(m.c.aes)
    m.c.ctx = m.c.aes = NULL


cdef class HeaderMask:
    """Turns samples of ciphertext into header masks; see `kcpg.core.seal.HeaderMask`."""

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


# --- replay -----------------------------------------------------------------------------------------------

cdef enum:
    HALF32 = 0x80000000

cdef void replay_init(Replay* r) noexcept nogil:
    memset(r, 0, sizeof(Replay))


cdef bint replay_check(Replay* r, uint64_t pn) noexcept nogil:
    if pn >= r.next:
        return pn != <uint64_t>-1   # so that the number after the highest always exists
    if r.next - pn > REPLAY_BITS:
        return False
    return not (r.word[(pn >> 6) % REPLAY_WORDS] >> (pn & 63)) & 1


cdef void replay_commit(Replay* r, uint64_t pn) noexcept nogil:
    cdef uint64_t word = pn >> 6
    cdef uint64_t at
    if pn >= r.next:
        # Words between the old highest and the new one still hold the numbers of 129 words ago.
        at = (r.next - 1) >> 6 if r.next else 0
        if word - at >= REPLAY_WORDS:
            memset(r.word, 0, sizeof(r.word))
        else:
            while at != word:
                at += 1
                r.word[at % REPLAY_WORDS] = 0
        r.next = pn + 1
    r.word[word % REPLAY_WORDS] |= (<uint64_t>1) << (pn & 63)


cdef uint64_t replay_expand(Replay* r, uint32_t pn32) noexcept nogil:
    cdef uint64_t low = 0xFFFFFFFF
    cdef uint64_t pn = (r.next & ~low) | pn32
    # Differences instead of sums: nothing overflows near 2^64.
    if pn < r.next and r.next - pn >= HALF32 and pn < <uint64_t>-1 - low:
        return pn + low + 1
    if pn > r.next and pn - r.next > HALF32 and pn > low:
        return pn - low - 1
    return pn


cdef class ReplayWindow:
    """Accepts each packet number once; see `kcpg.core.replay.ReplayWindow`."""

    def __cinit__(self):
        replay_init(&self.r)

    @property
    def next(self):
        """The highest committed number + 1."""
        return self.r.next

    def check(self, uint64_t pn):
        """May a packet with this number still be accepted?"""
        return bool(replay_check(&self.r, pn))

    def commit(self, uint64_t pn):
        """This number's packet was authentic (and `check` said yes)."""
        replay_commit(&self.r, pn)

    def expand(self, uint32_t pn32):
        """The number with these low 32 bits that is nearest to the one expected next."""
        return replay_expand(&self.r, pn32)
