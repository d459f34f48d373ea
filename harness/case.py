"""One case of the matrix while it runs: its network, its nodes, its measurements and its checks."""

from __future__ import annotations

import json
import re
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from harness import course
from harness.deployment import LOOPBACK, TARGET_PORT, Deployment, deployed
from harness.netns import Lab
from harness.process import Failed, Program, TooLong
from harness.topology import Topology
from netem import profile as profiles
from netem.profile import Profile

# The baselines: TCP's default congestion control, and the one designed for lossy lines.
CONTROLS = ("cubic", "bbr")

# For a baseline that has stalled. TCP waits twice as long after each loss: where losses come in bursts of
# packets and nobody else sends, it may never get past the end of one.
DIRECT_PATIENCE_S = 20.0

WORK_S = 90.0  # How long one run of a workload may take


# How kcpg reports that it lacks a configured feature. A case about that feature would prove nothing.
NO_EFFECT = re.compile(r"^.*: note: (\w+): accepted, has no effect yet", re.MULTILINE)
UNAVAILABLE = re.compile(r"\w+: [^\n]* is not available yet")


class Verdict(Enum):
    """The result of a case. Only PASSED counts as passed."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"  # This machine cannot run it, or the combination makes no sense
    UNSUPPORTED = "unsupported"  # kcpg does not support it


class Skipped(Exception):
    """A case cannot run, through no fault of kcpg; the message says why."""


class Unsupported(Exception):
    """kcpg lacks a feature; the message says which."""


@dataclass(frozen=True)
class Plan:
    """Everything that defines a case, and repeats it."""

    scenario: str
    mode: str  # server (no relay), relay, relays (two)
    profile: str
    trace: str = ""  # A file, instead of the profile's rates
    seed: str = "1"
    backend: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)  # Further configuration of every node
    seconds: float = 4.0  # Of one measurement
    count: int = 1000  # Thousandths of the work, in scenarios that have a number of items: 1000 is all of it
    baselines: bool = True
    family: int = 4
    dialect: str = "native"  # The protocol on every link: native, kcptube's or kcptun's

    def line(self) -> Profile:
        """The profile of its lines. Raises ProfileError."""
        profile = profiles.load(self.profile)
        return profiles.traced(profile, self.trace) if self.trace else profile

    @property
    def command(self) -> str:
        """The command that runs exactly this case."""
        words = ["python", "-m", "harness", "run", f"MODE={self.mode}", f"PROFILE={self.profile}"]
        words += [f"TRACE={self.trace}"] if self.trace else []
        words += [f"ONLY={self.scenario}", f"SEED={self.seed}", f"SECONDS={self.seconds:g}"]
        words += [f"SHARE={self.count}"] if self.count != 1000 else []
        words += [f"BACKEND={self.backend}"] if self.backend else []
        words += [] if self.baselines else ["BASELINES=0"]
        words += [] if self.family == 4 else [f"FAMILY={self.family}"]
        words += [] if self.dialect == "native" else [f"DIALECT={self.dialect}"]
        words += [f"{key}={value}" for key, value in self.options.items()]
        return shlex.join(words)


@dataclass(frozen=True)
class Check:
    """One check and its result."""

    what: str
    right: bool
    found: str


@dataclass
class Outcome:
    """The result of one case, in detail."""

    plan: Plan
    verdict: Verdict
    reason: str = ""
    seconds: float = 0.0
    drawing: str = ""
    backends: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    # Reports of workloads, by their names in the picture: `kcpg up`, `direct cubic up`.
    measured: dict[str, dict[str, Any]] = field(default_factory=dict)
    courses: dict[str, dict[str, Any]] = field(default_factory=dict)  # By the same names; see harness/course
    facts: dict[str, Any] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)  # The last lines of each node, if the case failed

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        named = ("scenario", "mode", "dialect", "profile", "trace", "seed", "family")
        plan = {key: getattr(self.plan, key) for key in named}
        return {
            **plan,
            "options": dict(self.plan.options),
            "command": self.plan.command,
            "verdict": self.verdict.value,
            "reason": self.reason,
            "seconds": round(self.seconds, 2),
            "drawing": self.drawing,
            "backends": self.backends,
            "checks": [vars(check) for check in self.checks],
            "measured": self.measured,
            "courses": self.courses,
            "facts": self.facts,
            "logs": self.logs,
        }


@dataclass
class Case:
    """A running case, as a scenario uses it."""

    plan: Plan
    profile: Profile
    lab: Lab
    topology: Topology
    outcome: Outcome
    chain: Deployment
    stack: ExitStack
    works: int = 0

    @property
    def directory(self) -> Path:
        """For files of this case; removed at its end."""
        return self.lab.directory

    def expect(self, what: str, right: bool, found: object = "") -> None:
        """Record a check. A failed one fails the case; the others still run."""
        self.outcome.checks.append(Check(what, bool(right), str(found)))

    @contextmanager
    def target(self, workload: str, **task: Any) -> Iterator[None]:
        """Run the target's half of a workload beside the server meanwhile."""
        self.works += 1
        words = self._words(workload, "serve", {**task, "port": TARGET_PORT})
        log = self.directory / f"target{self.works}.log"
        with Program(f"target of {workload}", self.topology.server.command(words), log) as program:
            program.wait_for("(?i)listening")
            yield

    @contextmanager
    def user(self, workload: str, **task: Any) -> Iterator[Program]:
        """The user's half, running beside the client; see `report`."""
        self.works += 1
        host, port = self.chain.entry
        words = self._words(workload, "use", {"host": host, "port": port, **task})
        log = self.directory / f"user{self.works}.log"
        with Program(f"user of {workload}", self.topology.client.command(words), log) as program:
            yield program

    def report(self, name: str, program: Program, patience_s: float = WORK_S) -> dict[str, Any]:
        """Wait for a user's half, keep its measurements under this name, and expect no errors in them."""
        program.wait(patience_s)
        try:
            report: dict[str, Any] = json.loads(program.output().strip().splitlines()[-1])
        except (ValueError, IndexError):
            raise Failed(f"{program.name} printed no report:\n{program.output()[-600:]}") from None
        self.outcome.measured[name] = report
        self.expect(f"{name}: every byte is right", not report["errors"], "; ".join(report["errors"][:3]))
        return report

    def work(self, name: str, workload: str, **task: Any) -> dict[str, Any]:
        """Run both halves of a workload through the tunnel; returns its report."""
        with self.target(workload, **task), self.user(workload, **task) as program:
            return self.report(name, program)

    @contextmanager
    def drawn(self, name: str, way: str, node: str = "") -> Iterator[None]:
        """Where lines change, restart them, and keep the course of the measurement that runs meanwhile.

        `node`: the label of the one that sends, if one does.
        """
        link = self.topology.stages[0].links[0]
        if not course.is_drawn(link.profile) or link.backend != "box":
            yield
            return
        self.restart_lines()
        with course.LineWatch(link) as watch:
            yield
        report = self.outcome.measured.get(name, {})
        if "start_s" in report:
            log = "".join(each.program.output() for each in self.chain.nodes if each.label == node)
            self.outcome.courses[name] = course.course(link, way, watch.samples, report, log)

    def restart_lines(self) -> None:
        """Let the next one meet the seed's pattern from its first packet, and lines from their beginning."""
        for link in self.topology.links:
            if link.profile is not None:
                link.restart()

    def direct(self, name: str, workload: str, address: str, **task: Any) -> None:
        """Run it without the tunnel, to an address of the server that `routed` returns.

        It cannot fail the case: its errors, and that it did not finish, become facts.
        """
        self.restart_lines()
        task = {**task, "direct": True, "patience_s": DIRECT_PATIENCE_S}
        before = len(self.outcome.checks)
        with self.drawn(name, task.get("way", "up")), self.target(workload, **task):
            task = {**task, "host": address, "port": TARGET_PORT}
            with self.user(workload, **task) as program:
                try:
                    report = self.report(name, program, self.plan.seconds + 2 * DIRECT_PATIENCE_S)
                    faults = report["errors"]
                except TooLong as error:
                    faults = [str(error).splitlines()[0]]
        del self.outcome.checks[before:]
        if faults:
            self.outcome.facts[f"{name} did not finish"] = "; ".join(faults[:3])

    def wire(self) -> dict[str, int]:
        """Bytes that entered the first cable of the first stage so far, by direction, headers included."""
        facts = self.topology.stages[0].links[0].facts()
        return {way: facts[way].get("bytes", facts[way]["sent_bytes"]) for way in ("up", "down")}

    def _words(self, workload: str, half: str, task: Mapping[str, Any]) -> list[str]:
        text = json.dumps({"seed": _number(self.plan.seed), **task})
        return [sys.executable, "-m", "harness.workloads", workload, half, text]


