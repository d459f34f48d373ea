"""What a link sends with, and when it reports: decisions without a wire."""

from __future__ import annotations

from typing import Any

from kcpg.core.fec.group import GROUP_WAIT_MS
from kcpg.core.fec.plan import OFF, Plan, plan_fixed
from kcpg.core.native.handshake.params import FEC_AUTO, FEC_OFF, Fec, LinkParams
from kcpg.core.native.link.feccontrol import FORGET_MS, REPORT_MS, FecControl
from kcpg.core.native.wire import frames
from kcpg.core.native.wire.frames import Losses


class LinkWire:
    """What `FecControl` needs of one."""

    def __init__(self) -> None:
        self.used: list[tuple[Plan, int, bool]] = []
        self.sent: list[tuple[int, bytes]] = []
        self.counts_losses = False
        self.rx_datagrams = 0
        self.rx_last_ms = -1
        self.held = 0
        self.forgotten = 0
        self.now = Losses(0, 0, 0)

    @property
    def fec(self) -> Any:
        return self if self.used else None

    def fec_use(self, plan: Plan, wait_ms: int, bulk: bool) -> None:
        self.used.append((plan, wait_ms, bulk))

    def losses(self) -> Losses:
        return self.now

    def send(self, kind: int, payload: bytes) -> None:
        self.sent.append((kind, payload))

    def forget(self) -> None:
        self.held = 0
        self.forgotten += 1

    def came(self, now_ms: int, count: int = 1) -> None:
        self.rx_datagrams += count
        self.rx_last_ms = now_ms


def made(out: Fec = FEC_OFF, back: Fec = FEC_OFF) -> tuple[Any, FecControl]:
    link_wire: Any = LinkWire()
    return link_wire, FecControl(link_wire, LinkParams(fec_out=out, fec_in=back))


def test_without_fec_nothing_is_touched() -> None:
    link_wire, fec_control = made()
    link_wire.came(1)
    fec_control.advance(1_000)
    assert link_wire.used == [] and link_wire.sent == [] and not link_wire.counts_losses
    assert fec_control.deadline() is None


def test_a_code_is_used_for_everything() -> None:
    link_wire, fec_control = made(Fec(20, 4))
    assert link_wire.used == [(plan_fixed(20, 4), GROUP_WAIT_MS, True)]
    fec_control.reported(Losses(100, 50, 50), 50, 1_000)
    assert len(link_wire.used) == 1, "reports are for those who adapt"


def test_auto_begins_without_and_follows_reports() -> None:
    link_wire, fec_control = made(FEC_AUTO)
    assert link_wire.used == [(OFF, GROUP_WAIT_MS, False)], "the room for shards is kept from the beginning"
    fec_control.reported(Losses(1_000, 0, 0), 50, 1_000)
    assert all(plan == OFF for plan, _, _ in link_wire.used)
    fec_control.reported(Losses(2_000, 50, 50), 50, 1_100)
    plan, wait_ms, bulk = link_wire.used[-1]
    assert plan.data > 0 and wait_ms == 50 // 4 and not bulk
    assert 0.02 < fec_control.loss < 0.04


def test_a_renewed_link_may_have_another_setting() -> None:
    link_wire, fec_control = made(FEC_AUTO, FEC_AUTO)
    fec_control.configure(LinkParams(fec_out=Fec(4, 2)))
    assert link_wire.used[-1] == (plan_fixed(4, 2), GROUP_WAIT_MS, True) and not link_wire.counts_losses
    fec_control.configure(LinkParams())
    assert link_wire.used[-1][0] == OFF
    fec_control.configure(LinkParams(fec_in=FEC_AUTO))
    assert link_wire.counts_losses and len(link_wire.used) == 3


def test_reports_come_while_data_does() -> None:
    link_wire, fec_control = made(FEC_OFF, FEC_AUTO)
    link_wire.now = Losses(1 << 32, 7, 3)
    for now_ms in range(1_000, 2_000, 10):
        link_wire.came(now_ms)
        fec_control.advance(now_ms)
    assert len(link_wire.sent) == 10
    assert link_wire.sent[0] == (frames.LOSS_REPORT, frames.pack_losses(Losses(0, 7, 3)))
    due_ms = fec_control.deadline()
    assert due_ms == 1_900 + REPORT_MS
    fec_control.advance(due_ms)
    assert len(link_wire.sent) == 11 and fec_control.deadline() is None


def test_control_frames_are_no_reason_to_report() -> None:
    link_wire, fec_control = made(FEC_OFF, FEC_AUTO)
    for now_ms in range(1_000, 5_000, 100):
        link_wire.came(now_ms)
        fec_control.note_control()
        fec_control.advance(now_ms)
    assert link_wire.sent == [] and fec_control.deadline() is None


def test_what_will_not_be_completed_is_given_up() -> None:
    link_wire, fec_control = made(Fec(4, 2))
    link_wire.came(1_000)
    link_wire.held = 3
    assert fec_control.deadline() == 1_000 + FORGET_MS
    fec_control.advance(1_000 + FORGET_MS - 1)
    assert link_wire.forgotten == 0
    fec_control.advance(1_000 + FORGET_MS)
    assert link_wire.forgotten == 1 and fec_control.deadline() is None


def test_reports_travel() -> None:
    losses = Losses(1 << 31, 12, 3)
    payload = frames.pack_losses(losses)
    assert frames.read_losses(payload + bytes(4)) == losses
    assert frames.read_losses(payload[:-1]) is None
