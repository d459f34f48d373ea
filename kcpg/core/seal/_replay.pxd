# Part of _seal.pxd: the replay window of one epoch. Twin: replay.py.

cdef enum:
    REPLAY_WINDOW = 8192
    REPLAY_WORDS = 129          # of 64 bits: the highest number may stand anywhere in its word

cdef struct Replay:
    uint64_t next           # highest committed number + 1; 0: nothing yet
    uint64_t word[REPLAY_WORDS]

cdef void replay_init(Replay* r) noexcept nogil
cdef bint replay_check(Replay* r, uint64_t pn) noexcept nogil
cdef void replay_commit(Replay* r, uint64_t pn) noexcept nogil
cdef uint64_t replay_expand(Replay* r, uint32_t pn32) noexcept nogil

cdef class ReplayWindow:
    cdef Replay r
