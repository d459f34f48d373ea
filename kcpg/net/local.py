"""The local legs of a node: `LocalListener` takes the connections and packets of applications in,
`LocalDialer` connects flows to their targets."""

from __future__ import annotations

import _socket
import errno
import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from kcpg import engine
from kcpg.core.flow import TCP, Flow, Open, Reset, ResetCode, Target
from kcpg.net import Notice, proxyprotocol, socks, unix
from kcpg.net import addr as addresses
from kcpg.net.allow import AllowList
from kcpg.net.clock import now_ms, now_us
from kcpg.net.dial import Dial
from kcpg.net.dialline import DialLine
from kcpg.net.listening import ListeningPort
from kcpg.net.local_tcp import FlowHost, TcpFlow
from kcpg.net.local_udp import UdpPort, UdpTarget
from kcpg.net.loops import LoopFinder
from kcpg.net.preamble import Greeting, Script
from kcpg.net.proxyport import PacketRelay, ProxiedFlow, our_end, write
from kcpg.net.resolve import Resolver
from kcpg.net.sock import bind as bind_early
from kcpg.net.sock import tune

_sock = engine.module("kcpg.net.sock")

# Connections the kernel holds for us while others are served; capped by net.core.somaxconn.
BACKLOG = 1024
ACCEPTS_PER_TURN = 16  # then what they asked for is sent, see driver.MOVES_PER_SERVE
# Without file descriptors accepting is pointless until some flow ends; the waiting connections keep their
# places.
PAUSE_MS = 1000
_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


@dataclass(frozen=True, slots=True)
class Bind:
    """One place to listen. `host`: a numeric address, empty for all. `target`: where its flows want to go,
    None: the last node's own choice. `proxy`: its connections say that themselves, by SOCKS5 or HTTP.
    `path`: a UNIX socket instead of host and port."""

    host: str
    port: int
    tcp: bool = True
    udp: bool = True
    target: Target | None = None
    proxy: bool = False
    path: str = ""


@dataclass(frozen=True, slots=True)
class LocalListenSettings:
    """Where applications are listened for. `proxy_protocol`: a balancer is in front, and every connection
    begins with the address of its application."""

    binds: tuple[Bind, ...]
    ipv4_only: bool = False
    ipv6_only: bool = False
    max_flows: int = 65_536
    proxy_protocol: bool = False


@dataclass(frozen=True, slots=True)
class LocalDialSettings:
    """Where flows are connected to. `target`: for flows that name none; `path`: a UNIX socket for those of
    them that are TCP. Flows that name a target are refused unless `any_target`, and then limited to `allow`
    (None: to all that no server denies). `proxy_protocol`: each TCP target hears first where its flow comes
    from."""

    target: Target | None = None
    any_target: bool = False
    allow: AllowList | None = None
    ipv4_only: bool = False
    ipv6_only: bool = False
    timeout_ms: int = 10_000  # a SYN is sent at 0, 1, 3 and 7 s (tcp(7))
    path: str = ""
    proxy_protocol: bool = False


def kinds(bind: Bind) -> tuple[int, ...]:
    """SOCK_STREAM and SOCK_DGRAM, as far as they are listened for."""
    return (_socket.SOCK_STREAM,) * bind.tcp + (_socket.SOCK_DGRAM,) * bind.udp


class LocalLeg:
    """What both local legs share. The driver sets the three requests; `report` takes what a person should
    know."""

    def __init__(self, report: Callable[[Notice], None] | None = None) -> None:
        self.request_advance: Callable[[], None] = _nothing
        self.request_flush: Callable[[], None] = _nothing
        self.flush_if_idle: Callable[[], None] = _nothing
        self.flows: set[Flow] = set()
        self.counters: Counter[str] = Counter()  # of notices, by key
        self._report = report

    def forget(self, flow: Flow) -> None:
        self.flows.discard(flow)

    def notice(self, key: str, text: str) -> None:
        self.counters[key] += 1
        if self._report is not None:
            self._report(Notice(key, text))

    def crashed(self, what: str) -> None:
        trace = "".join(traceback.format_exception(*sys.exc_info()))
        self.notice("internal_error", f"an error of this program ended {what}:\n{trace}")

    def advance(self, now_ms: int) -> None:
        """Nothing here waits for the clock or for other flows; sockets wake their own greenlets."""

    def deadline(self) -> int | None:
        return None

    def advance_deadline(self) -> int | None:
        return None

    def close(self, now_ms: int, reason: str) -> None:
        """Flows that were still delivering their last bytes are cut off."""
        for flow in list(self.flows):
            flow.reset(Reset(ResetCode.SHUTDOWN, reason))


