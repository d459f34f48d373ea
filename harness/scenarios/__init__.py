"""End-to-end tests, one family a file; `SCENARIOS` has them all by name."""

from __future__ import annotations

from harness.scenarios import packets, paths, security, speed, tcp_semantics
from harness.scenarios.base import Scenario

SCENARIOS: dict[str, Scenario] = {
    each.name: each
    for family in (speed, tcp_semantics, packets, security, paths)
    for each in family.SCENARIOS
}
