# Part of _plainwire.pyx: a bounded memory of what came lately. Declared in _replaycache.pxd; twin:
# replaycache.py.
#
# Of a mark the first 16 bytes count. Nobody without the key can choose them, so any simple hash will do.

cdef enum:
    MARK_BYTES = 16
    MARKS_START = 1024              # places of a table at first; it is never more than half full


cdef inline void mark_words(const uint8_t* mark, uint32_t n, uint64_t* words) noexcept nogil:
    words[0] = words[1] = 0
    memcpy(words, mark, min(n, <uint32_t>MARK_BYTES))
    if words[0] == 0 and words[1] == 0:
        words[1] = 1


cdef inline uint32_t mark_first(const marks_t* m, const uint64_t* words) noexcept nogil:
    """The first place where a mark may stand."""
    return <uint32_t>((words[0] ^ words[1] * 3) * 0x9E3779B97F4A7C15u >> 32) & (m.cap - 1)


cdef inline uint64_t* mark_place(const marks_t* m, const uint64_t* words) noexcept nogil:
    """Where a mark stands, or would."""
    cdef uint32_t i = mark_first(m, words)
    while True:
        if m.slots[2 * i] == words[0] and m.slots[2 * i + 1] == words[1]:
            return m.slots + 2 * i
        if m.slots[2 * i] == 0 and m.slots[2 * i + 1] == 0:
            return m.slots + 2 * i
        i = (i + 1) & (m.cap - 1)


cdef inline bint marks_have(const marks_t* m, const uint64_t* words) noexcept nogil:
    cdef uint64_t* at
    if m.count == 0:
        return False
    at = mark_place(m, words)
    return at[0] != 0 or at[1] != 0


cdef bint marks_grow(marks_t* m) noexcept nogil:
    """Twice the places, or the first; False: there is no memory."""
    cdef marks_t larger
    cdef uint64_t* at
    cdef uint32_t i
    larger.cap = 2 * m.cap if m.cap > 0 else MARKS_START
    larger.count = m.count
    larger.slots = <uint64_t*>calloc(2 * <size_t>larger.cap, sizeof(uint64_t))
    if larger.slots == NULL:
        return False
    for i in range(m.cap):
        if m.slots[2 * i] != 0 or m.slots[2 * i + 1] != 0:
            at = mark_place(&larger, m.slots + 2 * i)
            at[0] = m.slots[2 * i]
            at[1] = m.slots[2 * i + 1]
    free(m.slots)
    m[0] = larger
    return True


@cython.final
cdef class ReplayCache:
    """As `kcpg.core.replaycache.ReplayCache`, of marks with 8 to 16 bytes."""

    def __cinit__(self, uint32_t limit, int64_t age_ms):
        memset(&self.new, 0, sizeof(marks_t))
        memset(&self.old, 0, sizeof(marks_t))
        self.limit = limit
        self.age_ms = age_ms
        self.since_ms = -1

    def __dealloc__(self):
        free(self.new.slots)
        free(self.old.slots)

    def __len__(self):
        return self.new.count + self.old.count

    def __contains__(self, bytes mark):
        return self.has(<const uint8_t*>mark, <uint32_t>len(mark))

    def add(self, bytes mark, int64_t now_ms):
        """Remember it."""
        self.remember(<const uint8_t*>mark, <uint32_t>len(mark), now_ms)

    cdef void fetch(self, const uint8_t* mark, uint32_t n) noexcept:
        """Bring what a mark will be looked for in into the cache: the tables are larger than that."""
        cdef uint64_t[2] words
        mark_words(mark, n, words)
        if self.new.cap > 0:
            __builtin_prefetch(self.new.slots + 2 * mark_first(&self.new, words), 1, 2)
        if self.old.cap > 0:
            __builtin_prefetch(self.old.slots + 2 * mark_first(&self.old, words), 0, 2)

    cdef bint has(self, const uint8_t* mark, uint32_t n) noexcept:
        """It came lately."""
        cdef uint64_t[2] words
        mark_words(mark, n, words)
        return marks_have(&self.new, words) or marks_have(&self.old, words)

    cdef int remember(self, const uint8_t* mark, uint32_t n, int64_t now_ms) except -1:
        """Remember it."""
        cdef uint64_t[2] words
        cdef uint64_t* at
        mark_words(mark, n, words)
        if self.since_ms < 0:
            self.since_ms = now_ms
        if self.new.count >= self.limit // 2 or now_ms - self.since_ms >= self.age_ms:
            free(self.old.slots)
            self.old = self.new
            memset(&self.new, 0, sizeof(marks_t))
            self.since_ms = now_ms
        if 2 * self.new.count >= self.new.cap and not marks_grow(&self.new):
            raise MemoryError()
        at = mark_place(&self.new, words)
        if at[0] == 0 and at[1] == 0:
            self.new.count += 1
            at[0] = words[0]
            at[1] = words[1]
        return 0
