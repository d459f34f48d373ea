# Part of _seal.pxd: see _salted.pxi.

cdef class SaltedOpener:
    cdef void* ctx              # EVP_CIPHER_CTX* of ChaCha20-Poly1305, NULL where the twin does the work
    cdef uint8_t inner[256]     # HMAC's hashes, begun with the key
    cdef uint8_t outer[256]
    cdef readonly str backend
    cdef object _twin
