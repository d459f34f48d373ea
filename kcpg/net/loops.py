"""Finds flows that come back to the node that connected them, because their target leads there again.

A client and a server on one machine make such a loop if the server's target is the client's own port: each
flow becomes the next one's source, until descriptors run out. Every flow says where its application's
connection comes from, so a loop is a chain of flows, each coming from the socket of the one before. Through
how many nodes and processes it runs does not matter.
"""

from __future__ import annotations

import _socket
from collections.abc import Iterable

from kcpg.core.flow import Flow
from kcpg.core.splice import Splice
from kcpg.net import addr as addresses
from kcpg.net.local_tcp import TcpFlow
from kcpg.net.local_udp import UdpTarget

# So many flows in a chain are a loop. One may seem to follow another by chance: behind 127.0.0.1 of another
# machine an application may have the port of one of our sockets here. So many in a row do not.
DEPTH = 32


class LoopFinder:
    """Looks for a loop whenever a node has twice as many flows as at the last look, so that it costs
    nothing."""

    def __init__(self) -> None:
        self.look_at = DEPTH  # this many flows

    def find(self, source: str, flows: Iterable[Flow]) -> bool:
        """Whether a flow from this source continues a loop of those in `flows`."""
        came_from = {}
        count = 0
        for flow in flows:
            assert isinstance(flow, (TcpFlow, UdpTarget))
            count += 1
            if isinstance(flow.splice, Splice) and (name := _name(flow.fileno())):
                came_from[name] = flow.splice.open.source
        depth = 0
        while source in came_from:
            source = came_from.pop(source)
            depth += 1
        is_loop = depth >= DEPTH
        self.look_at = DEPTH if is_loop else max(DEPTH, 2 * count)
        return is_loop


def _name(fd: int) -> str:
    """The local address of a descriptor's socket; empty if there is none."""
    if fd < 0:
        return ""
    sock = _socket.socket(fileno=fd)
    try:
        where = sock.getsockname()
        return addresses.text(addresses.from_tuple(where)) if isinstance(where, tuple) else ""
    finally:
        sock.detach()
