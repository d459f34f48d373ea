"""Numbers, masks and paths as they stand in and beside datagrams; see headers.py. Included by _wire.pyx.

The plain engine masks by `kcpg.core.seal.seal.xor`, and its paths are tuples.
"""


cdef inline uint32_t get32be(const uint8_t* p) noexcept nogil:
    """A number in network order."""
    return (<uint32_t>p[0] << 24) | (<uint32_t>p[1] << 16) | (<uint32_t>p[2] << 8) | p[3]


cdef inline void put32be(uint8_t* p, uint32_t v) noexcept nogil:
    """Write a number in network order."""
    p[0] = <uint8_t>(v >> 24)
    p[1] = <uint8_t>(v >> 16)
    p[2] = <uint8_t>(v >> 8)
    p[3] = <uint8_t>v


cdef inline void xor8(uint8_t* p, const uint8_t* mask) noexcept nogil:
    """Mask, or unmask, the header at `p`."""
    cdef uint64_t a, b
    memcpy(&a, p, 8)
    memcpy(&b, mask, 8)
    a ^= b
    memcpy(p, &a, 8)


cdef inline bint same_path(const Path* a, const Path* b) noexcept nogil:
    """Whether both are the same socket and address."""
    return a.sock == b.sock and a.addrlen == b.addrlen and memcmp(a.addr, b.addr, a.addrlen) == 0
