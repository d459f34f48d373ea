"""`make bench-compare`: measures these sources and those of an earlier commit in turns, as ratios.

    make bench-compare                       against the last tag, or the last commit with other sources
    make bench-compare BASE=0a1b2c3          against that commit, tag or branch
    make bench-compare WORKLOADS=short REPEATS=9

It checks the earlier commit out into a directory of its own, builds it there, and removes it in the end. A
ratio compares a figure: 1.10 is a tenth more. People judge the ratios: the exit code only tells whether
measuring worked, since the times of one machine prove nothing about another.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from harness.bench import places, selection, table
from harness.bench.figures import FAILED, PASSED, Run, derive, rows
from harness.bench.measure import measure
from harness.bench.selection import Selection, Usage
from harness.bench.systems.base import System
from harness.bench.systems.kcpg import Kcpg
from harness.bench.workloads import Workload
from harness.process import ROOT, Failed

NEW, OLD = "new", "old"

# Default workloads: a figure of each kind in a few minutes.
USUAL = ("bulk-up", "bulk-down", "tcp-requests", "udp-requests", "short", "packets-64")

REPEATS = 5

# The figures that are compared: the name, and whether more is better.
FIGURES = {
    "mbit_s": ("Mbit/s", True),
    "per_s": ("per second", True),
    "kpps": ("1000 packets/s", True),
    "p95_ms": ("p95 ms", False),
    "p50_us": ("p50 us", False),
    "p99_us": ("p99 us", False),
    "kb_each": ("KB per flow", False),
    "cpu_s_per_gb": ("CPU s/GB", False),
    "cpu_us_each": ("CPU us each", False),
    "peak_mb": ("peak MB", False),
    "wire_per_payload": ("wire/payload", False),
}

# A change is no finding if it is smaller than this share of both spreads, or than this ratio.
UNCERTAIN, LEAST = 0.5, 0.02

BUILD_S = 900.0


def main(words: Sequence[str]) -> int:
    """Measure and print ratios; returns 0: measured, 1: failed, 2: usage error."""
    parser = argparse.ArgumentParser(
        prog="python -m harness bench compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="NAME=VALUE", help="BASE=, and the words of make bench")
    given = parser.parse_args(words).words
    base = next((word[5:] for word in given if word.startswith("BASE=")), "")
    try:
        chosen = _choice([word for word in given if not word.startswith("BASE=")])
        base = base or usual_base()
        name = _git("rev-parse", "--verify", "--short", f"{base}^{{commit}}").decode().strip()
    except Usage as error:
        print(f"bench compare: {error}", file=sys.stderr)
        return 2
    try:
        with tempfile.TemporaryDirectory(prefix="kcpg-base-") as directory:
            print(f"building {name} ({base}) …", flush=True)
            check_out(name, Path(directory))
            build(Path(directory))
            runs = _measure(chosen, Path(directory))
    except (Failed, OSError, subprocess.SubprocessError) as error:
        print(f"bench compare: FAILED: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; everything has been cleaned up")
        return 130
    print(
        f"\nthese sources (new) against {name} (old), medians of {chosen.repeats}; "
        "ratios are taken within a repetition\n"
    )
    print(ratios(runs))
    bad = [run for run in runs if run.verdict == FAILED]
    for run in bad:
        print(f"FAILED {run.case} {run.system}: {run.reason}", file=sys.stderr)
    return 1 if bad else 0


def _choice(words: Sequence[str]) -> Selection:
    if not any(word.startswith(("ONLY=", "WORKLOADS=")) for word in words):
        words = [*words, f"WORKLOADS={','.join(USUAL)}", "PLACES=loopback"]
    chosen = selection.read(words, os.environ)
    if not chosen.cases or any(word.startswith("SYSTEMS=") for word in words):
        raise Usage("this compares kcpg with itself, over workloads")
    given = any(word.startswith(("REPEATS=", "QUICK=")) for word in words)
    return chosen if given else replace(chosen, repeats=REPEATS)


def usual_base() -> str:
    """The last tag or, without one, the last commit with other sources. Raises Usage without git."""
    with suppress(Usage):
        return _git("describe", "--tags", "--abbrev=0").decode().strip()
    return "HEAD" if _git("status", "--porcelain", "--untracked-files=no") else "HEAD~1"


def _git(*words: str) -> bytes:
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=False)
    except OSError as error:
        raise Usage(f"comparing with a commit requires git: {error}") from None
    if done.returncode:
        raise Usage(f"git {' '.join(words)}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def check_out(commit: str, directory: Path) -> None:
    """Write the files of a commit; the repository itself stays unchanged."""
    archive = _git("archive", "--format=tar", commit)
    subprocess.run(["tar", "-x", "-C", str(directory)], input=archive, check=True)


def build(directory: Path) -> None:
    """Build the compiled modules of these sources in place. Raises Failed."""
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(directory)},
        capture_output=True,
        text=True,
        timeout=BUILD_S,
        check=False,
    )
    if done.returncode:
        raise Failed(f"cannot build {directory}:\n{done.stderr[-2000:]}")


def _measure(chosen: Selection, directory: Path) -> list[Run]:
    systems = (Kcpg(OLD, root=directory), Kcpg(NEW))
    runs = []
    for workload, where in chosen.cases:
        for repeat in range(1, chosen.repeats + 1):
            # The first of a pair finds the machine in another state than the second, so they take turns at
            # that, too.
            for system in systems if repeat % 2 else reversed(systems):
                runs.append(_one(chosen, workload, where, system, repeat))
                said = f"{runs[-1].case:<28} {system.name:<4} {runs[-1].verdict}"
                print(f"{repeat}/{chosen.repeats}  {said}", flush=True)
    return runs


def _one(chosen: Selection, workload: Workload, where: str, system: System, repeat: int) -> Run:
    case, seed = f"{workload.name}@{where}", f"{chosen.seed}.{repeat}"
    try:
        with places.opened(where, workload, seed) as place:
            measured, costs = measure(place, system, workload, chosen.settings, chosen.seconds, seed)
    except (Failed, OSError) as error:
        return Run(case, system.name, repeat, FAILED, str(error))
    figures = derive(workload.group, workload.program, measured, costs)
    return Run(case, system.name, repeat, PASSED, "", figures, costs)


def ratios(runs: Sequence[Run]) -> str:
    """One line per figure of each case: old, new, new over old, and the verdict."""
    lines = [["", "", "old", "new", "new/old", ""]]
    for case in dict.fromkeys(run.case for run in runs):
        both = {row.system: row for row in rows(runs, case)}
        if OLD not in both or NEW not in both:
            continue
        old, new = both[OLD], both[NEW]
        for figure, (unit, more) in FIGURES.items():
            ratio, before, after = new.ratio(old, figure), old.median(figure), new.median(figure)
            if ratio is None or before is None or after is None:
                continue
            doubt = max(UNCERTAIN * (old.spread(figure) + new.spread(figure)), LEAST)
            verdict = meaning(ratio, doubt, more)
            lines.append([case, unit, f"{before:,.2f}", f"{after:,.2f}", f"{ratio:.3f}", verdict])
    return table.aligned(lines)


def meaning(ratio: float, doubt: float, more: bool) -> str:
    """`better`, `worse`, or `as before` if the figures vary as much by themselves."""
    if abs(ratio - 1) <= doubt:
        return "as before"
    return "better" if (ratio > 1) == more else "worse"
