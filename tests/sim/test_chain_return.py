"""A path or a machine that was away is there again: data flows within a round trip and 250 ms of that."""

from __future__ import annotations

import pytest

from kcpg.core.flow import ResetCode
from kcpg.core.native.link.liveness import RETURN_MS
from netem.profile import Impair
from tests.line import MS
from tests.sim.chain import SimChain

FOREVER = 1 << 40
RTT_MS = 80
LATE_MS = 10  # clocks of whole milliseconds, and jitter that RTT estimates have seen
DIRECTIONS = {"up": (FOREVER, 0), "down": (0, FOREVER), "both": (FOREVER, FOREVER)}
LINE = Impair(delay_ns=RTT_MS * MS // 2, jitter_ns=MS)


def flows_again(chain: SimChain, direction: str) -> int:
    """Milliseconds until data arrives again, wherever it is going.

    Not until it is new to the application: what was delivered just before the end was not acknowledged.
    """
    ends = {"up": ["server"], "down": ["client"], "both": ["client", "server"]}[direction]
    tunnels = [chain[end].node.tunnels[0] for end in ends]

    def arrived() -> list[int]:
        convs = [conv for leg in tunnels for link in leg.links for conv in link.link_wire.convs.values()]  # type: ignore[attr-defined]
        assert len(convs) == len(ends)
        return [conv.segments_received + conv.duplicates_received for conv in convs]

    before = arrived()
    return chain.world.run(
        lambda: all(now > then for now, then in zip(arrived(), before, strict=True)), 10_000
    )


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("relays", [0, 1])
@pytest.mark.parametrize("off_ms", [1_500, 5_000, 60_000, 600_000])
def test_a_path_returns(engine: str, direction: str, relays: int, off_ms: int) -> None:
    chain = SimChain(engine, f"return {direction} {relays} {off_ms}", relays, LINE)
    chain.talk(*DIRECTIONS[direction])
    chain.world.pass_time(2_000)
    near, far = chain.links[-1]
    chain.world.network.cut(near, far, for_ms=off_ms)
    chain.world.pass_time(off_ms)
    # Behind a relay the news of room, or the data itself, has one more hop to go.
    limit_ms = RETURN_MS + RTT_MS + relays * RTT_MS // 2 + LATE_MS
    assert flows_again(chain, direction) <= limit_ms


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("victim", ["client", "server"])
@pytest.mark.parametrize("for_ms", [5_000, 60_000, 600_000])
def test_a_machine_wakes_up(engine: str, direction: str, victim: str, for_ms: int) -> None:
    chain = SimChain(engine, f"sleep {direction} {victim} {for_ms}", 0, LINE)
    chain.talk(*DIRECTIONS[direction])
    chain.world.pass_time(2_000)
    chain[victim].sleep(for_ms)
    chain.world.pass_time(for_ms)
    assert flows_again(chain, direction) <= RETURN_MS + RTT_MS + LATE_MS


def test_a_machine_sleeps_too_long(engine: str) -> None:
    """The peer has given its flow up: both applications are told, and the next flow works at once."""
    chain = SimChain(engine, "overslept", 0, LINE)
    near, far = chain.talk(0, FOREVER)
    chain.world.pass_time(2_000)
    chain["client"].sleep(3_600_000)
    chain.world.run(lambda: far.over, 1_000_000)
    chain.world.pass_time(3_600_000 - chain.world.elapsed_ms + 2_500)
    chain.world.run(lambda: near.over, 2_000)
    assert near.reset_reason is not None and near.reset_reason.code is not ResetCode.FINISHED
    chain.pairs.clear()
    chain.talk(10_000, 10_000)
    assert chain.finish(5_000) <= 1_000
    chain.settle()


def test_a_download_whose_path_dies_is_noticed_within_a_second(engine: str) -> None:
    """Who only receives owes nothing and is owed nothing: it asks, once."""
    chain = SimChain(engine, "stalled download", 0, LINE)
    chain.talk(0, FOREVER)
    chain.world.pass_time(2_000)
    chain.world.network.cut("client", "server")
    link = chain.link("client")
    assert chain.world.run(lambda: link.counters.silences > 0, 5_000) <= 1_000 + RTT_MS


def test_a_pause_is_asked_about_once_and_keystrokes_never(engine: str) -> None:
    chain = SimChain(engine, "pauses", 0, LINE)
    near, far = chain.talk(100, 100_000, near={"end": False}, far={"end": False})
    chain.world.pass_time(10_000)
    assert near.received == 100_000
    link = chain.link("client")
    pings = link.counters.pings_sent
    chain.world.pass_time(10_000)
    assert link.counters.pings_sent == pings
    near.send_bytes = far.expect_bytes = 101
    near.writable(next(iter(chain.listener.flows)).sock)
    chain.world.pass_time(10_000)
    assert far.received == 101
    assert link.counters.pings_sent - pings <= 1  # the one of NAT_MS
    assert link.state.value == "up"


def test_a_dead_peer_is_asked_ever_more_rarely(engine: str) -> None:
    """With nothing waiting, a night of silence costs a few PINGs and INITs a minute."""
    chain = SimChain(engine, "night", 0, LINE)
    chain.talk(100, 100, near={"end": False}, far={"end": False})
    chain.world.pass_time(5_000)
    chain.world.network.cut("client", "server")
    chain.world.pass_time(600_000)
    sent = chain.world.network.counts["sent"]
    chain.world.pass_time(600_000)
    assert chain.world.network.counts["sent"] - sent <= 10 * 60 * (1 / 5 + 2 / 5)
