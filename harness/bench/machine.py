"""The facts about machine and time that a reader of the figures needs."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from harness.process import ROOT


def describe() -> dict[str, Any]:
    """Processor, kernel, Python, engine."""
    try:
        known = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        known = ""
    models = re.findall(r"^model name\s*:\s*(.*)$", known, re.MULTILINE)
    return {
        "processor": models[0] if models else platform.machine(),
        "processors": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "engine": os.environ.get("KCPG_ENGINE", "compiled where built"),
    }


def commit(root: Path = ROOT) -> str:
    """git's name for the sources; "" without git."""
    command = ["git", "describe", "--always", "--tags", "--dirty"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()
