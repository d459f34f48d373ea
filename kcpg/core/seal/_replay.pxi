# Part of _seal.pyx: accepts each packet number of an epoch once (RFC 6479). Declared in _replay.pxd; twin:
# replay.py.

cdef enum:
    HALF32 = 0x80000000


cdef void replay_init(Replay* r) noexcept nogil:
    """A window that has seen nothing."""
    memset(r, 0, sizeof(Replay))


cdef bint replay_check(Replay* r, uint64_t pn) noexcept nogil:
    """May a packet with this number still be accepted? Changes nothing."""
    if pn >= r.next:
        return pn != <uint64_t>-1   # so that the number after the highest always exists
    if r.next - pn > REPLAY_WINDOW:
        return False
    return not (r.word[(pn >> 6) % REPLAY_WORDS] >> (pn & 63)) & 1


cdef void replay_commit(Replay* r, uint64_t pn) noexcept nogil:
    """This number's packet was authentic (and replay_check() said yes)."""
    cdef uint64_t word = pn >> 6
    cdef uint64_t at
    if pn >= r.next:
        # Words between the old highest and the new one still hold the numbers of 129 words ago.
        at = (r.next - 1) >> 6 if r.next else 0
        if word - at >= REPLAY_WORDS:
            memset(r.word, 0, sizeof(r.word))
        else:
            while at != word:
                at += 1
                r.word[at % REPLAY_WORDS] = 0
        r.next = pn + 1
    r.word[word % REPLAY_WORDS] |= (<uint64_t>1) << (pn & 63)


cdef uint64_t replay_expand(Replay* r, uint32_t pn32) noexcept nogil:
    """The number with these low 32 bits that is nearest to the one expected next (RFC 9000, A.3)."""
    cdef uint64_t low = 0xFFFFFFFF
    cdef uint64_t pn = (r.next & ~low) | pn32
    # Differences instead of sums: nothing overflows near 2^64.
    if pn < r.next and r.next - pn >= HALF32 and pn < <uint64_t>-1 - low:
        return pn + low + 1
    if pn > r.next and pn - r.next > HALF32 and pn > low:
        return pn - low - 1
    return pn


cdef class ReplayWindow:
    """Accepts each packet number once; `kcpg.core.seal.replay.ReplayWindow` documents the interface."""

    def __cinit__(self):
        replay_init(&self.r)

    @property
    def next(self):
        """The highest committed number + 1."""
        return self.r.next

    def check(self, uint64_t pn):
        """May a packet with this number still be accepted?"""
        return bool(replay_check(&self.r, pn))

    def commit(self, uint64_t pn):
        """This number's packet was authentic (and `check` said yes)."""
        replay_commit(&self.r, pn)

    def expand(self, uint32_t pn32):
        """The number with these low 32 bits that is nearest to the one expected next."""
        return replay_expand(&self.r, pn32)
