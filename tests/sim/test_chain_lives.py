"""Dialers that die, with flows that nobody holds any more at their ends."""

from __future__ import annotations

import pytest

from kcpg.core.flow import ResetCode
from kcpg.core.native.link.setup import LinkLimits
from tests.sim.chain import SimChain
from tests.sim.test_chain_return import FOREVER

LIMITS = LinkLimits()
IDLE = {"end": False}

DETECTED_MS = LIMITS.doubted_ms + 2_000  # with the handshakes, and one hop more

UNHEARD_MS = 60_000


def idle_flow(chain: SimChain):
    """A flow whose ends have talked, and are silent now."""
    near, far = chain.talk(1_000, 1_000, near=IDLE, far=IDLE)
    chain.world.run(lambda: near.received == 1_000 and far.received == 1_000, 20_000)
    chain.world.pass_time(1_000)
    return near, far


@pytest.mark.parametrize(("relays", "victim"), [(0, "client"), (1, "client"), (1, "relay1"), (2, "relay1")])
@pytest.mark.parametrize("down_ms", [0, 120_000])
@pytest.mark.parametrize("busy", [False, True])
def test_flows_of_a_dialer_that_came_back_end(
    engine: str, relays: int, victim: str, down_ms: int, busy: bool
) -> None:
    """As those of a host that has booted end when its TCP answers: in seconds, with data under way or not."""
    chain = SimChain(engine, f"came back {relays} {victim} {down_ms} {busy}", relays, "mobile")
    near, far = chain.talk(0, FOREVER) if busy else idle_flow(chain)
    chain.world.pass_time(2_000)
    chain[victim].crash()
    chain.world.pass_time(down_ms)
    assert not far.over
    chain[victim].start()
    chain.world.run(lambda: far.over, DETECTED_MS)
    assert far.reset_reason is not None and far.reset_reason.code is ResetCode.LINK_LOST
    chain.pairs.clear()
    chain.talk(50_000, 50_000)
    chain.finish(20_000)
    chain.world.run(lambda: near.over, 60_000)
    chain.settle()


def test_idle_flows_of_a_dialer_that_never_comes_back_end(engine: str) -> None:
    """After as long as TCP would resend data, not after the hours that a NAT keeps a connection."""
    chain = SimChain(engine, "never", 0, "mobile")
    _, far = idle_flow(chain)
    chain["client"].crash()
    took_ms = chain.world.run(lambda: far.over, UNHEARD_MS + LIMITS.unanswered_ms + 10_000)
    assert took_ms > LIMITS.unanswered_ms


@pytest.mark.parametrize("victim", ["client", "server"])
def test_an_idle_flow_outlasts_ten_minutes_of_sleep(engine: str, victim: str) -> None:
    chain = SimChain(engine, f"idle sleep {victim}", 0, "mobile")
    near, far = idle_flow(chain)
    chain[victim].sleep(600_000)
    chain.world.pass_time(630_000)
    assert not near.over and not far.over
    near.send_bytes = far.expect_bytes = 2_000
    near.writable(next(iter(chain.listener.flows)).sock)
    chain.world.run(lambda: far.received == 2_000, 2_000)


def test_a_dialer_without_identity_is_heeded_as_ever(engine: str) -> None:
    """Older nodes tell none."""
    chain = SimChain(engine, "no identity", 0, "mobile", dial={"identity": b""})
    _, far = idle_flow(chain)
    chain["client"].restart()
    chain.world.pass_time(2 * DETECTED_MS)
    assert not far.over
    chain.world.run(lambda: far.over, UNHEARD_MS + LIMITS.unanswered_ms)
