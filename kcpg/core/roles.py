"""The roles a node can have, as data: which leg flows enter by and which they leave by."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Place(Enum):
    """What a leg faces: plain sockets of users and targets, or another node."""

    LOCAL = "local"
    TUNNEL = "tunnel"


@dataclass(frozen=True, slots=True)
class Role:
    """`ingress` listens, `egress` dials."""

    name: str
    ingress: Place
    egress: Place


CLIENT = Role("client", Place.LOCAL, Place.TUNNEL)
RELAY = Role("relay", Place.TUNNEL, Place.TUNNEL)
SERVER = Role("server", Place.TUNNEL, Place.LOCAL)
ROLES = {role.name: role for role in (CLIENT, RELAY, SERVER)}
