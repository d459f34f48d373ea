"""An end-to-end run that is interrupted leaves nothing behind, and says so by its exit code."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.netns import Lab, leftovers
from harness.process import ROOT
from tests.net.emulation import lab

__all__ = ["lab"]

pytest.importorskip("scapy")
pytest.importorskip("matplotlib", reason="make e2e installs it")

WORDS = ["ONLY=server-first,half-close", "PROFILE=lossy1", "MODE=server", "LINKCHECK=0", "BACKEND=box"]


def test_an_interrupted_run_cleans_up_and_reports(lab: Lab, tmp_path: Path) -> None:
    out = tmp_path / "out"
    running = subprocess.Popen(
        [sys.executable, "-m", "harness", "run", "--out", str(out), *WORDS],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert running.stdout is not None
    try:
        first = running.stdout.readline()
        assert first.startswith("[1/2] passed"), first + running.stdout.read()
        until_s = time.monotonic() + 20
        while not _own(running.pid) and time.monotonic() < until_s:
            time.sleep(0.01)
        assert _own(running.pid), "the second case has its namespaces"
        running.send_signal(signal.SIGINT)
        said = running.stdout.read()
        assert running.wait(20) == 130, said
    finally:
        running.stdout.close()
        if running.poll() is None:
            running.terminate()
            running.wait(20)
    assert not _own(running.pid)
    assert "1 passed, 1 not run" in said
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["interrupted"] and [case["verdict"] for case in report["cases"]] == ["passed"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "link box in user space" in page and "data:image/png;base64," in page


def test_the_other_dialect_passes_where_it_can(lab: Lab, tmp_path: Path) -> None:
    """What is about something that kcptube's protocol does not have has not passed, nor failed."""
    words = ["ONLY=server-first,small-mtu", "MODE=server", "DIALECT=kcptube", "LINKCHECK=0", "BACKEND=box"]
    words += ["SHARE=200"]  # two connections; each takes a second to end in that protocol
    command = [sys.executable, "-m", "harness", "run", "--out", str(tmp_path), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    cases = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["cases"]
    assert [case["verdict"] for case in cases] == ["passed", "skipped"], done.stdout
    assert "does not have" in cases[1]["reason"]


def test_what_a_path_takes_is_found_in_real_networks(lab: Lab, tmp_path: Path) -> None:
    """1,280 bytes in the middle without ICMP, 9,000 everywhere: captures show full packets, no fragment."""
    words = ["MODE=server", "PROFILE=lossy1", "LINKCHECK=0", "BACKEND=box"]
    running = {}
    for name in ("small-mtu", "jumbo"):  # both at once: they mostly wait for sizes that do not pass
        command = [sys.executable, "-m", "harness", "run", "--out", str(tmp_path / name), f"ONLY={name}"]
        running[name] = subprocess.Popen(
            [*command, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    try:
        said = {name: run.communicate(timeout=90)[0] for name, run in running.items()}
    finally:
        for run in running.values():
            if run.poll() is None:
                run.terminate()
                run.communicate(timeout=20)
    for name, run in running.items():
        assert run.returncode == 0, said[name]
        (case,) = json.loads((tmp_path / name / "report.json").read_text(encoding="utf-8"))["cases"]
        assert case["verdict"] == "passed"


def _own(pid: int) -> list[str]:
    return [name for name in leftovers() if name.split("-")[1] == str(pid)]


def test_over_a_line_that_changes_rate_queue_and_delay_are_drawn(lab: Lab, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["ONLY=bulk", "PROFILE=rtt-swing", "MODE=server", "SECONDS=2", "LINKCHECK=0"]
    command = [sys.executable, "-m", "harness", "run", "--out", str(out), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (case,) = json.loads((out / "report.json").read_text(encoding="utf-8"))["cases"]
    assert set(case["courses"]) == set(case["measured"]) and len(case["courses"]) == 6
    for name, course in case["courses"].items():
        assert course["way"] == name.split()[-1] and set(course["capacity"]) == {20.0}
        assert len(course["queue"]) > 10 and max(delay for _, delay in course["base"]) > 60
        assert bool(course["believed"]) == name.startswith("kcpg")
    believed = case["courses"]["kcpg down"]["believed"]
    assert all(0 < rate < 30 and 40 <= least <= rtt + 80 for _, rate, rtt, least in believed[3:])
    assert (out / "01-bulk-server-rtt-swing-course.png").stat().st_size > 10_000
