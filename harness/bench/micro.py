"""The parts of the data plane, each by itself: runs tests/bench with pytest-benchmark and shows its figures.

It measures processor time, not wall-clock time, so that other processes cost little but their share of the
caches.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.bench.table import aligned
from harness.process import ROOT

TESTS = "tests/bench"

EACH_S = 0.1  # Processor time per part: hundreds of rounds for most, and seconds for all

# The path is measured with both engines, with and without the kernel's segmentation.
ENGINES, CALLS = ("compiled", "python"), ("offload", "single")

# The path of a datagram, and what it cannot go below: copies, AEAD, system calls.
FLOOR = ("test_floor_copy", "test_floor_aead[{engine}]", "test_floor_calls[{calls}]")
PATH = "test_path[{calls}-{engine}]"

# Waking a sleeping node, and the system calls alone.
WAKE_UP, WAKE_UP_FLOOR = "test_driver_wake_up", "test_floor_wake_up"


@dataclass(frozen=True)
class Part:
    """One measured function."""

    name: str
    median_ns: float  # For one unit
    spread: float  # Half the interquartile range, over the median
    unit: str
    bytes_each: int


def main() -> int:
    """Run and print; returns pytest's exit code."""
    with tempfile.TemporaryDirectory(prefix="kcpg-micro-") as directory:
        path = Path(directory, "micro.json")
        words = [sys.executable, "-m", "pytest", "-q", TESTS, "--benchmark-enable", "--benchmark-only"]
        words += ["--benchmark-timer=time.process_time", "--benchmark-quiet", f"--benchmark-json={path}"]
        words += [f"--benchmark-max-time={EACH_S}", "--benchmark-min-rounds=5", "--benchmark-disable-gc"]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode or not path.exists():
            print(done.stdout + done.stderr, file=sys.stderr)
            return done.returncode or 1
        parts = read(json.loads(path.read_text(encoding="utf-8")))
    print(text(parts))
    print()
    print(floors(parts))
    print()
    print(wake_ups(parts))
    return 0


def read(document: Mapping[str, Any]) -> list[Part]:
    """The figures in a file of pytest-benchmark, each for one unit."""
    parts = []
    for entry in document["benchmarks"]:
        stats, extra = entry["stats"], entry["extra_info"]
        median_ns = stats["median"] * 1e9 / extra["count"]
        spread = stats["iqr"] / 2 / stats["median"] if stats["median"] else 0.0
        parts.append(Part(entry["name"], median_ns, spread, extra["unit"], extra["bytes"]))
    return parts


def text(parts: Sequence[Part]) -> str:
    """One line per part."""
    lines = [["", "ns", "", "for a", "GB/s"]]
    for part in parts:
        rate = f"{part.bytes_each / part.median_ns:.2f}" if part.bytes_each else ""
        name = part.name.removeprefix("test_")
        lines.append([name, f"{part.median_ns:,.0f}", f"±{part.spread:.0%}", part.unit, rate])
    return aligned(lines)


def floors(parts: Sequence[Part]) -> str:
    """The path beside its floor, for each engine, with and without the kernel's segmentation."""
    known = {part.name: part.median_ns for part in parts}
    lines = [["a datagram, in ns", "copies", "AEAD", "system calls", "floor", "path", "path/floor"]]
    for engine in ENGINES:
        for calls in CALLS:
            pieces = [known.get(name.format(engine=engine, calls=calls)) for name in FLOOR]
            path = known.get(PATH.format(engine=engine, calls=calls))
            costs = [ns for ns in pieces if ns is not None]
            if path is None or len(costs) < len(pieces):
                continue  # an engine that is not built
            shown = [f"{ns:,.0f}" for ns in (*costs, sum(costs), path)]
            lines.append([f"{engine}, {calls}", *shown, f"{path / sum(costs):.2f}"])
    return aligned(lines)


def wake_ups(parts: Sequence[Part]) -> str:
    """The cost of waking a sleeping node for a datagram, beside that of the system calls alone."""
    known = {part.name: part.median_ns for part in parts}
    lines = [["a wake-up, in ns", "floor", "driver", "driver/floor"]]
    floor, driver = known.get(WAKE_UP_FLOOR), known.get(WAKE_UP)
    if floor is not None and driver is not None:
        lines.append(["send, wait, receive", f"{floor:,.0f}", f"{driver:,.0f}", f"{driver / floor:.2f}"])
    return aligned(lines)
