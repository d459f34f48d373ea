# Part of _fec.pxd: the sender of groups. Twin: sender.py.

cdef struct fec_tx_t:
    Pool* pool
    uint8_t* columns            # per data shard: its coefficient in each parity shard
    uint8_t data                # D; 0: off
    uint8_t rows                # parity shards of a full group
    uint8_t parity[256]         # [k]: parity shards behind k data shards
    uint32_t wait_ms
    uint32_t group              # number of the open group, or of the next
    uint8_t count               # data shards in it
    uint32_t longest            # bytes of its longest block
    int64_t opened_ms
    fec_shard_t* sums           # its parity so far
    fec_shard_t* ready          # contents of parity frames that may leave
    fec_shard_t* ready_last
    uint64_t short_groups       # groups with fewer parity shards than planned, for want of memory

cdef void fec_tx_init(fec_tx_t* tx, Pool* pool) noexcept nogil
cdef void fec_tx_clear(fec_tx_t* tx) noexcept nogil
cdef int fec_tx_use(fec_tx_t* tx, uint8_t data, const uint8_t* parity, uint32_t wait_ms) noexcept nogil
cdef int fec_tx_data(
    fec_tx_t* tx, uint8_t* header, const uint8_t* payload, uint32_t n, int64_t now_ms
) noexcept nogil
cdef int fec_tx_expire(fec_tx_t* tx, int64_t now_ms) noexcept nogil
cdef void fec_tx_close(fec_tx_t* tx) noexcept nogil
cdef uint32_t fec_tx_parity(fec_tx_t* tx, uint8_t* out) noexcept nogil


cdef inline uint32_t fec_tx_parity_bytes(const fec_tx_t* tx) noexcept nogil:
    """How many bytes fec_tx_parity() will write."""
    return 0 if tx.ready == NULL else tx.ready.len


cdef inline int64_t fec_tx_deadline(const fec_tx_t* tx) noexcept nogil:
    """When fec_tx_expire() has to be called; -1: no group is open."""
    return tx.opened_ms + tx.wait_ms if tx.count else -1


cdef class GroupSender:
    cdef fec_tx_t tx
    cdef Pool* pool
    cdef readonly int max_payload
