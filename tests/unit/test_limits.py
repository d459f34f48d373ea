"""docs/limits.md tells the truth."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = re.findall(
    r"^\| `(kcpg[\w.]+)\.([A-Z_]+)` \| (\d+) \|",
    (ROOT / "docs" / "limits.md").read_text("utf-8"),
    re.MULTILINE,
)


def test_the_table_is_read() -> None:
    assert len(ROWS) > 20


@pytest.mark.parametrize(("module", "name", "value"), ROWS, ids=[row[1] for row in ROWS])
def test_a_documented_limit_is_the_one_in_force(module: str, name: str, value: str) -> None:
    assert constant(module, name) == int(value)


def constant(module: str, name: str) -> object:
    """Of a module; one that is a C integer where the module is compiled stands in its source alone."""
    found = getattr(importlib.import_module(module), name, None)
    if found is not None:
        return found
    source = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text("utf-8")
    for line in ast.parse(source).body:
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == name:
            return ast.literal_eval(line.value)
    raise AssertionError(f"{module} has no {name}")
