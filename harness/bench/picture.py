"""Results as a picture: a small diagram per case, with a bar per system."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes

from harness.bench.figures import Row
from harness.bench.systems.base import IDLE, LATENCY, MOBILE, PACED
from harness.bench.table import DIRECT, FLOOR, MAIN, UNITS, Case

COLUMNS = 3
# kcpg, other people's tunnels, no tunnel.
OWN, OTHER, BASE = "#0b6e4f", "#8a8a8a", "#2f5dc4"

WIDE = 20  # Values that differ by more than this factor get a logarithmic scale

LESS = {LATENCY, IDLE, MOBILE, PACED}  # Kinds where less is better


def draw(cases: Sequence[Case], path: Path) -> None:
    """Write a PNG. Leaves out cases in which nothing passed."""
    shown = [case for case in cases if _bars(case)]
    columns = max(min(len(shown), COLUMNS), 1)
    lines = max(-(-len(shown) // columns), 1)
    most = max((len(_bars(case)) for case in shown), default=1)
    figure, axes = pyplot.subplots(
        lines, columns, figsize=(5.2 * columns, lines * (0.9 + 0.26 * most)), squeeze=False
    )
    for at, axis in enumerate(axes.flat):
        if at < len(shown):
            _diagram(axis, shown[at])
            axis.set_ylim(most - 0.5, -0.5)  # bars of one thickness everywhere, the first on top
        else:
            axis.set_visible(False)
    figure.supxlabel("green: kcpg, blue: no tunnel, grey: others; black: half the range", fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _bars(case: Case) -> list[tuple[Row, float]]:
    found = [(row, row.median(MAIN[case.kind])) for row in case.rows]
    return [(row, value) for row, value in found if value is not None]


def _diagram(axis: Axes, case: Case) -> None:
    bars = _bars(case)
    values = [value for _, value in bars]
    spreads = [value * row.spread(MAIN[case.kind]) for row, value in bars]
    colours = [_colour(row.system) for row, _ in bars]
    axis.barh(range(len(bars)), values, xerr=spreads, color=colours, height=0.7, ecolor="#222222")
    axis.set_yticks(range(len(bars)), [row.system for row, _ in bars], fontsize=8)
    positive = [value for value in values if value > 0]
    logarithmic = bool(positive) and max(positive) > WIDE * min(positive)
    if logarithmic:
        axis.set_xscale("log")
        axis.set_xlim(min(positive) / 2, max(positive) * 4)
    else:
        axis.set_xlim(0, max(values, default=1) * 1.3 or 1)
    for at, (value, about) in enumerate(zip(values, spreads, strict=True)):
        text = f"{value:,.1f}" if value < 100 else f"{value:,.0f}"
        axis.annotate(f" {text}", (value + about, at), va="center", fontsize=8)
    better = "less is better" if case.kind in LESS else "more is better"
    axis.set_title(f"{case.name}: {UNITS[case.kind]}", fontsize=9, loc="left")
    axis.set_xlabel(better + (", logarithmic" if logarithmic else ""), fontsize=7)
    axis.tick_params(axis="x", labelsize=7)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _colour(system: str) -> str:
    return OWN if system.startswith("kcpg") else BASE if system.startswith((DIRECT, FLOOR)) else OTHER
