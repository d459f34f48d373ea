"""Datagrams between the tunnel sockets of a leg and its wire: the face that both engines give.

`udp.UdpIo` is the plain one, `_udp.UdpIo` its compiled twin. The driver calls either through this face, which
for the compiled one is no call of Python.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kcpg.net.udp import UdpSocket


class DatagramIo:
    """Socket numbers are those of the wire's paths. Nothing here raises for what the network does."""

    errors: Counter[str]  # what the kernel refused, by name
    datagrams_in: int
    datagrams_out: int
    more: bool  # the last receive() stopped at its bound, not because the socket was dry

    def add(self, sock_id: int, sock: UdpSocket) -> None:
        """Use `sock` under the number `sock_id` (replaces what had it)."""
        raise NotImplementedError

    def remove(self, sock_id: int) -> None:
        """Forget the socket (the caller closes it); datagrams waiting for it are dropped."""
        raise NotImplementedError

    def receive(self, sock_id: int, now_ms: int) -> int:
        """Feed one batch of waiting datagrams to the wire; how many there were (0: the socket is dry)."""
        raise NotImplementedError

    def transmit(self, now_ms: int) -> int:
        """Hand what the wire has now to the kernel, a bounded number.

        Returns -1, or the number of the socket whose buffer is full: the rest is kept; call again when it is
        writable.
        """
        raise NotImplementedError

    @property
    def backlog(self) -> bool:
        """More can be transmitted at once: the last call stopped at its bound."""
        raise NotImplementedError

    def deadline_ms(self) -> int:
        """When the wire wants to transmit though nothing happens; at least `clock.NEVER_MS`: never."""
        raise NotImplementedError

    def coalesce_ms(self, now_ms: int) -> int:
        """How long the datagrams that come next may be left in the sockets, to be taken together; 0: not at
        all."""
        raise NotImplementedError

    def has_news(self) -> bool:
        """The wire's `news`."""
        raise NotImplementedError

    def troubled(self) -> bool:
        """There are faults, or datagrams that were too big."""
        raise NotImplementedError

    def take_faults(self) -> dict[int, tuple[int, bytes]]:
        """Sockets that had an error since the last call, with the last errno."""
        raise NotImplementedError

    def take_too_big(self) -> dict[tuple[int, bytes], int]:
        """Paths whose interface takes no datagram of this size, since the last call."""
        raise NotImplementedError
