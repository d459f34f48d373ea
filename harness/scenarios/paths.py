"""Networks that change under a flow, and networks that are not a plain row.

client ---- nat ==== server                        the NAT forgets all mappings
client ==(1)== router, ==(2)== router ---- server  the client switches to the other uplink
client ==(1)== server, ==(2)== server              one of two addresses stops answering
client ---- router1 ==(small)== router2 ---- server
client ==== relay1 ==(IPv6 only)== relay2 ==== server
"""

from __future__ import annotations

import time
from typing import ClassVar

from harness import eavesdropper
from harness.capture import Capture
from harness.case import Case, Plan
from harness.netns import Lab
from harness.process import Program
from harness.scenarios.base import RELAYS, Scenario
from harness.scenarios.security import look
from harness.topologies import chains, multipath, narrow, nat
from harness.topology import Topology
from netem.profile import Profile

FOUND_BYTES = 400_000
# By then kcpg has found the size: a size that does not pass costs half a second, and a search tries about
# five.
FOUND_S = 3.0

# Tolerance below the largest packet: the search has steps of 16 bytes, and IPv6 headers take 20 bytes more.
FOUND_WITHIN = 40


class Changing(Scenario):
    """The network changes under a steady flow of requests, and every request still gets its answer."""

    workload = "latency"
    profile = "lossy1"
    modes: ClassVar[tuple[str, ...]] = ("server",)
    limit_s = 90.0
    count: ClassVar[int] = 300

    def drive(self, case: Case) -> None:
        """Change the network after a third of the requests."""
        task = {"count": self.count, "rate": 50.0, "size_bytes": 100}
        with case.target(self.workload, **task), case.user(self.workload, **task) as program:
            time.sleep(self.count / 50.0 / 3)
            case.expect("the flow ran before the change", program.running)
            self.change(case, program)
            report = case.report("kcpg", program)
        answered = report.get("times_ms", {}).get("count", 0)
        case.expect("every request was answered", answered == self.count, f"{answered} of {self.count}")
        # The longest wait includes the time to find the other path, and the backlog of that time.
        case.outcome.facts["longest wait, ms"] = report.get("times_ms", {}).get("max")
        case.work("kcpg afterwards", "server-first", count=3)

    def change(self, case: Case, program: Program) -> None:
        """Change the network."""


class Rebinding(Changing):
    """A home router is restarted."""

    name = "nat-rebinding"
    description = "a NAT forgets its mappings and assigns new ports: the flow goes on"

    def topology(self, lab: Lab, profile: Profile, plan: Plan) -> Topology:
        """With a NAT in front of the client."""
        return nat.nat(lab, profile, seed=plan.seed, backend=plan.backend)

    def change(self, case: Case, program: Program) -> None:
        """Have the NAT forget everything."""
        assert isinstance(case.topology, nat.Nat)
        case.outcome.facts["ports after the change"] = "{}-{}".format(*case.topology.rebind())


class Roaming(Changing):
    """A phone moves from one network to another."""

    name = "roaming"
    description = (
        "the client switches to another uplink and address, and the first one dies: the flow goes on"
    )

    def topology(self, lab: Lab, profile: Profile, plan: Plan) -> Topology:
        """With two paths to the router."""
        return multipath.two_uplinks(lab, [profile, profile], seed=plan.seed, backend=plan.backend)

    def change(self, case: Case, program: Program) -> None:
        """Switch to the other uplink."""
        assert isinstance(case.topology, multipath.Uplinks)
        case.topology.use(2)
        case.topology.links[0].cut()


