"""The base of all scenarios: a network, a workload through it, and checks of the result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from harness.case import CONTROLS, Case, Plan
from harness.netns import Lab
from harness.topologies.chains import chain
from harness.topology import Topology
from netem.profile import Profile

RELAYS = {"server": 0, "relay": 1, "relays": 2}  # How many relays a chain of each mode has


class Scenario(ABC):
    """One end-to-end test. A case is a scenario with a mode, a profile and a seed."""

    name: ClassVar[str]
    description: ClassVar[str]
    workload: ClassVar[str]  # As harness/workloads calls it
    profile: ClassVar[str] = "lossy1"
    # The chains that it can run with, the default first.
    modes: ClassVar[tuple[str, ...]] = ("server", "relay", "relays")
    # The protocols that it can run with.
    dialects: ClassVar[tuple[str, ...]] = ("native", "kcptube", "kcptun")
    # How long it may take, set-up included; measurements (Plan.seconds) come on top
    limit_s: ClassVar[float] = 60.0
    # Configuration that the scenario needs in every node; the plan may override it.
    options: ClassVar[Mapping[str, str]] = {}

    def topology(self, lab: Lab, profile: Profile, plan: Plan) -> Topology:
        """The network: a row of nodes, unless the scenario overrides this."""
        return chain(lab, profile, RELAYS[plan.mode], seed=plan.seed, backend=plan.backend)

    @abstractmethod
    def drive(self, case: Case) -> None:
        """Run the workload and record checks. Raises Failed if it cannot go on."""

    def baselines(self, case: Case, name: str, workload: str, **task: object) -> None:
        """Run the workload without a tunnel over the same cables, by TCP with each congestion control.

        A baseline cannot fail the case.
        """
        if not case.plan.baselines:
            return
        with case.topology.routed() as addresses:
            for control in CONTROLS:
                case.direct(f"direct {control} {name}", workload, addresses[0], congestion=control, **task)
