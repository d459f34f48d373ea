"""A network with a small MTU in the middle and larger ones at both ends.

    client ---- router1 ==== router2 ---- server
       MTU 1500      MTU 1280 (say)     MTU 1500

`----` are plain cables, `====` one under a profile. The routers forward packets. They answer oversized
packets with ICMP, or not at all with `silent`, like many firewalls.
"""

from __future__ import annotations

from harness.netns import Lab
from harness.topology import Topology
from netem.profile import Profile

IPV6_LEAST_MTU = 1280  # RFC 8200: the smallest MTU that an IPv6 network may have

SILENCE = """table inet kcpg {
 chain out {
  type filter hook output priority filter
  meta l4proto { icmp, icmpv6 } counter drop
 }
}
"""


def narrow_middle(
    lab: Lab,
    profile: Profile,
    *,
    mtu: int = IPV6_LEAST_MTU,
    silent: bool = False,
    seed: str = "1",
    backend: str | None = None,
    capture: bool = False,
) -> Topology:
    """client, two routers, server; only the cable between the routers is narrow."""
    drawing = f"client ---- router1 ==(mtu {mtu})== router2 ---- server"
    topology = Topology(lab, drawing, seed, backend, capture)
    for label in ("client", "router1", "router2", "server"):
        topology.add(label, router=label.startswith("router"))
    near = topology.connect("client", "router1", None)
    narrow = topology.connect("router1", "router2", profile, mtu=mtu)
    far = topology.connect("router2", "server", None)
    for label, target, gateway in (
        ("client", far.far, near.far),
        ("router1", far.far, narrow.far),
        ("server", near.near, far.near),
        ("router2", near.near, narrow.near),
    ):
        topology.nodes[label].ip(
            f"route add {target.v4} via {gateway.v4}", f"route add {target.v6} via {gateway.v6}"
        )
    if silent:
        for label in ("router1", "router2"):
            topology.nodes[label].run(["nft", "-f", "-"], SILENCE)
    topology.stage("client", "server", far.far.addresses, [narrow])
    return topology
