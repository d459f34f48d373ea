"""The UDP sockets of one tunnel leg, under the small numbers by which the core knows them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kcpg.core.env import Resolved, ResolveFailed
from kcpg.net import Notice
from kcpg.net import addr as addresses
from kcpg.net.clock import now_ms
from kcpg.net.resolve import Resolver, Unresolved
from kcpg.net.udp import NO_OPTIONS, REBIND_ERRNOS, SocketOptions, UdpSocket, open_udp

if TYPE_CHECKING:
    from kcpg.net.resolve import Answer

# A path names its socket with 16 bits.
_MAX_SOCKETS = 0xFFFF
# A network that is away is away for seconds; trying more often only makes work.
REBIND_EVERY_MS = 1000
# A leg asks for its peer's address when it has to call it (again): the peer may have moved since it was asked
# last.
# Attempts follow each other more quickly at first than a name server needs to be asked.
NAME_MAX_AGE_MS = 5_000


# An error of sending explains a silence for this long; attempts to call a peer are at most seconds apart.
FAILED_LATELY_MS = 10_000


@dataclass
class _Port:
    socket: UdpSocket
    is_dialling: bool
    rebound_ms: int = 0


class TunnelSockets:
    """Opens, numbers and closes the sockets of one leg; its `open`, `close` and `resolve` are what the leg's
    `Env` takes.

    `on_open(number, socket)` and `on_close(number)` tell the driver, `on_answer()` that the leg was given an
    address; sockets from before are in `items`.
    """

    def __init__(
        self, resolver: Resolver, *, ipv4_only: bool = False, ipv6_only: bool = False,
        report: Callable[[Notice], None] | None = None, options: SocketOptions = NO_OPTIONS,
    ) -> None:  # fmt: skip
        self.on_open: Callable[[int, UdpSocket], None] | None = None
        self.on_close: Callable[[int], None] | None = None
        self.on_answer: Callable[[], None] | None = None
        self._resolver = resolver
        self._ipv4_only = ipv4_only
        self._ipv6_only = ipv6_only
        self._report = report
        self._options = options
        self._ports: dict[int, _Port] = {}
        self._last = 0
        self._family: int | None = None
        self._asked: dict[str, int] = {}  # names without an answer, since when
        self._failed = ""  # the last error of sending, and when it was
        self._failed_ms = 0

    def open(self) -> int:
        """A new socket on a port of the kernel's choice, for dialling. Raises OSError."""
        return self.listen("", 0)

    def listen(self, host: str, port: int) -> int:
        """A new socket on numeric `host` (empty: all addresses) and `port`. Raises OSError with a clear
        message."""
        return self.adopt(self.bind(host, port), is_dialling=port == 0)

    def adopt(self, sock: UdpSocket, is_dialling: bool = False) -> int:
        """Use a socket that is open already, another process's perhaps. Numbers go up from 1."""
        number = self._free_number(sock)
        self._ports[number] = _Port(sock, is_dialling)
        if self.on_open is not None:
            self.on_open(number, sock)
        return number

    def close(self, number: int) -> None:
        """Close a socket; unknown numbers are ignored."""
        port = self._ports.pop(number, None)
        if port is None:
            return
        if self.on_close is not None:
            self.on_close(number)
        port.socket.close()

    def close_all(self) -> None:
        """Close every socket."""
        for number in list(self._ports):
            self.close(number)

    def items(self) -> Iterator[tuple[int, UdpSocket]]:
        """(number, socket) of every open socket."""
        for number, port in self._ports.items():
            yield number, port.socket

    def get(self, number: int) -> UdpSocket | None:
        """The socket with that number."""
        port = self._ports.get(number)
        return None if port is None else port.socket

    def fault(self, number: int, error: int, dest: bytes, now_ms: int) -> None:
        """The kernel refused to send on a socket: say so, and bind it anew where that can help. `dest`: the
        address, b"" if it is not known."""
        port = self._ports.get(number)
        if port is None:
            return
        whither = f" to {addresses.text(dest)}" if dest else ""
        text = f"sending from UDP port {port.socket.port}{whither} fails: {os.strerror(error)}"
        self._failed, self._failed_ms = text, now_ms
        self._notice(f"udp_send_failed_{errno.errorcode.get(error, error)}", text)
        # A listening port stays: its peers know it, and it works again as soon as its address is back.
        if port.is_dialling and error in REBIND_ERRNOS and now_ms - port.rebound_ms >= REBIND_EVERY_MS:
            port.rebound_ms = now_ms
            self._rebind(number, port)

    def resolve(self, host: str, port: int, answer: Resolved) -> None:
        """The addresses of a name in the form this leg's sockets take."""
        family = addresses.AF_INET if self._ipv4_only else addresses.AF_INET6 if self._ipv6_only else 0

        self._asked.setdefault(host, now_ms())

        def mapped(found: Answer) -> None:
            self._asked.pop(host, None)
            self.hand(host, ResolveFailed(found.text) if isinstance(found, Unresolved) else found, answer)

        self._resolver.resolve(host, port, mapped, family, NAME_MAX_AGE_MS)

    def hand(self, host: str, found: list[bytes] | ResolveFailed, answer: Resolved) -> None:
        """Give `answer` those addresses of `host` that this leg's sockets can send to, in their form."""
        answer(found if isinstance(found, ResolveFailed) else self._fitting(host, found))
        if self.on_answer is not None:
            self.on_answer()

    def why_silent(self) -> str:
        """What keeps a leg's own datagrams from leaving this machine; empty if nothing is known."""
        for host in self._asked:
            return f"no name server has answered for {host} yet: check /etc/resolv.conf"
        if self._failed and now_ms() - self._failed_ms < FAILED_LATELY_MS:
            return f"{self._failed}: check the routes and the firewall of this machine"
        return ""

    @property
    def family(self) -> int:
        """AF_INET6 where sockets are dual stack, AF_INET where the system or the configuration has IPv4
        only."""
        if self._family is None:
            probe = open_udp("", 0, ipv4_only=self._ipv4_only, ipv6_only=self._ipv6_only)
            self._family = probe.family
            probe.close()
        return self._family

    def bind(self, host: str, port: int) -> UdpSocket:
        """A socket of this leg's kind, without a number. Raises OSError."""
        return open_udp(
            host, port, ipv4_only=self._ipv4_only, ipv6_only=self._ipv6_only, options=self._options
        )

    def _fitting(self, host: str, found: list[bytes]) -> list[bytes] | ResolveFailed:
        usable = [a for a in found if not self._ipv6_only or addresses.family(a) == addresses.AF_INET6]
        fitting = [a for a in (addresses.for_family(one, self.family) for one in usable) if a is not None]
        missing = "IPv4 is switched off" if self._ipv6_only else "no IPv6"
        return fitting or ResolveFailed(f"{host}: no address that can be reached from here ({missing})")

    def _rebind(self, number: int, port: _Port) -> None:
        try:
            fresh = self.bind("", 0)
        except OSError as error:
            self._notice("udp_rebind_failed", str(error))
            return
        if self.on_close is not None:
            self.on_close(number)
        port.socket.close()
        port.socket = fresh
        if self.on_open is not None:
            self.on_open(number, fresh)

    def _free_number(self, sock: UdpSocket) -> int:
        # Round robin: a number that was just given back may still stand in a path somewhere.
        for _ in range(_MAX_SOCKETS):
            self._last = self._last % _MAX_SOCKETS + 1
            if self._last not in self._ports:
                return self._last
        sock.close()
        raise OSError("no more sockets: all 65535 numbers of this leg are in use")

    def _notice(self, key: str, text: str) -> None:
        if self._report is not None:
            self._report(Notice(key, text))
