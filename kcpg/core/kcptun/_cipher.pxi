# Part of _wire.pyx: seals and opens datagrams where they lie. Declared in _cipher.pxd; twin: cipher.py, which
# does the work of ciphers that are slow anyway.

kcpg_crc_begin()


@cython.final
cdef class Cipher:
    """Both directions of every datagram under one `secret`; see `kcpg.core.kcptun.cipher.Cipher`."""

    def __cinit__(self, str crypt, bytes secret):
        cdef bytes key, table
        memset(&self.cfb, 0, sizeof(self.cfb))
        memset(&self.gcm, 0, sizeof(self.gcm))
        self.twin = plain_cipher.Cipher(crypt, secret)
        self.crypt = crypt
        self.overhead = self.twin.overhead
        self.marks = self.twin.marks
        self.mark = self.twin.mark
        self.mark_at = self.mark.start
        self.mark_bytes = self.mark.stop - self.mark.start
        self.nonce_bytes = self.twin.nonce_bytes
        self.head = SEAL_BYTES
        key = secret[:plain_cipher.KEY_BYTES[crypt]]
        self.kind = BY_TWIN
        if crypt == "null":
            self.kind, self.head = BY_NULL, 0
        elif crypt == "none":
            self.kind = BY_NONE
        elif crypt == "xor":
            table = plain_cipher.xor_table(key)
            memcpy(self.table, <const uint8_t*>table, DATAGRAM_BYTES)
            self.kind = BY_XOR
        elif crypt == "aes-128-gcm":
            self.head, self.tail = GCM_NONCE_BYTES, GCM_BYTES - GCM_NONCE_BYTES
            if gcm128_begin(&self.gcm, key):
                self.kind = BY_GCM
        elif cfb_begin(&self.cfb, crypt, key, <const uint8_t*><bytes>plain_cipher.IV):
            self.kind = BY_BLOCKS
        if self.kind in (BY_BLOCKS, BY_GCM) and not self.answers():
            self.kind = BY_TWIN

    def __dealloc__(self):
        cfb_end(&self.cfb)
        gcm128_end(&self.gcm)
        memset(self.table, 0, DATAGRAM_BYTES)

    cdef bint answers(self) except -1:
        """Whether the library gives the known answer."""
        cdef bytes nonce = bytes(range(self.nonce_bytes)), body = bytes(range(100))
        cdef bytes known = self.twin.seal(nonce, body)
        return self.seal(nonce, body) == known and self.open(known) == body

    @property
    def is_compiled(self):
        """Python does nothing for a datagram."""
        return self.kind != BY_TWIN

    def seal(self, bytes nonce, bytes body):
        """A datagram; the nonce has `nonce_bytes`."""
        cdef uint32_t length = <uint32_t>(self.head + len(body) + self.tail)
        cdef bytes out = PyBytes_FromStringAndSize(NULL, length)
        cdef uint8_t* p = <uint8_t*>PyBytes_AS_STRING(out)
        assert len(nonce) == self.nonce_bytes
        if self.head > 0:
            memcpy(p, <const uint8_t*>nonce, self.nonce_bytes)
        memcpy(p + self.head, <const uint8_t*>body, len(body))
        self.seal_batch(&p, &length, 1)
        return out

    def open(self, bytes datagram):
        """The body of a datagram; None if it is none of ours. Never raises."""
        cdef uint32_t n = <uint32_t>len(datagram)
        cdef bytes copy = PyBytes_FromStringAndSize(PyBytes_AS_STRING(datagram), n)
        cdef int size = self.open_at(<uint8_t*>PyBytes_AS_STRING(copy), n)
        return None if size < 0 else copy[self.head : self.head + <uint32_t>size]

    cdef int seal_batch(self, uint8_t** at, const uint32_t* length, int count) except -1:
        """Seal datagrams in place."""
        cdef int i, done
        cdef bytes sealed
        if self.kind == BY_NULL:
            return 0
        for i in range(count):
            if self.kind == BY_TWIN:
                sealed = self.twin.seal(
                    at[i][:self.nonce_bytes], at[i][self.head : length[i] - self.tail])
                memcpy(at[i], <const uint8_t*>sealed, length[i])
            elif self.kind == BY_GCM:
                if gcm128_seal(&self.gcm, at[i], length[i] - GCM_BYTES) != 0:
                    raise RuntimeError("the cipher library refused to encrypt")
            else:
                put32(at[i] + NONCE_BYTES, kcpg_crc32(at[i] + SEAL_BYTES, length[i] - SEAL_BYTES))
                if self.kind == BY_XOR:
                    xor_bytes(at[i], self.table, length[i])
        if self.kind == BY_BLOCKS:
            for done in range(0, count, CFB_LANES):
                if cfb_seal(&self.cfb, at + done, length + done, min(count - done, <int>CFB_LANES)) != 0:
                    raise RuntimeError("the cipher library refused to encrypt")
        return 0

    cdef int open_at(self, uint8_t* p, uint32_t n) except -2:
        """Open a datagram in place: the bytes of its body; -1: it is none of ours."""
        cdef bytes opened
        if n > DATAGRAM_BYTES:
            return -1
        if self.kind == BY_NULL:
            return <int>n if n > 0 else -1
        if n <= self.head + self.tail:
            return -1
        if self.kind == BY_GCM:
            return <int>(n - GCM_BYTES) if gcm128_open(&self.gcm, p, n - GCM_NONCE_BYTES) == 0 else -1
        if self.kind == BY_TWIN:
            found = self.twin.open(p[:n])
            if found is None:
                return -1
            opened = found
            memcpy(p + self.head, <const uint8_t*>opened, len(opened))
            return <int>len(opened)
        if self.kind == BY_XOR:
            xor_bytes(p, self.table, n)
        elif self.kind == BY_BLOCKS and cfb_open(&self.cfb, p, n) != 0:
            return -1
        if kcpg_crc32(p + SEAL_BYTES, n - SEAL_BYTES) != get32(p + NONCE_BYTES):
            return -1
        return <int>(n - SEAL_BYTES)


cdef inline void xor_bytes(uint8_t* p, const uint8_t* mask, uint32_t n) noexcept nogil:
    """p[0..n) ^= mask[0..n)."""
    cdef uint32_t i
    for i in range(n):
        p[i] ^= mask[i]
