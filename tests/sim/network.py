"""The network of the simulated world: hosts, their sockets, the lines between hosts, and NATs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple

from kcpg.core.node import TunnelLeg
from netem.impair import Direction
from netem.profile import Impair, Profile
from tests.line import MS, Line

if TYPE_CHECKING:
    from tests.sim.world import SimNode, World

HEADERS_BYTES = 42  # Ethernet 14, IPv4 20, UDP 8: what a datagram weighs more than its payload


class Link(NamedTuple):
    """Both directions between two hosts."""

    up: Direction
    down: Direction


Sent = tuple[bytes, bytes, bytes]  # (from, to, datagram), as what is behind a NAT shows itself


class Cable:
    """A line from one host to another. What arrives within a millisecond is one event of the world: the core
    counts milliseconds, and handles it as one batch.
    """

    def __init__(self, world: World, impair: Impair, name: str, deliver: Callable[[Sent], None]) -> None:
        self.line: Line[Sent] = Line(impair, f"{world.seed}:{name}", world.now_ns)
        self._world = world
        self._deliver = deliver
        self._due_ns: int | None = None  # of the event that takes what arrived

    def send(self, sent: Sent, port: int) -> int:
        """How many copies of it will arrive."""
        copies = self.line.put(sent, HEADERS_BYTES + len(sent[2]), self._world.now_ns, port)
        self._arm()
        return copies

    def _arm(self) -> None:
        next_ns = self.line.next_ns
        if next_ns is not None and (self._due_ns is None or next_ns <= self._due_ns - MS):
            self._due_ns = due_ns = -(-next_ns // MS) * MS
            self._world.at_ns(due_ns, partial(self._arrive, due_ns))

    def _arrive(self, due_ns: int) -> None:
        if due_ns != self._due_ns:
            return  # something overtook it, and its event took this too
        self._due_ns = None
        for _, _, flipped_bit, sent in self.line.take(due_ns):
            hurt = sent if flipped_bit is None else _hurt(sent, flipped_bit)
            if hurt is not None:
                self._deliver(hurt)
        self._arm()


class Route(NamedTuple):
    """What two addresses have in common that does not change: their hosts, and the port whose throttle what
    goes between them is under, the listener's. (Those who dial have higher ones.)
    """

    hosts: tuple[str, str]
    port: int


@cache
def route(source: bytes, target: bytes) -> Route:
    return Route((host_of(source), host_of(target)), min(port_of(source), port_of(target)))


class Network:
    """Hosts, their sockets, the links between hosts, and NATs in front of some of them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.counts = {
            "sent": 0,
            "bytes": 0,
            "delivered": 0,
            "lost": 0,
            "no_link": 0,
            "no_socket": 0,
            "cut": 0,
            "too_big": 0,
        }
        self._cables: dict[tuple[str, str], Cable] = {}
        self._cut: set[tuple[str, str]] = set()
        self._mtus: dict[tuple[str, str], int] = {}
        self._sockets: dict[bytes, SimSocket] = {}
        self._ids = itertools.count(1)
        self._ports = itertools.count(40_000)
        self._nat_out: dict[bytes, bytes] = {}
        self._nat_in: dict[bytes, bytes] = {}
        self._behind_nat: set[str] = set()
        # Whether what leaves `from` (before a NAT) for `to` is lost, whatever the link does
        self.lose: Callable[[bytes, bytes], bool] | None = None
        self.tap: Callable[[bytes, bytes, bytes], None] | None = (
            None  # sees (from, to, datagram) before the link
        )

    # -- topology --------------------------------------------------------------------------------------------

    def link(self, near: str, far: str, profile: Profile | Impair) -> Link:
        """Connect two hosts; `near` sends by the profile's up. An Impair is used for both directions."""
        up, down = (profile, profile) if isinstance(profile, Impair) else (profile.up, profile.down)
        for ends, impair in (((near, far), up), ((far, near), down)):
            self._cables[ends] = Cable(self.world, impair, ">".join(ends), self._deliver)
        return Link(self._cables[near, far].line.direction, self._cables[far, near].line.direction)

    def cut(self, near: str, far: str, for_ms: int | None = None) -> None:
        """A blackhole in both directions, for ever or for so long."""
        self._cut |= {(near, far), (far, near)}
        if for_ms is not None:
            self.world.after(for_ms, lambda: self.mend(near, far))

    def mend(self, near: str, far: str) -> None:
        self._cut -= {(near, far), (far, near)}

    def set_mtu(self, near: str, far: str, payload_bytes: int) -> None:
        """From now on longer UDP payloads from `near` to `far` vanish; nobody says so."""
        self._mtus[near, far] = payload_bytes

    def behind_nat(self, host: str) -> None:
        """From now on the host's source addresses are a NAT's."""
        self._behind_nat.add(host)

    def rebind_nat(self, host: str) -> None:
        """The NAT forgets its mappings: the next datagram gets a new outer port, and the old ones lead
        nowhere.
        """
        for inner, outer in list(self._nat_out.items()):
            if host_of(inner) == host:
                del self._nat_out[inner], self._nat_in[outer]

    # -- sockets ---------------------------------------------------------------------------------------------

    def open(
        self, node: SimNode, owner: LegSlot, port: int | None = None, host: str | None = None
    ) -> SimSocket:
        addr = address(host or node.host, next(self._ports) if port is None else port)
        assert addr not in self._sockets, f"{addr!r} is in use"
        sock = SimSocket(next(self._ids), addr, node, owner)
        self._sockets[addr] = sock
        return sock

    def close(self, sock: SimSocket) -> None:
        self._sockets.pop(sock.addr, None)

    def send(self, source: bytes, target: bytes, datagram: bytes) -> None:
        counts = self.counts
        counts["sent"] += 1
        counts["bytes"] += len(datagram)
        hosts, port = route(source, target)
        if self.tap is not None:
            self.tap(source, target, datagram)
        if hosts in self._cut or (self.lose is not None and self.lose(source, target)):
            counts["cut"] += 1
            return
        if self._mtus and len(datagram) > self._mtus.get(hosts, len(datagram)):
            counts["too_big"] += 1
            return
        cable = self._cables.get(hosts)
        if cable is None:
            counts["no_link"] += 1
            return
        if hosts[0] in self._behind_nat:
            source = self._translate(hosts[0], source)
        counts["lost"] += not cable.send((source, target, datagram), port)

    def _translate(self, host: str, source: bytes) -> bytes:
        if source not in self._nat_out:
            outer = address(host, next(self._ports))
            self._nat_out[source], self._nat_in[outer] = outer, source
        return self._nat_out[source]

    def _deliver(self, sent: Sent) -> None:
        source, target, datagram = sent
        if self._behind_nat and host_of(target) in self._behind_nat:
            target = self._nat_in.get(target, b"")
        sock = self._sockets.get(target)
        if sock is None:
            self.counts["no_socket"] += 1
            return
        self.counts["delivered"] += 1
        sock.node.arrived(sock, source, datagram)


def address(host: str, port: int) -> bytes:
    """Opaque to the core, 28 bytes at most, as a socket address is."""
    addr = f"{host}:{port}".encode()
    assert len(addr) <= 28
    return addr


@cache
def host_of(addr: bytes) -> str:
    return addr.decode().partition(":")[0]


@cache
def port_of(addr: bytes) -> int:
    return int(addr.decode().partition(":")[2])


def _hurt(sent: Sent, bit: int) -> Sent | None:
    """None: the bit is in the headers, and no host would take this frame.

    A real one takes none that is hurt, because of UDP's checksum; here the tunnel must find out by itself.
    """
    source, target, datagram = sent
    bit -= HEADERS_BYTES * 8
    if bit < 0:
        return None
    hurt = bytearray(datagram)
    hurt[bit // 8] ^= 1 << bit % 8
    return source, target, bytes(hurt)


class LegSlot:
    """Which leg of a node a socket belongs to; filled when the leg exists."""

    def __init__(self) -> None:
        self.leg: TunnelLeg | None = None


class SimSocket(NamedTuple):
    """A UDP socket: its number for the core, its address."""

    number: int
    addr: bytes
    node: SimNode
    owner: LegSlot
