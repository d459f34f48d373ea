# Part of _kcp.pxd: wrapped numbers, and little-endian ones in a datagram. No twin: plain Python has
# kcpg.core.units and struct for them.

cdef inline int32_t diff32(uint32_t a, uint32_t b) noexcept nogil:
    """`a - b` as a signed wrapped difference: negative when `a` comes before `b`."""
    return <int32_t>(a - b)


cdef inline uint16_t get16(const uint8_t* p) noexcept nogil:
    return <uint16_t>(p[0] | (<uint32_t>p[1] << 8))


cdef inline uint32_t get32(const uint8_t* p) noexcept nogil:
    return p[0] | (<uint32_t>p[1] << 8) | (<uint32_t>p[2] << 16) | (<uint32_t>p[3] << 24)


cdef inline void put16(uint8_t* p, uint32_t v) noexcept nogil:
    p[0] = <uint8_t>v
    p[1] = <uint8_t>(v >> 8)


cdef inline void put32(uint8_t* p, uint32_t v) noexcept nogil:
    p[0] = <uint8_t>v
    p[1] = <uint8_t>(v >> 8)
    p[2] = <uint8_t>(v >> 16)
    p[3] = <uint8_t>(v >> 24)
