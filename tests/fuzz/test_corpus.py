"""Every saved input runs; and a target that fails is found, made small and saved, however it fails."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engines import require
from tests.fuzz import __main__ as command
from tests.fuzz import runner
from tests.fuzz.mutate import MOST_BYTES, mutated
from tests.fuzz.targets import TARGETS
from tests.net.processes import ROOT

SAVED = [(name, path) for name in TARGETS for path in sorted((runner.CORPUS / name).glob("*"))]

BOTH_ENGINES = {"wire", "kcp", "fec", "kcptube"}

CHANGES = 30  # Of each target in an ordinary test run; `make fuzz` makes as many as there is time for


def compiled(name: str) -> None:
    """These targets compare the engines."""
    if name in BOTH_ENGINES:
        require("kcpg.core.kcp._kcp")


@pytest.mark.parametrize(("name", "path"), SAVED, ids=[f"{name}-{path.name}" for name, path in SAVED])
def test_a_saved_input_runs(name: str, path: Path) -> None:
    compiled(name)
    TARGETS[name](path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_has_inputs_that_differ_in_what_they_do(name: str) -> None:
    """Without them a search would begin with nothing, or a target would do nothing."""
    compiled(name)
    told = {TARGETS[name](path.read_bytes()) for other, path in SAVED if other == name}
    assert len(told) > 2


@pytest.mark.parametrize("name", TARGETS)
def test_some_changes_of_them_run(name: str) -> None:
    compiled(name)
    inputs, rng = (
        runner.corpus(name),
        random.Random(f"{name}: a fixed seed, as every test run is to be the same"),
    )
    for _ in range(CHANGES):
        TARGETS[name](mutated(rng.choice(inputs), inputs, rng))


def test_the_attacks_reach_what_they_are_for() -> None:
    """Frames of a peer with the keys get past the seal and are refused for what is in them."""
    compiled("wire")
    dropped = {
        name for other, path in SAVED if other == "wire" for name, _ in TARGETS["wire"](path.read_bytes())
    }
    assert {"kcp_malformed", "frame_unknown", "conv_unknown", "fec_malformed"} <= dropped, dropped


def test_a_seed_repeats_a_search() -> None:
    inputs = [b"one", b"another one"]
    first, second = (
        [mutated(rng.choice(inputs), inputs, rng) for _ in range(200)]
        for rng in (random.Random(7), random.Random(7))
    )
    assert first == second and len(set(first)) > 150 and max(map(len, first)) <= MOST_BYTES


def fails_on_two_letters(data: bytes) -> object:
    """A fault behind two conditions, the first of which shows."""
    if b"K" in data and b"Q" in data:
        raise RuntimeError("the fault")
    return b"K" in data


def test_a_fault_is_found_and_made_small(tmp_path: Path) -> None:
    newest = tmp_path / "newest"
    with pytest.raises(RuntimeError, match="the fault"):
        runner.search(fails_on_two_letters, [b"xxxx"], "1", 60, newest)
    data = runner.last_input(newest)
    small = runner.smaller(data, lambda each: b"K" in each and b"Q" in each)
    assert sorted(small) == sorted(b"KQ")
    assert runner.saved("target", small, "found", tmp_path).read_bytes() == small
    assert runner.corpus("target", tmp_path) == [small]


def test_an_input_that_kills_the_process_is_known_afterwards(tmp_path: Path) -> None:
    """As a sanitizer does it, or a loop in compiled code that never ends."""
    code = (
        "import os, sys, pathlib; from tests.fuzz import runner\n"
        "def target(data):\n    if b'!' in data: os.abort()\n"
        "runner.search(target, [b'x'], '1', 60, pathlib.Path(sys.argv[1]))"
    )
    newest = tmp_path / "newest"
    done = subprocess.run([sys.executable, "-c", code, str(newest)], cwd=ROOT, capture_output=True)
    assert done.returncode < 0 and b"!" in runner.last_input(newest)


def test_a_failing_target_fails_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Here without the process of its own, as another process would not have this target."""

    def run(words: list[str]) -> subprocess.CompletedProcess[bytes]:
        given = dict(word.split("=", 1) for word in words if "=" in word)
        code = runner.child("bad", fails_on_two_letters, given["SEED"], 60, Path(given["NEWEST"]), False)
        return subprocess.CompletedProcess(words, code)

    monkeypatch.setitem(TARGETS, "bad", fails_on_two_letters)
    monkeypatch.setattr(runner, "CORPUS", tmp_path)
    monkeypatch.setattr(runner.saved, "__defaults__", (tmp_path,))
    monkeypatch.setattr(command.subprocess, "run", run)
    assert command.main(["bad", "SEED=1"]) == 1
    assert "Repeat it: make fuzz TARGETS=bad INPUT=" in capfd.readouterr().out
    (path,) = (tmp_path / "bad").iterdir()
    assert path.name.startswith("found-") and len(path.read_bytes()) == 2


def test_an_unknown_word_is_refused() -> None:
    assert command.main(["nothing-of-that-name"]) == command.main(["SECOND=1"]) == 2
