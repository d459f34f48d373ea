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
