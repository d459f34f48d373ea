"""Flows over hops that speak kcptube's format, in virtual time."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from kcpg.core.flow import Kind, Open, Reset, ResetCode, Target
from kcpg.core.kcptube.cipher import ALGORITHMS
from kcpg.core.kcptube.dialedlink import DialedLink
from kcpg.core.kcptube.flow import TubeFlow
from kcpg.core.kcptube.link import CLOSED_SILENT_MS, END_GRACE_MS, Link
from kcpg.core.kcptube.mux import INBOX_BYTES, STALL_MS
from kcpg.core.kcptube.wire import Conv
from kcpg.core.timers import STALE_ENTRIES
from tests.sim.actors import Talker
from tests.sim.chain import DATAGRAM_BYTES, KCP, QUEUE_SEGMENTS, Hop
from tests.sim.memory import BUFFER_BYTES, Answer
from tests.sim.tubechain import TubeChain, TubeHop

KEY = bytes(range(32))
TUNNELS = (0, 2)
BY_APPLICATION = ResetCode.RESET_BY_APPLICATION


def chain(engine: str, seed: object, tunnels: int = 0, profiles: Any = "lan", **options: Any) -> TubeChain:
    """One hop."""
    of_hop = {name: options.pop(name) for name in list(options) if name in TubeHop.__dataclass_fields__}
    return TubeChain(engine, seed, [TubeHop(KEY, tunnels=tunnels, **of_hop)], profiles=profiles, **options)


@pytest.mark.parametrize("tunnels", TUNNELS)
@pytest.mark.parametrize("profile", ["lan", "lossy5", "reorder", "duplicate", "corrupt"])
def test_bytes_both_ways(engine: str, tunnels: int, profile: str) -> None:
    tube = chain(engine, f"both {tunnels} {profile}", tunnels, profile)
    for _ in range(5):
        tube.talk(200_000, 150_000)
    tube.bounded()
    tube.finish()
    tube.settle()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_cipher(engine: str, algorithm: str) -> None:
    tube = chain(engine, algorithm, 1, "lossy1", algorithm=algorithm)
    tube.talk(50_000, 50_000)
    tube.stream(20)
    tube.finish()


@pytest.mark.parametrize("tunnels", TUNNELS)
def test_fec_rebuilds_what_is_lost(engine: str, tunnels: int) -> None:
    tube = chain(engine, f"fec {tunnels}", tunnels, "lossy5", fec=(5, 2))
    tube.talk(1_000_000, 1_000_000)
    tube.world.run(lambda: any(near.received > 900_000 for near, _ in tube.pairs), 30_000)
    for leg in (tube.tube_dialer(), tube.tube_listener()):
        receivers = [link.conv.receiver for link in leg.links]
        assert sum(receiver.rebuilt for receiver in receivers if receiver is not None) > 10
    tube.finish()
    tube.settle()


def test_fec_at_one_end_only_is_counted(engine: str) -> None:
    """Nothing tells the receiver, as in kcptube: what comes is not understood."""
    tube = chain(engine, "fec mismatch", fec=(5, 2))
    tube.tube_listener().wire.format = TubeHop(KEY).format()
    near = Talker(tube.world, "near", ("up", 10))
    tube.connect(near, Answer(0, None))
    tube.world.run(lambda: near.over, 40_000)
    assert near.reset_reason is not None and near.reset_reason.code is ResetCode.UNREACHABLE
    assert tube.tube_listener().wire.drops


@pytest.mark.parametrize("tunnels", TUNNELS)
def test_half_close_between_nodes_of_ours(engine: str, tunnels: int) -> None:
    tube = chain(engine, f"half-close {tunnels}", tunnels, "lossy5")
    tube.talk(50, 150_000, far={"wait_for": 50, "reads_from_ms": 1_000})
    tube.talk(150_000, 50, near={"wait_for": 50, "reads_from_ms": 1_000})
    tube.finish()
    tube.settle()


@pytest.mark.parametrize("tunnels", TUNNELS)
def test_an_answer_that_comes_late_after_the_end(engine: str, tunnels: int) -> None:
    """The other end is asked whether it still knows the flow, and says yes."""
    tube = chain(engine, f"late {tunnels}", tunnels)
    tube.talk(50, 5_000, far={"wait_for": 50, "reads_from_ms": CLOSED_SILENT_MS + 5_000})
    tube.finish()
    tube.settle()


@pytest.mark.parametrize("tunnels", TUNNELS)
def test_the_target_speaks_first(engine: str, tunnels: int) -> None:
    tube = chain(engine, f"greeting {tunnels}", tunnels)
    tube.talk(100, 30, near={"wait_for": 30})
    tube.finish(2_000 + END_GRACE_MS)
    tube.settle()


@pytest.mark.parametrize("tunnels", TUNNELS)
@pytest.mark.parametrize("side", ["near", "far"])
def test_a_reset_reaches_the_other_end(engine: str, tunnels: int, side: str) -> None:
    tube = chain(engine, f"reset {side} {tunnels}", tunnels, "lossy5")
    options: dict[str, Any] = {side: {"reset_after": 50_000}}
    near, far = tube.talk(3_000_000, 3_000_000, **options)
    other = far if side == "near" else near
    tube.world.run(lambda: other.over, 10_000)
    assert other.reset_reason is not None and other.reset_reason.code is BY_APPLICATION
    tube.settle()


@pytest.mark.parametrize("tunnels", TUNNELS)
@pytest.mark.parametrize("delay_ms", [0, 50, 12_000])
def test_dial_failure_is_told_to_the_application(engine: str, tunnels: int, delay_ms: int) -> None:
    tube = chain(engine, f"refused {tunnels} {delay_ms}", tunnels, "lossy5")
    refusal = Reset(ResetCode.NO_ROUTE, "nobody is there")
    near = Talker(tube.world, "near", ("up", 10_000))
    tube.connect(near, Answer(delay_ms, refuse=refusal))
    tube.world.run(lambda: near.over, delay_ms + 5_000)
    assert near.reset_reason is not None and near.reset_reason.code is refusal.code
    assert len(tube.answers) == 1 and tube.reasons("server")[0] == refusal, "it was dialled once"
    tube.settle()


@pytest.mark.parametrize("tunnels", TUNNELS)
def test_an_application_that_gives_up_at_once(engine: str, tunnels: int) -> None:
    tube = chain(engine, f"gives up {tunnels}", tunnels)
    for wait_ms in (0, 1, 2, 5, 20):
        answer = Answer(10, refuse=Reset(ResetCode.TIMEOUT))
        sock = tube.connect(Talker(tube.world, "near", ("up", 10_000)), answer)
        tube.world.after(wait_ms, sock.reset)
    tube.world.pass_time(100)
    tube.settle()


@pytest.mark.parametrize("tunnels", TUNNELS)
def test_flows_one_after_another_leave_nothing(engine: str, tunnels: int) -> None:
    tube = chain(engine, f"turns {tunnels}", tunnels, "lossy1")
    for number in range(60):
        tube.talk(200 * number, 9_000 - 150 * number, delay_ms=number % 7)
    tube.finish()
    for _ in range(20):
        tube.talk(3_000, 3_000)
        tube.finish(10_000)
    tube.settle()
    assert tube.reasons("client") == tube.reasons("server") == [None] * 80


@pytest.mark.parametrize("tunnels", TUNNELS)
def test_what_is_over_does_not_wait_for_the_garbage_collector(engine: str, tunnels: int) -> None:
    kinds = (Conv, Link, TubeFlow, DialedLink)
    tube = chain(engine, f"memory {tunnels}", tunnels)
    gc.collect()
    before = sum(isinstance(each, kinds) for each in gc.get_objects())
    gc.disable()
    try:
        for _ in range(200):
            tube.talk(3_000, 3_000)
            tube.finish(10_000)
        tube.settle()
        after = sum(isinstance(each, kinds) for each in gc.get_objects())
    finally:
        gc.enable()
    # Each flow made eight of them. What timers have not passed over yet is few.
    assert after - before <= 8 * STALE_ENTRIES


@pytest.mark.parametrize("tunnels", [0, 1])
@pytest.mark.parametrize("side", ["near", "far"])
def test_a_slow_reader_stops_the_sender(engine: str, tunnels: int, side: str) -> None:
    tube = chain(engine, f"slow {side} {tunnels}", tunnels)
    windows = (KCP.snd_wnd + KCP.rcv_wnd + QUEUE_SEGMENTS) * DATAGRAM_BYTES
    bound = windows + 4 * BUFFER_BYTES + (INBOX_BYTES if tunnels else 0)
    options: dict[str, Any] = {side: {"reads": (4_000, 10)}}
    sends = {"near": (0, 4_000_000), "far": (4_000_000, 0)}[side]
    near, far = tube.talk(*sends, **options)
    sender, reader = (far, near) if side == "near" else (near, far)
    for _ in range(20):
        tube.world.pass_time(100)
        assert sender.sent - reader.received <= bound
    assert sender.sent < 4_000_000 and reader.received <= 4_000 * 201
    reader.reads = (60_000, 1)
    tube.finish(20_000)
    tube.settle()


def test_a_reader_that_stops_is_cut_off_for_the_others_sake(engine: str) -> None:
    """The format has one window for all flows of a mux tunnel."""
    tube = chain(engine, "stalled", 1)
    deaf, _ = tube.talk(4_000_000, 0, far={"reads_from_ms": 10**9})
    tube.world.pass_time(1_000)
    tube.talk(100_000, 100_000)
    tube.world.run(lambda: deaf.over, STALL_MS + 2_000)
    assert deaf.reset_reason is not None
    tube.pairs = tube.pairs[1:]
    tube.finish(5_000)
    assert tube.tube_listener().links[0].counters.flows_stalled == 1


@pytest.mark.parametrize("tunnels", TUNNELS)
def test_every_packet_arrives_whole_and_in_order(engine: str, tunnels: int) -> None:
    tube = chain(engine, f"packets {tunnels}", tunnels, "lossy5", udp_timeout_ms=20_000)
    stream = tube.stream(200, 5, size=lambda number: 4 + number * 47)
    tube.world.run(lambda: len(stream.seen) == 200, 20_000)
    assert stream.twice == stream.late == 0
    tube.settle(60_000)
    assert [over.reason for _, over in tube.overs] == [None, None]


def test_the_largest_and_the_smallest_packet(engine: str) -> None:
    sizes = (4, 1375, 1394, 1395, 30_000, 65_507)
    tube = chain(engine, "sizes", 1, "lossy1")
    stream = tube.stream(len(sizes), 20, size=lambda number: sizes[number])
    tube.world.run(lambda: len(stream.seen) == len(sizes), 20_000)


def test_the_target_travels(engine: str) -> None:
    for tunnels in TUNNELS:
        tube = chain(engine, f"target {tunnels}", tunnels)
        asked: list[Open] = []

        def serve(request: Open, asked: list[Open] = asked) -> Answer:
            asked.append(request)
            return Answer(0, refuse=Reset(ResetCode.FORBIDDEN, "seen"))

        tube.serve = serve
        target = Target("ipv6.example", 443)
        tube.listener.connect(Kind.TCP, Talker(tube.world, "near", ("up", 10)), target, "[2001:db8::1]:5000")
        tube.world.run(lambda asked=asked: bool(asked), 5_000)
        assert [(request.kind, request.target) for request in asked] == [(Kind.TCP, target)]


@pytest.mark.parametrize("order", ["kcptube native", "native kcptube", "kcptube kcptube"])
@pytest.mark.parametrize("tunnels", TUNNELS)
def test_a_relay_may_speak_another_dialect_on_each_side(engine: str, order: str, tunnels: int) -> None:
    hops = [TubeHop(KEY, tunnels=tunnels) if word == "kcptube" else Hop(KEY) for word in order.split()]
    tube = TubeChain(engine, f"relay {order} {tunnels}", hops, profiles="lossy1")
    for _ in range(5):
        tube.talk(100_000, 100_000)
    stream = tube.stream(30)
    tube.talk(50, 20_000, far={"wait_for": 50})
    tube.finish()
    tube.world.run(stream.complete, 5_000)
    refusal = Reset(ResetCode.REFUSED, "no")
    near = Talker(tube.world, "near", ("up", 10_000))
    tube.connect(near, Answer(50, refuse=refusal))
    tube.world.run(lambda: near.over, 5_000)
    assert near.reset_reason is not None
