"""Tunnel UDP sockets, and batched datagram I/O on them in plain Python.

`open_udp` makes a socket with large buffers, receive offload (UDP_GRO) and, where the kernel has it, send
offload (UDP_SEGMENT): one system call then carries up to 64 datagrams. `UdpIo` moves datagrams between such
sockets and one leg's wire; `kcpg.net._udp.UdpIo` is its compiled twin with the same interface, for the
compiled wire. Constants: include/uapi/linux/udp.h and socket.h.

`KCPG_OFFLOAD=off` in the environment does without both offloads, as on a kernel that has none: to find out
whether a device's segmentation is to blame for something, and to measure what they are worth.
"""

from __future__ import annotations

import _socket
import errno
import os
import struct
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from kcpg.core.stun import COOKIE, COOKIE_AT
from kcpg.net import addr as addresses
from kcpg.net import pktinfo
from kcpg.net.clock import NEVER_MS
from kcpg.net.datagrams import DatagramIo
from kcpg.net.sock import bind

SOL_UDP = 17
UDP_SEGMENT = 103
UDP_GRO = 104
_SO_SNDBUFFORCE = 32
_IP_MTU_DISCOVER = 10  # include/uapi/linux/in.h, in6.h
_IPV6_MTU_DISCOVER = 23
_PMTUDISC_PROBE = 3
_SO_RCVBUFFORCE = 33
# Receive bursts of a whole window must fit while Python is busy elsewhere (measured: 208 kB default costs
# 16 % of throughput against 4 MB).
BUFFER_BYTES = 4 << 20
# Kernels before 6.x take at most 64 segments a send; 65,507 is UDP's own limit, headers leave less on IPv6.
MAX_RUN_DATAGRAMS = 64
MAX_RUN_BYTES = 65_000
_MAX_GRO_BYTES = 65_536
# Receive buffers filled per call of receive(): the fairness unit among the sockets of a process.
RECEIVE_BUFFERS = 16
_MAX_CACHED_ADDRESSES = 4096
_MAX_TOO_BIG = 64
_SEGMENT = struct.Struct("=H")
_GRO = struct.Struct("=i")

# errno -> what the counter is called. Anything else is counted as "errno_<number>".
NAMES = {
    errno.ENETUNREACH: "network_unreachable",
    errno.EHOSTUNREACH: "host_unreachable",
    errno.EADDRNOTAVAIL: "address_gone",
    errno.ECONNREFUSED: "refused",
    errno.EPERM: "forbidden",
    errno.EACCES: "forbidden",
    errno.ENOBUFS: "no_buffers",
    errno.ENOMEM: "no_buffers",
    errno.EINVAL: "invalid",
    errno.ENETDOWN: "network_down",
}
# After these the socket may be bound to something that went away: a fresh one has a chance.
REBIND_ERRNOS = frozenset({errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.ENETDOWN})
# What a kernel or a driver answers that promised segmentation and cannot do it.
GSO_ERRNOS = frozenset({errno.EIO, errno.EINVAL, errno.EMSGSIZE})


class DatagramWire(Protocol):
    """The part of a leg's data plane that `UdpIo` needs."""

    @property
    def backlog(self) -> bool: ...

    @property
    def news(self) -> bool: ...

    def deadline(self) -> int | None: ...

    def coalesce_ms(self, now_ms: int) -> int: ...

    def receive(self, sock: int, addr: bytes, datagram: bytes, now_ms: int) -> None: ...

    def transmit(self, now_ms: int) -> list[tuple[int, bytes, bytes]]: ...


@dataclass
class UdpSocket:
    """One open tunnel socket."""

    sock: _socket.socket
    family: int
    fd: int
    gso: bool
    gro: bool
    # It listens on every address, and the kernel tells which of them a datagram was sent to.
    tells: bool = False
    # A run was refused: because of its datagrams' size, or because this route cannot segment.
    gso_doubted: bool = False
    # While set, it is offered what begins like STUN, as (source, datagram), before the wire sees it; what it
    # does not take (False) goes to the wire. Set only while an answer is expected.
    stun: Callable[[bytes, bytes], bool] | None = None

    @property
    def port(self) -> int:
        """The local port."""
        return int(self.sock.getsockname()[1])

    def close(self) -> None:
        """Close it; idempotent."""
        self.sock.close()


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """What the kernel is told about a tunnel's packets. The defaults tell nothing."""

    dscp: int = 0
    device: str = ""
    fwmark: int = 0

    def apply(self, sock: _socket.socket) -> None:
        """Raises OSError that says which key is at fault."""
        try:
            if self.dscp:
                sock.setsockopt(_socket.IPPROTO_IP, _socket.IP_TOS, self.dscp << 2)
                if sock.family == addresses.AF_INET6:
                    sock.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_TCLASS, self.dscp << 2)
        except OSError as error:
            raise OSError(error.errno, f"dscp={self.dscp}: {error.strerror}") from error
        try:
            if self.device:
                sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_BINDTODEVICE, self.device.encode() + b"\0")
        except OSError as error:
            raise OSError(error.errno, f"bind_device={self.device}: {error.strerror}") from error
        try:
            if self.fwmark:
                sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_MARK, self.fwmark)
        except OSError as error:
            raise OSError(
                error.errno, f"fwmark={self.fwmark}: {error.strerror} (needs CAP_NET_ADMIN)"
            ) from error


