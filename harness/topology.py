"""The nodes and cables of a network for a chain of tunnels, and the proof that no traffic bypasses it.

A topology says where each stage of the chain (client to relay, relay to server…) dials. harness/topologies
has the concrete networks and their drawings.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType

from harness import link
from harness.link import Link
from harness.netns import Lab, Namespace
from harness.process import Failed
from netem.profile import Profile

# Settings of a namespace that forwards packets.
ROUTER = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv6/conf/default/forwarding": "1",
}


@dataclass(frozen=True)
class Stage:
    """One tunnel link of a chain: its dialler and listener, their addresses, and its impaired cables."""

    dialler: str
    listener: str
    addresses: tuple[str, ...]  # The listener's addresses, from the dialler's view
    links: tuple[Link, ...]


@dataclass(eq=False)
class Topology:
    """A network. Use it in a `with` statement inside that of its lab; it ends the link boxes."""

    lab: Lab
    drawing: str
    seed: str = "1"
    backend: str | None = None  # As NETEM_BACKEND; None: what the environment says
    capture: bool = False
    nodes: dict[str, Namespace] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)  # From the client to the server
    answers: bool = True  # Whether a listener can contact its dialler first; not through a NAT

    def __enter__(self) -> Topology:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in self.links:
            each.close()

    @property
    def client(self) -> Namespace:
        """The node of the user's applications."""
        return self.nodes["client"]

    @property
    def server(self) -> Namespace:
        """The node of the target."""
        return self.nodes["server"]

    @property
    def backends(self) -> set[str]:
        """The backends of the impairments: `netem`, `box`, or both."""
        return {each.backend for each in self.links} - {"none"}

    def add(self, label: str, *, router: bool = False) -> Namespace:
        """A node of the drawing."""
        self.nodes[label] = self.lab.add(label, ROUTER if router else None)
        return self.nodes[label]

    def connect(
        self,
        near: str,
        far: str,
        profile: Profile | None,
        *,
        mtu: int = link.ETHERNET_MTU,
        v4: bool = True,
        v6: bool = True,
    ) -> Link:
        """A cable between two nodes; `near`, the client's side, sends by the profile's up."""
        laid = link.connect(
            self.lab,
            len(self.links) + 1,
            self.nodes[near],
            self.nodes[far],
            profile,
            seed=self.seed,
            mtu=mtu,
            v4=v4,
            v6=v6,
            backend=self.backend,
            capture=self.capture,
        )
        self.links.append(laid)
        return laid

    def stage(self, dialler: str, listener: str, addresses: Sequence[str], links: Sequence[Link]) -> None:
        """Add the next stage of the chain."""
        self.stages.append(Stage(dialler, listener, tuple(addresses), tuple(links)))

    def addresses(self, label: str) -> list[str]:
        """A node's addresses, except for those of lo."""
        node = self.nodes[label]
        ends = [end for each in self.links for end in (each.near, each.far)]
        return [address for end in ends if end.namespace is node for address in end.addresses]

    def device(self, label: str, address: str) -> str | None:
        """The interface through which a node would send to an address; None if it has no route."""
        family = "-6" if ":" in address else "-4"
        try:
            shown = self.lab.run(["ip", "-n", self.nodes[label].name, family, "-j", "route", "get", address])
        except Failed:
            return None
        return str(json.loads(shown)[0]["dev"])

    def assert_no_bypass(self) -> None:
        """Raises Failed if a node can reach one that it must not reach, or over the wrong cable.

        The two ends of a cable may reach each other, a dialler its listener, and a listener its dialler
        unless there is a NAT.
        """
        wrong = []
        for stage in self.stages:
            wrong += [
                f"{stage.dialler} cannot reach {stage.listener} at {address}"
                for address in stage.addresses
                if self.device(stage.dialler, address) is None
            ]
        for label, node in self.nodes.items():
            self._check_interfaces(label, wrong)
            for other, addresses in self._strangers(label, node):
                for address in addresses:
                    device = self.device(label, address)
                    if device is not None:
                        wrong.append(f"{label} reaches {other} at {address} through {device}")
        if wrong:
            raise Failed("traffic could bypass the emulated links:\n    " + "\n    ".join(wrong))

    @contextmanager
    def routed(self) -> Iterator[tuple[str, ...]]:
        """Have the nodes between client and server forward packets meanwhile, for a baseline without tunnel.

        Yields the server's addresses that the client then reaches over the same cables. For chains only.
        """
        chain = ["client", *(stage.listener for stage in self.stages)]
        added: list[tuple[str, str]] = []
        families = [
            at for at in (0, 1) if all(len(self._ends(near, far)[at]) == 2 for near, far in _pairs(chain))
        ]
        if not families:
            raise Failed("no address family reaches all the way from client to server")
        try:
            for middle in chain[1:-1]:
                self.nodes[middle].set(ROUTER)
            for at in families:
                first, last = self._ends(*chain[:2])[at][0], self._ends(*chain[-2:])[at][1]
                for (near, far), target in [
                    *((pair, last) for pair in _pairs(chain)[:-1]),
                    *((pair, first) for pair in _pairs(chain[::-1])[:-1]),
                ]:
                    gateway = self._ends(near, far)[at][1]
                    if self.device(near, target) is None:
                        self.nodes[near].ip(f"route add {target} via {gateway}")
                        added.append((near, f"route del {target} via {gateway}"))
            yield tuple(self._ends(*chain[-2:])[at][1] for at in families)
        finally:
            for label, line in reversed(added):
                self.nodes[label].ip(line)
            for middle in chain[1:-1]:
                self.nodes[middle].set(dict.fromkeys(ROUTER, "0"))

    def _ends(self, near: str, far: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(own, other) address of the cable between two neighbours, IPv4 and IPv6; () if not carried."""
        for each in self.links:
            for one, other in ((each.near, each.far), (each.far, each.near)):
                if one.namespace is self.nodes[near] and other.namespace is self.nodes[far]:
                    return (
                        (one.v4, other.v4) if one.v4 else (),
                        (one.v6, other.v6) if one.v6 else (),
                    )
        return (), ()

    def _strangers(self, label: str, node: Namespace) -> Iterator[tuple[str, list[str]]]:
        """Other nodes, with their addresses that this one must not reach. A router may reach all."""
        if not any(label in (stage.dialler, stage.listener) for stage in self.stages):
            return
        known = {
            address
            for each in self.links
            for own, other in ((each.near, each.far), (each.far, each.near))
            if own.namespace is node
            for address in other.addresses
        }
        partners = {stage.listener for stage in self.stages if stage.dialler == label}
        if self.answers:
            partners |= {stage.dialler for stage in self.stages if stage.listener == label}
        for other in self.nodes:
            if other != label and other not in partners:
                yield other, [address for address in self.addresses(other) if address not in known]

    def _check_interfaces(self, label: str, wrong: list[str]) -> None:
        node = self.nodes[label]
        shown = self.lab.run(["ip", "-n", node.name, "-j", "link", "show"])
        there = {entry["ifname"] for entry in json.loads(shown)} - {"lo"}
        ends = [end for each in self.links for end in (each.near, each.far)]
        extra = there - {end.device for end in ends if end.namespace is node}
        if extra:
            wrong.append(f"{label} has interfaces that belong to no cable: {', '.join(sorted(extra))}")


def _pairs(chain: Sequence[str]) -> list[tuple[str, str]]:
    return list(pairwise(chain))
