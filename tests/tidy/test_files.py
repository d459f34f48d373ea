"""Files stay short, finished and free of what belongs to one machine."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.tidy import tree

MOST_LINES = 500
CODE = (".py", ".pyx", ".pxd", ".pxi", ".pyi")
EVERYWHERE = ("kcpg", "netem", "harness", "tests")


@pytest.mark.parametrize("path", tree.sources(*EVERYWHERE, suffixes=CODE), ids=tree.name)
def test_a_file_has_one_purpose(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    limit = LONGER.get(tree.name(path), MOST_LINES)
    assert lines <= limit, (
        f"{tree.name(path)} has {lines} lines; past {limit}, cut it by state, not by technique"
    )


# A compiled module is one translation unit: cutting it would put a call through a pointer into the hot loops.
LONGER = {
    "kcpg/core/native/wire/_wire.pyx": 1200,
    "kcpg/net/_udp.pyx": 800,
}

# Spelt in two halves, so that this file is not its own first finding.
UNFINISHED = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"]) + r")\b")
PRETENDED = re.compile(
    "not (yet )?implemented|implemented (yet|later)|" + "stub" + "bed|for " + "now,", re.IGNORECASE
)


@pytest.mark.parametrize("path", tree.sources("kcpg", "netem", "harness", suffixes=CODE), ids=tree.name)
def test_nothing_is_left_unfinished(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    wrong = [
        f"{tree.name(path)}:{number}: {line.strip()}"
        for number, line in enumerate(text.splitlines(), 1)
        if UNFINISHED.search(line) or PRETENDED.search(line)
    ]
    assert not wrong, "\n".join([*wrong, "an open end is an issue, not a comment"])


# Absolute paths of somebody's machine, and hosts of package registries or mirrors.
LOCAL = re.compile(
    r"/(?:home|root|Users)/\w|/work/|/tmp/[a-z]+/|files\.pythonhosted|pypi\.org/simple|index-url"
)
TEXTS = (
    "Makefile",
    "setup.py",
    "pyproject.toml",
    "MANIFEST.in",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    ".ci/run",
)


def test_nothing_names_one_machine_or_registry() -> None:
    files = tree.sources(
        *EVERYWHERE, "docs", "configs", "packaging", suffixes=(*CODE, ".md", ".conf", ".toml", ".service")
    )
    files += [tree.ROOT / text for text in TEXTS]
    wrong = [
        f"{tree.name(path)}:{number}: {line.strip()}"
        for path in files
        if path.name != "test_files.py"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if LOCAL.search(line)
    ]
    assert not wrong, "\n".join([*wrong, "a fresh clone on another machine must work the same"])


def test_every_module_says_what_it_is_for() -> None:
    wrong = [
        tree.name(path)
        for path in tree.sources("kcpg", "netem", "harness")
        if tree.tree(path).body and ast.get_docstring(tree.tree(path)) is None
    ]
    assert not wrong, f"without a docstring: {wrong}"
