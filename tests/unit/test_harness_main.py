"""`python -m harness` finds the environment that make has built, or says how to build it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness import __main__ as entry
from harness.process import ROOT


def test_the_environment_of_the_repository_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.touch()
    called: list[list[str]] = []

    def execv(program: Path, words: list[str]) -> None:
        called.append(words)
        raise SystemExit

    monkeypatch.setattr(entry, "ENVIRONMENT", tmp_path)
    monkeypatch.setattr(entry, "find_spec", lambda name: None)
    monkeypatch.setattr("os.execv", execv)
    with pytest.raises(SystemExit):
        entry.main(["run", "MODE=relay"])
    assert called == [[str(python), "-m", "harness", "run", "MODE=relay"]]


def test_without_one_it_says_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(entry, "ENVIRONMENT", tmp_path)
    monkeypatch.setattr(entry, "find_spec", lambda name: None)
    assert entry.main(["e2e"]) == 1
    assert "scapy, matplotlib not installed. Run:   make e2e" in capsys.readouterr().err


def test_an_unknown_command_is_a_mistake() -> None:
    words = [sys.executable, "-m", "harness", "dance"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "usage:" in done.stderr
