"""Port forwarders, `Node(MemoryListener, MemoryDialer)`: what is outside the protocol, without a network."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from kcpg.core.flow import Kind, Open, Reset, ResetCode
from kcpg.core.node import FlowOver, Node, NodeSettings
from tests.sim.actors import Echo, PacketStream, Talker
from tests.sim.memory import BUFFER_BYTES, Answer, App, MemoryDialer, MemoryListener
from tests.sim.world import SimNode, World, quiet

REFUSED = Reset(ResetCode.REFUSED, "nobody listens")


class Forwarder:
    """A world with one forwarder; `answers` says what the target does with the next flows, in order."""

    def __init__(self, seed: object, *answers: Answer, settings: NodeSettings | None = None) -> None:
        self.world = World(seed)
        self.answers = list(answers)
        self.events: list[object] = []
        self.settings = settings
        self.sim = SimNode(self.world, "forwarder", self._build)

    def _build(self, sim: SimNode) -> Node:
        self.listener = MemoryListener(self.world.soon, sim.dirty)
        self.dialer = MemoryDialer(self.world.soon, sim.dirty, self._serve)
        return Node(self.listener, self.dialer, self.settings, self.events.append)

    def _serve(self, request: Open) -> Answer:
        return self.answers.pop(0)

    def overs(self) -> list[FlowOver]:
        return [event for event in self.events if isinstance(event, FlowOver)]


def talk(make: Forwarder, up: int, down: int, **options: Any) -> tuple[Talker, Talker]:
    """A pair of talkers over the forwarder: the first connects, the second is what the target runs."""
    near = Talker(make.world, "near", ("up", up), ("down", down), **options.get("near", {}))
    far = Talker(make.world, "far", ("down", down), ("up", up), **options.get("far", {}))
    make.answers.append(Answer(options.get("delay_ms", 0), far))
    make.listener.connect(Kind.TCP, near)
    return near, far


@pytest.mark.parametrize(("up", "down"), [(0, 0), (1, 0), (0, 1), (300_000, 200_000)])
def test_carries_both_directions(up: int, down: int) -> None:
    make = Forwarder("both")
    near, far = talk(make, up, down, delay_ms=5)
    make.world.run(lambda: near.clean and far.clean, 1000)
    quiet(make.world)
    assert make.overs() == [FlowOver(Open(Kind.TCP, None, "app"), None, up, down, 0)]


def test_half_close_leaves_the_other_direction_open() -> None:
    make = Forwarder("half-close")
    near, far = talk(make, 5, 100_000, far={"wait_for": 5, "reads_from_ms": 50})
    make.world.run(lambda: near.clean and far.clean, 1000)
    quiet(make.world)


def test_the_target_speaks_first() -> None:
    make = Forwarder("server first")
    near, far = talk(make, 70_000, 20, near={"wait_for": 20})
    make.world.run(lambda: near.clean and far.clean, 1000)


def test_a_slow_reader_stops_the_sender() -> None:
    """At any moment no more is under way than the two buffers hold; the splice adds nothing."""
    make = Forwarder("slow reader")
    near, far = talk(make, 400_000, 0, far={"reads": (10_000, 20)})

    def bounded() -> None:
        assert near.sent - far.received <= 2 * BUFFER_BYTES

    make.world.checks.append(bounded)
    took_ms = make.world.run(lambda: near.clean and far.clean, 10_000)
    assert took_ms >= 400_000 // 10_000 * 20 - 40


@pytest.mark.parametrize("side", ["near", "far"])
def test_reset_reaches_the_other_side(side: str) -> None:
    make = Forwarder("reset")
    near, far = talk(make, 300_000, 300_000, **{side: {"reset_after": 100_000}})
    other = far if side == "near" else near
    make.world.run(lambda: near.over and far.over, 1000)
    assert other.reset_reason == Reset(ResetCode.RESET_BY_APPLICATION)
    quiet(make.world)


@pytest.mark.parametrize("delay_ms", [0, 30])
def test_dial_failure_is_told_before_any_byte(delay_ms: int) -> None:
    make = Forwarder("refused", Answer(delay_ms, refuse=REFUSED))
    near = Talker(make.world, "near", ("up", 1000))
    make.listener.connect(Kind.TCP, near)
    make.world.run(lambda: near.over, 1000)
    assert near.reset_reason == REFUSED
    assert make.overs() == [FlowOver(Open(Kind.TCP, None, "app"), REFUSED, 0, 0, 0)]
    quiet(make.world)


def test_application_that_gives_up_while_the_target_is_dialled() -> None:
    make = Forwarder("gives up", Answer(500, App()))
    sock = make.listener.connect(Kind.TCP, Talker(make.world, "near", ("up", 1000)))
    make.world.after(10, sock.reset)
    make.world.pass_time(100)
    quiet(make.world, 1000)
    assert make.overs()[0].up == 0


def test_a_dead_target_delays_nobody() -> None:
    make = Forwarder("dead beside live", Answer(60_000, refuse=Reset(ResetCode.TIMEOUT)))
    dead = Talker(make.world, "dead", ("dead", 1000))
    make.listener.connect(Kind.TCP, dead)
    near, far = talk(make, 500_000, 500_000)
    assert make.world.run(lambda: near.clean and far.clean, 1000) < 100
    make.world.run(lambda: dead.over, 70_000)
    quiet(make.world)


def test_many_flows_at_once() -> None:
    make = Forwarder("many")
    pairs = [talk(make, 1000 * index, 500 * index) for index in range(100)]
    make.world.run(lambda: all(near.clean and far.clean for near, far in pairs), 1000)
    quiet(make.world)
    assert make.sim.node.counters.finished == 100


def test_no_more_flows_than_allowed() -> None:
    make = Forwarder("limit", settings=NodeSettings(max_flows=2))
    pairs = [talk(make, 10, 10, far={"reads_from_ms": 100}) for _ in range(3)]
    make.world.run(lambda: pairs[2][0].over, 1000)
    reason = pairs[2][0].reset_reason
    assert reason is not None and reason.code is ResetCode.REFUSED and "2 flows" in reason.text
    make.world.run(lambda: all(near.clean and far.clean for near, far in pairs[:2]), 1000)
    quiet(make.world)


def test_packets_keep_their_boundaries() -> None:
    make = Forwarder("packets", Answer(3, app := Echo(World("unused"))))
    stream = PacketStream(make.world, "udp", 200, 1, size=lambda number: 4 + number * 7)
    make.listener.connect(Kind.UDP, stream)
    make.world.run(lambda: len(stream.seen) == 200, 5000)
    assert app.packets == 200 and stream.twice == stream.late == 0


def test_packets_for_a_full_sink_are_dropped_and_counted() -> None:
    """An application that does not read never holds up the source; what it cannot have is counted."""
    make = Forwarder("full", Answer(0, App()), settings=NodeSettings(udp_timeout_ms=2000))
    stream = PacketStream(make.world, "udp", 600, 1)
    make.listener.connect(Kind.UDP, stream)
    make.world.pass_time(1000)
    splice = next(iter(make.sim.node.splices))
    assert splice.moved == [256, 0] and splice.dropped == [344, 0]
    quiet(make.world, 4000)
    assert make.sim.node.counters.packets_dropped == 344


def test_idle_packet_flows_end_after_the_timeout_and_not_before() -> None:
    make = Forwarder("idle", Answer(0, Echo(World("unused"))), settings=NodeSettings(udp_timeout_ms=10_000))
    stream = PacketStream(make.world, "udp", 5, 9_000)
    make.listener.connect(Kind.UDP, stream)
    make.world.run(lambda: len(stream.seen) == 5, 40_000)
    make.world.pass_time(9_900)
    assert make.sim.node.flows == 1
    quiet(make.world, 2_700)
    assert make.sim.node.counters.idled == 1 and make.overs()[0].reason is None


def test_closing_the_node_resets_every_flow() -> None:
    make = Forwarder("close")
    near, far = talk(make, 200_000, 10, far={"reads_from_ms": 1000})
    make.world.pass_time(10)
    make.sim.node.close(make.world.now_ms)
    make.sim.node.close(make.world.now_ms)
    make.world.pass_time(0)
    assert near.reset_reason == far.reset_reason == Reset(ResetCode.SHUTDOWN, "shutdown")
    assert make.sim.node.flows == 0


def test_nothing_is_kept_of_a_flow_that_is_over() -> None:
    make = Forwarder("leak")
    near, far = talk(make, 1000, 1000, delay_ms=5)
    make.world.run(lambda: make.sim.node.flows == 1, 100)
    splice = next(iter(make.sim.node.splices))
    refs = [weakref.ref(flow) for flow in splice.flows]
    make.world.run(lambda: near.clean and far.clean, 1000)
    make.world.pass_time(10)
    assert splice.over and splice.flows == ()
    gc.collect()
    assert [ref() for ref in refs] == [None, None]
