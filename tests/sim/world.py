"""A deterministic world in virtual time: nodes, applications, and the network between them (`network.py`).

Everything that happens is an event on one heap, ordered by time and then by when it was asked for, so a seed
and a scenario decide every byte. Nothing sleeps; a simulated minute costs what its datagrams cost.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from kcpg.core.flow import Reset, ResetCode
from kcpg.core.node import Node
from kcpg.core.splice import Splice
from kcpg.net.coalesce import Coalescing
from tests.line import MS
from tests.sim.memory import MemoryFlow
from tests.sim.network import LegSlot, Network, SimSocket

if TYPE_CHECKING:
    from tests.sim.actors import Talker

START_MS = (1 << 32) - 20_000  # the 32-bit millisecond clock of KCP wraps 20 s into every simulation
STEPS_PER_MS = 2000  # more steps of one node without time passing: it spins
CHECK_ALL_FLOWS = 16  # with more flows than this the invariants are checked at every 64th step only


KILLED = Reset(
    ResetCode.RESET_BY_APPLICATION, "the process was killed"
)  # what the kernel does to its sockets


class World:
    """The clock, the events, the network, the nodes."""

    def __init__(self, seed: object) -> None:
        self.seed = str(seed)
        self.now_ns = START_MS * MS
        self.network = Network(self)
        self.nodes: list[SimNode] = []
        self.talkers: list[Talker] = []
        self.checks: list[Callable[[], None]] = []  # run at every step of any node
        self.events = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        print(f"seed {self.seed!r}")  # pytest shows it when a test fails

    def __str__(self) -> str:
        return f"seed {self.seed!r}, {self.now_ms - START_MS} ms after the start"

    @property
    def now_ms(self) -> int:
        return self.now_ns // MS

    @property
    def elapsed_ms(self) -> int:
        return self.now_ms - START_MS

    def at_ns(self, time_ns: int, call: Callable[[], None]) -> None:
        heappush(self._heap, (max(time_ns, self.now_ns), next(self._order), call))

    def after(self, delay_ms: int, call: Callable[[], None]) -> None:
        self.at_ns(self.now_ns + delay_ms * MS, call)

    def soon(self, call: Callable[[], None]) -> None:
        self.at_ns(self.now_ns, call)

    def run(self, until: Callable[[], bool], limit_ms: int) -> int:
        """Live until it is so; gives the virtual milliseconds that took. Fails after `limit_ms`."""
        start_ns = self.now_ns
        end_ns = start_ns + limit_ms * MS
        while not until():
            assert self._heap, f"nothing will ever happen again; {self}\n{self.describe()}"
            assert self._heap[0][0] <= end_ns, f"not after {limit_ms} ms; {self}\n{self.describe()}"
            self._next()
        return (self.now_ns - start_ns) // MS

    def pass_time(self, ms: int) -> None:
        """Live for so long."""
        end_ns = self.now_ns + ms * MS
        while self._heap and self._heap[0][0] <= end_ns:
            self._next()
        self.now_ns = end_ns

    def _next(self) -> None:
        self.now_ns, _, call = heappop(self._heap)
        self.events += 1
        call()

    def describe(self) -> str:
        """What a person wants to see when a scenario did not end."""
        lines = [f"{node.name}: up={node.up} {node.node.counters if node.up else ''}" for node in self.nodes]
        lines += [str(talker) for talker in self.talkers]
        return "\n".join([*lines, f"network: {self.network.counts}"])


class SimNode:
    """A host that runs one node. `build` makes the node; it is called again at every restart."""

    def __init__(self, world: World, name: str, build: Callable[[SimNode], Node]) -> None:
        self.world = world
        self.name = self.host = name
        self.build = build
        self.up = self.asleep = False
        self.steps = 0
        self.takes = self.sends = 0  # steps that took datagrams from sockets, and that sent some
        self.generation = 0
        self.sockets: dict[int, SimSocket] = {}
        self.coalesces = False  # leaves datagrams in its sockets for a while, as `kcpg.net.driver` does
        self._coalescing = Coalescing()
        self._inbox: list[tuple[SimSocket, bytes, bytes]] = []
        self._pending = False
        self._timer_ns: int | None = None
        self._spin = (0, 0)
        self.node: Node
        world.nodes.append(self)
        self.start()

    # -- life ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        assert not self.up
        self.up = True
        self.generation += 1
        self.node = self.build(self)
        self.node.start(self.world.now_ms)
        self.dirty()

    def crash(self) -> None:
        """The process dies: nothing is said to anybody, all state is gone. Its applications' sockets are
        reset.
        """
        self.up = False
        for sock in list(self.sockets.values()):
            self.close_socket(sock.number)
        self._inbox.clear()
        self._timer_ns = None
        for leg in (self.node.ingress, self.node.egress):
            for flow in list(getattr(leg, "flows", ())):
                if isinstance(flow, MemoryFlow):
                    flow.splice = None
                    flow.reset(KILLED)

    def restart(self, down_ms: int = 0) -> None:
        self.crash()
        if down_ms:
            self.world.after(down_ms, self.start)
        else:
            self.start()

    def sleep(self, for_ms: int) -> None:
        """The machine does nothing for a while, what is sent to it is lost, and its clock goes on."""
        self.asleep = True
        self.world.after(for_ms, self._awake)

    def _awake(self) -> None:
        self.asleep = False
        self.dirty()

    def stop(self) -> None:
        """An orderly end, with farewells."""
        self.node.close(self.world.now_ms, "shutdown")
        self._transmit()
        self.crash()

    # -- sockets ---------------------------------------------------------------------------------------------

    def open_socket(self, owner: LegSlot, port: int | None = None, host: str | None = None) -> int:
        """`host`: another of this node's addresses."""
        sock = self.world.network.open(self, owner, port, host)
        self.sockets[sock.number] = sock
        return sock.number

    def close_socket(self, number: int) -> None:
        sock = self.sockets.pop(number, None)
        if sock is not None:
            self.world.network.close(sock)

    def arrived(self, sock: SimSocket, source: bytes, datagram: bytes) -> None:
        if not self.asleep:
            self._inbox.append((sock, source, datagram))
            if not self._coalescing.look_ms:
                self.dirty()

    # -- running: mutate, advance, drain, completely ---------------------------------------------------------

    def dirty(self) -> None:
        """Have this node run as an event of now."""
        if self.up and not self._pending:
            self._pending = True
            self.world.soon(self._step)

    def _step(self) -> None:
        self._pending = False
        if not self.up or self.asleep:
            return
        self.steps += 1
        now_ms = self.world.now_ms
        self._count_spin(now_ms)
        looks = now_ms >= self._coalescing.look_ms
        if looks and self._inbox:
            inbox, self._inbox = self._inbox, []
            self.takes += 1
            for sock, source, datagram in inbox:
                if sock.number in self.sockets and sock.owner.leg is not None:
                    sock.owner.leg.receive(sock.number, source, datagram, now_ms)
            if self.coalesces:
                self._coalesce(now_ms, len(inbox))
        elif looks and self._coalescing.look_ms:
            self._coalesce(now_ms, 0)
        self.node.advance(now_ms)
        self._transmit()
        self._check()
        self._arm(now_ms)

    def _coalesce(self, now_ms: int, count: int) -> None:
        """So many datagrams were taken: when to look for more."""
        for leg in self.node.tunnels:
            self._coalescing.taken(now_ms, count, leg.wire.coalesce_ms(now_ms))
        if look_ms := self._coalescing.look_ms:
            self.world.at_ns(look_ms * MS, self.dirty)

    def _transmit(self) -> None:
        now_ms, send = self.world.now_ms, self.world.network.send
        sent = False
        for leg in self.node.tunnels:
            while batch := leg.transmit(now_ms):
                sent = True
                for number, target, datagram in batch:
                    sock = self.sockets.get(number)
                    assert sock is not None, f"{self.name} sends by a socket that is closed; {self.world}"
                    send(sock.addr, target, bytes(datagram))
        self.sends += sent

    def _arm(self, now_ms: int) -> None:
        deadline = self.node.deadline()
        if deadline is None:
            return
        if deadline <= now_ms:
            self.dirty()
            return
        due_ns = deadline * MS
        if self._timer_ns is None or due_ns < self._timer_ns:
            self._timer_ns = due_ns
            self.world.at_ns(due_ns, partial(self._timer, due_ns))

    def _timer(self, due_ns: int) -> None:
        if self._timer_ns == due_ns:
            self._timer_ns = None
            self.dirty()

    def _count_spin(self, now_ms: int) -> None:
        time_ms, count = self._spin
        self._spin = (now_ms, count + 1 if time_ms == now_ms else 0)
        assert self._spin[1] < STEPS_PER_MS, (
            f"{self.name} spins: {STEPS_PER_MS} steps without time passing, deadline {self.node.deadline()}; "
            f"{self.world}\n{self.world.describe()}"
        )

    # -- invariants ------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self.node.flows > CHECK_ALL_FLOWS and self.steps % 64:
            return
        for splice in self.node.splices:
            check_splice(splice, self)
        for check in self.world.checks:
            check()


def check_splice(splice: Splice, node: SimNode) -> None:
    """What went into a splice came out of it: it holds nothing. A packet in between was counted as a drop."""
    assert not splice.over
    ingress, egress = splice.flows
    for index, source, sink in ((0, ingress, egress), (1, egress, ingress)):
        moved, dropped = splice.moved[index], splice.dropped[index]
        assert source.splice is splice
        if isinstance(source, MemoryFlow):
            assert source.given == moved + dropped, (
                f"{node.name}: {source.given} in, {moved} out; {node.world}"
            )
        if isinstance(sink, MemoryFlow):
            assert sink.taken == moved, f"{node.name}: {moved} in, {sink.taken} out; {node.world}"


def quiet(world: World, ms: int = 0) -> None:
    """Let so much time pass, then: no node carries a flow any more, and no leg remembers one."""
    world.pass_time(ms)
    for node in world.nodes:
        if not node.up:
            continue
        assert node.node.flows == 0, (
            f"{node.name} still carries {node.node.flows} flows; {world}\n{world.describe()}"
        )
        for leg in (node.node.ingress, node.node.egress):
            flows = getattr(leg, "flows", None)
            assert not flows or not isinstance(flows, dict), f"{node.name} keeps {len(flows)} flows; {world}"
