"""Many dialers and one listener in virtual time: the protocol is the real one, what it costs is a model.

A handshake takes the listener's core a given time, cheaper things a part of that. What comes meanwhile waits
in a receive buffer, and is lost when that is full. So a storm of thousands of clients is the same on every
machine, and repeats from its seed.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Protocol, cast

from kcpg.core.env import Env, Event, EventKind
from kcpg.core.flow import Flow, Kind, Open, Reset
from kcpg.core.native.dial.dialer import DialSettings, TunnelDialer
from kcpg.core.native.dial.dialstate import DialState
from kcpg.core.native.dial.pathchoice import Destination
from kcpg.core.native.handshake.keys import RootKeys
from kcpg.core.native.handshake.params import DIALER_BYTES
from kcpg.core.native.leg import NativeLeg
from kcpg.core.native.link.convflow import ConvFlow
from kcpg.core.native.link.setup import LinkLimits
from kcpg.core.native.link.state import LinkState
from kcpg.core.native.listener import ListenSettings, TunnelListener

if TYPE_CHECKING:
    from kcpg.core.flow import Joint

MS = 1_000_000  # ns
START_MS = 5_000
WALL_S = 1_800_000_000
KEYS = RootKeys.from_key(bytes(range(32)))
SERVER = b"server:3000"
REQUEST = Open(Kind.TCP, None, "load")

# Shares of a handshake's time, as measured: reading the INIT, agreeing on keys and making the link; what the
# first datagrams of the new link cost (PINGs, sizes that are tried); sealing an answer without agreement; any
# datagram.
AGREEMENT, CONFIRMATION, SEALING, DATAGRAM = 0.6, 0.4, 0.04, 0.01

BUFFER_DATAGRAMS = 3_600  # of some 500 bytes and what the kernel adds, in the 4 MB that a node asks for
BATCH = 64  # datagrams that are handled before the answers leave

SAYS_EVERY_MS = 1000  # An application says something this often, so that it notices a silence
# Who is back is looked at this often, with many clients only so many times while their handshakes last.
LOOK_MS, LOOKS = 5, 400

FAULTS = ("restart", "kill", "outage")


@dataclass(frozen=True, slots=True)
class Storm:
    """What is to happen. `cost_ms`: of a handshake; `one_address`: all clients are behind one."""

    clients: int
    fault: str
    cost_ms: float = 1.0
    rtt_ms: int = 50
    away_ms: int = 2_000
    one_address: bool = False
    idle: bool = False  # clients without flows: they notice a farewell, and nothing else soon
    seed: str = "1"

    @property
    def ideal_ms(self) -> float:
        """The time that the handshakes of all clients take at the least."""
        return self.clients * self.cost_ms


@dataclass(frozen=True, slots=True)
class Outcome:
    """Times from the node's return on, in ms. `inits`: of each client, sent from then on."""

    storm: Storm
    back_ms: list[int]  # when each client was back, sorted; shorter than `clients` if not all came
    inits: list[int]
    handshakes: int  # key agreements at the listener
    retries: int
    lost: int  # datagrams for which there was no room
    busy_ms: float
    refused_flows: int  # that an application lost though it could have waited

    @property
    def all_back_ms(self) -> int | None:
        """None: not all are."""
        return self.back_ms[-1] if len(self.back_ms) == self.storm.clients else None

    @property
    def median_inits(self) -> float:
        """Of a client."""
        return median(self.inits)


class Clock:
    """Virtual time and what happens in it, in order."""

    def __init__(self) -> None:
        self.now_ns = START_MS * MS
        self._order = itertools.count()
        self._heap: list[tuple[int, int, Callable[[], None]]] = []

    @property
    def now_ms(self) -> int:
        return self.now_ns // MS

    def at(self, time_ns: int, call: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (max(time_ns, self.now_ns), next(self._order), call))

    def run(self, until_ns: int) -> None:
        while self._heap and self._heap[0][0] <= until_ns:
            self.now_ns, _, call = heapq.heappop(self._heap)
            call()
        self.now_ns = until_ns


