"""Only what the machine disturbed is measured again; a witness sees it stand still, nothing else excuses."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness import e2e, linkcheck
from harness.case import Check, Outcome, Plan, Verdict
from harness.linkcheck import ATTEMPTS, Found
from harness.process import Failed
from harness.stalls import Stall, Watch
from netem import profile as profiles

MS = 10**6


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_a_processor_that_does_not_run_is_seen() -> None:
    """A witness that is stopped is to itself what one is that gets no processor."""
    with Watch() as watch:
        witness = next(iter(watch._witnesses.values()))
        os.kill(witness.pid, signal.SIGSTOP)
        while not stopped(witness.pid):
            time.sleep(0.001)
        since_ns = time.monotonic_ns()
        while time.monotonic_ns() < since_ns + 50 * MS:
            time.sleep(0.001)
        until_ns = time.monotonic_ns()
        os.kill(witness.pid, signal.SIGCONT)
        # It can have slept when it was stopped; but for that, all of the time counts.
        assert watch.away_ns(since_ns, until_ns) >= until_ns - since_ns - 2 * MS
        assert watch.longest_ns(since_ns) >= 48 * MS
        assert watch.away_ns(since_ns - 10**12, since_ns - 10**12 + MS) == 0


@pytest.mark.parametrize("gone", [False, True], ids=["ending", "gone"])
def test_a_witness_that_ended_is_no_sign_of_calm(gone: bool) -> None:
    """While it ends it may still take a question; once it has gone there is nobody to take one."""
    with Watch() as watch:
        witness = next(iter(watch._witnesses.values()))
        witness.kill()
        if gone:
            witness.wait()
        with pytest.raises(Failed, match="has ended"):
            watch.stalls()


def test_nothing_is_left_of_a_watch() -> None:
    with Watch() as watch:
        witnesses = list(watch._witnesses.values())
    assert witnesses and all(each.returncode == -signal.SIGKILL for each in witnesses)


def test_of_a_stall_counts_what_lies_in_the_measurement() -> None:
    stall = Stall(100, 200)
    assert [stall.within(*span) for span in ((0, 50), (0, 150), (120, 130), (150, 300), (200, 300))] == [
        *(0, 50, 10, 50, 0)
    ]


@pytest.fixture
def stalls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Stall]]:
    """What the witnesses will have seen, whatever this machine does."""
    seen: list[Stall] = []
    monkeypatch.setattr(Watch, "stalls", lambda watch: {0: seen})
    yield seen


class MeasuredLink:
    """A link whose measurements are given: for each a list of problems, by when they were measured."""

    profile = profiles.load("lossy1")
    backend = "box"

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *measurements: Sequence[tuple[int, int]]) -> None:
        self.left = list(measurements)
        monkeypatch.setattr(linkcheck, "_attempt", self._attempt)

    def restart(self) -> None:
        pass

    def _attempt(self, *_: object) -> list[Found]:
        found = Found("up")
        for span in self.left.pop(0):
            found.span = span
            found.wrong("up rate: too low")
        return [found]


def check(line: MeasuredLink) -> linkcheck.Report:
    return linkcheck.check(line)  # type: ignore[arg-type]


def test_a_line_that_is_wrong_without_a_stall_fails_at_once(
    monkeypatch: pytest.MonkeyPatch, stalls: list[Stall]
) -> None:
    line = MeasuredLink(monkeypatch, [(0, 100)], [])
    report = check(line)
    assert report.problems and not report.disturbed
    assert len(line.left) == 1, "it was not measured again"


def test_a_stall_elsewhere_is_no_excuse(monkeypatch: pytest.MonkeyPatch, stalls: list[Stall]) -> None:
    """One problem fell into it, the other did not."""
    stalls.append(Stall(1000, 2000))
    line = MeasuredLink(monkeypatch, [(1500, 1600), (3000, 4000)], [])
    assert check(line).problems and len(line.left) == 1


def test_a_disturbed_measurement_is_made_again_and_said(
    monkeypatch: pytest.MonkeyPatch, stalls: list[Stall]
) -> None:
    stalls.append(Stall(90, 120))
    report = check(MeasuredLink(monkeypatch, [(0, 100)], []))
    assert not report.problems
    assert "disturbed: measurement 1: the machine stood still for 10.0% of the time" in report.text()
    assert "up rate: too low" in report.text()


def test_a_line_that_is_disturbed_every_time_has_not_passed(
    monkeypatch: pytest.MonkeyPatch, stalls: list[Stall]
) -> None:
    stalls.append(Stall(0, 1000))
    line = MeasuredLink(monkeypatch, *[[(0, 100)]] * (ATTEMPTS + 1))
    report = check(line)
    assert report.problems and len(report.disturbed) == ATTEMPTS
    assert len(line.left) == 1
    assert "NOT match its profile" in report.text()


class Runner(e2e.Runner):
    """Each run of a case ends as given, and meanwhile the machine stands still for so long."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, runs: Sequence[tuple[bool, int]]) -> None:
        super().__init__(False, False)
        self.left = list(runs)
        self.stall_ns = 0
        monkeypatch.setattr(Watch, "longest_ns", lambda watch, since_ns: self.stall_ns)

    def _case(self, scenario: Any, plan: Plan, outcome: Outcome) -> None:
        right, self.stall_ns = self.left.pop(0)
        outcome.checks.append(Check("it is found in time", right, ""))


LONG_NS, SHORT_NS = e2e.STALL_NS, e2e.STALL_NS // 2


@pytest.mark.parametrize(
    ("runs", "verdict", "taken"),
    [
        ([(True, LONG_NS)], Verdict.PASSED, 1),
        ([(False, SHORT_NS), (True, 0)], Verdict.FAILED, 1),
        ([(False, LONG_NS), (True, 0)], Verdict.PASSED, 2),
        ([(False, LONG_NS), (False, SHORT_NS), (True, 0)], Verdict.FAILED, 2),
        ([(False, LONG_NS)] * (e2e.RUNS + 1), Verdict.FAILED, e2e.RUNS),
    ],
)
def test_a_cell_is_run_again_only_where_the_machine_stood_still(
    monkeypatch: pytest.MonkeyPatch, runs: list[tuple[bool, int]], verdict: Verdict, taken: int
) -> None:
    runner = Runner(monkeypatch, runs)
    outcome = runner.run(Plan("bulk", "server", "lan"))
    assert outcome.verdict is verdict
    assert len(runs) - len(runner.left) == taken
    spoilt = sum(not right and stall_ns == LONG_NS for right, stall_ns in runs[:taken])
    assert len(outcome.facts.get("disturbed", ())) == spoilt
    assert e2e.line(outcome).count("disturbed: the machine stood still") == spoilt
