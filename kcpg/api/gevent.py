"""Streams through a tunnel for gevent: calls wait in their greenlet, as those of a socket do."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import gevent
from gevent.event import Event as Flag

from kcpg.api import client
from kcpg.api.streams import RECEIVE_BUFFER_BYTES, SEND_BUFFER_BYTES, StreamFlow, StreamLeg, error
from kcpg.app.config.model import LegConfig
from kcpg.app.legsettings import socket_options
from kcpg.app.run import make_env
from kcpg.core.env import Event, EventKind
from kcpg.core.flow import Reset
from kcpg.core.node import Node, NodeSettings
from kcpg.net import clock
from kcpg.net.driver import Driver
from kcpg.net.resolve import Resolver
from kcpg.net.tunnelsockets import TunnelSockets

__all__ = ["Stream", "Tunnel"]


class Tunnel:
    """A tunnel to a server: `Tunnel.connect(config)`. Also a context manager."""

    def __init__(self, config: LegConfig) -> None:
        self._up = Flag()
        keys = gevent.get_hub().threadpool.apply(client.root_keys, (config,))
        ports = TunnelSockets(
            Resolver(), ipv4_only=config.ipv4_only, ipv6_only=config.ipv6_only, options=socket_options(config)
        )
        dialer = client.dialer(config, keys, make_env(ports, self._event))
        self._leg = StreamLeg()
        node = Node(self._leg, dialer, NodeSettings(max_flows=client.MAX_STREAMS))
        self._driver = Driver(node, {dialer: ports})
        self._leg.request_advance = self._driver.request_advance
        self._closed = False
        self._driver.start()

    @classmethod
    def connect(cls, config: str | Path) -> Tunnel:
        """Begin to connect; `config`: a client's configuration (Path: its file, str: its text), or an
        invitation. Raises ConfigurationError."""
        return cls(client.read(config))

    def ready(self, timeout_s: float | None = None) -> bool:
        """Wait until the server has answered; whether it has. Nobody needs to: streams wait by themselves."""
        return bool(self._up.wait(timeout_s))

    def open_stream(self, target: str | None = None) -> Stream:
        """A TCP connection from the server to `host:port`; None: to the server's own target. As that of
        asyncio."""
        wanted = client.target(target)
        if self._closed:
            raise ConnectionAbortedError("the tunnel is closed")
        stream = Stream()
        stream._flow = self._leg.open(stream, wanted, clock.now_ms())
        return stream

    def close(self) -> None:
        """Abort what still runs, say goodbye to the server. Idempotent."""
        self._closed = True
        self._driver.stop("closed")

    def __enter__(self) -> Tunnel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _event(self, event: Event) -> None:
        if event.kind == EventKind.LINK_UP:
            self._up.set()


class Stream:
    """A stream with the methods of a socket. Also a context manager."""

    def __init__(self) -> None:
        self._flow: StreamFlow | None = None
        self._in = bytearray()
        self._is_ended = False
        self._is_over = False
        self._reason: Reset | None = None
        self._changed = Flag()

    def recv(self, limit: int) -> bytes:
        """At least one byte and at most `limit`, waiting for it; b"": the end. Raises ConnectionError."""
        while not self._in:
            if self._reason is not None:
                raise error(self._reason)
            if self._is_ended or self._is_over:
                return b""
            self._wait()
        data = bytes(self._in[:limit])
        del self._in[:limit]
        if self._flow is not None:
            self._flow.make_room()
        return data

    def sendall(self, data: bytes) -> None:
        """Send all, waiting while the tunnel has no room. Raises ConnectionError."""
        view = memoryview(data)
        while view:
            flow = self._flow
            if flow is None or flow.closed or self._is_over:
                raise (
                    error(self._reason) if self._reason is not None else BrokenPipeError("the stream is over")
                )
            room = SEND_BUFFER_BYTES - flow.waiting
            if room > 0:
                flow.write_out(view[:room])
                view = view[room:]
            else:
                self._wait()

    def end(self) -> None:
        """No more is sent (half-close); receiving goes on."""
        if self._flow is not None:
            self._flow.end_out()

    def close(self) -> None:
        """Let go: what was sent is still delivered if the other end has ended too, else both are aborted."""
        if self._flow is not None and not self._is_over:
            if self._is_ended:
                self._flow.end_out()
            else:
                self._flow.abort()
        self._is_over = True

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- told by the node --

    def received(self, data: bytes) -> None:
        self._in += data
        self._changed.set()

    def ended(self) -> None:
        self._is_ended = True
        self._changed.set()

    def lost(self, reason: Reset | None) -> None:
        self._is_over = True
        self._reason = reason
        self._changed.set()

    def drained(self) -> None:
        self._changed.set()

    def room(self) -> int:
        return max(RECEIVE_BUFFER_BYTES - len(self._in), 0)

    def _wait(self) -> None:
        self._changed.clear()
        self._changed.wait()