class Host:
    """A leg that has the processor for itself, and a receive buffer."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.leg: NativeLeg | None = None
        self.lost = 0
        self.busy_ns = 0
        self.send: Callable[[int, bytes, bytes, int], None] = lambda sock, addr, datagram, at_ns: None
        self._queue: deque[tuple[int, bytes, bytes]] = deque()
        self._free_ns = 0
        self._timer_ns: int | None = None
        self._spent_ns = 0

    def spend(self, ns: float) -> None:
        """What runs now takes so long."""
        self._spent_ns += int(ns)

    def clock_ns(self) -> int:
        """As this host sees it, while something runs."""
        return self.clock.now_ns + self._spent_ns

    def begin(self, leg: NativeLeg) -> None:
        self.leg = leg
        self.soon()

    def end(self) -> None:
        """Nothing runs here any more."""
        self.leg = None
        self._queue.clear()
        self._timer_ns = None

    def arrived(self, sock: int, addr: bytes, datagram: bytes) -> None:
        if self.leg is None:
            return
        if len(self._queue) >= BUFFER_DATAGRAMS:
            self.lost += 1
            return
        self._queue.append((sock, addr, datagram))
        self.soon()

    def soon(self) -> None:
        """Have a turn as soon as the processor is free."""
        self._arm(max(self.clock.now_ns, self._free_ns))

    def _arm(self, at_ns: int) -> None:
        if self._timer_ns is None or at_ns < self._timer_ns:
            self._timer_ns = at_ns
            self.clock.at(at_ns, lambda: self._turn(at_ns))

    def _turn(self, at_ns: int) -> None:
        if at_ns != self._timer_ns or self.leg is None:
            return
        self._timer_ns = None
        leg, now_ms = self.leg, self.clock.now_ms
        self._spent_ns = 0
        for _ in range(min(BATCH, len(self._queue))):
            self.took()
            leg.receive(*self._queue.popleft(), now_ms)
        leg.advance(now_ms)
        out = []
        while batch := leg.transmit(now_ms):
            out += [(sock, bytes(addr), bytes(datagram)) for sock, addr, datagram in batch]
        self.busy_ns += self._spent_ns
        self._free_ns = done_ns = self.clock.now_ns + self._spent_ns
        for sock, addr, datagram in out:
            self.send(sock, addr, datagram, done_ns)
        due_ms = leg.deadline()
        if self._queue:
            self.soon()
        elif due_ms is not None:
            # A deadline that has passed is due in the next millisecond: the core counts no finer.
            self._arm(max(due_ms * MS, done_ns, self.clock.now_ns + MS))

    def took(self) -> None:
        """A datagram was taken from the buffer."""


class Server(Host):
    """The listener, whose work costs time."""

    def __init__(self, clock: Clock, storm: Storm) -> None:
        super().__init__(clock)
        self.cost_ns = storm.cost_ms * MS
        self.agreements = 0
        self.generation = 0
        self._storm = storm
        self._rng = random.Random(f"{storm.seed} server")
        self.flows: list[Flow] = []

    def start(self) -> None:
        """A process that remembers nothing."""
        self.generation += 1
        rng = self._rng
        env = Env(
            entropy=self._entropy,
            rng=rng,
            wall_s=lambda: WALL_S + self.clock.now_ms // 1000,
            open_socket=lambda: 1,
            close_socket=lambda number: None,
            report=self._reported,
            resolve=lambda host, port, answer: None,
            source_key=lambda addr: addr.partition(b":")[0],
            clock_ns=self.clock_ns,
        )
        leg = TunnelListener(ListenSettings("server", max_links=1 << 16), KEYS, env)
        leg.on_flow = lambda flow, request, now_ms: self.flows.append(flow)
        self.flows.clear()
        leg.start(self.clock.now_ms)
        self.begin(leg)

    def stop(self, says: bool) -> None:
        """The process ends, with a farewell or without one."""
        leg = self.leg
        assert leg is not None
        if says:
            leg.close(self.clock.now_ms, "restart")  # type: ignore[attr-defined]
            while batch := leg.transmit(self.clock.now_ms):
                for sock, addr, datagram in batch:
                    self.send(sock, bytes(addr), bytes(datagram), self.clock.now_ns)
        self.end()

    def took(self) -> None:
        self.spend(DATAGRAM * self.cost_ns)

    def _entropy(self, count: int) -> bytes:
        """Who agrees on keys asks for 32 bytes first, who seals an answer for 20."""
        if count == 32:
            self.agreements += 1
            self.spend(AGREEMENT * self.cost_ns)
        elif count == 20:
            self.spend(SEALING * self.cost_ns)
        return self._rng.randbytes(count)

    def _reported(self, event: Event) -> None:
        if event.kind == EventKind.LINK_UP:
            self.spend(CONFIRMATION * self.cost_ns)


class Client(Host):
    """A dialer, and an application that has something to say every now and then."""

    def __init__(self, clock: Clock, number: int, storm: Storm) -> None:
        super().__init__(clock)
        self.host = b"client" if storm.one_address else b"client%d" % number
        self.refused_flows = 0
        self._number = number
        self._sockets = itertools.count(1)
        self._rng = rng = random.Random(f"{storm.seed} client {number}")
        env = Env(
            entropy=rng.randbytes,
            rng=rng,
            wall_s=lambda: WALL_S + clock.now_ms // 1000,
            open_socket=lambda: next(self._sockets),
            close_socket=lambda number: None,
            report=lambda event: None,
            resolve=lambda host, port, answer: answer([SERVER]),
            source_key=lambda addr: addr.partition(b":")[0],
        )
        identity = b"client %d" % number
        settings = DialSettings(
            "client",
            [Destination("server", (3000,))],
            identity=identity.ljust(DIALER_BYTES, b"."),
            limits=LinkLimits(idle_ms=None),
        )
        self.dialer = TunnelDialer(settings, KEYS, env)
        self._flow: ConvFlow | None = None
        self._talks = not storm.idle

    def addr(self, sock: int) -> bytes:
        return b"%s:%d.%d" % (self.host, self._number, sock)

    def start(self) -> None:
        self.dialer.start(self.clock.now_ms)
        self.begin(self.dialer)
        if self._talks:
            self.clock.at(self.clock.now_ns + self._rng.randrange(SAYS_EVERY_MS * MS), self._say)

    def is_back(self, since_ms: int) -> bool:
        """There is a link that was heard since then."""
        link = self.dialer.link
        if link is None or self.dialer.state is not DialState.UP or link.state is not LinkState.UP:
            return False
        return link.liveness.heard_ms >= since_ms

    def _say(self) -> None:
        flow, now_ms = self._flow, self.clock.now_ms
        if flow is None or flow.closed:
            dialed = self.dialer.dial(REQUEST, now_ms)
            self._flow = None if isinstance(dialed, Reset) else dialed
            if isinstance(dialed, ConvFlow):
                dialed.splice = cast("Joint", Application(self))
        elif not flow.opening:
            flow.write(b"something to say")
        self.soon()
        self.clock.at(self.clock.now_ns + SAYS_EVERY_MS * MS, self._say)


class _Counts(Protocol):
    """Whose application it is."""

    refused_flows: int


class Application:
    """Stands for a splice."""

    def __init__(self, client: _Counts) -> None:
        self._client = client

    def ready(self, flow: Flow, events: int) -> None:
        """It reads nothing."""

    def on_reset(self, flow: Flow, reason: Reset) -> None:
        flow.splice = None
        self._client.refused_flows += flow.opening


class World:
    """The server, its clients, and the line between them."""

    def __init__(self, storm: Storm) -> None:
        self.storm = storm
        self.clock = Clock()
        self.cut = False
        self.server = Server(self.clock, storm)
        self.server.send = self._down
        self.clients = [Client(self.clock, number, storm) for number in range(storm.clients)]
        self._by_addr: dict[bytes, tuple[Client, int]] = {}
        self._way_ns = storm.rtt_ms * MS // 2
        for client in self.clients:
            client.send = self._up_from(client)

    def _up_from(self, client: Client) -> Callable[[int, bytes, bytes, int], None]:
        def send(sock: int, addr: bytes, datagram: bytes, at_ns: int) -> None:
            source = client.addr(sock)
            self._by_addr[source] = (client, sock)
            if not self.cut:
                self.clock.at(at_ns + self._way_ns, lambda: self.server.arrived(1, source, datagram))

        return send

    def _down(self, sock: int, addr: bytes, datagram: bytes, at_ns: int) -> None:
        client, number = self._by_addr[addr]
        if not self.cut:
            self.clock.at(at_ns + self._way_ns, lambda: client.arrived(number, SERVER, datagram))

    def come(self) -> None:
        """Begin, the clients one after another at a rate that is easy to bear."""
        self.server.start()
        step_ns = int(2 * self.storm.cost_ms * MS)
        for number, client in enumerate(self.clients):
            self.clock.at(self.clock.now_ns + number * step_ns, client.start)
        self.pass_ms(self.storm.clients * step_ns // MS + 3_000)

    def pass_ms(self, ms: int) -> None:
        self.clock.run(self.clock.now_ns + ms * MS)


def run(storm: Storm, limit: float = 6.0) -> Outcome:
    """Have all clients there, let it happen, and see how they come back for `limit` times the ideal time."""
    world = World(storm)
    world.come()
    early = [client for client in world.clients if not client.is_back(0)]
    assert not early, f"{len(early)} clients did not come in quiet times; seed {storm.seed}"
    _happen(world)
    server, clients = world.server, world.clients
    since_ms = world.clock.now_ms
    inits = [client.dialer.counters.inits_sent for client in clients]
    before = (server.agreements, server.busy_ns, sum(client.refused_flows for client in clients))
    left = set(clients)
    back: list[int] = []
    look_ms = max(LOOK_MS, int(storm.ideal_ms) // LOOKS)
    while left and world.clock.now_ms - since_ms < limit * storm.ideal_ms + 5_000:
        world.pass_ms(look_ms)
        came = [client for client in left if client.is_back(since_ms)]
        back += [world.clock.now_ms - since_ms] * len(came)
        left.difference_update(came)
    counters = server.leg.counters if server.leg is not None else None
    return Outcome(
        storm,
        back,
        [client.dialer.counters.inits_sent - sent for client, sent in zip(clients, inits, strict=True)],
        server.agreements - before[0],
        counters.retries if counters is not None else 0,
        server.lost,
        (server.busy_ns - before[1]) / MS,
        sum(client.refused_flows for client in clients) - before[2],
    )


def _happen(world: World) -> None:
    away_ms, server = world.storm.away_ms, world.server
    if world.storm.fault == "outage":
        world.cut = True
        world.pass_ms(away_ms)
        world.cut = False
        return
    server.stop(says=world.storm.fault == "restart")
    world.pass_ms(away_ms)
    server.start()
