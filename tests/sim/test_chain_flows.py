"""What applications do to flows, seen through whole chains."""

from __future__ import annotations

from typing import Any

import pytest

from kcpg.core.flow import Kind, Open, Reset, ResetCode, Target
from tests.sim.actors import Talker
from tests.sim.chain import SimChain
from tests.sim.memory import Answer

RELAYS = (0, 1, 2, 3)


@pytest.mark.parametrize("relays", RELAYS)
@pytest.mark.parametrize("side", ["near", "far"])
def test_a_slow_reader_stops_the_sender(engine: str, relays: int, side: str) -> None:
    """One end reads 4 kB every 10 ms: what is under way stays bounded at every step; nothing is lost."""
    chain = SimChain(engine, f"slow {side} {relays}", relays)
    chain.bounded()
    options: dict[str, Any] = {side: {"reads": (4_000, 10)}}
    sends = {"near": (0, 3_000_000), "far": (3_000_000, 0)}[side]
    near, far = chain.talk(*sends, **options)
    chain.world.pass_time(2_000)
    sender, reader = (far, near) if side == "near" else (near, far)
    assert sender.sent < 3_000_000 and reader.received <= 4_000 * 201
    reader.reads = (60_000, 1)
    chain.finish(20_000)
    chain.settle()


@pytest.mark.parametrize("relays", RELAYS)
def test_a_reader_that_stops_and_goes_on(engine: str, relays: int) -> None:
    """Windows close for 20 s, on a network that loses every tenth datagram, the news of it included."""
    chain = SimChain(engine, f"stopped {relays}", relays, "lossy10")
    chain.bounded()
    total = 1_000_000 * (relays + 1)  # more than all windows and buffers
    near, far = chain.talk(total, 0, far={"reads_from_ms": 20_000})
    chain.world.pass_time(19_000)
    sent, bytes_then = near.sent, chain.world.network.counts["sent"]
    assert far.received == 0 and sent < total
    chain.finish(40_000)
    assert bytes_then < 4_000 * (relays + 1), "closed windows are asked about too often"
    chain.settle()


@pytest.mark.parametrize("relays", RELAYS)
def test_half_close(engine: str, relays: int) -> None:
    """A request, its end, and then the whole answer; and the other way round."""
    chain = SimChain(engine, f"half-close {relays}", relays, "lossy5")
    chain.talk(50, 150_000, far={"wait_for": 50, "reads_from_ms": 1_000})
    chain.talk(150_000, 50, near={"wait_for": 50, "reads_from_ms": 1_000})
    chain.finish()
    chain.settle()


@pytest.mark.parametrize("relays", RELAYS)
def test_the_target_speaks_first(engine: str, relays: int) -> None:
    chain = SimChain(engine, f"greeting {relays}", relays)
    chain.talk(100, 30, near={"wait_for": 30})
    chain.finish(2_000)
    chain.settle()


@pytest.mark.parametrize("relays", RELAYS)
@pytest.mark.parametrize("side", ["near", "far"])
def test_a_reset_reaches_the_other_end(engine: str, relays: int, side: str) -> None:
    chain = SimChain(engine, f"reset {side} {relays}", relays, "lossy5")
    options: dict[str, Any] = {side: {"reset_after": 50_000}}
    near, far = chain.talk(3_000_000, 3_000_000, **options)
    other = far if side == "near" else near
    chain.world.run(lambda: other.over, 10_000)
    assert other.reset_reason is not None and other.reset_reason.code is ResetCode.RESET_BY_APPLICATION
    chain.settle()


@pytest.mark.parametrize("relays", RELAYS)
@pytest.mark.parametrize("delay_ms", [0, 50])
def test_dial_failure_is_told_to_the_application(engine: str, relays: int, delay_ms: int) -> None:
    chain = SimChain(engine, f"refused {relays}", relays, "lossy5")
    refusal = Reset(ResetCode.REFUSED, "nobody listens there")
    near = Talker(chain.world, "near", ("up", 10_000))
    chain.connect(near, Answer(delay_ms, refuse=refusal))
    chain.world.run(lambda: near.over, 5_000)
    assert near.reset_reason == refusal
    chain.settle()


def test_the_target_travels(engine: str) -> None:
    chain = SimChain(engine, "target", 2)
    asked: list[Open] = []

    def serve(request: Open) -> Answer:
        asked.append(request)
        return Answer(0, refuse=Reset(ResetCode.FORBIDDEN, "seen"))

    chain.serve = serve
    target = Target("ipv6.example", 443)
    near = Talker(chain.world, "near", ("up", 10))
    chain.listener.connect(Kind.TCP, near, target, "[2001:db8::1]:5000")
    chain.world.run(lambda: near.over, 5_000)
    assert [(request.kind, request.target) for request in asked] == [(Kind.TCP, target)]
    assert near.reset_reason is not None and near.reset_reason.code is ResetCode.FORBIDDEN


@pytest.mark.parametrize("relays", [0, 2])
def test_an_application_that_gives_up_at_once(engine: str, relays: int) -> None:
    chain = SimChain(engine, f"gives up {relays}", relays)
    for wait_ms in (0, 1, 2, 5, 20):
        sock = chain.connect(
            Talker(chain.world, "near", ("up", 10_000)), Answer(10, refuse=Reset(ResetCode.TIMEOUT))
        )
        chain.world.after(wait_ms, sock.reset)
    chain.world.pass_time(100)
    chain.settle()


@pytest.mark.parametrize("relays", [0, 1, 3])
def test_many_flows_at_once(engine: str, relays: int) -> None:
    chain = SimChain(engine, f"many {relays}", relays, "lossy1")
    for number in range(60):
        chain.talk(200 * number, 9_000 - 150 * number, delay_ms=number % 7)
    chain.finish()
    chain.settle()


@pytest.mark.parametrize("relays", [0, 2])
def test_a_dead_destination_delays_nobody(engine: str, relays: int) -> None:
    """One target never answers, one never reads; a third flow is as quick as if it were alone."""
    alone = SimChain(engine, f"alone {relays}", relays, "transcontinental")
    alone.talk(200_000, 200_000)
    alone_ms = alone.finish()
    chain = SimChain(engine, f"beside {relays}", relays, "transcontinental")
    dead = Talker(chain.world, "dead", ("dead", 500_000))
    chain.connect(dead, Answer(30_000, refuse=Reset(ResetCode.TIMEOUT, "no answer")))
    deaf = Talker(chain.world, "deaf", ("deaf", 2_000_000))
    never_reads = Talker(chain.world, "never reads", ("", 0), ("deaf", 2_000_000), reads_from_ms=10**9)
    chain.connect(deaf, Answer(0, never_reads))
    chain.world.pass_time(3_000)
    chain.talk(200_000, 200_000)
    assert chain.finish() <= alone_ms + 200
    chain.world.run(lambda: dead.over, 60_000)
    assert dead.reset_reason == Reset(ResetCode.TIMEOUT, "no answer")
    assert chain["client"].node.flows == 1 and deaf.sent < 2_000_000


@pytest.mark.parametrize("relays", [0, 1, 3])
def test_flows_one_after_another_leave_nothing(engine: str, relays: int) -> None:
    chain = SimChain(engine, f"turns {relays}", relays, "lossy1")
    for _ in range(30):
        chain.talk(3_000, 3_000)
        chain.finish(10_000)
    chain.settle()
    assert chain.reasons("client") == chain.reasons("server") == [None] * 30
