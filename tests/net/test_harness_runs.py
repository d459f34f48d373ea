"""The demo and the measurement run real chains, come to an end, and leave nothing behind."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from harness import traffic
from harness.process import Program

PATIENCE_S = 60


def harness(tmp_path: Path, *words: str, **environ: str) -> Program:
    """`python -m harness …` with its temporary files below `tmp_path`."""
    (tmp_path / "tmp").mkdir()
    command = [sys.executable, "-m", "harness", *words]
    return Program(
        words[0], command, tmp_path / "log", {"TMPDIR": str(tmp_path / "tmp"), "CI": "", **environ}
    )


def is_running(pid: int) -> bool:
    """Whether a process of this number works still (one that only waits to be collected does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def nothing_left(tmp_path: Path, output: str) -> None:
    """The nodes whose processes the output names are gone, and so are their files."""
    pids = [int(pid) for pid in re.findall(r"process (\d+)$", output, re.MULTILINE)]
    assert len(pids) == 3, output
    until_s = time.monotonic() + PATIENCE_S
    while any(map(is_running, pids)) and time.monotonic() < until_s:
        time.sleep(0.02)
    assert not any(map(is_running, pids))
    assert os.listdir(tmp_path / "tmp") == []


def test_the_demo_checks_every_byte_and_ends(tmp_path: Path) -> None:
    with harness(tmp_path, "demo", "--any-ports", "--size", "2", CI="true") as demo:
        code = demo.wait(PATIENCE_S)
        output = demo.output()
        assert code == 0, output
        title = output.splitlines()[0]
        assert re.fullmatch(r"kcpg [\d.]+, (compiled|python) engine: the whole chain on this machine", title)
        assert "every byte compared" in output and "came back unchanged" in output
        assert re.search(r"client → relay +AES-GCM +[\d,]+", output), output
        assert re.search(r"relay → server +AES-OCB +[\d,]+", output), output
        nothing_left(tmp_path, output)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_serves_until_it_is_told_to_end(tmp_path: Path, number: signal.Signals) -> None:
    with harness(tmp_path, "demo", "--any-ports", "--size", "1") as demo:
        demo.wait_for("Ctrl-C stops it", PATIENCE_S)
        entry = re.search(r"TCP and UDP to (127\.0\.0\.1):(\d+)", demo.output())
        assert entry is not None
        assert traffic.round_trips((entry[1], int(entry[2])), 3, 100)
        os.kill(demo.pid, number)
        assert demo.wait(PATIENCE_S) == 0, demo.output()
        nothing_left(tmp_path, demo.output())


def test_the_demo_says_which_node_ended(tmp_path: Path) -> None:
    with harness(tmp_path, "demo", "--any-ports", "--size", "1") as demo:
        demo.wait_for("Ctrl-C stops it", PATIENCE_S)
        relay = re.search(r"relay +process (\d+)", demo.output())
        assert relay is not None
        os.kill(int(relay[1]), signal.SIGKILL)  # a process this test's demo started
        assert demo.wait(PATIENCE_S) == 1
        assert "the relay has exited" in demo.output()
        nothing_left(tmp_path, demo.output())


def test_the_measurement_gives_a_table_and_the_figures(tmp_path: Path) -> None:
    words = ["WORKLOADS=bulk-up", "PLACES=loopback", "SYSTEMS=direct,kcpg", "REPEATS=1", "SECONDS=0.3"]
    with harness(tmp_path, "bench", *words) as bench:
        code = bench.wait(PATIENCE_S)
        output = bench.output()
        assert code == 0, output
        assert re.search(r"^ *kcpg +[\d,]+", output, re.MULTILINE), output