def _nothing() -> None:
    """Without a driver there is nothing to send."""


class LocalListener(LocalLeg):
    """Applications' TCP connections and UDP packets, as flows. `on_flow` is set by the node."""

    def __init__(
        self, settings: LocalListenSettings, report: Callable[[Notice], None] | None = None,
        inherited: Iterator[_socket.socket] | None = None,
    ) -> None:  # fmt: skip
        """`inherited`: the sockets that `open_listening` gave, where another process opened them."""
        super().__init__(report)
        self.settings = settings
        self._inherited = inherited
        self.on_flow: Callable[[Flow, Open, int], None] = _unwired
        self.tcp_ports: list[TcpPort] = []
        self.udp_ports: list[UdpPort] = []
        self._greetings: set[Greeting] = set()
        self._relays: set[PacketRelay] = set()

    def start(self, now_ms: int) -> None:
        """Open every port. Raises OSError that names the first one that cannot be had, with none left
        open."""
        try:
            for bind in self.settings.binds:
                for kind in kinds(bind):
                    sock = self._open(bind, kind)
                    if kind == _socket.SOCK_STREAM:
                        speaks = bind.proxy or self.settings.proxy_protocol
                        ours = self._inherited is None
                        self.tcp_ports.append(TcpPort(sock, bind.target, self, speaks, bind.proxy, ours))
                        continue
                    port = UdpPort(sock, bind.target, self, self.settings.max_flows)
                    port.on_flow = self.on_flow
                    self.udp_ports.append(port)
        except OSError:
            self._close_ports()
            raise
        for tcp_port in self.tcp_ports:
            tcp_port.start()
        for udp_port in self.udp_ports:
            udp_port.start()

    def close(self, now_ms: int, reason: str) -> None:
        for greeting in list(self._greetings):
            greeting.close()
        self._greetings.clear()
        for relay in list(self._relays):
            relay.close()
        super().close(now_ms, reason)
        self._close_ports()

    def accept(self, port: TcpPort) -> int | None:
        """Take a bounded number of connections in; a number: none for so many milliseconds."""
        for _ in range(ACCEPTS_PER_TURN):
            fd, where = _sock.accept(port.fd)
            if fd >= 0:
                self._accepted(fd, where, port)
            elif -fd in (errno.EAGAIN, errno.EINTR):
                break
            elif -fd in _NO_DESCRIPTORS:
                text = f"cannot accept connections for now: {os.strerror(-fd)}"
                self.notice("out_of_descriptors", text)
                return PAUSE_MS
            # accept(2): any other is the error of a connection that is gone already
            if port.closed:
                break
        return None

    def _accepted(self, fd: int, where: bytes, port: TcpPort) -> None:
        if len(self.flows) + len(self._greetings) + len(self._relays) >= self.settings.max_flows:
            self.notice(
                "flows_full", f"more than {self.settings.max_flows} connections: new ones are refused"
            )
            _sock.abort(fd)
            return
        if port.speaks:
            self._greet(fd, where, port)
            return
        flow = TcpFlow(self)
        flow.adopt(fd)
        self.flows.add(flow)
        self.on_flow(flow, Open(TCP, port.target, addresses.text(where)), now_ms())

    def _greet(self, fd: int, where: bytes, port: TcpPort) -> None:
        """Hear first what the connection says of itself."""

        def done(fd: int, said: tuple[str, socks.Wish | None]) -> None:
            source, wish = said
            self._greeted(fd, where, source or addresses.text(where), wish, port.target)

        def over(greeting: Greeting, reason: str) -> None:
            self._greetings.discard(greeting)
            if reason:
                self.notice("preamble", f"refused a connection from {addresses.text(where)}: {reason}")

        script = _preamble(self.settings.proxy_protocol, port.is_proxy)
        greeting = Greeting(fd, script, done, over)
        self._greetings.add(greeting)
        greeting.start()

    def _greeted(
        self, fd: int, where: bytes, source: str, wish: socks.Wish | None, target: Target | None
    ) -> None:
        if wish is not None and wish.target is None:
            try:
                relay = PacketRelay(fd, wish, where, self, self.on_flow, self._relays.discard)
            except OSError as error:
                self.notice("socks_failed", f"cannot open a UDP port for SOCKS5: {error.strerror}")
                return
            self._relays.add(relay)
            relay.start()
            return
        flow = TcpFlow(self) if wish is None else ProxiedFlow(self, wish.refused)
        flow.adopt(fd)
        self.flows.add(flow)
        self.on_flow(flow, Open(TCP, target if wish is None else wish.target, source), now_ms())
        if isinstance(flow, ProxiedFlow) and wish is not None and not flow.closed:
            flow.accept(wish.accepted(our_end(fd)))
        self.request_advance()

    def _open(self, bind: Bind, kind: int) -> _socket.socket:
        return open_listening(self.settings, bind, kind) if self._inherited is None else next(self._inherited)

    def _close_ports(self) -> None:
        for tcp_port in self.tcp_ports:
            tcp_port.close()
        for udp_port in self.udp_ports:
            udp_port.close()
        self.tcp_ports.clear()
        self.udp_ports.clear()


