# Part of _fec.pyx: losses, counted from the replay window. Declared in _adaptive.pxd. Twin: adaptive.py, its
# LossCounter; how much redundancy they are worth is decided in Python alone.

cdef uint64_t reorder_span = plain_adaptive.REORDER_SPAN


cdef void fec_losses_scan(fec_losses_t* losses, const Replay* replay, uint64_t settled) noexcept nogil:
    """Judge the packet numbers that became old enough since the last call, and all below `settled`."""
    cdef uint64_t stop = replay.next - reorder_span if replay.next > reorder_span else 0
    cdef uint64_t pn = losses.next
    stop = settled if settled > stop else stop
    if replay.next > REPLAY_WINDOW and pn < replay.next - REPLAY_WINDOW:
        pn = replay.next - REPLAY_WINDOW      # what left the window unseen is not judged
        losses.in_burst = False
    while pn < stop:
        losses.expected += 1
        if replay.word[(pn >> 6) % REPLAY_WORDS] >> (pn & 63) & 1:
            losses.in_burst = False
        else:
            losses.lost += 1
            losses.bursts += not losses.in_burst
            losses.in_burst = True
        pn += 1
    losses.next = pn


cdef class LossCounter:
    """Counts lost packets of one epoch; `kcpg.core.fec.adaptive.LossCounter` documents the interface."""

    def __cinit__(self):
        memset(&self.losses, 0, sizeof(fec_losses_t))

    def scan(self, ReplayWindow window not None, uint64_t settled=0):
        """Judge the packet numbers that became old enough since the last call, and all below `settled`."""
        fec_losses_scan(&self.losses, &window.r, settled)

    @property
    def next(self):
        """The first number not yet judged."""
        return self.losses.next

    @property
    def expected(self):
        """Packets judged."""
        return self.losses.expected

    @property
    def lost(self):
        """Those of them that never came."""
        return self.losses.lost

    @property
    def bursts(self):
        """Runs of lost packets."""
        return self.losses.bursts
