# Part of _wire.pxd: shards, made and put together where they lie. Twin: fec.py.

cdef enum:
    SHARD_BYTES = 6             # number and kind
    SIZE_BYTES = 2
    OVERHEAD_BYTES = 8
    DATA = 0xF1
    PARITY = 0xF2
    MAX_SHARDS = 256            # of a group
    GROUPS = 8                  # of a receiver


@cython.final
cdef class ShardSender:
    cdef readonly int data
    cdef readonly int parity
    cdef readonly uint64_t groups, parity_bytes
    cdef public uint32_t number     # of the next shard
    cdef uint32_t end
    cdef int filled                 # data shards of the group
    cdef int due                    # parity shards of a full group that have not left
    cdef uint32_t longest           # block of the group
    cdef bytes rows                 # coefficients: parity x data
    cdef uint8_t* sums              # of the group's blocks: parity x DATAGRAM_BYTES

    cdef void put_header(self, uint8_t* p, uint32_t kind) noexcept
    cdef void dress(self, uint8_t* p, uint32_t n) noexcept
    cdef uint32_t put_parity(self, uint8_t* p) noexcept


cdef struct shards_t:               # a group of a receiver
    uint32_t group
    bint is_used
    bint is_done
    int count
    uint16_t* length                # by place, + 1; 0: not there
    uint8_t* blocks                 # by place, DATAGRAM_BYTES each


@cython.final
cdef class ShardReceiver:
    cdef readonly uint64_t rebuilt, untrusted
    cdef readonly object shape
    cdef uint32_t number
    cdef int data, parity           # those of `shape`
    cdef uint32_t newest
    cdef shards_t groups[GROUPS]

    cdef list take_at(self, uint32_t number, bint is_data, const uint8_t* block, uint32_t n)
    cdef bint learn(self, uint32_t number, bint is_data) except -1
    cdef shards_t* group_of(self, uint32_t group) except? NULL
    cdef void forget_groups(self) noexcept
