"""docs/limits.md tells the truth."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROWS = re.findall(
    r"^\| `(kcpg[\w.]+)\.([A-Z_]+)` \| (\d+) \|",
    (Path(__file__).parents[2] / "docs" / "limits.md").read_text("utf-8"),
    re.MULTILINE,
)


def test_the_table_is_read() -> None:
    assert len(ROWS) > 20


@pytest.mark.parametrize(("module", "name", "value"), ROWS, ids=[row[1] for row in ROWS])
def test_a_documented_limit_is_the_one_in_force(module: str, name: str, value: str) -> None:
    assert getattr(importlib.import_module(module), name) == int(value)
