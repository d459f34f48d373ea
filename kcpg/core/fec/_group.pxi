# Part of _fec.pyx: what sender and receiver of groups share. Declared in _group.pxd; twin: group.py.

cdef inline void put_group(uint8_t* p, uint32_t v) noexcept nogil:
    p[0] = <uint8_t>(v >> 24)
    p[1] = <uint8_t>(v >> 16)
    p[2] = <uint8_t>(v >> 8)
    p[3] = <uint8_t>v


cdef inline uint32_t get_group(const uint8_t* p) noexcept nogil:
    return (<uint32_t>p[0] << 24) | (<uint32_t>p[1] << 16) | (<uint32_t>p[2] << 8) | p[3]


cdef void give_back(Pool* pool, fec_shard_t* shard) noexcept nogil:
    """Return a chain to its pool."""
    cdef fec_shard_t* following
    while shard != NULL:
        following = shard.next
        slot_put(pool, <uint8_t*>shard)
        shard = following
