"""More than one path from client to server.

    two_uplinks()                                   two_servers()

              ==== router                                     ==== eth1
        client  1     |---- server                      client  1      server
              ====                                            ==== eth2
                2                                               2

`====` are cables under a profile, `----` a plain one. With two uplinks, the server has one address and the
client changes its own, like a phone between two networks. With two server addresses, the client chooses which
one it uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.netns import Lab
from harness.topology import Topology
from netem.profile import Profile


@dataclass(eq=False)
class Uplinks(Topology):
    """The network with two uplinks; the client starts with the first."""

    def use(self, number: int) -> None:
        """Route the client's packets over uplink 1 or 2; the server sees another source address."""
        uplink, server = self.links[number - 1], self.links[2].far
        self.client.ip(
            f"route replace {server.v4} via {uplink.far.v4} dev {uplink.near.device} src {uplink.near.v4}",
            f"route replace {server.v6} via {uplink.far.v6} dev {uplink.near.device} src {uplink.near.v6}",
        )


def two_uplinks(
    lab: Lab,
    profiles: Sequence[Profile],
    *,
    seed: str = "1",
    backend: str | None = None,
    capture: bool = False,
) -> Uplinks:
    """A client with two paths to a router, each under its own profile, and the server behind it."""
    first, second = profiles
    topology = Uplinks(
        lab, "client ==(1)== router, client ==(2)== router ---- server", seed, backend, capture
    )
    topology.add("client")
    topology.add("router", router=True)
    topology.add("server")
    uplinks = [topology.connect("client", "router", each) for each in (first, second)]
    inner = topology.connect("router", "server", None)
    for uplink in uplinks:
        topology.server.ip(
            f"route add {uplink.near.v4} via {inner.near.v4}",
            f"route add {uplink.near.v6} via {inner.near.v6}",
        )
    topology.use(1)
    topology.stage("client", "server", inner.far.addresses, uplinks)
    return topology


def two_servers(
    lab: Lab,
    profiles: Sequence[Profile],
    *,
    seed: str = "1",
    backend: str | None = None,
    capture: bool = False,
) -> Topology:
    """A server with two addresses of each family, each at the end of its own cable."""
    first, second = profiles
    topology = Topology(lab, "client ==(1)== server, client ==(2)== server", seed, backend, capture)
    topology.add("client")
    topology.add("server")
    cables = [topology.connect("client", "server", each) for each in (first, second)]
    addresses = [address for cable in cables for address in cable.far.addresses]
    topology.stage("client", "server", addresses, cables)
    return topology
