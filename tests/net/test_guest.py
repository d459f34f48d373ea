"""A guest kernel ends with whoever started it, however that one is ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.process import ROOT
from netem.guest import __main__ as launcher
from tests.needs import needs


def session(leader: int) -> list[int]:
    """The processes of a session: a guest kernel is several."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_guest_ends_with_its_launcher(number: signal.Signals, tmp_path: Path) -> None:
    if not launcher.there_is():
        assert not (os.environ.get("CI") and launcher.installable()), "make netem-guest comes first"
        pytest.skip(needs("a guest kernel"))
    running = subprocess.Popen(
        [sys.executable, "-m", "netem.guest", "echo up; sleep 600"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert running.stdout is not None
    with running.stdout:
        try:
            said = ""
            while said != "up\n":
                said = running.stdout.readline()
                assert said, "the guest did not boot"
            (guest,) = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
            assert session(int(guest))
        finally:
            running.send_signal(number)
            running.wait(20)
    until_s = time.monotonic() + 10
    while session(int(guest)) and time.monotonic() < until_s:
        time.sleep(0.01)
    assert not session(int(guest)) and not os.listdir(tmp_path)
