"""The tests of a module are found from its name, or from what its package says about it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tidy import tree

HEAD = "Tests of what has none of its own name:"
ENTRY = re.compile(r" +(?P<modules>\w+(?:, \w+)*): (?P<tests>\w[\w/.]*(?:, \w[\w/.]*)*)")

PACKAGES = [path for path in tree.sources("kcpg") if path.name == "__init__.py"]
MODULES = [path for path in tree.sources("kcpg") if not path.stem.startswith("__")]
NAMES = {path.stem for path in tree.sources("tests") if path.stem.startswith("test_")}


def has_its_own(module: Path) -> bool:
    """`kcp/ackmap.py` has test_ackmap.py or test_kcp_ackmap.py, somewhere below tests."""
    return bool(NAMES & {f"test_{module.stem}", f"test_{module.parent.name}_{module.stem}"})


def entries(package: Path) -> Iterator[tuple[list[str], list[str]]]:
    """The lines of a package's list: modules, and where their tests are."""
    docstring = ast.get_docstring(tree.tree(package), clean=False) or ""
    for line in docstring.partition(HEAD)[2].strip("\n").splitlines():
        found = ENTRY.fullmatch(line)
        assert found is not None, f"{tree.name(package)}: not 'modules: tests': {line.strip()}"
        yield found["modules"].split(", "), found["tests"].split(", ")


def test_every_module_leads_to_its_tests() -> None:
    listed = {
        package.parent / f"{module}.py"
        for package in PACKAGES
        for modules, _ in entries(package)
        for module in modules
    }
    lost = [tree.name(path) for path in MODULES if not has_its_own(path) and path not in listed]
    assert not lost, "\n".join(
        [*lost, "has no test module of its name: add it to the list in the docstring of its package"]
    )


@pytest.mark.parametrize("package", PACKAGES, ids=tree.name)
def test_what_a_package_says_of_its_tests_is_true(package: Path) -> None:
    said: list[str] = []
    for modules, tests in entries(package):
        said += modules
        for module in modules:
            path = package.parent / f"{module}.py"
            assert path.exists(), f"there is no {module}.py any more"
            assert not has_its_own(path), f"{module} has tests of its name: its entry hides them"
        for test in tests:
            path = tree.ROOT / "tests" / test
            assert path.exists() and path.stem.startswith("test_"), f"there is no tests/{test}"
    assert len(said) == len(set(said)), "a module stands in one line"
