# Part of _fec.pxd: how shards of groups look, on the wire and in memory. Twin: group.py.

cdef enum:
    FEC_HEADER_BYTES = 7        # before the payload of a data shard
    FEC_PARITY_HEADER_BYTES = 8  # before the block of a parity shard
    FEC_PREFIX_BYTES = 2        # a block begins with its payload's length
    FEC_LINK = 16               # of a slot: the fec_shard_t at its head
    FEC_SLOT_EXTRA = 26         # Pool.slot_bytes = the longest payload + this

cdef struct fec_shard_t:        # head of a slot; what it holds begins FEC_LINK bytes behind the head's start
    fec_shard_t* next
    uint32_t len                # bytes held
    uint8_t index


cdef inline uint8_t* fec_body(fec_shard_t* shard) noexcept nogil:
    """What the slot of a shard holds."""
    return <uint8_t*>shard + FEC_LINK
