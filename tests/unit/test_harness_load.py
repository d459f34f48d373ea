"""`python -m harness load --virtual`, and its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from harness.load import command


def test_a_storm_in_virtual_time_is_a_table_and_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "--virtual",
        "--clients",
        "30",
        "--cost",
        "20",
        "--faults",
        "restart,kill",
        "--out",
        str(tmp_path),
    ]
    assert command.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["restart", "kill"]
    assert all("30 of     30 back" in line for line in lines)
    rows = json.loads((tmp_path / "load.json").read_text())
    assert [len(row["curve_ms"]) for row in rows] == [30, 30]
    assert all(row["all_ms"] == row["curve_ms"][-1] and row["inits_median"] >= 1 for row in rows)
    assert (tmp_path / "load.png").stat().st_size > 1000


def test_the_same_seed_gives_the_same_figures(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--virtual", "--clients", "20", "--cost", "20", "--faults", "kill", "--seed", "7"]
    command.main(words)
    first = capsys.readouterr().out
    command.main(words)
    assert capsys.readouterr().out == first


def test_an_unknown_fault_is_a_mistake() -> None:
    with pytest.raises(SystemExit):
        command.main(["--virtual", "--faults", "flood"])
