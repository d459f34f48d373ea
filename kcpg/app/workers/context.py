"""One of several processes that run a node together: what it gets from the process that started it."""

from __future__ import annotations

import _socket
from collections.abc import Callable
from dataclasses import dataclass, replace

from kcpg.app.config.model import Action, LegConfig, LegKind, NodeConfig
from kcpg.net.handover import HandOver


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """See the module."""

    # Number of the process, from 0 up. Number 0 does what only one may do: STUN and the user's programs.
    index: int
    # Its socket of every listening port of the ingress leg, in the order in which one process alone would
    # open them.
    sockets: tuple[_socket.socket, ...]
    cookie_secret: bytes
    hand_over: HandOver
    # Have the kernel bring here what this sender sends to the socket of this number, from 1 up.
    steer: Callable[[int, bytes], None]


def worker_config(config: NodeConfig, count: int) -> NodeConfig:
    """The configuration of one of `count` processes: what limits a whole node is divided. A listener's
    bandwidths are per link, whichever process has it; a dialer has a link in every process."""
    return replace(config, max_flows=-(-config.max_flows // count), egress=_worker_leg(config.egress, count))


def _worker_leg(leg: LegConfig, count: int) -> LegConfig:
    if leg.kind is not LegKind.TUNNEL or leg.action is not Action.DIAL:
        return leg
    return replace(leg, outbound_bps=-(-leg.outbound_bps // count), inbound_bps=-(-leg.inbound_bps // count))
