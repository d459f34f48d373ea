"""Nodes in a row that reach only their neighbours: a relay does not route, only the tunnel leads through it.

    chain(relays=0)

        client ==== server                                    10.77.1.0/24  fd77:1::/64

    chain(relays=1)

        client ==== relay ==== server                         10.77.1, 10.77.2

    chain(relays=2)

        client ==== relay1 ==== relay2 ==== server            10.77.1, 10.77.2, 10.77.3

    ipv6_only_middle()

        client ==== relay1 ==== relay2 ==== server            in the middle only fd77:2::/64,
               v4         v6          v4                      before and after it only IPv4

`====` is a cable under a profile. The node nearer to the client has .1 and ::1.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from harness.link import ETHERNET_MTU
from harness.netns import Lab
from harness.topology import Topology
from netem.profile import Profile

Families = tuple[bool, bool]  # Whether a cable carries IPv4, and IPv6

BOTH: Families = (True, True)


def chain(
    lab: Lab,
    profile: Profile | Sequence[Profile],
    relays: int = 1,
    *,
    mtu: int | Sequence[int] = ETHERNET_MTU,
    families: Sequence[Families] | None = None,
    seed: str = "1",
    backend: str | None = None,
    capture: bool = False,
) -> Topology:
    """client, relays, server. One profile and MTU for every cable, or one each, starting at the client."""
    middle = ["relay"] if relays == 1 else [f"relay{number}" for number in range(1, relays + 1)]
    labels = ["client", *middle, "server"]
    count = len(labels) - 1
    topology = Topology(lab, " ==== ".join(labels), seed, backend, capture)
    for label in labels:
        topology.add(label)
    profiles = [profile] * count if isinstance(profile, Profile) else list(profile)
    mtus = [mtu] * count if isinstance(mtu, int) else list(mtu)
    carried = list(families or [BOTH] * count)
    for (near, far), each, size, (v4, v6) in zip(pairwise(labels), profiles, mtus, carried, strict=True):
        cable = topology.connect(near, far, each, mtu=size, v4=v4, v6=v6)
        topology.stage(near, far, cable.far.addresses, [cable])
    return topology


def ipv6_only_middle(
    lab: Lab,
    profile: Profile | Sequence[Profile],
    *,
    seed: str = "1",
    backend: str | None = None,
    capture: bool = False,
) -> Topology:
    """Two relays with only IPv6 between them, and only IPv4 around them."""
    families = [(True, False), (False, True), (True, False)]
    return chain(lab, profile, 2, families=families, seed=seed, backend=backend, capture=capture)
