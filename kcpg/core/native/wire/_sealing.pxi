"""Datagrams that were built are sealed and masked, many in one call. Included by _wire.pyx."""


cdef int seal_range(Bundle bundle, Tx* tx, int start) except -1:
    """Number, seal and mask the datagrams from `start` on; those a library refuses are counted drops."""
    cdef uint8_t samples[16 * BATCH]
    cdef uint8_t* p
    cdef int i, first, n
    cdef uint32_t size, n_plain
    first = start
    while first < tx.count:
        n = tx.count - first
        if n > BATCH:
            n = BATCH
        for i in range(n):
            p = tx.buf + tx.off[first + i]
            size = tx.len[first + i]
            put32be(p, bundle.tx_cid)
            put32be(p + 4, <uint32_t>bundle.tx_pn)
            n_plain = size - HEADER_BYTES - TAG_BYTES
            if sealer_seal(
                &bundle.tx_sealer.c, bundle.tx_pn, p, HEADER_BYTES, p + HEADER_BYTES, n_plain
            ) != 0:
                tx.count = first
                bundle.wire.count_drop("seal_refused")
                return 0
            bundle.tx_pn += 1
            memcpy(samples + 16 * i, p + size - 16, 16)
            bundle.tx_bytes += size
        bundle.tx_datagrams += n
        bundle.tx_last_ms = bundle.wire.now_ms
        if mask_batch(&bundle.wire.mask_tx.c, samples, samples, n) != 0:
            tx.count = first
            bundle.wire.count_drop("seal_refused")
            return 0
        for i in range(n):
            xor8(tx.buf + tx.off[first + i], samples + 16 * i)
        first += n
    return 0
