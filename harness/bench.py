"""`make bench`: one TCP flow through real nodes on loopback, next to raw TCP in the same run.

Every repetition goes through all routes in turn, so that a busy minute of the machine falls on all of them;
the table shows medians, and the ratio to raw TCP is taken within each repetition. Trust ratios more than
rates.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from harness.measure import Result, Route, measure
from harness.process import ROOT, Failed
from harness.traffic import Damaged

RESULTS = ROOT / "bench" / "results"

ALGORITHMS = ("AES-GCM", "none")
REPEATS = 3
SECONDS = 3.0

TOO_BUSY = 0.15
"""Part of the machine that something else may use before a repetition is marked as disturbed."""


def main(words: Sequence[str]) -> int:
    """Measure and print; returns the exit code: 0 measured, 1 something failed."""
    options = _parser().parse_args(words)
    signal.signal(signal.SIGTERM, _leave)  # so that every process is ended then, too
    sys.stdout.reconfigure(errors="replace", line_buffering=True)  # type: ignore[union-attr]
    routes = [Route(0)] + [Route(hops, name) for name in options.algorithms for hops in options.hops]
    extra = dict(pair.split("=", 1) for pair in options.set)
    try:
        results = _run(routes, options.repeats, options.seconds, extra)
    except (Failed, Damaged, OSError) as error:
        print(f"kcpg bench: FAILED: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("ended before the end; nothing is kept")
        return 1
    print("\n" + table(results))
    options.results = options.results.resolve()
    print(f"\nwritten to {_keep(options.results, results, vars(options))}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="length of one measurement")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="times every route is measured")
    parser.add_argument("--algorithms", nargs="+", default=list(ALGORITHMS), help="ciphers to measure")
    parser.add_argument(
        "--hops", nargs="+", type=int, default=[1, 2], help="1 client and server, 2 a relay too"
    )
    parser.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="configuration keys for every hop: kcp=fast1",
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory for the figures as JSON")
    return parser


def _run(
    routes: Sequence[Route], repeats: int, seconds: float, extra: Mapping[str, str]
) -> dict[str, list[Result]]:
    results: dict[str, list[Result]] = {route.name: [] for route in routes}
    for number in range(1, repeats + 1):
        for route in routes:
            with tempfile.TemporaryDirectory(prefix="kcpg-bench-") as directory:
                result = measure(route, seconds, Path(directory), extra)
            results[route.name].append(result)
            busy = f"   disturbed: {result.foreign_load:.0%} foreign load" * (result.foreign_load > TOO_BUSY)
            print(f"{number}/{repeats}  {route.name:<34} {result.mbit_s:>9,.0f} Mbit/s{busy}")
    return results


def table(results: Mapping[str, Sequence[Result]]) -> str:
    """The medians of all repetitions, one row a route; `results` has raw TCP first."""
    raw = next(iter(results.values()))

    def peaks_mb(run: Result) -> Mapping[str, float]:
        return {who: size / 1e6 for who, size in run.peak_rss_bytes.items()}

    rows = [["route", "Mbit/s", "of raw", "CPU s per GB", "peak MB", "64 B p50/p99 us"]]
    for name, runs in results.items():
        ratio = median(run.mbit_s / base.mbit_s for run, base in zip(runs, raw, strict=True))
        rows.append(
            [
                name,
                f"{median(run.mbit_s for run in runs):,.0f}",
                f"{ratio:.3f}",
                _each(runs, lambda run: run.cpu_s_per_gb, "{:.2f}"),
                _each(runs, peaks_mb, "{:.0f}"),
                " / ".join(f"{median(us):.0f}" for us in zip(*map(_ping, runs), strict=True)),
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _each(runs: Sequence[Result], pick: Callable[[Result], Mapping[str, float]], form: str) -> str:
    """`client 0.81, server 0.64`: medians per process; raw TCP has only its source and target."""
    names = [name for name in pick(runs[0]) if name not in ("source", "target")] or ["source", "target"]
    return ", ".join(f"{name} {form.format(median(pick(run)[name] for run in runs))}" for name in names)


def _ping(run: Result) -> tuple[float, float]:
    return run.ping_p50_us, run.ping_p99_us


def _keep(directory: Path, results: Mapping[str, Sequence[Result]], options: Mapping[str, Any]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = directory / f"{when}.json"
    report = {
        "when": when,
        "commit": _commit(),
        "machine": machine(),
        "options": {name: str(value) for name, value in options.items()},
        "runs": {name: [run.as_json() for run in runs] for name, runs in results.items()},
    }
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def machine() -> dict[str, Any]:
    """What a reader of the figures must know of the machine."""
    try:
        models = re.findall(
            r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE
        )
    except OSError:
        models = []
    return {
        "processor": models[0] if models else platform.machine(),
        "processors": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "engine": os.environ.get("KCPG_ENGINE", "compiled where built"),
    }


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()


def _leave(signum: int, frame: object) -> None:
    raise KeyboardInterrupt
