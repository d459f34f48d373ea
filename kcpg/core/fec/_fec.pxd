# cython: language_level=3
"""C interface of the compiled FEC: shards of a group summed up and rebuilt, without allocation per datagram.

Everything here is `noexcept nogil` and touches no Python object. A sender and a receiver take the memory of
shards from a `Pool` that any number of them may share and that bounds them all; one thread at a time per
pool.
`kcpg.core.fec.group` says what groups are and is the plain twin of both; a wire uses them like this:

    sending    fec_tx_data() for each payload, the header it writes in front of it; when it answers 1, and
               when fec_tx_expire() does: fec_tx_parity() until it answers 0
    receiving  fec_rx_data() or fec_rx_parity() for each shard; then, if `fresh`, the payload behind the
               header; then the `rebuilt` chain, which stays until the next call
"""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from kcpg.core.kcp._kcp cimport Pool
from kcpg.core.seal._seal cimport Replay

cdef enum:
    FEC_MAX_SHARDS = 255        # D + R
    FEC_GROUPS = 32             # groups a receiver knows
    FEC_HEADER_BYTES = 7        # before the payload of a data shard
    FEC_PARITY_HEADER_BYTES = 8  # before the block of a parity shard
    FEC_PREFIX_BYTES = 2        # a block begins with its payload's length
    FEC_LINK = 16               # of a slot: the fec_shard_t at its head
    FEC_SLOT_EXTRA = 26         # Pool.slot_bytes = the longest payload + this
    # fec_rx_data() and fec_rx_parity() answer
    FEC_OK = 0
    FEC_DUPLICATE = 1
    FEC_LATE = 2
    FEC_MALFORMED = -1


# --- the field ------------------------------------------------------------------------------------

# dst[0..n) ^= coef * src[0..n) over GF(2^8), 0x11D.
cdef void fec_encode_row(uint8_t* dst, const uint8_t* src, uint8_t coef, size_t n) noexcept nogil
# out[i * parity + r]: coefficient of data shard i in parity shard r.
cdef void fec_columns(uint8_t* out, int data, int parity) noexcept nogil


# --- groups ---------------------------------------------------------------------------------------

cdef struct fec_shard_t:        # head of a slot; FEC_LINK bytes behind its begin stands what it holds
    fec_shard_t* next
    uint32_t len                # bytes held
    uint8_t index


cdef inline uint8_t* fec_body(fec_shard_t* shard) noexcept nogil:
    return <uint8_t*>shard + FEC_LINK


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

cdef void fec_tx_init(fec_tx_t* tx, Pool* pool) noexcept nogil                # off; allocates nothing
cdef void fec_tx_clear(fec_tx_t* tx) noexcept nogil                       # gives everything back; safe twice
# `parity` holds data + 1 counts. Closes the open group if the plan is new. 0; -1: no memory, and off.
cdef int fec_tx_use(fec_tx_t* tx, uint8_t data, const uint8_t* parity, uint32_t wait_ms) noexcept nogil
# Writes FEC_HEADER_BYTES to `header` and adds the payload, at most slot_bytes - FEC_SLOT_EXTRA bytes, to the
# parity. Only while `data` is not 0. 1: the group is full and its parity ready; else 0.
cdef int fec_tx_data(
    fec_tx_t* tx, uint8_t* header, const uint8_t* payload, uint32_t n, int64_t now_ms
) noexcept nogil
cdef int fec_tx_expire(fec_tx_t* tx, int64_t now_ms) noexcept nogil           # 1: closed a group
cdef void fec_tx_close(fec_tx_t* tx) noexcept nogil
# Writes the contents of the next parity frame and answers their length; 0: none.
cdef uint32_t fec_tx_parity(fec_tx_t* tx, uint8_t* out) noexcept nogil


cdef inline uint32_t fec_tx_parity_bytes(const fec_tx_t* tx) noexcept nogil:
    """How many bytes fec_tx_parity() will write."""
    return 0 if tx.ready == NULL else tx.ready.len


cdef inline int64_t fec_tx_deadline(const fec_tx_t* tx) noexcept nogil:
    """When fec_tx_expire() has to be called; -1: no group is open."""
    return tx.opened_ms + tx.wait_ms if tx.count else -1


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
    fec_group_t groups[32]
    uint64_t recovered
    uint64_t lost
    uint64_t duplicates
    uint64_t late
    uint64_t malformed
    uint64_t unkept

cdef void fec_rx_init(fec_rx_t* rx, Pool* pool) noexcept nogil
# Gives up every group and the memory it holds, as when nothing came for a while. Safe at any time.
cdef void fec_rx_forget(fec_rx_t* rx) noexcept nogil
# p, n: the contents of a FEC_DATA frame. When `fresh`, p[FEC_HEADER_BYTES .. n) is to be handed on.
cdef int fec_rx_data(fec_rx_t* rx, const uint8_t* p, uint32_t n) noexcept nogil
cdef int fec_rx_parity(fec_rx_t* rx, const uint8_t* p, uint32_t n) noexcept nogil


# --- loss -----------------------------------------------------------------------------------------

cdef struct fec_losses_t:       # of one epoch
    uint64_t next               # first number not yet judged
    bint in_burst
    uint64_t expected
    uint64_t lost
    uint64_t bursts

# Judge the packet numbers that became old enough since the last call; see kcpg.core.fec.auto.LossCounter.
cdef void fec_losses_scan(fec_losses_t* losses, const Replay* replay, uint64_t settled) noexcept nogil


cdef class GroupSender:
    cdef fec_tx_t tx
    cdef Pool* pool
    cdef readonly int max_payload


cdef class GroupReceiver:
    cdef fec_rx_t rx
    cdef Pool* pool
    cdef readonly int max_payload


cdef class LossCounter:
    cdef fec_losses_t losses
