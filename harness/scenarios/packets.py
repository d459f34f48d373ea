"""UDP applications through the tunnel.

client ==== server        client ==== relay ==== server        and with two relays
"""

from __future__ import annotations

from harness.case import Case
from harness.scenarios.base import Scenario

# kcpg notices a loss after a little more than one round trip, and the resend may be lost as well.
RESENDS_ROUND_TRIPS = 3

# From the end of an outage until all delayed packets are through: kcpg probes every quarter of a second.
RETURN_S = 1.0


class Game(Scenario):
    """Small packets at a steady pace; every one counts, even a late one."""

    name = "game"
    dialects = ("native", "kcptube")  # kcptun carries no UDP
    description = (
        "60 numbered packets a second each way: loss, reordering, one-way delay, gaps; beside plain UDP"
    )
    workload = "game"
    profile = "lossy5"
    limit_s = 120.0

    def drive(self, case: Case) -> None:
        """kcpg resends lost packets (udp_delivery=unordered unless the case sets another)."""
        task = {"seconds": case.plan.seconds, "rate": 60.0, "size_bytes": 120, "pause_s": _held_back_s(case)}
        report = case.work("kcpg", self.workload, **task)
        delivery = case.plan.options.get("udp_delivery", "unordered")
        for way in ("up", "down"):
            seen = report.get(way, {})
            arrived = f"{seen.get('received')} of {seen.get('sent')}"
            if delivery != "datagram":
                case.expect(f"{way}: every packet arrived", seen.get("received") == seen.get("sent"), arrived)
            case.expect(f"{way}: none arrived twice", seen.get("twice") == 0, seen.get("twice"))
            case.expect(f"{way}: none was changed", seen.get("damaged") == 0, seen.get("damaged"))
        if delivery == "ordered":
            late = [report[way]["overtaken"] for way in ("up", "down")]
            case.expect("none was overtaken", late == [0, 0], late)
        self._plain(case, task)

    def _plain(self, case: Case, task: dict[str, float]) -> None:
        """Measure plain UDP over the same line."""
        if not case.plan.baselines:
            return
        with case.topology.routed() as addresses:
            case.direct("direct udp", self.workload, addresses[0], **task)
        for who, report in case.outcome.measured.items():
            for way in ("up", "down"):
                if way not in report:
                    continue
                seen = report[way]
                delay = seen["delay_ms"]
                case.outcome.facts[f"{who} {way}"] = (
                    f"{seen['lost']:.1%} lost, {seen['overtaken']} overtaken, "
                    f"delay {delay.get('p50', 0):.0f} ms (99 %: {delay.get('p99', 0):.0f}), "
                    f"longest gap {seen['longest_gap_ms']:.0f} ms"
                )


def _held_back_s(case: Case) -> float:
    """How late a packet may be: every stage may lose it twice, or have an outage."""
    up, down = case.profile.up, case.profile.down
    late_s = RESENDS_ROUND_TRIPS * (up.delay_ns + down.delay_ns) / 1e9
    if up.outage is not None:
        late_s += up.outage.off_ns / 1e9 + RETURN_S
    return len(case.topology.stages) * late_s


class Dns(Scenario):
    """One packet there, one back, from a new port each time."""

    name = "dns"
    dialects = ("native", "kcptube")  # kcptun carries no UDP
    description = "200 questions over UDP, each from its own port, without retries"
    workload = "dns"
    modes = ("relay", "server", "relays")
    profile = "lossy5"

    def drive(self, case: Case) -> None:
        """Every question gets its answer, though the line loses one packet in twenty."""
        task = {"count": max(200 * case.plan.count // 1000, 20), "rate": 100.0, "size_bytes": 300}
        report = case.work("kcpg", self.workload, **task)
        answered = report.get("answered")
        case.expect(
            "every question was answered", answered == task["count"], f"{answered} of {task['count']}"
        )


SCENARIOS = (Game(), Dns())