class TcpPort(ListeningPort):
    """A listening TCP (or UNIX) socket: accepts a bounded number per turn. `speaks`: a connection says
    something of itself before its flow begins; `is_proxy`: its target, too. `is_ours`: no other process has
    it, so its file ends with it."""

    def __init__(
        self, sock: _socket.socket, target: Target | None, leg: LocalListener, speaks: bool, is_proxy: bool,
        is_ours: bool,
    ) -> None:  # fmt: skip
        super().__init__(sock, target, leg)
        self._is_ours = is_ours
        self.speaks = speaks
        self.is_proxy = is_proxy
        self._leg = leg

    def close(self) -> None:
        if self._is_ours and not self.closed and self.sock.family == _socket.AF_UNIX:
            unix.remove(self.sock)
        super().close()

    def _turn(self) -> int | None:
        return self._leg.accept(self)


class LocalDialer(LocalLeg):
    """Connects flows to their targets."""

    def __init__(
        self, settings: LocalDialSettings, resolver: Resolver, report: Callable[[Notice], None] | None = None
    ) -> None:
        super().__init__(report)
        self.settings = settings
        self._resolver = resolver
        self._loops = LoopFinder()
        self._line = DialLine()
        self._allow = settings.allow or AllowList(None)
        self.users: Mapping[str, AllowList] = {}  # What single users may choose of what is permitted
        self._family = (
            addresses.AF_INET if settings.ipv4_only else addresses.AF_INET6 if settings.ipv6_only else 0
        )
        target = settings.target
        found = resolver.numeric(target.host, target.port, self._family) if target is not None else None
        # Of the configured target, if that is no name.
        self._addr = found[0] if isinstance(found, list) else b""

    def start(self, now_ms: int) -> None:
        """Nothing to prepare."""

    def advance(self, now_ms: int) -> None:
        self._line.serve()

    def deadline(self) -> int | None:
        return self._line.deadline()

    def advance_deadline(self) -> int | None:
        return self._line.deadline()

    def dial(self, request: Open, now_ms: int) -> Flow | Reset:
        target = request.target or self.settings.target
        path = self.settings.path if request.target is None and request.kind is TCP else ""
        if target is None and not path:
            if self.settings.path:
                return Reset(ResetCode.NO_ROUTE, f"{self.settings.path} takes no UDP")
            return Reset(ResetCode.NO_ROUTE, "neither the flow nor this node's configuration names a target")
        if (
            request.target is not None
            and not self.settings.any_target
            and request.target != self.settings.target
        ):
            return Reset(ResetCode.FORBIDDEN, "this node lets nobody choose a target")
        if len(self.flows) >= self._loops.look_at and self._loops.find(request.source, self.flows):
            why = f"{target} leads back to the node that connects to it"
            self.notice("loop", f"{why}, as its client's port does: change destination_port or listen_port")
            return Reset(ResetCode.FORBIDDEN, why)
        if path:
            return self._dial_path(path, request)
        flow = self._tcp_flow(request) if request.kind is TCP else UdpTarget(self)
        fd, error, line, began_us = -1, 0, self._line, now_us()
        waits = not line.may_begin(began_us)
        if self._addr and request.target is None and not waits:
            fd, error = _sock.connect(self._addr, request.kind is TCP)
            if fd >= 0 and error == 0:  # as on this machine: nothing to wait for
                line.took(began_us, now_us())
                flow.adopt(fd)
                self.flows.add(flow)
                return flow
        permits = _permit if request.target in (None, self.settings.target) else self._permits(request.user)
        assert target is not None
        dial = Dial(flow, target, self, self._resolver, timeout_ms=self.settings.timeout_ms,
        family=self._family,
                    permits=permits, asker=request.asker)  # fmt: skip
        if waits:
            dial.wait()
            line.enter(request.asker, dial)
            self.request_advance()
            reason = None
        else:
            reason = dial.start() if fd < 0 else dial.go_on(fd, self._addr)
            line.took(began_us, now_us())
        if reason is None:
            self.flows.add(flow)
        return reason or flow

    def _permits(self, user: str) -> Callable[[Target, bytes], bool]:
        """What this node permits, and of that what it permits this user."""
        own = self.users.get(user)
        if own is None:
            return self._allow.permits
        return lambda target, addr: self._allow.permits(target, addr) and own.permits(target, addr)

    def _tcp_flow(self, request: Open) -> TcpFlow:
        return AnnouncedFlow(self, request.source) if self.settings.proxy_protocol else TcpFlow(self)

    def _dial_path(self, path: str, request: Open) -> Flow | Reset:
        flow = self._tcp_flow(request)
        reason = unix.PathDial(flow, path, self, self.settings.timeout_ms).start()
        if reason is None:
            self.flows.add(flow)
        return reason or flow