NO_OPTIONS = SocketOptions()


def open_udp(
    host: str = "", port: int = 0, *, ipv4_only: bool = False, ipv6_only: bool = False, shared: bool = False,
    options: SocketOptions = NO_OPTIONS,
) -> UdpSocket:  # fmt: skip
    """A non-blocking UDP socket bound to numeric `host` (empty: every address) and `port` (0: any).

    `shared`: beside others that share the port. Dual stack unless restricted; IPv4 alone where the system
    has no IPv6. Raises OSError with a message that names the address.
    """
    local, family = _local(host, port, ipv4_only, ipv6_only)
    try:
        sock = _socket.socket(family, _socket.SOCK_DGRAM)
    except OSError as error:
        if family != addresses.AF_INET6 or host or ipv6_only:
            raise OSError(
                error.errno, f"cannot open a UDP socket for {_name(host, port)}: {error.strerror}"
            ) from error
        return open_udp(host, port, ipv4_only=True, shared=shared, options=options)
    try:
        sock.setblocking(False)
        options.apply(sock)
        if family == addresses.AF_INET6:
            sock.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, int(ipv6_only))
        if shared:
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEPORT, 1)
        bind(sock, local)
        _raise_buffers(sock)
        _never_fragment(sock)
        return adopt_udp(sock, dials=port == 0)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRNOTAVAIL and family == addresses.AF_INET6 and not host and not ipv6_only:
            return open_udp(host, port, ipv4_only=True, shared=shared, options=options)
        reason = f"cannot listen on UDP {_name(host, port)}: {error.strerror}"
        raise OSError(error.errno, reason) from error


def adopt_udp(sock: _socket.socket, dials: bool = False) -> UdpSocket:
    """A bound UDP socket for `UdpIo`; another process may have opened it."""
    # One that dials leaves its source to the routes, which may change at any time.
    tells = not dials and pktinfo.enable(sock)
    return UdpSocket(sock, sock.family, sock.fileno(), _has_gso(sock), _enable_gro(sock), tells)


def _local(host: str, port: int, ipv4_only: bool, ipv6_only: bool) -> tuple[tuple[Any, ...], int]:
    if host:
        packed = addresses.pack(host, port)
        return addresses.to_tuple(packed), addresses.family(packed)
    if ipv4_only and not ipv6_only:
        return ("", port), addresses.AF_INET
    return ("", port), addresses.AF_INET6


def _name(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host or '*'}:{port}"


def _raise_buffers(sock: _socket.socket) -> None:
    for force, plain in ((_SO_RCVBUFFORCE, _socket.SO_RCVBUF), (_SO_SNDBUFFORCE, _socket.SO_SNDBUF)):
        try:
            sock.setsockopt(_socket.SOL_SOCKET, force, BUFFER_BYTES)
        except OSError:  # needs CAP_NET_ADMIN; the plain option is capped at net.core.[rw]mem_max
            sock.setsockopt(_socket.SOL_SOCKET, plain, BUFFER_BYTES)


def _never_fragment(sock: _socket.socket) -> None:
    """Datagrams leave whole or not at all (EMSGSIZE), and what ICMP says is not believed: the core asks the
    path itself (RFC 8899)."""
    for level, option in (
        (_socket.IPPROTO_IP, _IP_MTU_DISCOVER),
        (_socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER),
    ):
        try:
            sock.setsockopt(level, option, _PMTUDISC_PROBE)
        except OSError:  # an IPv4 socket has nothing of IPv6
            continue


def _offload_is_off() -> bool:
    return os.environ.get("KCPG_OFFLOAD") == "off"


def _has_gso(sock: _socket.socket) -> bool:
    if _offload_is_off():
        return False
    try:
        sock.setsockopt(SOL_UDP, UDP_SEGMENT, 0)
    except OSError:
        return False
    return True


