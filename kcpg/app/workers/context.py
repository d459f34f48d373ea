"""What a worker, one of several processes that run a node, gets from the process that started it."""

from __future__ import annotations

import _socket
from collections.abc import Callable
from dataclasses import dataclass, replace

from kcpg.app.config.model import Action, LegConfig, LegKind, NodeConfig
from kcpg.app.memory import default_bytes
from kcpg.net.handover import HandOver


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """The place of one worker in its node."""

    # Number of the worker, from 0 up. Only number 0 uses STUN and runs the user's programs.
    index: int
    # Its socket of every listening port of the ingress leg, in the order in which one process opens them.
    sockets: tuple[_socket.socket, ...]
    cookie_secret: bytes
    hand_over: HandOver
    # Asks the kernel to bring this sender's datagrams here; the number, from 1 up, is that of the socket.
    steer: Callable[[int, bytes], None]


def worker_config(config: NodeConfig, count: int) -> NodeConfig:
    """The configuration of one of `count` workers, with its share of the limits of the whole node.

    A listener's bandwidths apply to each link, in whichever worker it is. A dialer has links in every worker,
    so they are divided.
    """
    return replace(
        config,
        max_flows=-(-config.max_flows // count),
        memory_bytes=(config.memory_bytes or default_bytes()) // count,
        ingress=replace(
            config.ingress,
            max_links=-(-config.ingress.max_links // count),
            users_bps=-(-config.ingress.users_bps // count),
        ),
        egress=_worker_leg(config.egress, count),
    )


def _worker_leg(leg: LegConfig, count: int) -> LegConfig:
    if leg.kind is not LegKind.TUNNEL or leg.action is not Action.DIAL:
        return leg
    return replace(leg, outbound_bps=-(-leg.outbound_bps // count), inbound_bps=-(-leg.inbound_bps // count))