class Failover(Changing):
    """One of a server's two addresses dies."""

    name = "failover"
    dialects = ("native", "kcptube")  # a link of kcptun's cannot move
    description = "one of the server's two addresses stops answering: the flow goes on over the other one"

    def topology(self, lab: Lab, profile: Profile, plan: Plan) -> Topology:
        """With two cables to the server."""
        return multipath.two_servers(lab, [profile, profile], seed=plan.seed, backend=plan.backend)

    def change(self, case: Case, program: Program) -> None:
        """Cut the cable that has carried more."""
        carried = [link.facts()["up"]["sent_bytes"] for link in case.topology.links]
        used = carried.index(max(carried))
        case.topology.links[used].cut()
        case.outcome.facts["cut"] = f"cable {used + 1}, which had carried {carried} bytes"


class Outage(Changing):
    """The line fails for seconds and recovers."""

    name = "outage"
    description = "nothing passes for 3 s: the flow goes on afterwards"
    modes = ("relay", "server", "relays")

    def topology(self, lab: Lab, profile: Profile, plan: Plan) -> Topology:
        """A row."""
        return chains.chain(lab, profile, RELAYS[plan.mode], seed=plan.seed, backend=plan.backend)

    def change(self, case: Case, program: Program) -> None:
        """Cut the line for three seconds, like quic-network-simulator's blackhole."""
        link = case.topology.stages[-1].links[0]
        link.cut()
        time.sleep(3)
        link.mend()


class SmallMtu(Scenario):
    """Only small packets fit through the middle, and nobody says so."""

    name = "small-mtu"
    description = "1280 bytes in the middle, no ICMP: kcpg discovers the size, nothing is fragmented"
    dialects = ("native",)
    workload = "half-close"
    modes = ("server",)
    mtu: ClassVar[int] = narrow.IPV6_LEAST_MTU

    def topology(self, lab: Lab, profile: Profile, plan: Plan) -> Topology:
        """With routers that send no ICMP."""
        return narrow.narrow_middle(lab, profile, silent=True, seed=plan.seed, backend=plan.backend)

    def drive(self, case: Case) -> None:
        """kcpg discovers the size by itself, and uses it fully."""
        link = case.topology.stages[0].links[0]
        with Capture(link, case.directory) as capture:
            case.work("kcpg", self.workload, size_bytes=FOUND_BYTES)
            time.sleep(FOUND_S)
            case.work("kcpg afterwards", self.workload, size_bytes=FOUND_BYTES)
        for side, path in zip(("near", "far"), capture.files, strict=True):
            look(case, link, side, path, self.mtu)
            largest = eavesdropper.largest(eavesdropper.read(path))
            case.expect(f"{side}: packets as large as fit", largest > self.mtu - FOUND_WITHIN, largest)


class Jumbo(SmallMtu):
    """A data centre's network."""

    name = "jumbo"
    description = "9000 bytes from end to end: kcpg discovers and uses them, nothing is fragmented"
    mtu = 9000

    def topology(self, lab: Lab, profile: Profile, plan: Plan) -> Topology:
        """A row."""
        return chains.chain(lab, profile, 0, mtu=self.mtu, seed=plan.seed, backend=plan.backend)


class Ipv6Middle(Scenario):
    """Relays translate between the families, as a side effect of being relays."""

    name = "ipv6-middle"
    dialects = ("native", "kcptube")  # kcptun carries no UDP
    description = "IPv4 at both ends, IPv6 only between two relays"
    workload = "half-close"
    modes = ("relays",)

    def topology(self, lab: Lab, profile: Profile, plan: Plan) -> Topology:
        """With two relays."""
        return chains.ipv6_only_middle(lab, profile, seed=plan.seed, backend=plan.backend)

    def drive(self, case: Case) -> None:
        """TCP in both directions, and UDP."""
        case.work("kcpg tcp", self.workload, size_bytes=400_000)
        report = case.work("kcpg udp", "dns", count=30, rate=30.0, size_bytes=300)
        case.expect("every question was answered", report.get("answered") == 30, report.get("answered"))


SCENARIOS = (Rebinding(), Roaming(), Failover(), Outage(), SmallMtu(), Jumbo(), Ipv6Middle())