def _enable_gro(sock: _socket.socket) -> bool:
    if _offload_is_off():
        return False
    try:
        sock.setsockopt(SOL_UDP, UDP_GRO, 1)
    except OSError:
        return False
    return True


class UdpIo(DatagramIo):
    """Datagrams between the sockets of one leg and its wire.

    Behind the source address of what comes to a socket that `tells` stands the local address; what is sent to
    such a path leaves from there, or from another one if the machine has lost it. `errors` counts what the
    kernel refused, by name; `take_faults` tells which sockets it hit. Nothing here raises for what the
    network does.
    """

    def __init__(self, wire: DatagramWire) -> None:
        self.wire = wire
        self.errors = Counter()
        self.datagrams_in = 0
        self.datagrams_out = 0
        self.more = False
        self._sockets: dict[int, UdpSocket] = {}
        self._faults: dict[int, tuple[int, bytes]] = {}
        self._too_big: dict[tuple[int, bytes], int] = {}
        self._kept: deque[tuple[int, bytes, bytes]] = deque()
        self._buffer = bytearray(_MAX_GRO_BYTES)
        self._packed: dict[tuple[Any, ...], bytes] = {}
        self._places: dict[tuple[int, bytes], tuple[tuple[Any, ...], list[pktinfo.Item]]] = {}

    def add(self, sock_id: int, sock: UdpSocket) -> None:
        """Use `sock` under the number `sock_id` (replaces what had it)."""
        self._sockets[sock_id] = sock

    def remove(self, sock_id: int) -> None:
        """Forget the socket (the caller closes it); datagrams waiting for it are dropped."""
        self._sockets.pop(sock_id, None)
        self._faults.pop(sock_id, None)

    @property
    def backlog(self) -> bool:
        """More can be transmitted at once: the last call stopped at its bound."""
        return bool(self._kept) or self.wire.backlog

    def troubled(self) -> bool:
        """There are faults, or datagrams that were too big."""
        return bool(self._faults or self._too_big)

    def take_faults(self) -> dict[int, tuple[int, bytes]]:
        """Sockets that had an error since the last call: the last errno, and the address it was about.

        b"": an error of receiving.
        """
        faults, self._faults = self._faults, {}
        return faults

    def take_too_big(self) -> dict[tuple[int, bytes], int]:
        """Paths whose interface takes no datagram of this size, since the last call."""
        too_big, self._too_big = self._too_big, {}
        return too_big

    def receive(self, sock_id: int, now_ms: int) -> int:
        """Feed one batch of waiting datagrams to the wire; how many there were (0: the socket is dry)."""
        port = self._sockets[sock_id]
        sock = port.sock
        view = memoryview(self._buffer)
        total = 0
        self.more = True
        for _ in range(RECEIVE_BUFFERS):
            try:
                size, control, _flags, where = sock.recvmsg_into([view], pktinfo.CONTROL_BYTES)
            except BlockingIOError:
                self.more = False
                break
            except OSError as error:  # an ICMP error of an earlier datagram; the socket is fine
                self._count(sock_id, error.errno or 0, b"")
                continue
            source, step = self._pack(where) + pktinfo.asked(control), _gro_size(control) or size
            if port.stun is not None and view[COOKIE_AT : COOKIE_AT + len(COOKIE)] == COOKIE:
                total += self._offer(port.stun, sock_id, source, view[:size], step, now_ms)
            else:
                total += self._deliver(sock_id, source, view[:size], step, now_ms)
        self.datagrams_in += total
        return total

    def _deliver(self, sock_id: int, source: bytes, data: memoryview, step: int, now_ms: int) -> int:
        count = 0
        for at in range(0, len(data), max(step, 1)):
            self.wire.receive(sock_id, source, bytes(data[at : at + step]), now_ms)
            count += 1
        return count

    def _offer(
        self, take: Callable[[bytes, bytes], bool], sock_id: int, source: bytes, data: memoryview, step: int,
        now_ms: int,
    ) -> int:  # fmt: skip
        count = 0
        for at in range(0, len(data), max(step, 1)):
            datagram = bytes(data[at : at + step])
            if not take(addresses.remote(source), datagram):
                self.wire.receive(sock_id, source, datagram, now_ms)
            count += 1
        return count

    def deadline_ms(self) -> int:
        """When the wire wants to transmit though nothing happens; NEVER_MS: never."""
        at_ms = self.wire.deadline()
        return NEVER_MS if at_ms is None else at_ms

    def coalesce_ms(self, now_ms: int) -> int:
        """How long the datagrams that come next may be left in the sockets; see datagrams.py."""
        return self.wire.coalesce_ms(now_ms)

    def has_news(self) -> bool:
        """The wire's `news`."""
        return self.wire.news

    def transmit(self, now_ms: int) -> int:
        """Hand everything the wire has now to the kernel.

        Returns -1, or the number of the socket whose buffer is full: the rest is kept; call again once it is
        writable.
        """
        kept = self._kept
        if not kept:
            kept.extend(self.wire.transmit(now_ms))
        while kept:
            sock_id, dest, _ = kept[0]
            sock = self._sockets.get(sock_id)
            if sock is None:
                self.errors["socket_gone"] += 1
                kept.popleft()
                continue
            run = self._run(sock)
            error = self._send(sock, dest, run)
            if error in (errno.EAGAIN, errno.EWOULDBLOCK):
                return sock_id
            if error in pktinfo.GONE_ERRNOS and addresses.local(dest):
                self.errors["source_gone"] += len(run)
                self._forget_local(len(run))
                continue
            if error in GSO_ERRNOS and len(run) > 1:
                sock.gso, sock.gso_doubted = False, True  # singly, which will tell
                continue
            for _ in run:
                kept.popleft()
            if error == errno.EMSGSIZE:
                sock.gso, sock.gso_doubted = sock.gso or sock.gso_doubted, False
                if len(self._too_big) < _MAX_TOO_BIG:
                    self._too_big[sock_id, dest] = len(run[0])
            elif error:
                self._count(sock_id, error, dest, len(run))
            else:
                self.datagrams_out += len(run)
                if sock.gso_doubted:  # this route or device cannot segment
                    sock.gso_doubted = False
                    self.errors["gso_off"] += 1
        return -1

    def _run(self, sock: UdpSocket) -> list[bytes]:
        """The longest head of the vector that one send may carry: one path, one size, the last may be
        shorter."""
        first_id, dest, first = self._kept[0]
        run = [first]
        if not sock.gso:
            return run
        size, total = len(first), len(first)
        for sock_id, where, datagram in _rest(self._kept):
            total += len(datagram)
            if (
                len(run) == MAX_RUN_DATAGRAMS
                or total > MAX_RUN_BYTES
                or len(datagram) > size
                or sock_id != first_id
                or where != dest
            ):
                break
            run.append(datagram)
            if len(datagram) < size:
                break
        return run

    def _send(self, sock: UdpSocket, dest: bytes, run: list[bytes]) -> int:
        place = self._places.get((sock.family, dest))
        if place is None:
            if len(self._places) >= _MAX_CACHED_ADDRESSES:
                self._places.clear()
            place = self._places[sock.family, dest] = _place(sock.family, dest)
        where, control = place
        if not where:
            return errno.EAFNOSUPPORT
        try:
            if len(run) > 1:
                segment = (SOL_UDP, UDP_SEGMENT, _SEGMENT.pack(len(run[0])))
                sock.sock.sendmsg(run, [*control, segment], 0, where)
            elif control:
                sock.sock.sendmsg(run, control, 0, where)
            else:
                sock.sock.sendto(run[0], where)
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def _forget_local(self, count: int) -> None:
        """Let the first datagrams leave from whatever address the kernel chooses."""
        for at in range(count):
            sock_id, dest, datagram = self._kept[at]
            self._kept[at] = sock_id, addresses.remote(dest), datagram

    def _pack(self, where: tuple[Any, ...]) -> bytes:
        packed = self._packed.get(where)
        if packed is None:
            if len(self._packed) >= _MAX_CACHED_ADDRESSES:
                self._packed.clear()
            packed = self._packed[where] = addresses.from_tuple(where)
        return packed

    def _count(self, sock_id: int, number: int, dest: bytes, times: int = 1) -> None:
        self.errors[NAMES.get(number, f"errno_{number}")] += times
        self._faults[sock_id] = number, addresses.remote(dest) if dest else b""


def _place(family: int, dest: bytes) -> tuple[tuple[Any, ...], list[pktinfo.Item]]:
    """Where to, as Python wants it, and from where; () if a socket of this family cannot send there."""
    where, local = addresses.to_tuple(dest), addresses.local(dest)
    if family == addresses.AF_INET and addresses.family(dest) == addresses.AF_INET6:
        return (), []
    if family == addresses.AF_INET6 and addresses.family(dest) == addresses.AF_INET:
        where = (f"::ffff:{where[0]}", where[1])  # the kernel does that with the address as it is
    return where, [pktinfo.item(local)] if local else []


def _rest(kept: deque[tuple[int, bytes, bytes]]) -> Any:
    walk = iter(kept)
    next(walk)
    return walk


def _gro_size(control: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in control:
        if level == SOL_UDP and kind == UDP_GRO:
            return int(_GRO.unpack(data[: _GRO.size])[0])
    return 0
