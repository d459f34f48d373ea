"""The last lines of a run say what was skipped and what would change that; and how `make test` starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.needs import needs, not_run

ROOT = Path(__file__).resolve().parents[2]

SKIPPING = """
import pytest
from tests.needs import needs, pytest_terminal_summary

@pytest.mark.parametrize("number", range(3))
def test_a_tool(number):
    pytest.skip(needs("nft, tc"))

@pytest.mark.skipif(True, reason=needs("valgrind"))
def test_another():
    raise AssertionError

def test_passes():
    pass

def test_an_address_family():
    pytest.skip("this machine has no IPv6")
"""


def test_reasons_are_grouped_by_what_to_do() -> None:
    reasons = ["no IPv6", needs("b, a"), needs("c"), needs("a kernel: of its own", "make kernel")]
    assert list(not_run(reasons)) == [
        "4 tests were not run:",
        "  2 need a, b, c: make tools",
        "  1 no IPv6",
        "  1 needs a kernel: of its own: make kernel",
    ]


def test_nothing_is_said_where_nothing_was_skipped() -> None:
    assert list(not_run([])) == []


@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_run_ends_with_what_it_did_not_run(processes: str, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from tests.needs import pytest_terminal_summary\n")
    (tmp_path / "test_skipping.py").write_text(SKIPPING)
    words = ["-q", "-p", "xdist", "-n", processes, "-p", "no:cacheprovider"]
    words += ["--rootdir", str(tmp_path), "-c", os.devnull]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *_, first, second, third, last = done.stdout.splitlines()
    assert first == "5 tests were not run:"
    assert second == "  4 need nft, tc, valgrind: make tools"
    assert third == "  1 this machine has no IPv6"
    assert last.startswith("1 passed, 5 skipped")


@pytest.mark.parametrize(
    ("words", "processes"),
    [
        ((), ["2"]),
        (("TESTS=tests/unit tests/sim",), ["2"]),
        (("ARGS=-v -k name",), ["2"]),
        (("ARGS=-n 4",), ["4"]),
        (("ARGS=-n0 -v",), ["0"]),
        (("ARGS=-x",), []),
        (("ARGS=--pdb",), []),
        (("TESTS=tests/unit/test_needs.py",), []),
        (("TESTS=tests/unit/test_needs.py::test_x",), []),
    ],
)
def test_make_test_runs_several_files_in_two_processes(words: tuple[str, ...], processes: list[str]) -> None:
    """Whoever watches one test wants it in one process; whoever says a number is not contradicted."""
    done = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "test", *words],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "TESTS", "ARGS")},
        capture_output=True,
        text=True,
        check=True,
    )
    (run,) = [line for line in done.stdout.splitlines() if "-m pytest" in line]
    given = run.split()
    found = [
        (word.removeprefix("-n") or given[index + 1]) for index, word in enumerate(given) if word[:2] == "-n"
    ]
    assert found == processes
