"""What a link receives under; see rxepoch.py. Included by _wire.pyx."""
from kcpg.core.native.wire.frames import Losses
from kcpg.core.native.wire.rxepoch import NO_LOSSES


cdef class RxEpoch:
    """What opens datagrams of one CID, and how new they are."""

    def __init__(self, LinkWire owner not None, uint32_t cid, uint32_t order, Sealer sealer not None):
        self.owner = owner
        self.cid = cid
        self.order = order
        self.sealer = sealer
        replay_init(&self.replay)

    cdef void note_losses(self, uint64_t pn) noexcept:
        """Call with every packet number, so that none leaves the window uncounted."""
        if pn >= self.losses.next + LOSS_SCAN:
            fec_losses_scan(&self.losses, &self.replay, 0)

    cdef void judge_losses(self) noexcept:
        """Count as lost what was expected before the last call and has not come."""
        fec_losses_scan(&self.losses, &self.replay, self.settled)
        self.settled = self.replay.next

    cdef object add_losses(self, object before):
        """The losses `before`, and those of this epoch."""
        cdef fec_losses_t* more = &self.losses
        return Losses(before.expected + more.expected, before.lost + more.lost, before.bursts + more.bursts)
