"""An edit that nobody compiled is noticed, and nothing else is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kcpg import built

COMPILED = "kcpg/core/splice.so"
SOURCES = ("kcpg/core/splice.py", "kcpg/core/splice.pxd", "kcpg/core/kcp/_kcp.pxd")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A tree with one compiled module, built a second after its sources were written."""
    for name in ("setup.py", COMPILED, *SOURCES):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"this is {name}")
    built.note(tmp_path, {COMPILED: {name: built.digest(tmp_path / name) for name in SOURCES}})
    for name in SOURCES:
        move(tmp_path / name, -1)
    return tmp_path


def move(path: Path, by_s: int) -> None:
    """Set the time of a file so many seconds after the build."""
    root = next(each for each in path.parents if (each / "setup.py").exists())
    at = (root / built.RECORD).stat().st_mtime_ns + by_s * 10**9
    os.utime(path, ns=(at, at))


@pytest.mark.parametrize("thorough", [False, True])
def test_what_was_built_is_fresh(checkout: Path, thorough: bool) -> None:
    assert built.stale(checkout, thorough) is None


@pytest.mark.parametrize("thorough", [False, True])
@pytest.mark.parametrize("source", SOURCES)
def test_an_edit_is_noticed(checkout: Path, source: str, thorough: bool) -> None:
    (checkout / source).write_text("something else")
    move(checkout / source, 1)
    assert built.stale(checkout, thorough) == (
        f"{source} was changed after {COMPILED} was compiled: run make setup"
    )


@pytest.mark.parametrize("thorough", [False, True])
def test_the_time_alone_says_nothing(checkout: Path, thorough: bool) -> None:
    """git checkout there and back, or an unpacked archive, makes every file new."""
    for source in SOURCES:
        move(checkout / source, 1)
    assert built.stale(checkout, thorough) is None


def test_tests_notice_a_change_that_is_no_newer(checkout: Path) -> None:
    (checkout / SOURCES[0]).write_text("something else")
    move(checkout / SOURCES[0], -1)
    assert built.stale(checkout, thorough=True) is not None


@pytest.mark.parametrize("thorough", [False, True])
def test_a_source_that_is_gone_is_noticed(checkout: Path, thorough: bool) -> None:
    (checkout / SOURCES[1]).unlink()
    assert built.stale(checkout, thorough) is not None


@pytest.mark.parametrize("thorough", [False, True])
def test_what_is_left_over_from_another_commit_is_in_nobodys_way(checkout: Path, thorough: bool) -> None:
    """Its module is gone with all its sources; no make would ever compile it again."""
    for source in SOURCES:
        (checkout / source).unlink()
    assert built.stale(checkout, thorough) is None


def test_a_module_without_a_record_is_noticed(checkout: Path) -> None:
    (checkout / "kcpg/core/node.so").touch()
    assert built.stale(checkout, thorough=True) is None, "it hides no source"
    (checkout / "kcpg/core/node.py").touch()
    assert built.stale(checkout, thorough=True) == (
        "nobody knows from what kcpg/core/node.so was compiled: run make setup"
    )


def test_another_build_leaves_what_it_did_not_build(checkout: Path) -> None:
    for name in ("node.so", "node.py"):
        (checkout / "kcpg/core" / name).touch()
    built.note(checkout, {"kcpg/core/node.so": {"kcpg/core/splice.pxd": "0"}})
    assert built.stale(checkout, thorough=True) is not None
    (checkout / "kcpg/core/node.so").unlink()
    built.note(checkout, {})
    assert built.stale(checkout, thorough=True) is None


def test_an_installed_package_is_never_looked_at(checkout: Path) -> None:
    (checkout / SOURCES[0]).write_text("something else")
    (checkout / "setup.py").unlink()
    assert built.stale(checkout, thorough=True) is None


def test_kcpg_and_pytest_refuse_to_run_what_is_not_written(tmp_path: Path) -> None:
    """On a copy of this tree, as somebody edits a file that is compiled as well, and forgets make."""
    for part in ("kcpg", "tests"):
        unwanted = shutil.ignore_patterns("*.so", "_built.json", "__pycache__")
        shutil.copytree(built.ROOT / part, tmp_path / part, ignore=unwanted)
    for part in ("setup.py", "pyproject.toml"):
        shutil.copy2(built.ROOT / part, tmp_path / part)
    edited, compiled = "kcpg/core/splice.py", "kcpg/core/splice.another-python.so"
    (tmp_path / compiled).touch()
    built.note(tmp_path, {compiled: {edited: built.digest(tmp_path / edited)}})
    with (tmp_path / edited).open("a") as file:
        file.write("# an edit\n")
    move(tmp_path / edited, 1)
    wanted = f"{edited} was changed after {compiled} was compiled: run make setup"

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "PYTHONPATH": str(tmp_path), "KCPG_ENGINE": "python"}
        done = [sys.executable, "-m", *words]
        return subprocess.run(done, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)

    started = run("kcpg", "some.conf")
    assert (started.returncode, started.stderr) == (1, f"kcpg: {wanted}\n")
    version = run("kcpg", "--version")
    assert version.returncode == 0 and wanted in version.stdout
    tested = run("pytest", "-q", "tests/unit/test_addr.py")
    assert tested.returncode == 3 and wanted in tested.stdout + tested.stderr
