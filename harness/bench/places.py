"""Where a measurement takes place: on loopback, in two namespaces joined by a cable, or by a lossy line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from harness.bench.systems.base import NEAR, Wiring
from harness.bench.workloads import LOOPBACK, VETH, Workload
from harness.chain import LOOPBACK as LOCALHOST
from harness.chain import Ports
from harness.link import Link
from harness.netns import Lab
from harness.topology import Topology
from netem import profile as profiles

TUNNELS = 3
"""Ports that a system may need for its tunnels."""

ENTRY_PORT, TARGET_PORT, FIRST_TUNNEL_PORT = 5900, 8000, 3000
"""Inside namespaces, where nobody else is."""

OFFLOADS = ("tx", "tso", "gso", "gro")
"""What a cable between namespaces has unless it is switched off, as the harness does for emulated lines."""


class Place:
    """Loopback: one network for both sides, where everybody takes ports that are free."""

    name = LOOPBACK

    def wiring(self, directory: Path) -> Wiring:
        """For one run."""
        ports = Ports()
        target = (LOCALHOST, ports.one())
        return Wiring(directory, (LOCALHOST, ports.one()), target, target, LOCALHOST, ports.range(TUNNELS))

    @property
    def bound(self) -> str:
        """The address the target binds."""
        return LOCALHOST

    def command(self, side: str, words: Sequence[str]) -> list[str]:
        """The words that run a program on a side."""
        return list(words)

    def restart(self, seed: str) -> None:
        """Before each run: the line begins its pattern of losses anew."""

    def wire_bytes(self) -> int | None:
        """What the near side has put on the line so far; None where other traffic is on it, too."""
        return None


class Joined(Place):
    """Two namespaces and the link between them."""

    def __init__(self, name: str, topology: Topology, cable: Link) -> None:
        self.name = name
        self._topology, self._cable = topology, cable

    def wiring(self, directory: Path) -> Wiring:
        server = self._cable.far.v4
        tunnels = tuple(range(FIRST_TUNNEL_PORT, FIRST_TUNNEL_PORT + TUNNELS))
        entry, target = (LOCALHOST, ENTRY_PORT), (LOCALHOST, TARGET_PORT)
        return Wiring(directory, entry, target, (server, TARGET_PORT), server, tunnels)

    @property
    def bound(self) -> str:
        return "0.0.0.0"  # in its namespace: for direct connections and for those of a system's last node

    def command(self, side: str, words: Sequence[str]) -> list[str]:
        end = self._cable.near if side == NEAR else self._cable.far
        return end.namespace.command(words)

    def restart(self, seed: str) -> None:
        if self._cable.profile is not None:
            self._cable.restart(seed)

    def wire_bytes(self) -> int | None:
        if self._cable.profile is None:
            return None
        facts = self._cable.facts()["up"]
        return int(
            facts.get("bytes", facts["sent_bytes"])
        )  # netem counts what it let pass, the box what came


@contextmanager
def opened(name: str, workload: Workload) -> Iterator[Place]:
    """The place for a workload; its namespaces are gone at the end. Raises Failed, without root too."""
    if name == LOOPBACK:
        yield Place()
        return
    profile = profiles.parse(workload.line.toml()) if workload.line is not None else None
    with ExitStack() as stack:
        lab = stack.enter_context(Lab())
        topology = stack.enter_context(Topology(lab, "client ==== server"))
        for label in ("client", "server"):
            topology.add(label)
        cable = topology.connect("client", "server", profile)
        topology.stage("client", "server", cable.far.addresses, [cable])
        topology.assert_no_bypass()
        if name == VETH:
            for end in (cable.near, cable.far):
                on = [word for what in OFFLOADS for word in (what, "on")]
                end.namespace.run(["ethtool", "-K", end.device, *on])
        yield Joined(name, topology, cable)
