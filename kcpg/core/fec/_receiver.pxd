# Part of _fec.pxd: the receiver of groups. Twin: receiver.py.

cdef enum:
    FEC_GROUPS = 32             # groups a receiver knows
    # fec_rx_data() and fec_rx_parity() answer
    FEC_OK = 0
    FEC_DUPLICATE = 1
    FEC_LATE = 2
    FEC_MALFORMED = -1

cdef struct fec_group_t:
    uint32_t number
    bint used
    bint closed                 # complete or given up: nothing more is kept
    uint8_t data
    uint8_t count               # data shards the sender put into it; 0: no parity shard has told yet
    uint8_t have_data           # data shards handed on
    uint8_t held                # shards kept
    uint32_t block_bytes        # length of its parity
    uint64_t have[4]            # bit per index: data shards handed on, parity shards taken
    fec_shard_t* shards

cdef struct fec_rx_t:
    Pool* pool
    bint started
    uint32_t newest
    uint32_t late_in_a_row
    bint fresh                  # the last call's payload is new: hand it on
    fec_shard_t* rebuilt        # payloads of the last call: FEC_PREFIX_BYTES of a block, then `len` bytes
    uint8_t weights_data        # the D that `weights` is for
    uint8_t weights[256]
    fec_group_t groups[FEC_GROUPS]
    uint64_t recovered
    uint64_t lost
    uint64_t duplicates
    uint64_t late
    uint64_t malformed
    uint64_t unkept

cdef void fec_rx_init(fec_rx_t* rx, Pool* pool) noexcept nogil
cdef void fec_rx_forget(fec_rx_t* rx) noexcept nogil
cdef int fec_rx_data(fec_rx_t* rx, const uint8_t* p, uint32_t n) noexcept nogil
cdef int fec_rx_parity(fec_rx_t* rx, const uint8_t* p, uint32_t n) noexcept nogil


cdef class GroupReceiver:
    cdef fec_rx_t rx
    cdef Pool* pool
    cdef readonly int max_payload
