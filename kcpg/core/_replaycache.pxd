# Part of _plainwire.pxd: a bounded memory of what came lately. Twin: replaycache.py.

cdef struct marks_t:            # one half of the memory: a hash table with open addresses
    uint64_t* slots             # pairs; two zeros: empty
    uint32_t cap                # a power of two; 0: nothing was ever put in
    uint32_t count


@cython.final
cdef class ReplayCache:
    cdef marks_t new
    cdef marks_t old
    cdef uint32_t limit
    cdef int64_t age_ms
    cdef int64_t since_ms           # -1: nothing was ever put in

    cdef void fetch(self, const uint8_t* mark, uint32_t n) noexcept
    cdef bint has(self, const uint8_t* mark, uint32_t n) noexcept
    cdef int remember(self, const uint8_t* mark, uint32_t n, int64_t now_ms) except -1
