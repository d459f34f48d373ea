"""Where a measurement takes place: on loopback, in two namespaces joined by a cable, or by a lossy line.

Every run gets a new place of its own. The kernel remembers each closed TCP connection for a minute
(TIME_WAIT), and some ten thousand of them make connecting slow; they go with their namespace, and so do the
buffers, routes and counters of a run.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from harness.bench import processes
from harness.bench.systems.base import NEAR, Wiring
from harness.bench.workloads import LOOPBACK, VETH, Workload
from harness.chain import LOOPBACK as LOCALHOST
from harness.chain import Ports
from harness.link import Link
from harness.netns import Lab, Namespace
from harness.process import Failed
from harness.topology import Topology

TUNNELS = 3  # Ports that a system may need for its tunnels

# Inside namespaces, where nobody else uses a port.
ENTRY_PORT, TARGET_PORT = 5900, 8000
TUNNEL_PORTS = tuple(range(3000, 3000 + TUNNELS))

# The default offloads of a cable between namespaces, which the harness turns off for emulated lines.
OFFLOADS = ("tx", "tso", "gso", "gro")


class Place:
    """The machine's own loopback: one network for both sides, where every system takes free ports."""

    name = LOOPBACK

    def wiring(self, directory: Path) -> Wiring:
        """The addresses and ports of one run."""
        ports = Ports()
        target = (LOCALHOST, ports.one())
        return Wiring(directory, (LOCALHOST, ports.one()), target, target, LOCALHOST, ports.range(TUNNELS))

    @property
    def bound(self) -> str:
        """The address that the target binds to."""
        return LOCALHOST

    def command(self, side: str, words: Sequence[str]) -> list[str]:
        """The command that runs a program on a side."""
        return list(words)

    def near_socket(self, kind: int) -> socket.socket:
        """An IPv4 socket on the near side."""
        return socket.socket(socket.AF_INET, kind)

    def restart(self, seed: str) -> None:
        """Restart the line's pattern of losses."""

    def wire_bytes(self, way: str) -> int | None:
        """Bytes that have been put on the line so far, "up" or "down"; None if other traffic uses it, too."""
        return None

    def line_cpu_s(self) -> float:
        """Processor seconds of the line's emulation so far; 0 if the kernel does it."""
        return 0.0


class Alone(Place):
    """The loopback of a namespace that has nothing else."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace

    def wiring(self, directory: Path) -> Wiring:
        target = (LOCALHOST, TARGET_PORT)
        return Wiring(directory, (LOCALHOST, ENTRY_PORT), target, target, LOCALHOST, TUNNEL_PORTS)

    def command(self, side: str, words: Sequence[str]) -> list[str]:
        return self._namespace.command(words)

    def near_socket(self, kind: int) -> socket.socket:
        return self._namespace.socket(socket.AF_INET, kind)


class Joined(Place):
    """Two namespaces and the link between them."""

    def __init__(self, name: str, cable: Link, boxes: Sequence[int]) -> None:
        """`boxes`: the processes that emulate the line."""
        self.name = name
        self._cable, self._boxes = cable, boxes

    def wiring(self, directory: Path) -> Wiring:
        server = self._cable.far.v4
        entry, target = (LOCALHOST, ENTRY_PORT), (LOCALHOST, TARGET_PORT)
        return Wiring(directory, entry, target, (server, TARGET_PORT), server, TUNNEL_PORTS)

    @property
    def bound(self) -> str:
        return "0.0.0.0"  # for direct connections, and for those of a system's last node in its namespace

    def command(self, side: str, words: Sequence[str]) -> list[str]:
        end = self._cable.near if side == NEAR else self._cable.far
        return end.namespace.command(words)

    def near_socket(self, kind: int) -> socket.socket:
        return self._cable.near.namespace.socket(socket.AF_INET, kind)

    def restart(self, seed: str) -> None:
        if self._cable.profile is not None:
            self._cable.restart(seed)

    def wire_bytes(self, way: str) -> int | None:
        if self._cable.profile is None:
            return None
        facts = self._cable.facts()[way]
        return int(
            facts.get("bytes", facts["sent_bytes"])
        )  # netem counts what it passes on, the box what arrives

    def line_cpu_s(self) -> float:
        return sum(processes.cpu_s(pid) for pid in self._boxes)


@contextmanager
def opened(name: str, workload: Workload, seed: str = "1") -> Iterator[Place]:
    """A place for one run of a workload, whose namespaces are removed at the end.

    `seed`: of the line's losses. Raises Failed, also without root, except for loopback, which is then the
    machine's own.
    """
    if name == LOOPBACK and shared_loopback():
        yield Place()
        return
    profile = workload.line.profile() if workload.line is not None else None
    with ExitStack() as stack:
        lab = stack.enter_context(Lab())
        if name == LOOPBACK:
            yield Alone(lab.add("loopback"))
            return
        topology = stack.enter_context(Topology(lab, "client ==== server", seed))
        for label in ("client", "server"):
            topology.add(label)
        cable = topology.connect("client", "server", profile)
        topology.stage("client", "server", cable.far.addresses, [cable])
        topology.assert_no_bypass()
        if name == VETH:
            for end in (cable.near, cable.far):
                on = [word for what in OFFLOADS for word in (what, "on")]
                end.namespace.run(["ethtool", "-K", end.device, *on])
        nodes = topology.nodes.values()
        boxes = [pid for each in lab.namespaces if each not in nodes for pid in each.pids()]
        yield Joined(name, cable, boxes)


@cache
def shared_loopback() -> str:
    """Why runs share the machine's own loopback, which remembers earlier connections; "" if each run has its
    own."""
    try:
        with Lab() as lab:
            lab.add("loopback")
    except (Failed, OSError) as error:
        return str(error).splitlines()[-1].strip()
    return ""
