# Part of _seal.pyx: AES-GCM of libipsec-mb, where that library is installed. No twin: no Python package wraps
# it.
#
# For a datagram it needs half to a quarter of the processor time of EVP in OpenSSL 3.0, because one function
# does it all: the nonce, the header, the bytes and the tag. Its functions are named after the instructions
# they use, and it says itself which of them the processor has. Only releases 1.x are used, whose structures
# are known.

from libc.stdlib cimport free

cdef extern from "<stdlib.h>" nogil:
    int posix_memalign(void** memory, size_t alignment, size_t n)

cdef extern from "<string.h>" nogil:
    void explicit_bzero(void* memory, size_t n)

cdef enum:
    IPSEC_KEY_BYTES = 2048      # struct gcm_key_data, aligned to 64: 1,008 up to release 1.3, then 1,264
    IPSEC_CONTEXT_WORDS = 16    # struct gcm_context_data, the function's scratch: 11

ctypedef unsigned int (*ipsec_version_fn)() noexcept nogil
ctypedef uint64_t (*ipsec_features_fn)() noexcept nogil
ctypedef void (*ipsec_key_fn)(const uint8_t* key, void* expanded) noexcept nogil
ctypedef void (*ipsec_gcm_fn)(const void* key, void* context, uint8_t* out, const uint8_t* data, uint64_t n,
                              const uint8_t* nonce12, const uint8_t* aad, uint64_t aadlen,
                              uint8_t* tag, uint64_t taglen) noexcept nogil

cdef struct IpsecLibrary:
    ipsec_key_fn expand
    ipsec_gcm_fn encrypt
    ipsec_gcm_fn decrypt

cdef IpsecLibrary ipsec
memset(&ipsec, 0, sizeof(IpsecLibrary))

# Bits of imb_get_feature_flags(), and the functions that need them all, the fastest first.
_AVX2 = sum(1 << bit for bit in (1, 2, 3, 4, 5, 6, 18))        # AES-NI, CLMUL, CMOV, SSE 4.2, AVX, AVX2, BMI2
_AVX512 = _AVX2 | sum(1 << bit for bit in (7, 8, 9, 10, 11))   # F, DQ, CD, BW, VL
_VAES = _AVX512 | sum(1 << bit for bit in (0, 12, 13, 16, 17))  # SHA, VAES, VPCLMULQDQ, GFNI, IFMA
_IPSEC_KINDS = ((b"vaes_avx512", _VAES), (b"avx512", _AVX512), (b"avx_gen4", _AVX2))


cdef str _open_ipsec():
    """Load the library and give its name and version; "" if it is not there or this processor is too old."""
    cdef void* handle = dlopen(b"libIPSec_MB.so.1", RTLD_NOW | RTLD_LOCAL)
    cdef ipsec_version_fn get_version
    cdef ipsec_features_fn get_features
    cdef unsigned int version
    cdef uint64_t features
    if handle == NULL:
        return ""
    get_version = <ipsec_version_fn>dlsym(handle, b"imb_get_version")
    get_features = <ipsec_features_fn>dlsym(handle, b"imb_get_feature_flags")
    if get_version == NULL or get_features == NULL:
        return ""
    version, features = get_version(), get_features()
    if version >> 16 != 1:
        return ""
    for kind, needed in _IPSEC_KINDS:
        if features & needed != needed:
            continue
        ipsec.expand = <ipsec_key_fn>dlsym(handle, <bytes>(b"aes_gcm_pre_256_" + kind))
        ipsec.encrypt = <ipsec_gcm_fn>dlsym(handle, <bytes>(b"aes_gcm_enc_256_" + kind))
        ipsec.decrypt = <ipsec_gcm_fn>dlsym(handle, <bytes>(b"aes_gcm_dec_256_" + kind))
        if ipsec.expand != NULL and ipsec.encrypt != NULL and ipsec.decrypt != NULL:
            return f"ipsec-mb {version >> 16}.{version >> 8 & 255}.{version & 255}"
    return ""


IPSEC = _open_ipsec()   # for example "ipsec-mb 1.3.0"


cdef bint _begin_ipsec(SealerC* c, const uint8_t* key) noexcept nogil:
    """Expand a key for _ipsec_seal() and _ipsec_open(); False without memory."""
    if posix_memalign(&c.gcm, 64, IPSEC_KEY_BYTES) != 0:
        c.gcm = NULL
        return False
    ipsec.expand(key, c.gcm)
    return True


cdef void _end_ipsec(SealerC* c) noexcept nogil:
    """Erase the expanded key, if there is one."""
    if c.gcm != NULL:
        explicit_bzero(c.gcm, IPSEC_KEY_BYTES)
        free(c.gcm)
        c.gcm = NULL


cdef int _ipsec_seal(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                     uint8_t* buf, size_t n) noexcept nogil:
    """As sealer_seal(), by libipsec-mb."""
    cdef uint8_t nonce[12]
    cdef uint64_t context[IPSEC_CONTEXT_WORDS]
    _nonce(c, pn, nonce)
    ipsec.encrypt(c.gcm, context, buf, buf, n, nonce, aad, aadlen, buf + n, TAG_BYTES)
    return 0


cdef int _ipsec_open(SealerC* c, uint64_t pn, const uint8_t* aad, size_t aadlen,
                     uint8_t* buf, size_t n) noexcept nogil:
    """As sealer_open(), by libipsec-mb."""
    cdef uint8_t nonce[12]
    cdef uint64_t context[IPSEC_CONTEXT_WORDS]
    cdef uint8_t tag[TAG_BYTES]
    n -= TAG_BYTES
    _nonce(c, pn, nonce)
    ipsec.decrypt(c.gcm, context, buf, buf, n, nonce, aad, aadlen, tag, TAG_BYTES)
    return -1 if _differs(tag, buf + n) else 0