@contextmanager
def opened(plan: Plan, profile: Profile, lab: Lab, topology: Topology, outcome: Outcome) -> Iterator[Case]:
    """The case, with its chain running. Keeps the nodes' logs."""
    options = plan.options if plan.dialect == "native" else {**plan.options, "dialect": plan.dialect}
    if plan.dialect == "native" and course.is_drawn(profile):
        options = {**course.TRACED, **options}
    with ExitStack() as stack:
        try:
            form = ("--log-format", "json") if "log_level" in options else ()
            chain = stack.enter_context(
                deployed(topology, lab.directory, plan.seed, options, plan.family, form)
            )
        except Failed as error:
            missing = UNAVAILABLE.search(str(error))
            if missing is not None:
                raise Unsupported(missing.group()) from None
            raise
        for key in NO_EFFECT.findall("".join(node.program.output() for node in chain.nodes)):
            if key in plan.options:
                raise Unsupported(f"kcpg says that {key} has no effect yet")
        try:
            yield Case(plan, profile, lab, topology, outcome, chain, stack)
            for ended in chain.ended():
                outcome.checks.append(Check("all nodes still run", False, ended))
        finally:
            outcome.logs = {node.label: node.program.output()[-2000:] for node in chain.nodes}


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises Failed in the body if that takes longer. For the main thread only."""

    def ring(number: int, frame: object) -> None:
        raise Failed(f"it took longer than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def wait_until(condition: Any, seconds: float, what: str) -> None:
    """Wait for a condition. Raises Failed after `seconds`."""
    until_s = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until_s:
            raise Failed(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.05)


def _number(seed: str) -> int:
    """A workload's seed from any text; the same text gives the same number."""
    return int(seed) if seed.isdigit() else sum(seed.encode())


__all__ = ["LOOPBACK", "Case", "Check", "Outcome", "Plan", "Skipped", "Unsupported", "Verdict"]
