"""Forwarders under random applications: no byte is lost or changed, and nothing is left behind."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kcpg.core.flow import Kind
from tests.sim.actors import PacketStream, Talker
from tests.sim.memory import Answer
from tests.sim.test_forwarder import Forwarder
from tests.sim.world import quiet

sizes = st.integers(0, 300_000)
readers = st.none() | st.tuples(st.integers(2_000, 40_000), st.integers(1, 5))
starts = st.integers(0, 200)
talks = st.tuples(sizes, sizes, readers, readers, starts, starts, st.integers(0, 50))


@given(st.lists(talks, min_size=1, max_size=4))
@settings(max_examples=40)
def test_any_applications(flows: list[tuple[int, int, object, object, int, int, int]]) -> None:
    make = Forwarder("any")
    pairs = []
    for number, (up, down, near_reads, far_reads, near_ms, far_ms, delay_ms) in enumerate(flows):
        there, back = (f"up {number}", up), (f"down {number}", down)
        near = Talker(make.world, "near", there, back, reads=near_reads, reads_from_ms=near_ms)  # type: ignore[arg-type]
        far = Talker(make.world, "far", back, there, reads=far_reads, reads_from_ms=far_ms)  # type: ignore[arg-type]
        make.answers.append(Answer(delay_ms, far))
        make.listener.connect(Kind.TCP, near)
        pairs.append((near, far))
    make.world.run(lambda: all(near.clean and far.clean for near, far in pairs), 2_000_000)
    quiet(make.world)
    assert [(over.reason, over.dropped) for over in make.overs()] == [(None, 0)] * len(flows)


@given(sizes, sizes, st.integers(0, 100_000), st.booleans(), st.integers(0, 30))
@settings(max_examples=40)
def test_a_reset_at_any_moment(up: int, down: int, after: int, by_near: bool, delay_ms: int) -> None:
    make = Forwarder("reset at any moment")
    near = Talker(make.world, "near", ("up", up), ("down", down), reset_after=after if by_near else None)
    far = Talker(make.world, "far", ("down", down), ("up", up), reset_after=None if by_near else after)
    make.answers.append(Answer(delay_ms, far))
    make.listener.connect(Kind.TCP, near)
    make.world.run(lambda: near.over and far.over, 10_000)
    quiet(make.world, 100)
    expected = down if by_near else up
    assert near.clean or expected > 0


@given(st.integers(1, 300), st.integers(0, 3), st.integers(4, 3000))
@settings(max_examples=20)
def test_any_packets(count: int, every_ms: int, size: int) -> None:
    """Two streams face each other. Every packet arrives or is counted as dropped, somewhere."""
    make = Forwarder("packets")
    near = PacketStream(make.world, "same", count, every_ms, lambda number: size)
    far = PacketStream(make.world, "same", count, every_ms, lambda number: size)
    make.answers.append(Answer(5, far))
    sock = make.listener.connect(Kind.UDP, near)
    make.world.pass_time(count * every_ms + 100)
    splice = next(iter(make.sim.node.splices))
    flow = sock.flow
    assert flow is not None
    assert len(far.seen) + splice.dropped[0] + flow.packets_lost == count
    assert far.twice == near.twice == far.late == near.late == 0
    quiet(make.world, 230_000)
