"""Configuration files: text in, typed nodes and every problem out. `load` is the way in, `model` what comes
out."""

from __future__ import annotations

from kcpg.app.config.loading import load, load_text, load_texts
from kcpg.app.config.model import LegConfig, Loaded, NodeConfig, Problem, Role, Severity

__all__ = [
    "load",
    "load_text",
    "load_texts",
    "Loaded",
    "NodeConfig",
    "LegConfig",
    "Problem",
    "Role",
    "Severity",
]
