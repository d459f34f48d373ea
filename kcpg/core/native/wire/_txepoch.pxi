"""What a link sends under; see txepoch.py. Included by _wire.pyx."""


cdef class TxEpoch:
    """What seals datagrams for one CID of the peer, and the packet number of the next one."""

    def __init__(self, uint32_t cid, Sealer sealer not None):
        self.cid = cid
        self.sealer = sealer

    cdef bint seal(self, uint8_t* p, uint32_t size):
        """Number and seal the datagram p[0..size) where it lies. False: the library refused."""
        put32be(p, self.cid)
        put32be(p + 4, <uint32_t>self.pn)
        if sealer_seal(
            &self.sealer.c, self.pn, p, HEADER_BYTES, p + HEADER_BYTES, size - HEADER_BYTES - TAG_BYTES
        ) != 0:
            return False
        self.pn += 1
        return True


cdef int seal_vector(LinkWire link_wire, Tx* tx, int start) except -1:
    """Seal and mask the datagrams from `start` on; those that a library refuses are counted drops."""
    cdef uint8_t samples[16 * BATCH]
    cdef uint8_t* p
    cdef int i, first = start, n
    while first < tx.count:
        n = min(tx.count - first, <int>BATCH)
        for i in range(n):
            p = tx.buf + tx.off[first + i]
            if not link_wire.tx.seal(p, tx.len[first + i]):
                tx.count = first
                link_wire.wire.count_drop("seal_refused")
                return 0
            memcpy(samples + 16 * i, p + tx.len[first + i] - 16, 16)
            link_wire.tx_bytes += tx.len[first + i]
        link_wire.tx_datagrams += n
        link_wire.tx_last_ms = link_wire.wire.now_ms
        if mask_batch(&link_wire.wire.mask_tx.c, samples, samples, n) != 0:
            tx.count = first
            link_wire.wire.count_drop("seal_refused")
            return 0
        for i in range(n):
            xor8(tx.buf + tx.off[first + i], samples + 16 * i)
        first += n
    return 0


cdef bint seal_one(LinkWire link_wire, bytearray datagram) except -1:
    """Seal and mask one datagram where it lies. False: a library refused, and that is counted."""
    cdef uint32_t off = 0, size = <uint32_t>len(datagram)
    cdef Tx one
    memset(&one, 0, sizeof(one))
    one.buf = <uint8_t*>datagram
    one.off = &off
    one.len = &size
    one.count = 1
    seal_vector(link_wire, &one, 0)
    return one.count > 0
