"""`make e2e`: real nodes in namespaces, real traffic over emulated lines, checks, and a report.

    make e2e                                    the default set, under 10 minutes on two cores
    make e2e FULL=1                             every scenario with every chain and many profiles: 2 hours
    make e2e FULL=1 ONLY=bulk MODE=relay        a part of that
    make e2e PROFILE=mobile ONLY=bulk           one question: how does this line behave?
    make e2e PROFILE=mobile ONLY=bulk WITH="kcp=fast1 mtu=1280"     with other settings of kcpg
    make e2e PROFILE=trace TRACE=cell.down ONLY=bulk                over a recorded radio cell
    python -m harness run MODE=relay PROFILE=transcontinental

Words are NAME=VALUE. MODE: server (no relay), relay, relays (two). PROFILE: a name in netem/profiles. ONLY:
scenarios. DIALECT: native, kcptube, kcptun. These four take lists with commas. WITH: keys for every node's
configuration. TRACE: a file in mahimahi's form instead of the line's rates (X for X.up and X.down). SEED,
SECONDS (per measurement), SHARE (thousandths of the work of scenarios with many items), BACKEND (netem, box),
FAMILY (4, 6), BASELINES=0, LINKCHECK=0, COMMANDS=1 (print every command).
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from harness import linkcheck, netns
from harness.case import Outcome, Plan, Skipped, Unsupported, Verdict, limited, opened
from harness.link import Link
from harness.netns import Lab
from harness.process import ROOT, Failed
from harness.scenarios import SCENARIOS
from harness.scenarios.base import RELAYS, Scenario
from harness.sets import CI, DEFAULT, DIALECTS, full
from harness.sets import plan as plan_of
from harness.stalls import Watch
from netem import profile as profiles
from netem.profile import ProfileError

RESULTS = ROOT / "build" / "e2e"

SELECT = ("MODE", "PROFILE", "ONLY", "DIALECT", "FULL")
CHANGE = (
    "TRACE",
    "SEED",
    "SECONDS",
    "SHARE",
    "BACKEND",
    "FAMILY",
    "BASELINES",
    "LINKCHECK",
    "COMMANDS",
    "WITH",
)
WORDS = (*SELECT, "TRACE", *CHANGE)

# How long measuring a line may take, with all attempts; a slow line is measured for longer
LINKCHECK_S = 60.0


# A cell that fails while the machine stands still for this long is run again: a node looks for another path
# when its peer is silent for little longer. Load alone keeps a process waiting for some 20 ms.
STALL_NS = 250_000_000

RUNS = 3  # Of a cell in all, while the machine stands still in each of them; the report tells of every one


class Usage(Exception):
    """The words on the command line make no sense; the message says which."""


def main(words: Sequence[str]) -> int:
    """Run a set of cases; returns 0: some passed and none failed, 1: some failed or none passed, 2: usage."""
    parser = argparse.ArgumentParser(
        prog="python -m harness e2e",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="NAME=VALUE")
    parser.add_argument(
        "--ci", action="store_true", help="the small set for continuous integration, under 3 minutes"
    )
    parser.add_argument("--list", action="store_true", help="list the scenarios and the cases that would run")
    parser.add_argument("--out", type=Path, help="directory for the report (default build/e2e/<time>)")
    options = parser.parse_args(words)
    try:
        given = _given(options.words)
        plans = _plans(given, options.ci)
    except (Usage, ProfileError) as error:
        print(f"e2e: {error}", file=sys.stderr)
        return 2
    if options.list:
        for scenario in SCENARIOS.values():
            print(f"{scenario.name:<16} {scenario.description}")
        print()
        for plan in plans:
            print(plan.command)
        return 0
    out = options.out or RESULTS / time.strftime("%Y%m%d-%H%M%S")
    return _run(plans, out, given)


def _run(plans: Sequence[Plan], out: Path, given: dict[str, str]) -> int:
    from harness.pictures import write_report  # matplotlib takes a second to import

    try:
        netns.require_root()
    except Failed as error:
        print(f"e2e: {error}", file=sys.stderr)
        return 1
    netns.sweep()
    outcomes: list[Outcome] = []
    began_s = time.monotonic()
    interrupted = False
    runner = Runner(given.get("LINKCHECK", "1") != "0", given.get("COMMANDS", "0") != "0")
    try:
        for number, plan in enumerate(plans, 1):
            progress(f"[{number}/{len(plans)}] {_title(plan)} …", end="")
            outcome = runner.run(plan)
            outcomes.append(outcome)
            progress(f"[{number}/{len(plans)}] {line(outcome)}")
            for each in outcome.checks:
                if not each.right:
                    print(f"      ! {each.what}: {each.found}", flush=True)
            if outcome.verdict is Verdict.FAILED:
                print(f"      repeat: {plan.command}", flush=True)
    except KeyboardInterrupt:
        interrupted = True
        print("\ninterrupted; everything has been cleaned up", flush=True)
    seconds = time.monotonic() - began_s
    if outcomes:
        out.mkdir(parents=True, exist_ok=True)
        document = {"seconds": round(seconds, 1), "interrupted": interrupted, "links": runner.links}
        document["cases"] = [outcome.as_json() for outcome in outcomes]
        (out / "report.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
        write_report(out, document)
        print(f"report: {os.path.relpath(out / 'report.html')}   {os.path.relpath(out / 'report.json')}")
    counts = {verdict: sum(each.verdict is verdict for each in outcomes) for verdict in Verdict}
    backends = sorted({name for each in outcomes for name in each.backends})
    print(
        "e2e: "
        + ", ".join(
            f"{count} {verdict.value}"
            for verdict, count in counts.items()
            if count or verdict.value == "passed"
        )
        + (f", {len(plans) - len(outcomes)} not run" if len(plans) > len(outcomes) else "")
        + f" in {seconds:.0f} s; lines by {' and '.join(backends) or 'nothing'}"
        + (" (the link box in user space, not the kernel's netem)" if backends == ["box"] else ""),
        flush=True,
    )
    if interrupted:
        return 130
    return 1 if counts[Verdict.FAILED] or not counts[Verdict.PASSED] else 0


class Runner:
    """Runs cases one after the other; measures a line before its first use."""

    def __init__(self, check_links: bool, show: bool) -> None:
        self._check_links = check_links
        self._show = show
        self.links: dict[str, str] = {}  # Reports of the measured lines, by profile and backend

    def run(self, plan: Plan) -> Outcome:
        """Run one case, and repeat it only if the machine disturbed it. Raises nothing except at Ctrl-C."""
        spoilt: list[str] = []
        with Watch() as watch:
            while True:
                began_ns = time.monotonic_ns()
                outcome = self._run_once(plan)
                longest_ns = watch.longest_ns(began_ns) if outcome.verdict is Verdict.FAILED else 0
                if longest_ns >= STALL_NS:
                    spoilt.append(f"the machine stood still for {longest_ns / 1e9:.1f} s: {outcome.reason}")
                if longest_ns < STALL_NS or len(spoilt) == RUNS:
                    break
        if spoilt:
            outcome.facts["disturbed"] = spoilt
        return outcome

    def _run_once(self, plan: Plan) -> Outcome:
        scenario = SCENARIOS[plan.scenario]
        plan = dataclasses.replace(plan, options={**scenario.options, **plan.options})
        outcome = Outcome(plan, Verdict.PASSED)
        began_s = time.monotonic()
        try:
            self._case(scenario, plan, outcome)
        except Skipped as reason:
            outcome.verdict, outcome.reason = Verdict.SKIPPED, str(reason)
        except Unsupported as reason:
            outcome.verdict, outcome.reason = Verdict.UNSUPPORTED, str(reason)
        except Failed as error:
            outcome.verdict, outcome.reason = Verdict.FAILED, str(error)
        except Exception as error:  # whatever the error is, the other cases still run
            outcome.verdict, outcome.reason = Verdict.FAILED, repr(error)
        else:
            wrong = [check for check in outcome.checks if not check.right]
            if wrong or not outcome.checks:
                outcome.verdict = Verdict.FAILED
                outcome.reason = "; ".join(check.what for check in wrong) or "nothing was checked"
        if outcome.verdict is not Verdict.FAILED:
            outcome.logs = {}
        outcome.seconds = time.monotonic() - began_s
        return outcome

    def _case(self, scenario: Scenario, plan: Plan, outcome: Outcome) -> None:
        if plan.mode not in scenario.modes:
            raise Skipped(f"{scenario.name} does not support the chain {plan.mode}")
        if plan.dialect not in scenario.dialects:
            raise Skipped(f"{scenario.name} needs a feature that the protocol {plan.dialect} does not have")
        profile = plan.line()
        with Lab(print if self._show else None) as lab, scenario.topology(lab, profile, plan) as topology:
            outcome.drawing = topology.drawing
            outcome.backends = sorted(topology.backends)
            topology.assert_no_bypass()
            if self._check_links:
                self._measure(topology.links, plan)
            with (
                limited(scenario.limit_s + 8 * plan.seconds),
                opened(plan, profile, lab, topology, outcome) as case,
            ):
                scenario.drive(case)

    def _measure(self, links: Sequence[Link], plan: Plan) -> None:
        for link in links:
            if link.profile is None or f"{link.profile.name} {link.backend}" in self.links:
                continue
            progress(f"      measuring the line {link.profile.name} …", end="")
            with limited(LINKCHECK_S):
                report = linkcheck.ensure(link)
            self.links[f"{link.profile.name} {link.backend}"] = report.text()


def line(outcome: Outcome) -> str:
    """A case in one line, with its speed."""
    text = f"{outcome.verdict.value:<11} {_title(outcome.plan)}  {outcome.seconds:.1f} s"
    figures = []
    for name, report in outcome.measured.items():
        if "mbit_s" in report:
            figures.append(f"{name} {report['mbit_s']:.3g} Mbit/s")
        elif report.get("times_ms", {}).get("count"):
            times = report["times_ms"]
            figures.append(f"{name} {times['p50']:.0f}/{times['p99']:.0f} ms".strip())
    text += f"  ({'; '.join(figures)})" if figures else ""
    text += f"  {outcome.reason.splitlines()[0]}" if outcome.reason else ""
    disturbed = [each.splitlines()[0] for each in outcome.facts.get("disturbed", ())]
    return "\n      disturbed: ".join([text, *disturbed])


def progress(text: str, end: str = "\n") -> None:
    """Print a line, on a terminal only; if `end` is empty, the next one replaces it."""
    if sys.stdout.isatty():
        print(f"\r\x1b[K{text}", end=end, flush=True)
    elif end:
        print(text, flush=True)


def _title(plan: Plan) -> str:
    dialect = "" if plan.dialect == "native" else f" · {plan.dialect}"
    return f"{plan.scenario} · {plan.mode} · {plan.profile}{dialect}"


def _given(words: Sequence[str]) -> dict[str, str]:
    given = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or (name.isupper() and name not in WORDS):
            raise Usage(f"{word!r} is neither one of {', '.join(WORDS)} with =VALUE, nor a key of kcpg")
        if name == "WITH":
            given.update(_given(value.split()))
        else:
            given[name] = value
    return {name: value for name, value in given.items() if value}


def _plans(given: dict[str, str], ci: bool) -> list[Plan]:
    """The cases that the words select, in a fixed order."""
    if ci:
        plans = list(CI)
    elif given.get("FULL", "0") != "0":
        plans = list(_of_all(given))
    elif {"MODE", "PROFILE", "ONLY", "DIALECT"} & set(given):
        plans = list(_chosen(given))
    else:
        plans = list(DEFAULT)
    plans = [_changed(plan, given) for plan in plans]
    if given.get("TRACE"):
        for plan in plans:
            plan.line()  # so that a wrong file is said before anything runs
    return plans


def _chosen(given: dict[str, str]) -> Iterator[Plan]:
    """Every combination of the named ones; without names, the scenarios that measure, with their profiles."""
    names, wanted, modes, dialects = _lists(given)
    for name, each in itertools.product(names or ["bulk", "latency", "game"], wanted or [""]):
        for mode in modes or [SCENARIOS[name].modes[0]]:
            for dialect in dialects or DIALECTS[:1]:
                yield plan_of(name, mode, each or SCENARIOS[name].profile, dialect)


def _of_all(given: dict[str, str]) -> Iterator[Plan]:
    """The named part of the full set; without names, all of it."""
    names, wanted, modes, dialects = _lists(given)
    for plan in full():
        asked = ((plan.scenario, names), (plan.profile, wanted), (plan.mode, modes), (plan.dialect, dialects))
        if all(not values or value in values for value, values in asked):
            yield plan


def _lists(given: dict[str, str]) -> tuple[list[str], list[str], list[str], list[str]]:
    """The scenarios, profiles, modes or dialects that a word names."""
    return (
        _list(given, "ONLY", SCENARIOS),
        _list(given, "PROFILE", profiles.known_profiles()),
        _list(given, "MODE", RELAYS),
        _list(given, "DIALECT", DIALECTS),
    )


def _list(given: dict[str, str], word: str, known: Collection[str]) -> list[str]:
    values = [value for value in given.get(word, "").split(",") if value]
    unknown = [value for value in values if value not in known]
    if unknown:
        raise Usage(f"{word}: {', '.join(unknown)}: not one of {', '.join(known)}")
    return values


def _changed(plan: Plan, given: dict[str, str]) -> Plan:
    options = {name: value for name, value in given.items() if not name.isupper()}
    try:
        return dataclasses.replace(
            plan,
            trace=given.get("TRACE", plan.trace),
            seed=given.get("SEED", plan.seed),
            backend=given.get("BACKEND", plan.backend),
            options={**plan.options, **options},
            seconds=float(given.get("SECONDS", plan.seconds)),
            count=int(given.get("SHARE", plan.count)),
            baselines=given.get("BASELINES", "1" if plan.baselines else "0") != "0",
            family=int(given.get("FAMILY", plan.family)),
        )
    except ValueError as error:
        raise Usage(str(error)) from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
