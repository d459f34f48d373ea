"""Configuration files: text in, typed nodes and every problem out. `load` is the way in, `model` what comes
out.

Tests of what has none of its own name:
    addresses, passwords, presets: unit/test_config_values.py
    keypairs: unit/test_config_users.py
    across, build, check, model: unit/test_config_meaning.py, unit/test_config_relay.py
    reference_chinese: unit/test_config_chinese.py
    explain: unit/test_cli.py, net/test_process_daemon.py
    help: unit/test_config_reference.py
    lex, loading, parse, raw, report: unit/test_config_files.py, property/test_config_properties.py
"""

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
