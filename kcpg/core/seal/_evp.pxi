# Part of _seal.pyx: all ciphers from libcrypto, by EVP, its general interface to them. No twin: plain Python
# calls `cryptography`, which wraps the same library.

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
            and (not ocb or evp.ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, NULL) == 1)
            and init(ctx, NULL, NULL, key, NULL) == 1):
        return ctx
    evp.free(ctx)
    return NULL


cdef int _evp_seal(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                   uint8_t* buf, size_t n) noexcept nogil:
    """As sealer_seal(), by libcrypto."""
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
    return 0 if evp.ctrl(c.enc, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, buf + n) == 1 else -1


cdef int _evp_open(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                   uint8_t* buf, size_t n) noexcept nogil:
    """As sealer_open(), by libcrypto."""
    cdef uint8_t nonce[12]
    cdef int done = 0
    cdef int last = 0
    n -= TAG_BYTES
    _nonce(c, pn, nonce)
    if evp.decrypt_init(c.dec, NULL, NULL, NULL, nonce) != 1:
        return -1
    if evp.ctrl(c.dec, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, buf + n) != 1:
        return -1
    if aadlen and evp.decrypt_update(c.dec, NULL, &last, aad, <int>aadlen) != 1:
        return -1
    if n and evp.decrypt_update(c.dec, buf, &done, buf, <int>n) != 1:
        return -1
    return 0 if evp.decrypt_final(c.dec, buf + done, &last) == 1 else -1


cdef void* _ecb_context(const uint8_t* key):
    """A keyed context of AES-256-ECB; NULL: there is none."""
    cdef void* cipher = _cipher("ECB")
    cdef void* ctx = NULL if cipher == NULL else evp.new()
    if ctx != NULL and (evp.encrypt_init(ctx, cipher, NULL, key, NULL) != 1 or evp.set_padding(ctx, 0) != 1):
        evp.free(ctx)
        ctx = NULL
    return ctx
