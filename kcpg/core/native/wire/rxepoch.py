"""What a link receives under, in plain Python: keys, the window of packet numbers, and which never came."""

from __future__ import annotations

from typing import Generic, TypeVar

from kcpg.core.fec.adaptive import LossCounter
from kcpg.core.native.wire.frames import Losses
from kcpg.core.seal.replay import ReplayWindow
from kcpg.core.seal.seal import Sealer

Owner = TypeVar("Owner")

LOSS_SCAN = 4096  # packets after which losses are counted anyway: half a replay window

NO_LOSSES = Losses(0, 0, 0)


class RxEpoch(Generic[Owner]):
    """What opens datagrams of one CID, and how new they are. `order`: later ones of a link have a larger."""

    __slots__ = ("cid", "losses", "order", "owner", "replay", "sealer", "settled")

    def __init__(self, owner: Owner, cid: int, order: int, sealer: Sealer) -> None:
        self.owner = owner
        self.cid = cid
        self.order = order
        self.sealer = sealer
        self.replay = ReplayWindow()
        self.losses = LossCounter()
        self.settled = 0  # packet numbers below it are late by now if they did not come

    def note_losses(self, pn: int) -> None:
        """Call with every packet number, so that none leaves the window uncounted."""
        if pn - self.losses.next >= LOSS_SCAN:
            self.losses.scan(self.replay)

    def judge_losses(self) -> None:
        """Count as lost what was expected before the last call and has not come."""
        self.losses.scan(self.replay, self.settled)
        self.settled = self.replay.next

    def add_losses(self, before: Losses) -> Losses:
        """The losses `before`, and those of this epoch."""
        more = self.losses
        return Losses(before.expected + more.expected, before.lost + more.lost, before.bursts + more.bursts)
