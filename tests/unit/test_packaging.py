"""The numbers of the service file are those of the program."""

from __future__ import annotations

import re
from pathlib import Path

from kcpg.app.cli import DRAIN_S
from kcpg.app.config.keys import KEYS
from kcpg.app.workers.supervisor import CLOSE_LIMIT_S
from kcpg.errors import EXIT_USAGE

ROOT = Path(__file__).parents[2]
SERVICE = (ROOT / "packaging" / "kcpg@.service").read_text("utf-8")
LIMITS = (ROOT / "docs" / "limits.md").read_text("utf-8")

SPARE_DESCRIPTORS = 1000  # For listening ports, links and the log


def setting(name: str) -> int:
    """A number that the service file sets."""
    (text,) = re.findall(rf"^{name}=(\d+)$", SERVICE, re.MULTILINE)
    return int(text)


def test_descriptors_suffice_for_the_default_number_of_flows() -> None:
    most_flows = KEYS["max_flows"].default
    assert isinstance(most_flows, int) and str(most_flows) in SERVICE
    assert setting("LimitNOFILE") >= most_flows + SPARE_DESCRIPTORS
    assert "A flow takes one descriptor" in SERVICE
    assert "Each flow of a client or a server is one descriptor" in LIMITS


def test_the_service_manager_waits_for_flows_and_workers() -> None:
    assert f"flows get {DRAIN_S:.0f} s" in SERVICE and f"another {CLOSE_LIMIT_S:.0f} s" in SERVICE
    assert setting("TimeoutStopSec") > DRAIN_S + CLOSE_LIMIT_S


def test_a_wrong_configuration_is_not_retried() -> None:
    assert setting("RestartPreventExitStatus") == EXIT_USAGE
