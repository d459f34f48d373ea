# Part of _seal.pyx: opens what was sealed under a key and a salt; see salted.py.
#
# libcrypto's SHA256_* are deprecated since 3.0, and still what hashes without an allocation. If they are
# missing, or give another answer than the plain-Python twin, that does the work.
from kcpg.core.seal import salted as salted_twin

ctypedef int (*sha_start_fn)(void* state) noexcept nogil
ctypedef int (*sha_update_fn)(void* state, const void* data, size_t n) noexcept nogil
ctypedef int (*sha_final_fn)(uint8_t* out, void* state) noexcept nogil

cdef enum:
    SALT_BYTES = 16
    SHA_BLOCK = 64
    SHA_STATE = 256         # SHA256_CTX takes 112

cdef struct Sha:
    sha_start_fn start
    sha_update_fn update
    sha_final_fn final

cdef Sha sha
memset(&sha, 0, sizeof(Sha))
if evp.handle != NULL:
    sha.start = <sha_start_fn>dlsym(evp.handle, b"SHA256_Init")
    sha.update = <sha_update_fn>dlsym(evp.handle, b"SHA256_Update")
    sha.final = <sha_final_fn>dlsym(evp.handle, b"SHA256_Final")

_salted_trusted = None      # whether libcrypto gives the known answer, once that was tried


cdef class SaltedOpener:
    """Opens what was sealed under a key and a salt, as `kcpg.core.seal.salted.SaltedOpener`."""

    def __cinit__(self, bytes key, library=None):
        assert len(key) == 32
        if library is None and _trust_salted():
            self.ctx = _context(_cipher("chacha20"), False, False, <const uint8_t*>PyBytes_AS_STRING(key))
        if library == "libcrypto" and _may_salt():
            self.ctx = _context(_cipher("chacha20"), False, False, <const uint8_t*>PyBytes_AS_STRING(key))
        if self.ctx == NULL:
            self._twin = salted_twin.SaltedOpener(key, None if library == "libcrypto" else library)
            self.backend = self._twin.backend
            return
        self.backend = LIBCRYPTO
        _hash_pad(self.inner, key, 0x36)
        _hash_pad(self.outer, key, 0x5C)

    def __dealloc__(self):
        if self.ctx != NULL:
            evp.free(self.ctx)
        memset(self.inner, 0, SHA_STATE)
        memset(self.outer, 0, SHA_STATE)

    def open(self, bytes header, bytes body):
        """The content of `body`, which is the salt and what was sealed with `header`; None: a forgery."""
        cdef Py_ssize_t n = len(body) - SALT_BYTES - TAG_BYTES
        cdef const uint8_t* sealed = <const uint8_t*>PyBytes_AS_STRING(body)
        cdef bytes out
        if self.ctx == NULL:
            return self._twin.open(header, body)
        if n < 0:
            return None
        out = PyBytes_FromStringAndSize(NULL, n)
        if not _open_salted(self, header, sealed, <uint8_t*>PyBytes_AS_STRING(out), <int>n):
            return None
        return out


cdef void _hash_pad(uint8_t* state, bytes key, uint8_t pad):
    """Begin one of HMAC's two hashes (RFC 2104)."""
    cdef uint8_t block[SHA_BLOCK]
    cdef int i
    for i in range(SHA_BLOCK):
        block[i] = pad ^ (<uint8_t>key[i] if i < 32 else 0)
    sha.start(state)
    sha.update(state, block, SHA_BLOCK)
    memset(block, 0, SHA_BLOCK)


cdef bint _open_salted(SaltedOpener o, bytes header, const uint8_t* p, uint8_t* out, int n):
    """Whether p, a salt, n bytes and a tag, is authentic; its content is in `out` then."""
    cdef uint8_t state[SHA_STATE]
    cdef uint8_t key[32]
    cdef uint8_t nonce[12]
    cdef uint8_t one = 1
    cdef int done = 0, last = 0
    cdef bint good
    memset(nonce, 0, 12)
    memcpy(state, o.inner, SHA_STATE)
    sha.update(state, p, SALT_BYTES)
    sha.update(state, &one, 1)
    sha.final(key, state)
    memcpy(state, o.outer, SHA_STATE)
    sha.update(state, key, 32)
    sha.final(key, state)
    good = (evp.decrypt_init(o.ctx, NULL, NULL, key, nonce) == 1
            and evp.ctrl(o.ctx, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, <void*>(p + SALT_BYTES + n)) == 1
            and evp.decrypt_update(o.ctx, NULL, &last, <const uint8_t*>PyBytes_AS_STRING(header),
                                   <int>len(header)) == 1
            and (n == 0 or evp.decrypt_update(o.ctx, out, &done, p + SALT_BYTES, n) == 1)
            and evp.decrypt_final(o.ctx, out + done, &last) == 1)
    memset(key, 0, 32)
    return good


cdef bint _may_salt():
    """libcrypto has all that is needed."""
    return sha.start != NULL and sha.update != NULL and sha.final != NULL and _cipher("chacha20") != NULL


def _trust_salted():
    """Whether libcrypto opens what the twin's library sealed; found out once."""
    global _salted_trusted
    if _salted_trusted is None:
        key, salt, header, content = bytes(range(32)), bytes(range(50, 66)), bytes(8), bytes(range(200))
        own = hmac.digest(key, salt + b"\x01", "sha256")
        sealed = salt + twin.aead("chacha20", own, "pycryptodomex").encrypt(bytes(12), content, header)
        opener = SaltedOpener(key, "libcrypto")
        _salted_trusted = (opener.backend == LIBCRYPTO and opener.open(header, sealed) == content
                           and opener.open(header, b"\1" + sealed[1:]) is None)
    return _salted_trusted
