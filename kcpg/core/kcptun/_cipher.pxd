# Part of _wire.pxd: seals and opens datagrams where they lie. Twin: cipher.py.

cdef enum:
    NONCE_BYTES = 16
    SEAL_BYTES = 20             # a nonce and the CRC
    GCM_NONCE_BYTES = 12
    GCM_BYTES = 28
    DATAGRAM_BYTES = 1500       # longest

cdef enum Kind:
    BY_TWIN, BY_BLOCKS, BY_GCM, BY_XOR, BY_NONE, BY_NULL


@cython.final
cdef class Cipher:
    cdef readonly str crypt
    cdef readonly int overhead
    cdef readonly bint marks
    cdef readonly slice mark
    cdef readonly int nonce_bytes
    cdef object twin                # the plain one
    cdef Kind kind
    cdef CfbC cfb
    cdef SealerC gcm
    cdef uint8_t table[DATAGRAM_BYTES]
    cdef uint32_t head              # bytes of the datagram before its body ...
    cdef uint32_t tail              # ... and behind
    cdef uint32_t mark_at, mark_bytes

    cdef bint answers(self) except -1
    # Seal `count` datagrams in place: the nonces are there, and the bodies behind `head` bytes.
    cdef int seal_batch(self, uint8_t** at, const uint32_t* length, int count) except -1
    # Open a datagram in place: the bytes of its body behind `head`; -1: it is none of ours.
    cdef int open_at(self, uint8_t* p, uint32_t n) except -2
