"""End-to-end tests, one family a file; `SCENARIOS` has them all by name."""

from __future__ import annotations

from harness.scenarios import manners, packets, paths, secrecy, speed
from harness.scenarios.base import Scenario

SCENARIOS: dict[str, Scenario] = {
    each.name: each for family in (speed, manners, packets, secrecy, paths) for each in family.SCENARIOS
}
