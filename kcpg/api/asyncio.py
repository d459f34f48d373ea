"""Streams through a tunnel for asyncio. Everything runs in the loop; gevent's own is never started."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from pathlib import Path
from types import TracebackType
from typing import Any

from kcpg import engine
from kcpg.api import client
from kcpg.api.streams import SEND_BUFFER_BYTES, StreamFlow, StreamLeg, error
from kcpg.app.config.model import LegConfig
from kcpg.app.legsettings import socket_options
from kcpg.core.env import Env, Event, EventKind, Resolved, ResolveFailed
from kcpg.core.flow import Reset, Target
from kcpg.core.node import Node, NodeSettings
from kcpg.net import addr, clock
from kcpg.net.udp import UdpIo, UdpSocket, open_udp

_ROUNDS_PER_TURN = 8  # of advance and transmit, and batches of one socket, before others have their turn
_LOOK_MS = 50  # the longest that a node is not advanced after datagrams went out: links look at the clock


class Tunnel:
    """A tunnel to a server: `Tunnel.connect(config)`, inside a running loop. Also an async context
    manager."""

    def __init__(self, config: LegConfig) -> None:
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._up = asyncio.Event()
        self._why = ""
        self._driver: _Driver | None = None
        self._closed = False
        self._starting = self._loop.create_task(self._start())

    @classmethod
    def connect(cls, config: str | Path) -> Tunnel:
        """Begin to connect; `config`: a client's configuration (Path: its file, str: its text), or an
        invitation. Raises ConfigurationError."""
        return cls(client.read(config))

    async def ready(self) -> None:
        """Wait until the server has answered. Nobody needs to: streams wait by themselves."""
        await asyncio.shield(self._starting)
        await self._up.wait()

    async def open_stream(
        self, target: str | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A TCP connection from the server to `host:port`; None: to the server's own target.

        Takes no round trip: the first bytes travel with the request. A target that refuses is a
        ConnectionError of the first read. Raises ValueError for what is no target.
        """
        wanted = client.target(target)
        await asyncio.shield(self._starting)
        if self._closed or self._driver is None:
            raise ConnectionAbortedError("the tunnel is closed")
        reader = asyncio.StreamReader(loop=self._loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=self._loop)
        transport = _Transport(self._driver.leg, protocol, wanted, self._loop)
        return reader, asyncio.StreamWriter(transport, protocol, reader, self._loop)

    async def close(self) -> None:
        """Abort what still runs, say goodbye to the server. Idempotent."""
        self._closed = True
        self._starting.cancel()
        await asyncio.wait([self._starting])
        if self._driver is not None:
            self._driver.stop()

    async def __aenter__(self) -> Tunnel:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _start(self) -> None:
        keys = await self._loop.run_in_executor(None, client.root_keys, self._config)
        driver = _Driver(self._config, self._loop, self._event)
        driver.start(client.dialer(self._config, keys, driver.env))
        self._driver = driver

    def _event(self, event: Event) -> None:
        if event.kind == EventKind.LINK_UP:
            self._up.set()