class AnnouncedFlow(TcpFlow):
    """A connection to a target that hears first where the flow comes from."""

    __slots__ = ("_source",)

    def __init__(self, host: FlowHost, source: str) -> None:
        super().__init__(host)
        self._source = source

    def adopt(self, fd: int) -> None:
        write(fd, proxyprotocol.header(self._source, _their_end(fd)))
        super().adopt(fd)


def _their_end(fd: int) -> bytes | None:
    """The packed address of the other end; None for a UNIX socket."""
    sock = _socket.socket(fileno=fd)
    try:
        where = sock.getpeername()
        return addresses.from_tuple(where) if isinstance(where, tuple) else None
    except OSError:  # gone again
        return None
    finally:
        sock.detach()


def _preamble(announced: bool, proxy: bool) -> Script[tuple[str, socks.Wish | None]]:
    """(the source, empty for the connection's own; what a proxy's client wants)."""
    source = (yield from proxyprotocol.read()) if announced else ""
    return source, (yield from socks.read()) if proxy else None


def _permit(_target: Target, _addr: bytes) -> bool:
    """The configured target needs no permission."""
    return True


def _unwired(_flow: Flow, _open: Open, _now_ms: int) -> None:
    raise AssertionError("this leg belongs to no node")


def open_listening(
    settings: LocalListenSettings, bind: Bind, kind: int, shared: bool = False
) -> _socket.socket:
    """The socket of one place to listen. `shared`: beside others that share the port. Raises OSError that
    names the place."""
    word = "TCP" if kind == _socket.SOCK_STREAM else "UDP"
    try:
        if bind.path:
            return unix.listen(bind.path, BACKLOG)
        return _listen(bind.host, bind.port, kind, settings, shared)
    except OSError as error:
        where = f"[{bind.host}]:{bind.port}" if ":" in bind.host else f"{bind.host or '*'}:{bind.port}"
        if bind.path:
            word, where = "the UNIX socket", bind.path
        raise OSError(error.errno, f"cannot listen on {word} {where}: {error.strerror}") from error


def _listen(host: str, port: int, kind: int, settings: LocalListenSettings, shared: bool) -> _socket.socket:
    """A listening, non-blocking socket; dual stack for "" unless restricted or where there is no IPv6."""
    if host:
        packed = addresses.pack(host, port)
        where, family = addresses.to_tuple(packed), addresses.family(packed)
        return _bound(family, where, kind, settings.ipv6_only, shared)
    if settings.ipv4_only:
        return _bound(addresses.AF_INET, ("", port), kind, False, shared)
    try:
        return _bound(addresses.AF_INET6, ("", port), kind, settings.ipv6_only, shared)
    except OSError as error:
        if settings.ipv6_only or error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
        return _bound(addresses.AF_INET, ("", port), kind, False, shared)


def _bound(
    family: int, where: tuple[object, ...], kind: int, ipv6_only: bool, shared: bool
) -> _socket.socket:
    sock = _socket.socket(family, kind)
    try:
        sock.setblocking(False)
        if family == addresses.AF_INET6:
            sock.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, int(ipv6_only or where[0] != ""))
        if kind == _socket.SOCK_STREAM:
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEPORT, 1)
        bind_early(sock, where)
        if kind == _socket.SOCK_STREAM:
            tune(sock)
            sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock
