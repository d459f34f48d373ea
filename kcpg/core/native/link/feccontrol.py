"""With how much redundancy a link sends, and what it tells the peer about losses.

Each side protects what it sends by its own setting. One that adapts (AUTO) needs to know what is lost on the
way, which only the other side sees: that one reports it, while there is something to report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcpg.core.fec.adaptive import Adaptive, Choice
from kcpg.core.fec.group import GROUP_WAIT_MS
from kcpg.core.fec.plan import OFF, plan_fixed
from kcpg.core.native.handshake.params import FEC_AUTO
from kcpg.core.native.wire import frames
from kcpg.core.units import earliest

if TYPE_CHECKING:
    from kcpg.core.native.handshake.params import LinkParams
    from kcpg.core.native.wire.wire import LinkWire

# Between reports. Ten a second of 37 bytes; a change of the loss is met before it cost many resends.
REPORT_MS = 100

# After this much silence nobody will complete a group any more: its memory is given back.
FORGET_MS = 2_000


class FecControl:
    """Of one link. `choice`: what is sent with now."""

    def __init__(self, link_wire: LinkWire, params: LinkParams) -> None:
        self.choice = Choice(OFF, GROUP_WAIT_MS)
        self._link_wire = link_wire
        self._adaptive: Adaptive | None = None
        self._reports = False
        self._control = 0
        self._reported = 0
        self._reported_ms: int | None = None
        self.configure(params)

    @property
    def loss(self) -> float:
        """Share of what this side sends that is lost, if the peer reports it, on the safe side."""
        return self._adaptive.loss if self._adaptive is not None else 0.0

    def configure(self, params: LinkParams) -> None:
        """What both sides have agreed, as seen from here. Before any conversation, and when that changes."""
        self._reports = self._link_wire.counts_losses = params.fec_in == FEC_AUTO
        if params.fec_out == FEC_AUTO:
            if self._adaptive is None:
                self._adaptive = Adaptive()
                self._use(Choice(OFF, GROUP_WAIT_MS))
            return
        self._adaptive = None
        plan = plan_fixed(*params.fec_out)
        if plan != OFF or self.choice.plan != OFF:
            self._use(Choice(plan, GROUP_WAIT_MS))

    def note_control(self) -> None:
        """A control frame came. It is no reason to report: two reporters would never fall silent."""
        self._control += 1

    def reported(self, losses: frames.Losses, rtt_ms: int, now_ms: int) -> None:
        """The peer told what it missed."""
        if self._adaptive is None:
            return
        self._adaptive.report(*losses, now_ms)
        choice = self._adaptive.choose(rtt_ms)
        if choice != self.choice:
            self._use(choice)

    def advance(self, now_ms: int) -> None:
        """Report if it is time for it, and give up what will not be completed."""
        due_ms = self._report_at()
        if due_ms is not None and due_ms <= now_ms:
            self._reported_ms = now_ms
            self._reported = self._data
            self._link_wire.send(frames.LOSS_REPORT, frames.pack_losses(self._link_wire.losses()))
        due_ms = self._forget_at()
        if due_ms is not None and due_ms <= now_ms and self._link_wire.fec is not None:
            self._link_wire.fec.forget()

    def deadline(self) -> int | None:
        """When `advance` has something to do."""
        return earliest(self._report_at(), self._forget_at())

    @property
    def _data(self) -> int:
        """Datagrams received that did not carry a control frame."""
        return self._link_wire.rx_datagrams - self._control

    def _report_at(self) -> int | None:
        if not self._reports or self._data <= self._reported:
            return None
        return self._link_wire.rx_last_ms if self._reported_ms is None else self._reported_ms + REPORT_MS

    def _forget_at(self) -> int | None:
        fec = self._link_wire.fec
        return self._link_wire.rx_last_ms + FORGET_MS if fec is not None and fec.held else None

    def _use(self, choice: Choice) -> None:
        self.choice = choice
        self._link_wire.fec_use(choice.plan, choice.wait_ms, self._adaptive is None)