class _Driver:
    """Runs a node in the loop: datagrams in, advance, everything out, then one timer."""

    def __init__(self, config: LegConfig, loop: asyncio.AbstractEventLoop, report: Any) -> None:
        self._config = config
        self._loop = loop
        self.leg = StreamLeg()
        self.leg.request_advance = self._soon
        self._sockets: dict[int, UdpSocket] = {}
        self._last = 0
        self._timer: asyncio.Handle | None = None
        self._is_due = self._serving = self._blocked = False
        self._lookups: set[asyncio.Task[None]] = set()
        self._node: Node | None = None
        self._io: Any = None
        self._dialer: Any = None
        self.env = Env(
            entropy=os.urandom, rng=random.Random(), wall_s=clock.wall_s, open_socket=self._open,
            close_socket=self._close, report=report, resolve=self._resolve, source_key=addr.source_key,
            site_key=addr.site_key,
        )  # fmt: skip

    def start(self, dialer: Any) -> None:
        """Run a node of our leg and this one."""
        self._dialer = dialer
        compiled = type(dialer.wire) is engine.Wire
        self._io = (engine.module("kcpg.net.udp").UdpIo if compiled else UdpIo)(dialer.wire)
        for number, sock in self._sockets.items():
            self._io.add(number, sock)
        self._node = Node(self.leg, dialer, NodeSettings(max_flows=client.MAX_STREAMS))
        self._node.start(clock.now_ms())
        self._soon()

    def stop(self) -> None:
        """End all streams, send the farewells, close the sockets. Idempotent."""
        node, self._node = self._node, None
        if node is None:
            return
        node.close(clock.now_ms(), "closed")
        for _ in range(_ROUNDS_PER_TURN):
            before = self._io.datagrams_out
            if self._io.transmit(clock.now_ms()) >= 0 or self._io.datagrams_out == before:
                break
        if self._timer is not None:
            self._timer.cancel()
        for task in self._lookups:
            task.cancel()
        for number in list(self._sockets):
            self._close(number)

    # -- what the leg's Env asks for --

    def _open(self) -> int:
        config = self._config
        sock = open_udp(
            ipv4_only=config.ipv4_only, ipv6_only=config.ipv6_only, options=socket_options(config)
        )
        self._last = self._last % 0xFFFF + 1
        while self._last in self._sockets:
            self._last = self._last % 0xFFFF + 1
        self._sockets[self._last] = sock
        if self._io is not None:
            self._io.add(self._last, sock)
        self._loop.add_reader(sock.fd, self._readable, self._last)
        return self._last

    def _close(self, number: int) -> None:
        sock = self._sockets.pop(number, None)
        if sock is not None:
            self._loop.remove_reader(sock.fd)
            self._loop.remove_writer(sock.fd)
            self._blocked = False
            self._io.remove(number)
            sock.close()

    def _resolve(self, host: str, port: int, answer: Resolved) -> None:
        task = self._loop.create_task(self._look_up(host, port, answer))
        self._lookups.add(task)
        task.add_done_callback(self._lookups.discard)

    async def _look_up(self, host: str, port: int, answer: Resolved) -> None:
        config = self._config
        family = socket.AF_INET if config.ipv4_only else socket.AF_INET6 if config.ipv6_only else 0
        try:
            rows = await self._loop.getaddrinfo(host, port, family=family, type=socket.SOCK_DGRAM)
        except OSError as failed:
            answer(ResolveFailed(f"{host}: {failed.strerror or failed}"))
        else:
            wanted = next(iter(self._sockets.values())).family if self._sockets else self._family()
            packed = [addr.for_family(addr.from_tuple(row[4]), wanted) for row in rows]
            found = list(dict.fromkeys(one for one in packed if one is not None))
            answer(found or ResolveFailed(f"{host}: no address that can be reached from here"))
        self._soon()

    def _family(self) -> int:
        probe = open_udp("", 0, ipv4_only=self._config.ipv4_only, ipv6_only=self._config.ipv6_only)
        probe.close()
        return probe.family

    # -- turns --

    def _soon(self) -> None:
        """Serve the node once after everybody who is due in this turn of the loop."""
        if not self._is_due and self._node is not None:
            self._is_due = True
            self._loop.call_soon(self._serve)

    def _readable(self, number: int) -> None:
        for _ in range(_ROUNDS_PER_TURN):
            if number not in self._sockets or self._io is None:
                return
            if self._io.receive(number, clock.now_ms()) <= 0:
                return
            self._serve()
            if not self._io.more:
                return

    def _writable(self, fd: int) -> None:
        self._loop.remove_writer(fd)
        self._blocked = False
        self._serve()

    def _serve(self) -> None:
        self._is_due = False
        if self._node is None or self._serving:
            return
        self._serving = True
        try:
            due_ms = self._rounds(self._node)
        finally:
            self._serving = False
        if self._timer is not None:
            self._timer.cancel()
        delay_s = max(due_ms - clock.now_ms(), 0) / 1000
        self._timer = self._loop.call_later(min(delay_s, 3600.0), self._serve)

    def _rounds(self, node: Node) -> int:
        """When to come back."""
        io = self._io
        for _ in range(_ROUNDS_PER_TURN):
            now = clock.now_ms()
            node.advance(now)
            before = io.datagrams_out
            blocked = -1 if self._blocked else io.transmit(now)
            if io.troubled():
                io.take_faults()  # the leg hears of a dead path by silence
                for path, size in io.take_too_big().items():
                    self._dialer.too_big(*path, size)
            if blocked >= 0 and blocked in self._sockets:
                fd = self._sockets[blocked].fd
                self._blocked = True
                self._loop.add_writer(fd, self._writable, fd)
            at_ms = node.advance_deadline()
            due_ms: int = min(clock.NEVER_MS if at_ms is None else at_ms, io.deadline_ms())
            if self._blocked:
                return max(due_ms, now + _LOOK_MS)
            if io.datagrams_out != before:
                due_ms = min(due_ms, now + _LOOK_MS)
            if due_ms > now and not io.has_news() and not node.is_left_over():
                return due_ms
        return clock.now_ms()


class _Transport(asyncio.Transport):
    """A stream as what asyncio's StreamReader and StreamWriter work with."""

    def __init__(
        self,
        leg: StreamLeg,
        protocol: asyncio.Protocol,
        target: Target | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(extra={"peername": None if target is None else str(target)})
        self._protocol = protocol
        self._loop = loop
        self._reads = True
        self._paused = self._closing = self._is_lost = False
        protocol.connection_made(self)
        self._flow: StreamFlow = leg.open(self, target, clock.now_ms())

    # -- of asyncio --

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing:
            return
        self._flow.write_out(data)
        if self._flow.waiting > SEND_BUFFER_BYTES and not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    def write_eof(self) -> None:
        self._flow.end_out()

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return self._flow.waiting

    def pause_reading(self) -> None:
        self._reads = False

    def resume_reading(self) -> None:
        self._reads = True
        self._flow.make_room()

    def is_reading(self) -> bool:
        return self._reads

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """What was written is still delivered; what the other end sends does not count any more."""
        if not self._closing:
            self._closing = True
            self._reads = True
            self._flow.end_out()
            self._flow.make_room()

    def abort(self) -> None:
        self._closing = True
        self._flow.abort()
        self._lose(None)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    # -- of the stream --

    def received(self, data: bytes) -> None:
        if not self._closing:
            self._protocol.data_received(data)

    def ended(self) -> None:
        if not self._closing and not self._protocol.eof_received():
            self.close()

    def lost(self, reason: Reset | None) -> None:
        self._closing = True
        self._lose(None if reason is None else error(reason))

    def drained(self) -> None:
        if self._paused and self._flow.waiting <= SEND_BUFFER_BYTES // 4:
            self._paused = False
            self._loop.call_soon(self._protocol.resume_writing)

    def room(self) -> int:
        return SEND_BUFFER_BYTES if self._reads else 0

    def _lose(self, why: Exception | None) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._loop.call_soon(self._protocol.connection_lost, why)
