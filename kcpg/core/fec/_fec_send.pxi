# The sender of groups: parity is summed up in the very slots that hold the frames to be sent.


cdef inline void put_group(uint8_t* p, uint32_t v) noexcept nogil:
    p[0] = <uint8_t>(v >> 24)
    p[1] = <uint8_t>(v >> 16)
    p[2] = <uint8_t>(v >> 8)
    p[3] = <uint8_t>v


cdef void give_back(Pool* pool, fec_shard_t* shard) noexcept nogil:
    """Return a chain to its pool."""
    cdef fec_shard_t* following
    while shard != NULL:
        following = shard.next
        slot_put(pool, <uint8_t*>shard)
        shard = following


cdef void fec_tx_init(fec_tx_t* tx, Pool* pool) noexcept nogil:
    memset(tx, 0, sizeof(fec_tx_t))
    tx.pool = pool


cdef void fec_tx_clear(fec_tx_t* tx) noexcept nogil:
    give_back(tx.pool, tx.sums)
    give_back(tx.pool, tx.ready)
    free(tx.columns)
    tx.sums = tx.ready = tx.ready_last = NULL
    tx.columns = NULL
    tx.data = tx.rows = tx.count = 0
    tx.longest = 0


cdef int fec_tx_use(fec_tx_t* tx, uint8_t data, const uint8_t* parity, uint32_t wait_ms) noexcept nogil:
    cdef uint8_t rows = parity[data]
    tx.wait_ms = wait_ms
    if data == tx.data and memcmp(parity, tx.parity, <size_t>data + 1) == 0:
        return 0
    fec_tx_close(tx)
    free(tx.columns)
    tx.columns = NULL
    tx.data = tx.rows = 0
    if data == 0:
        return 0
    tx.columns = <uint8_t*>malloc(<size_t>data * rows + 1)      # + 1: never NULL for lack of rows
    if tx.columns == NULL:
        return -1
    fec_columns(tx.columns, data, rows)
    memcpy(tx.parity, parity, <size_t>data + 1)
    tx.data = data
    tx.rows = rows
    return 0


cdef void tx_open(fec_tx_t* tx, int64_t now_ms) noexcept nogil:
    """Take the memory for the group's parity; with less of it the group has fewer parity shards."""
    cdef fec_shard_t* shard
    cdef fec_shard_t* first = NULL
    cdef int r
    tx.opened_ms = now_ms
    for r in range(tx.rows):
        shard = <fec_shard_t*>slot_get(tx.pool)
        if shard == NULL:
            tx.short_groups += 1
            break
        shard.next = first
        first = shard
    tx.sums = first


cdef int fec_tx_data(
    fec_tx_t* tx, uint8_t* header, const uint8_t* payload, uint32_t n, int64_t now_ms
) noexcept nogil:
    cdef fec_shard_t* shard
    cdef const uint8_t* column
    cdef uint8_t* block
    if tx.count == 0:
        tx_open(tx, now_ms)
    put_group(header, tx.group)
    header[4] = tx.count
    header[5] = tx.data
    header[6] = tx.rows
    column = tx.columns + <size_t>tx.count * tx.rows
    shard = tx.sums
    while shard != NULL:
        block = fec_body(shard) + FEC_PARITY_HEADER_BYTES
        if n + FEC_PREFIX_BYTES > tx.longest:
            memset(block + tx.longest, 0, n + FEC_PREFIX_BYTES - tx.longest)
        block[0] ^= kcpg_gf_times(column[0], <uint8_t>(n >> 8))
        block[1] ^= kcpg_gf_times(column[0], <uint8_t>n)
        multiply_add(block + FEC_PREFIX_BYTES, payload, column[0], n)
        column += 1
        shard = shard.next
    if n + FEC_PREFIX_BYTES > tx.longest:
        tx.longest = n + FEC_PREFIX_BYTES
    tx.count += 1
    if tx.count < tx.data:
        return 0
    fec_tx_close(tx)
    return 1


cdef int fec_tx_expire(fec_tx_t* tx, int64_t now_ms) noexcept nogil:
    if tx.count == 0 or now_ms < tx.opened_ms + tx.wait_ms:
        return 0
    fec_tx_close(tx)
    return 1


cdef void fec_tx_close(fec_tx_t* tx) noexcept nogil:
    cdef fec_shard_t* shard
    cdef fec_shard_t* following
    cdef uint8_t* p
    cdef int parity = 0
    cdef int r = 0
    if tx.count == 0:
        return
    shard = tx.sums
    while shard != NULL and parity < tx.parity[tx.count]:
        parity += 1
        shard = shard.next
    shard = tx.sums
    tx.sums = NULL
    for r in range(parity):
        following = shard.next
        p = fec_body(shard)
        put_group(p, tx.group)
        p[4] = <uint8_t>(tx.data + r)
        p[5] = tx.data
        p[6] = <uint8_t>parity
        p[7] = tx.count
        shard.len = FEC_PARITY_HEADER_BYTES + tx.longest
        shard.next = NULL
        if tx.ready == NULL:
            tx.ready = shard
        else:
            tx.ready_last.next = shard
        tx.ready_last = shard
        shard = following
    give_back(tx.pool, shard)
    tx.group += 1
    tx.count = 0
    tx.longest = 0


cdef uint32_t fec_tx_parity(fec_tx_t* tx, uint8_t* out) noexcept nogil:
    cdef fec_shard_t* shard = tx.ready
    cdef uint32_t n
    if shard == NULL:
        return 0
    n = shard.len
    memcpy(out, fec_body(shard), n)
    tx.ready = shard.next
    slot_put(tx.pool, <uint8_t*>shard)
    return n
