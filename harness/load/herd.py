"""Thousands of kcpg's dialers in this process, each with a socket of its own, towards a node of yours."""

from __future__ import annotations

import heapq
import itertools
import os
import random
import select
import socket
import time
from collections.abc import Callable
from typing import cast

from harness.load.storm import REQUEST, Application
from kcpg.core.env import Env
from kcpg.core.flow import Joint, Reset
from kcpg.core.native.dial.dialer import DialSettings, TunnelDialer
from kcpg.core.native.dial.dialstate import DialState
from kcpg.core.native.dial.pathchoice import Destination
from kcpg.core.native.handshake.keys import RootKeys
from kcpg.core.native.link.convflow import ConvFlow
from kcpg.core.native.link.setup import LinkLimits
from kcpg.core.native.link.state import LinkState

RECEIVE_BYTES = 65536
DATAGRAMS_PER_TURN = 64
LONGEST_WAIT_S = 0.02
POOL_BYTES = 4 << 20  # of each dialer: they carry little

SAYS_EVERY_S = 5.0  # An application says something this often, and expects to hear it again
WORDS = b"something to say"


def now_ms() -> int:
    """The clock that the dialers go by."""
    return time.monotonic_ns() // 1_000_000


class Member:
    """One client: a dialer, its sockets, and an application with `flows` connections."""

    def __init__(self, herd: Herd, number: int, address: tuple[str, int], key: bytes, flows: int) -> None:
        self._herd = herd
        self._address = address
        self._sockets: dict[int, socket.socket] = {}
        self._numbers = itertools.count(1)
        self._flows: list[ConvFlow | None] = [None] * flows
        self.refused_flows = 0  # as `Application` counts them
        self.said = self.heard = self.lost_flows = 0
        self.began_inits = 0
        rng = random.Random(number)
        env = Env(
            entropy=os.urandom,
            rng=rng,
            wall_s=lambda: int(time.time()),
            open_socket=self._open,
            close_socket=self._close,
            report=lambda event: None,
            resolve=lambda host, port, answer: answer([b"server"]),
        )
        settings = DialSettings(
            "load",
            [Destination(address[0], (address[1],))],
            identity=number.to_bytes(16, "big"),
            limits=LinkLimits(idle_ms=None),
            pool_bytes=POOL_BYTES,
        )
        self.dialer = TunnelDialer(settings, RootKeys.from_key(key), env)

    def begin(self) -> None:
        self.dialer.start(now_ms())
        self._herd.touched[self] = None

    def is_back(self, since_ms: int) -> bool:
        """There is a link that was heard since then."""
        link = self.dialer.link
        if link is None or self.dialer.state is not DialState.UP or link.state is not LinkState.UP:
            return False
        return link.liveness.heard_ms >= since_ms

    def talk(self) -> None:
        """Each connection says something, and reads what came; one that was reset is opened again."""
        for place, flow in enumerate(self._flows):
            if flow is None or flow.closed:
                self.lost_flows += flow is not None
                dialed = self.dialer.dial(REQUEST, now_ms())
                self._flows[place] = None if isinstance(dialed, Reset) else dialed
                if isinstance(dialed, ConvFlow):
                    dialed.splice = cast("Joint", Application(self))
            elif not flow.opening:
                while data := flow.read(RECEIVE_BYTES):
                    self.heard += len(data)
                self.said += flow.write(WORDS)
        self._herd.touched[self] = None

    def receive(self, number: int) -> None:
        sock = self._sockets.get(number)
        for _ in range(DATAGRAMS_PER_TURN if sock is not None else 0):
            try:
                datagram = sock.recv(RECEIVE_BYTES)  # type: ignore[union-attr]
            except OSError:  # nothing more, or nobody listens there now
                return
            self.dialer.receive(number, b"server", datagram, now_ms())

    def serve(self) -> int | None:
        """Have a turn; when the next one is due, in ms."""
        self.dialer.advance(now_ms())
        while batch := self.dialer.transmit(now_ms()):
            for number, _, datagram in batch:
                try:
                    self._sockets[number].send(datagram)
                except OSError:
                    pass  # it is lost, as by a line
        return self.dialer.deadline()

    def close(self) -> None:
        for number in list(self._sockets):
            self._close(number)

    def _open(self) -> int:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.connect(self._address)
        number = next(self._numbers)
        self._sockets[number] = sock
        self._herd.watch(sock, self, number)
        return number

    def _close(self, number: int) -> None:
        sock = self._sockets.pop(number)
        self._herd.forget(sock)
        sock.close()


class Herd:
    """All of them, and the loop that runs them."""

    def __init__(self, count: int, address: tuple[str, int], key: bytes, flows: int) -> None:
        self.touched: dict[Member, None] = {}
        self._poll = select.epoll()
        self._of_descriptor: dict[int, tuple[Member, int]] = {}
        self._timers: list[tuple[int, int, Member]] = []
        self._due: dict[Member, int] = {}
        self._order = itertools.count()
        self._talks = flows > 0
        self._talk_at: list[tuple[float, int, Member]] = []
        self.members = [Member(self, number, address, key, flows) for number in range(count)]

    def watch(self, sock: socket.socket, member: Member, number: int) -> None:
        self._of_descriptor[sock.fileno()] = (member, number)
        self._poll.register(sock.fileno(), select.EPOLLIN)

    def forget(self, sock: socket.socket) -> None:
        self._poll.unregister(sock.fileno())
        del self._of_descriptor[sock.fileno()]

    def begin(self, member: Member) -> None:
        """This one calls; its application begins to speak some time later."""
        member.begin()
        if self._talks:
            first_s = time.monotonic() + random.uniform(0.0, SAYS_EVERY_S)
            heapq.heappush(self._talk_at, (first_s, next(self._order), member))

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Live for so long, or until it is so; whether it is."""
        end_s = time.monotonic() + seconds
        while not (done := until()) and time.monotonic() < end_s:
            self._turn()
        return done

    def close(self) -> None:
        for member in self.members:
            member.close()
        self._poll.close()

    def _turn(self) -> None:
        wait_s = 0.0 if self.touched else self._wait_s()
        for descriptor, _ in self._poll.poll(wait_s, 1024):
            member, number = self._of_descriptor[descriptor]
            member.receive(number)
            self.touched[member] = None
        while self._talk_at and self._talk_at[0][0] <= time.monotonic():
            at_s, _, member = heapq.heappop(self._talk_at)
            member.talk()
            heapq.heappush(self._talk_at, (at_s + SAYS_EVERY_S, next(self._order), member))
        now = now_ms()
        while self._timers and self._timers[0][0] <= now:
            due_ms, _, member = heapq.heappop(self._timers)
            if self._due.get(member) == due_ms:
                self.touched[member] = None
        served, self.touched = self.touched, {}
        for member in served:
            due_at = member.serve()
            if due_at is not None and self._due.get(member) != due_at:
                due_at = max(due_at, now + 1)
                self._due[member] = due_at
                heapq.heappush(self._timers, (due_at, next(self._order), member))

    def _wait_s(self) -> float:
        if not self._timers:
            return LONGEST_WAIT_S
        return min(max((self._timers[0][0] - now_ms()) / 1000, 0.0), LONGEST_WAIT_S)
