"""Links over hours: keys that are renewed, pauses, strangers, settings that differ, configured rates."""

from __future__ import annotations

import random

import pytest

from kcpg.core.env import EventKind
from kcpg.core.flow import ResetCode
from netem.profile import Impair, load
from tests.sim.chain import PORTS, Hop, SimChain
from tests.sim.network import address, host_of

KEY = bytes([7] * 32)


@pytest.mark.parametrize("relays", [0, 1])
def test_keys_are_renewed_under_a_running_flow(engine: str, relays: int) -> None:
    """Six and a half minutes at 4 kB/s, over a network that loses and reorders: no byte notices."""
    chain = SimChain(engine, f"rekey {relays}", relays, "lossy5")
    chain.talk(1_700_000, 0, far={"reads": (2_000, 500)})
    chain.world.pass_time(390_000)
    counters = chain.link(chain.names[-2]).counters
    assert 3 <= counters.rekeys + counters.resumes <= 4  # to resume after a silence renews the keys as well
    chain.pairs[0][1].reads = (60_000, 1)
    chain.finish(30_000)
    chain.settle(60_000)


@pytest.mark.parametrize("pause_ms", [30_000, 700_000, 4_000_000])
def test_after_a_long_pause_the_first_flow_works_at_once(engine: str, pause_ms: int) -> None:
    chain = SimChain(engine, f"pause {pause_ms}", 1, "transcontinental")
    chain.talk(1_000, 1_000)
    chain.finish(2_000)
    chain.world.pass_time(pause_ms)
    chain.talk(10_000, 10_000)
    assert chain.finish(20_000) < 3_000
    chain.settle()


def test_an_idle_node_does_nothing(engine: str) -> None:
    """No flow: an hour passes with at most a handful of datagrams, and as few wake-ups."""
    chain = SimChain(engine, "idle hour", 1)
    chain.talk(1_000, 1_000)
    chain.finish(1_000)
    chain.settle()
    sent, steps = chain.world.network.counts["sent"], sum(node.steps for node in chain.world.nodes)
    chain.world.pass_time(3_600_000)
    assert chain.world.network.counts["sent"] - sent < 100
    assert sum(node.steps for node in chain.world.nodes) - steps < 500


def test_a_quiet_flow_is_kept_alive_for_hours(engine: str) -> None:
    """Three hours without a byte, then it is used again. PINGs keep the NATs on the way open."""
    chain = SimChain(engine, "quiet flow", 1, "lossy1")
    near, far = chain.talk(1_000, 0, near={"end": False}, far={"end": False})
    chain.world.pass_time(3 * 3_600_000)
    near.send_bytes = far.expect_bytes = 50_000
    near.end = True
    flow = next(iter(chain.listener.flows))
    assert flow.sock is not None
    near.writable(flow.sock)
    chain.finish(5_000)


def test_strangers_get_no_answer_and_leave_no_state(engine: str) -> None:
    chain = SimChain(engine, "strangers")
    chain.talk(1_000, 1_000)
    chain.finish(1_000)
    chain.settle()
    network = chain.world.network
    network.link("stranger", "server", network_of("lan"))
    answers: list[bytes] = []
    network.tap = lambda source, target, datagram: (
        answers.append(datagram) if host_of(target) == "stranger" else None
    )
    rng = random.Random("strangers")
    for _ in range(2_000):
        network.send(address("stranger", 9), address("server", PORTS[0]), rng.randbytes(rng.randrange(1500)))
    chain.world.pass_time(1_000)
    assert answers == []
    server = chain["server"].node.tunnels[0]
    assert len(server.links) == 1  # type: ignore[attr-defined]
    chain.talk(1_000, 1_000)
    chain.finish(1_000)


def network_of(profile: str) -> Impair:
    return load(profile).up


def test_what_was_recorded_is_worth_nothing_later(engine: str) -> None:
    """Every datagram is played again, from its own address and from another: nothing happens."""
    chain = SimChain(engine, "replay")
    network = chain.world.network
    recorded: list[tuple[bytes, bytes, bytes]] = []
    network.tap = lambda source, target, datagram: recorded.append((source, target, bytes(datagram)))
    near, far = chain.talk(30_000, 30_000, near={"end": False}, far={"end": False})
    chain.world.run(lambda: near.received == far.received == 30_000, 1_000)
    chain.world.pass_time(1_000)
    network.link("elsewhere", "server", network_of("lan"))
    old = list(recorded)
    recorded.clear()
    for source, target, datagram in old:
        network.send(source, target, datagram)
        if host_of(target) == "server":
            network.send(address("elsewhere", 9), target, datagram)
    replayed = len(recorded)
    chain.world.pass_time(2_000)
    answers = recorded[replayed:]
    assert len(answers) <= 4, "an INIT may be answered once more, nothing else"
    assert near.received == far.received == 30_000
    assert chain["server"].node.flows == 1 and chain["server"].node.counters.opened == 1


def test_ciphers_that_differ_are_told_in_words(engine: str) -> None:
    chain = SimChain(engine, "ciphers", hops=[Hop(KEY, "AES-OCB", params={"algorithm": "AES-GCM"})])
    near, _ = chain.talk(10, 10)
    chain.world.run(lambda: near.over, 31_000)
    assert near.reset_reason is not None and near.reset_reason.code is ResetCode.REFUSED
    for name in ("client", "server"):
        texts = [
            event.text for node, event in chain.events if (node, event.kind) == (name, EventKind.REFUSED)
        ]
        assert 1 <= len(texts) <= 2 and "AES-GCM" in texts[0] and "AES-OCB" in texts[0]


@pytest.mark.parametrize("bps", [2_000_000, 20_000_000])
def test_a_configured_rate_is_kept_and_used(engine: str, bps: int) -> None:
    chain = SimChain(engine, f"rate {bps}", hops=[Hop(KEY, params={"outbound_bps": bps, "inbound_bps": bps})])
    chain.talk(bps // 8, bps // 16)
    took_ms = chain.finish(10_000)
    assert 1_000 <= took_ms <= 1_200


def test_lossless_networks_see_no_retransmission(engine: str) -> None:
    """What is sent beyond the data is headers and acknowledgements: less than 6 %."""
    for profile in ("lan", "transcontinental"):
        chain = SimChain(engine, f"overhead {profile}", 0, "lan")
        chain.talk(1_000_000, 0)
        chain.finish()
        assert chain.world.network.counts["bytes"] < 1_060_000
