"""What a link receives under: keys, the window of packet numbers, and what of them never came."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kcpg.core.fec.adaptive import LossCounter
from kcpg.core.native.wire.frames import Losses
from kcpg.core.seal.replay import ReplayWindow
from kcpg.core.seal.seal import Sealer

if TYPE_CHECKING:
    from kcpg.core.native.wire.bundle import Bundle

LOSS_SCAN = 4096
"""Packets after which losses are counted anyway: half a replay window."""

NO_LOSSES = Losses(0, 0, 0)


class RxEpoch:
    """What opens datagrams of one CID, and how new they are."""

    __slots__ = ("bundle", "cid", "losses", "order", "replay", "sealer", "settled")

    def __init__(self, bundle: Bundle, cid: int, order: int, sealer: Sealer) -> None:
        self.bundle = bundle
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


def settle(epochs: Iterable[RxEpoch]) -> None:
    """Judge what was expected before the last call."""
    for epoch in epochs:
        epoch.losses.scan(epoch.replay, epoch.settled)
        epoch.settled = epoch.replay.next


def total(before: Losses, epochs: Iterable[RxEpoch]) -> Losses:
    """The losses of these epochs, and those `before`."""
    for epoch in epochs:
        counted = epoch.losses
        before = Losses(
            before.expected + counted.expected, before.lost + counted.lost, before.bursts + counted.bursts
        )
    return before
