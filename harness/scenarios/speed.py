"""Goodput, fairness and latency, beside direct TCP over the same line.

client ==== server        client ==== relay ==== server        and with two relays
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from harness.case import Case
from harness.deployment import Deployment
from harness.scenarios.base import Scenario

ASK_AT = 0.75  # The share of a measurement's time after which the nodes are asked for their resends


class Bulk(Scenario):
    """Goodput, first up and then down."""

    name = "bulk"
    description = "one TCP flow for some seconds each way, every byte compared, beside direct CUBIC and BBR"
    workload = "bulk"
    # Mostly for the baselines: four of up to three quarters of a minute, on the worst lines.
    limit_s = 300.0
    flows: ClassVar[int] = 1

    def drive(self, case: Case) -> None:
        """Measure both ways, count the bytes on the line, and compare."""
        wire = {"sent": 0, "payload": 0}
        for way in ("up", "down"):
            task = {"way": way, "seconds": case.plan.seconds, "flows": self.flows}
            sender = case.chain.nodes[0 if way == "up" else 1].label
            with (
                case.drawn(f"kcpg {way}", way, sender),
                case.target(self.workload, **task),
                case.user(self.workload, **task) as program,
            ):
                before = case.wire()[way]
                # Nodes count segments per flow and forget a flow when it ends, so ask them before.
                time.sleep(case.plan.seconds * ASK_AT)
                case.outcome.facts[f"resent {way}"] = sent_again(case.chain, way)
                report = case.report(f"kcpg {way}", program)
            case.expect(f"{way}: something arrived", report.get("bytes", 0) > 0, report.get("bytes", 0))
            wire["sent"] += case.wire()[way] - before
            wire["payload"] += report.get("bytes", 0)
        if wire["payload"]:
            case.outcome.facts["wire_overhead"] = wire["sent"] / wire["payload"] - 1
            # Each payload byte must have crossed the cable at least once: otherwise it bypassed it.
            case.expect("all of it crossed the cable", wire["sent"] >= wire["payload"], wire)
        for way in ("up", "down"):
            task = {"way": way, "seconds": case.plan.seconds, "flows": self.flows}
            self.baselines(case, way, self.workload, **task)


class Parallel(Bulk):
    """Many flows on one link."""

    name = "parallel"
    description = "20 TCP flows at once each way, every byte compared"
    flows = 20

    def drive(self, case: Case) -> None:
        """No flow may starve."""
        super().drive(case)
        for way in ("up", "down"):
            report = case.outcome.measured[f"kcpg {way}"]
            done, fairness = report.get("flows", 0), report.get("fairness", 0.0)
            case.expect(f"{way}: all flows finished", done == self.flows, done)
            # 0.5 would mean that half of the flows got nothing.
            case.expect(f"{way}: no flow starves", fairness > 0.5, f"Jain's index {fairness:.2f}")


class Latency(Scenario):
    """A person who types, or a program that sends small requests."""

    name = "latency"
    description = "100 requests a second over one TCP flow, each answered, beside direct CUBIC and BBR"
    workload = "latency"
    limit_s = 180.0
    # With fewer, the 99th percentile would only tell whether any packet was lost.
    rate: ClassVar[float] = 100.0

    def drive(self, case: Case) -> None:
        """Measure with the tunnel, then without."""
        task = {"count": max(int(case.plan.seconds * self.rate), 1), "rate": self.rate, "size_bytes": 100}
        report = case.work("kcpg", self.workload, **task)
        answered = report.get("times_ms", {}).get("count", 0)
        case.expect("every request was answered", answered == task["count"], f"{answered} of {task['count']}")
        self.baselines(case, "", self.workload, **task)


def sent_again(chain: Deployment, way: str) -> str:
    """The retransmissions of the first stage's sender, in words."""
    first, second = chain.nodes[:2]
    node, leg = (first, "egress") if way == "up" else (second, "ingress")
    links = list(_links(chain.status(node.label), leg))
    sent, fast, late = (
        sum(link.get(f"segments_{name}") or 0 for link in links)
        for name in ("sent", "resent_fast", "resent_rto")
    )
    if not sent:
        return "not known"
    return f"{fast / sent:.2%} of {sent:,} segments early, {late / sent:.2%} at their time-out"


def _links(status: Mapping[str, Any], leg: str) -> Iterator[Mapping[str, Any]]:
    for node in status.get("nodes", ()):
        yield from node.get(leg, {}).get("links", ())


SCENARIOS = (Bulk(), Parallel(), Latency())
