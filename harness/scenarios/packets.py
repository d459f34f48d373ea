"""UDP applications through the tunnel.

client ==== server        client ==== relay ==== server        and with two relays
"""

from __future__ import annotations

from harness.cell import Cell
from harness.scenarios.base import Scenario

# A loss is noticed after one round trip and a bit, and the resend may be lost as well.
RESENDS_ROUND_TRIPS = 3

# From the end of an outage until everything that waited is through: kcpg asks every quarter of a second.
RETURN_S = 1.0


class Game(Scenario):
    """Small packets at a steady pace; every one counts, late ones too."""

    name = "game"
    description = (
        "60 numbered packets a second each way: loss, overtaking, delay one way, gaps; beside plain UDP"
    )
    workload = "game"
    profile = "lossy5"
    limit_s = 120.0

    def drive(self, cell: Cell) -> None:
        """kcpg sends lost packets again (udp_delivery=unordered unless the cell says otherwise)."""
        task = {"seconds": cell.plan.seconds, "rate": 60.0, "size_bytes": 120, "pause_s": _held_back_s(cell)}
        report = cell.work("kcpg", self.workload, **task)
        delivery = cell.plan.options.get("udp_delivery", "unordered")
        for way in ("up", "down"):
            seen = report.get(way, {})
            arrived = f"{seen.get('received')} of {seen.get('sent')}"
            if delivery != "datagram":
                cell.expect(f"{way}: every packet arrived", seen.get("received") == seen.get("sent"), arrived)
            cell.expect(f"{way}: none arrived twice", seen.get("twice") == 0, seen.get("twice"))
            cell.expect(f"{way}: none was changed", seen.get("damaged") == 0, seen.get("damaged"))
        if delivery == "ordered":
            late = [report[way]["overtaken"] for way in ("up", "down")]
            cell.expect("none was overtaken", late == [0, 0], late)
        self._plain(cell, task)

    def _plain(self, cell: Cell, task: dict[str, float]) -> None:
        """What UDP alone makes of the same line."""
        if not cell.plan.baselines:
            return
        with cell.topology.routed() as addresses:
            cell.direct("direct udp", self.workload, addresses[0], **task)
        for who, report in cell.outcome.measured.items():
            for way in ("up", "down"):
                if way not in report:
                    continue
                seen = report[way]
                delay = seen["delay_ms"]
                cell.outcome.facts[f"{who} {way}"] = (
                    f"{seen['lost']:.1%} lost, {seen['overtaken']} overtaken, "
                    f"delay {delay.get('p50', 0):.0f} ms (99 %: {delay.get('p99', 0):.0f}), "
                    f"longest gap {seen['longest_gap_ms']:.0f} ms"
                )


def _held_back_s(cell: Cell) -> float:
    """How long a packet may be late: every stage may lose it, and lose it again, or be dead for a while."""
    up, down = cell.profile.up, cell.profile.down
    late_s = RESENDS_ROUND_TRIPS * (up.delay_ns + down.delay_ns) / 1e9
    if up.outage is not None:
        late_s += up.outage.off_ns / 1e9 + RETURN_S
    return len(cell.topology.stages) * late_s


class Dns(Scenario):
    """One packet there, one back, from a new port each time."""

    name = "dns"
    description = "200 questions over UDP, each from a port of its own; none is asked twice"
    workload = "dns"
    modes = ("relay", "server", "relays")
    profile = "lossy5"

    def drive(self, cell: Cell) -> None:
        """All are answered, though the line loses one packet in twenty."""
        task = {"count": max(200 * cell.plan.count // 1000, 20), "rate": 100.0, "size_bytes": 300}
        report = cell.work("kcpg", self.workload, **task)
        answered = report.get("answered")
        cell.expect(
            "every question was answered", answered == task["count"], f"{answered} of {task['count']}"
        )


SCENARIOS = (Game(), Dns())
