"""A client behind network address translation.

    client ---- nat ==== server
        10.77.1     10.77.2

`----` is a plain cable, `====` one under a profile. The client's only route is through `nat`, which replaces
the client's address by its own outer one (IPv4 and IPv6); the server cannot contact the client first.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.netns import Lab
from harness.topology import Topology
from netem.profile import Profile

PORTS = 1000  # Outer ports between two restarts of the NAT

FIRST_PORT = 20_000


@dataclass(eq=False)
class Nat(Topology):
    """The network; `outer` is the NAT's address on the server's side."""

    lives: int = 0

    @property
    def outer(self) -> tuple[str, ...]:
        """IPv4 and IPv6 address outside."""
        return self.links[1].near.addresses

    def rebind(self) -> tuple[int, int]:
        """Forget every mapping and give new ones other ports, as if the NAT was restarted.

        Returns the first and last port of the new ones. Removing an address of the outer interface makes the
        kernel forget its mappings to it; the address comes back at once.
        """
        first = FIRST_PORT + self.lives % 40 * PORTS
        self.lives += 1
        nat, outer = self.nodes["nat"], self.links[1].near
        rule = (
            f"meta l4proto {{ tcp, udp }} oifname {outer.device} masquerade to :{first}-{first + PORTS - 1}"
        )
        rules = "".join(
            f"table {family} kcpg\ndelete table {family} kcpg\n"
            f"table {family} kcpg {{\n chain out {{\n"
            f"  type nat hook postrouting priority srcnat\n  {rule}\n"
            f"  oifname {outer.device} masquerade\n }}\n}}\n"
            for family in ("ip", "ip6")
        )
        nat.run(["nft", "-f", "-"], rules)
        if self.lives > 1:
            far = self.links[1].far
            fixed = "nud permanent"
            nat.ip(
                f"addr del {outer.v4}/24 dev {outer.device}",
                f"addr add {outer.v4}/24 dev {outer.device}",
                f"addr del {outer.v6}/64 dev {outer.device}",
                f"addr add {outer.v6}/64 dev {outer.device} nodad",
                *(f"neigh replace {to} lladdr {far.mac} dev {outer.device} {fixed}" for to in far.addresses),
            )
        return first, first + PORTS - 1


def nat(
    lab: Lab, profile: Profile, *, seed: str = "1", backend: str | None = None, capture: bool = False
) -> Nat:
    """client, nat, server; the tunnel's only stage goes through the NAT."""
    topology = Nat(lab, "client ---- nat ==== server", seed, backend, capture, answers=False)
    topology.add("client")
    topology.add("nat", router=True)
    topology.add("server")
    inside = topology.connect("client", "nat", None)
    outside = topology.connect("nat", "server", profile)
    topology.client.ip(
        f"route add {outside.far.v4} via {inside.far.v4}",
        f"route add {outside.far.v6} via {inside.far.v6}",
    )
    topology.rebind()
    topology.stage("client", "server", outside.far.addresses, [outside])
    return topology
