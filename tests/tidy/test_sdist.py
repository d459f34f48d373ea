"""A source distribution has all that is tracked: what is unpacked can be built, tested and measured."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

from tests.tidy import tree


def tracked() -> list[str]:
    """What git knows here; skips where this is no clone, such as in an unpacked source distribution."""
    if not (tree.ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git clone, so nothing says which files belong to it")
    done = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z"],
        cwd=tree.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [name for name in done.stdout.split("\0") if name and (tree.ROOT / name).exists()]


def test_everything_tracked_is_in_the_source_distribution(tmp_path: Path) -> None:
    names = tracked()
    copy = tmp_path / "copy"
    for name in names:
        place = copy / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(tree.ROOT / name, place)
    # What is built in place stands between the sources, and stays out.
    for built in ("kcpg/core/_built.c", "kcpg/core/_built.so"):
        (copy / built).touch()
    subprocess.run(
        [sys.executable, "setup.py", "-q", "sdist", "--formats=tar", "--dist-dir", str(tmp_path)],
        cwd=copy,
        env={**os.environ, "KCPG_ENGINE": "python"},
        check=True,
        capture_output=True,
        timeout=60,
    )
    (archive,) = tmp_path.glob("*.tar")
    with tarfile.open(archive) as packed:
        members = {member.name.partition("/")[2]: member for member in packed.getmembers() if member.isfile()}
    assert sorted(set(names) - set(members)) == [], "MANIFEST.in leaves these out"
    # What setuptools adds itself is all that is more.
    more = {name for name in set(members) - set(names) if ".egg-info/" not in name}
    assert more == {"PKG-INFO", "setup.cfg"}
    lost = [name for name in names if os.access(tree.ROOT / name, os.X_OK) and not members[name].mode & 0o100]
    assert not lost, f"no longer executable: {lost}"


def test_both_ways_to_build_ask_for_the_same_tools() -> None:
    """pip reads pyproject.toml, make its own line."""
    with (tree.ROOT / "pyproject.toml").open("rb") as file:
        required = tomllib.load(file)["build-system"]["requires"]
    make = (tree.ROOT / "Makefile").read_text(encoding="utf-8")
    (line,) = re.findall(r"install --upgrade pip (.*)", make)
    assert re.findall(r'"([^"]+)"', line) == required
