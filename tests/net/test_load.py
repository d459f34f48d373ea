"""A real server and a small herd: what the load tool says of them is so."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("matplotlib")

from harness.load import command


def test_a_herd_comes_back_after_the_server_was_killed(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--clients", "20", "--flows", "2", "--faults", "kill,outage", "--away", "0.5", "--quiet", "0.5"]
    assert command.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["come", "quiet", "kill", "outage"]
    assert all("20 of     20 back" in line for line in lines)
    assert all(float(re.findall(r"([\d.]+) MB", line)[0]) > 20 for line in lines), "it is a real process"
