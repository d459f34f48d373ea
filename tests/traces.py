"""Recorded traces, which do not come with the project: KCPG_TRACES names the directory that has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.needs import needs

# Of mahimahi's collection, as Winstein et al. recorded them: each as NAME.up and NAME.down.
RECORDED = ("TMobile-UMTS-driving", "Verizon-LTE-short")


def recorded(name: str) -> Path:
    """The trace's path without its .up or .down; the test is skipped where there is none."""
    stem = Path(os.environ.get("KCPG_TRACES", "")) / name
    if "KCPG_TRACES" not in os.environ or not all(Path(f"{stem}.{way}").is_file() for way in ("up", "down")):
        pytest.skip(needs(f"the recorded trace {name}", "name its directory in KCPG_TRACES"))
    return stem
