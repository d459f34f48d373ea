"""From the measurements of a run to the figures of a table, and statistics over repetitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from harness.bench.systems.base import BULK, IDLE, LATENCY, LOSSY, MOBILE, PACED, SHORT, UDP

GIGABYTE = 1e9

PASSED, FAILED, MISSING, UNSUPPORTED = "passed", "failed", "not given", "unsupported"


@dataclass(frozen=True)
class Costs:
    """The costs of a system's programs during the measured time, by their names."""

    cpu_s: Mapping[str, float] = field(default_factory=dict)
    peak_bytes: Mapping[str, int] = field(default_factory=dict)
    generators_cpu_s: float = 0.0
    foreign: float = 0.0  # Share (0 to 1) of the machine's processors that other processes used meanwhile
    wire_bytes: int | None = None


@dataclass(frozen=True)
class Run:
    """One workload through one system, once."""

    case: str
    system: str
    repeat: int
    verdict: str
    reason: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    costs: Costs = field(default_factory=Costs)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def read_run(values: Mapping[str, Any]) -> Run:
    """The inverse of `as_json`. Raises KeyError or TypeError for anything else."""
    case = values.get("case") or values["cell"]  # "cell": its name in files of earlier runs
    rest = {name: value for name, value in values.items() if name not in ("case", "cell")}
    return Run(**{**rest, "case": case, "costs": Costs(**values["costs"])})


def kind_of(group: str, program: str) -> str:
    """The group whose figures a workload has: on a lossy line those of bulk or of latency."""
    if group != LOSSY:
        return group
    return LATENCY if program.endswith("requests") else BULK


def derive(group: str, program: str, measured: Mapping[str, float], costs: Costs) -> dict[str, float]:
    """The figures of a table, from the load generator's measurements and the system's costs."""
    kind = kind_of(group, program)
    cpu_s, seconds = sum(costs.cpu_s.values()), measured.get("seconds", 0.0)
    peak = {"peak_mb": sum(costs.peak_bytes.values()) / 1e6} if costs.peak_bytes else {}
    if kind in (BULK, PACED):
        gigabytes = measured["bytes"] / GIGABYTE
        figures = {"mbit_s": measured["bytes"] * 8 / 1e6 / seconds, **peak}
        if costs.cpu_s and gigabytes:
            figures["cpu_s_per_gb"] = cpu_s / gigabytes
            figures |= {f"cpu_s_per_gb_{name}": used / gigabytes for name, used in costs.cpu_s.items()}
        if costs.wire_bytes is not None and measured["bytes"]:
            figures["wire_per_payload"] = costs.wire_bytes / measured["bytes"]
        return figures
    if kind == MOBILE:
        figures = {f"{name}_ms": measured[f"rtt_{name}_us"] / 1e3 for name in ("p50", "p95", "p99")}
        figures["mbit_s"] = measured["beside_bytes"] * 8 / 1e6 / measured["beside_seconds"]
        return figures | peak | _each("cpu_s_per_gb", cpu_s, measured["beside_bytes"] / GIGABYTE, costs)
    if kind == LATENCY:
        names = {"p50_us": "rtt_p50_us", "p99_us": "rtt_p99_us", "p999_us": "rtt_p999_us"}
        requests = measured["requests"]
        figures = {name: measured[key] for name, key in names.items()} | {"lost": measured["lost"], **peak}
        return figures | _each("cpu_us_each", cpu_s * 1e6, requests, costs)
    if kind == SHORT:
        figures = {"per_s": measured["done"] / seconds, "failed": measured["failed"], **peak}
        figures["p99_ms"] = measured["connection_p99_us"] / 1e3
        return figures | _each("cpu_us_each", cpu_s * 1e6, measured["done"], costs)
    if kind == UDP:
        share = measured["lost"] / measured["sent"] if measured["sent"] else 0.0
        figures = {"kpps": measured["packets"] / seconds / 1e3, "lost_share": share, **peak}
        return figures | _each("cpu_us_each", cpu_s * 1e6, measured["packets"], costs)
    assert kind == IDLE
    return dict(measured) | peak


def _each(name: str, cost: float, count: float, costs: Costs) -> dict[str, float]:
    return {name: cost / count} if costs.cpu_s and count else {}


def spread(values: Sequence[float]) -> float:
    """Half the range over the median: 0.1 means "all within about ± 10 %"; 0 for one value."""
    middle = median(values)
    return (max(values) - min(values)) / 2 / abs(middle) if middle else 0.0


@dataclass(frozen=True)
class Row:
    """A system in a case, over its repetitions."""

    system: str
    verdict: str
    reason: str
    runs: tuple[Run, ...]

    def median(self, figure: str) -> float | None:
        """The median of the runs that passed; None if no run has the figure."""
        values = self.values(figure)
        return median(values) if values else None

    def spread(self, figure: str) -> float:
        """The spread of the runs that passed."""
        values = self.values(figure)
        return spread(values) if values else 0.0

    def values(self, figure: str) -> list[float]:
        """The values of the runs that passed."""
        return [run.figures[figure] for run in self.runs if run.verdict == PASSED and figure in run.figures]

    def ratio(self, other: Row, figure: str) -> float | None:
        """The median of the ratios of this row's figure to the other's, each within a repetition."""
        others = {run.repeat: run.figures.get(figure) for run in other.runs if run.verdict == PASSED}
        ratios = [
            run.figures[figure] / base
            for run in self.runs
            if run.verdict == PASSED and figure in run.figures and (base := others.get(run.repeat))
        ]
        return median(ratios) if ratios else None


def rows(runs: Sequence[Run], case: str) -> list[Row]:
    """The systems of a case in the order of their runs. A system with one failure counts as failed."""
    names = list(dict.fromkeys(run.system for run in runs if run.case == case))
    found = []
    for name in names:
        own = tuple(run for run in runs if run.case == case and run.system == name)
        bad = next((run for run in own if run.verdict != PASSED), None)
        found.append(Row(name, bad.verdict if bad else PASSED, bad.reason if bad else "", own))
    return found
