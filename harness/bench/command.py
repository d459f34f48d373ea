"""`make bench`: tunnels side by side, over the same lines, in the same run.

    make bench                                     everything (an hour with every tunnel)
    make bench QUICK=1                             the most telling workloads, once (two minutes)
    make bench ONLY=lossy SYSTEMS=direct,kcpg      some kinds of workloads, some systems
    make bench WORKLOADS=short REPEATS=9 WITH="kcp=fast3"
    make bench KCPTUBE=path KCPTUN_LIBEV=path      with tunnels that are not packaged
    make bench ONLY=mobile TRACE=cell.down         over radio cells, generated and recorded
    make bench ONLY=micro                          the parts of the data plane, each by itself
    make bench SAVE=name                           keep the figures as bench/results/name.json and .png

Words are NAME=VALUE; separate lists by commas. Systems take turns within each repetition, so that a busy
minute of the machine affects all of them, and ratios are taken within a repetition. Trust ratios more than
rates. `python -m harness bench table FILE` prints the tables of a results file, `--write DOCUMENT…` puts them
into documents. docs/benchmark.md explains each figure.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import netns
from harness.bench import machine, places, selection, table
from harness.bench.figures import FAILED, MISSING, PASSED, UNSUPPORTED, Run, derive
from harness.bench.measure import measure
from harness.bench.selection import Selection, Usage
from harness.bench.systems import SYSTEMS
from harness.bench.systems.base import System
from harness.bench.workloads import LOOPBACK, WORKLOADS, Workload
from harness.process import ROOT, Failed
from harness.traffic import Damaged

RESULTS = ROOT / "bench" / "results"
LAST = ROOT / "build" / "bench" / "last.json"

TOO_BUSY = 0.15  # Load of other processes beyond which a run is marked as disturbed


def main(words: Sequence[str]) -> int:
    """Measure and print; returns 0: done, 1: kcpg or direct failed, 2: usage error, 130: Ctrl-C."""
    sys.stdout.reconfigure(errors="replace", line_buffering=True)  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, _leave)  # so that SIGTERM ends every process, too
    if words and words[0] in ("table", "compare"):
        return _tables(words[1:]) if words[0] == "table" else _compare(words[1:])
    parser = argparse.ArgumentParser(
        prog="python -m harness bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="NAME=VALUE")
    parser.add_argument("--list", action="store_true", help="list the systems and the cases that would run")
    options = parser.parse_args(words)
    try:
        chosen = selection.read(options.words, os.environ)
    except Usage as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    if options.list:
        return _list(chosen)
    return run(chosen, any(word.startswith("SYSTEMS=") for word in options.words))


def run(chosen: Selection, named: bool = False) -> int:
    """Run all cases; print the results, and keep them if asked to."""
    code = 0
    if chosen.micro:
        from harness.bench import micro

        try:
            code = micro.main()
        except KeyboardInterrupt:
            print("interrupted")
            return 130
    for line in chosen.left_out:
        print(line)
    if not chosen.cases:
        return code
    recorder = Recorder(chosen, named)
    try:
        recorder.all()
    except KeyboardInterrupt:
        print("\ninterrupted; everything has been cleaned up")
        return 130
    runs = recorder.runs
    print("\n" + table.text(runs))
    document = recorder.document()
    print()
    for path in [LAST, *([RESULTS / f"{chosen.save}.json"] if chosen.save else [])]:
        _write(path, document)
        _draw(runs, path.with_suffix(".png"))
        print(f"kept: {os.path.relpath(path)} and .png")
    bad = [each for each in runs if each.verdict == FAILED]
    for each in bad:
        print(f"FAILED {each.case} {each.system}: {each.reason}", file=sys.stderr)
    passed = sum(each.verdict == PASSED for each in runs)
    own = [each for each in bad if not SYSTEMS[each.system].peer]
    print(f"\nbench: {passed} passed, {len(bad)} failed ({len(bad) - len(own)} of them third-party tunnels)")
    return 1 if own or not passed else code


class Recorder:
    """Runs the cases and keeps their results."""

    def __init__(self, chosen: Selection, named: bool) -> None:
        self._chosen, self._named = chosen, named
        self._when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        self.runs: list[Run] = []

    def all(self) -> None:
        """Run every case, every repetition, every system."""
        if os.geteuid() == 0:
            netns.sweep()  # of killed runs
        if any(where == LOOPBACK for _, where in self._chosen.cases) and (shared := places.shared_loopback()):
            print(f"using the machine's own loopback ({shared}), which remembers earlier connections")
        for workload, where in self._chosen.cases:
            systems = list(self._chosen.pairs(workload, self._named))
            if not systems:
                continue
            self._cell(workload, where, systems)

    def _cell(self, workload: Workload, where: str, systems: Sequence[System]) -> None:
        gone: set[str] = set()
        for repeat in range(1, self._chosen.repeats + 1):
            for system in systems:
                if system.name in gone:
                    continue
                done = self._one(workload, where, system, repeat)
                if done.verdict in (MISSING, UNSUPPORTED):
                    gone.add(system.name)  # it will be missing the next time, too
                self._keep(done)

    def _one(self, workload: Workload, where: str, system: System, repeat: int) -> Run:
        case, settings = f"{workload.name}@{where}", self._chosen.settings
        missing = system.missing(settings)
        if missing:
            return Run(case, system.name, repeat, MISSING, missing)
        seed = f"{self._chosen.seed}.{repeat}"  # the same losses for every system
        try:
            with places.opened(where, workload, seed) as place:
                measured, costs = measure(place, system, workload, settings, self._chosen.seconds, seed)
        except (Failed, Damaged, OSError) as error:
            unsupported = system.unsupported(str(error))
            if unsupported:
                return Run(case, system.name, repeat, UNSUPPORTED, unsupported)
            return Run(case, system.name, repeat, FAILED, str(error))
        figures = derive(workload.group, workload.program, measured, costs)
        return Run(case, system.name, repeat, PASSED, "", figures, costs)

    def _keep(self, done: Run) -> None:
        self.runs.append(done)
        print(
            f"{done.repeat}/{self._chosen.repeats}  {done.case:<28} {done.system:<16} {_said(done)}",
            flush=True,
        )

    def document(self) -> dict[str, Any]:
        """Everything, for a file."""
        return {
            "when": self._when,
            "commit": machine.commit(),
            "machine": machine.describe(),
            "seconds": self._chosen.seconds,
            "seed": self._chosen.seed,
            "trace": os.path.basename(self._chosen.trace),
            "options": dict(self._chosen.settings.options),
            "runs": [each.as_json() for each in self.runs],
        }


def _said(done: Run) -> str:
    if done.verdict != PASSED:
        return f"{done.verdict}: {(done.reason.splitlines() or [''])[0]}"
    figure = table.MAIN[table.Case(done.case, ()).kind]
    unit = table.UNITS[table.Case(done.case, ()).kind]
    value = f"{done.figures[figure]:>10,.1f} {unit}" if figure in done.figures else ""
    busy = done.costs.foreign
    return value + (f"   disturbed: {busy:.0%} foreign load" if busy > TOO_BUSY else "")


def _list(chosen: Selection) -> int:
    for workload in WORKLOADS.values():
        print(f"{workload.name:<22} {workload.group:<8} {','.join(workload.places):<15} {workload.about}")
    print()
    for system in SYSTEMS.values():
        missing = system.missing(chosen.settings)
        print(f"{system.name:<16} {system.about}" + (f"   ({missing})" if missing else ""))
    print()
    print(" ".join(f"{workload.name}@{place}" for workload, place in chosen.cases) or "micro")
    return 0


def _write(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _draw(runs: Sequence[Run], path: Path) -> None:
    from harness.bench.picture import draw  # matplotlib takes a second to import

    draw(table.cases(runs), path)


def _tables(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m harness bench table")
    parser.add_argument(
        "results", type=Path, nargs="?", default=LAST, help="a file of SAVE= (default: the last run)"
    )
    parser.add_argument(
        "--write", type=Path, nargs="*", default=[], help="documents that have marks for a table"
    )
    parser.add_argument("--picture", type=Path, help="draw the results into this PNG")
    options = parser.parse_args(words)
    try:
        document = json.loads(options.results.read_text(encoding="utf-8"))
        runs = table.read(document)
        for path in options.write:
            print(f"{path}: {', '.join(table.write_into(path, document))}")
        if options.picture is not None:
            _draw(runs, options.picture)
    except (OSError, ValueError, Failed) as error:
        print(f"bench table: {error}", file=sys.stderr)
        return 1
    if not options.write:
        print(table.text(runs))
    return 0


def _compare(words: Sequence[str]) -> int:
    from harness.bench import compare

    return compare.main(words)


def _leave(signum: int, frame: object) -> None:
    raise KeyboardInterrupt
