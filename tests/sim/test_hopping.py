"""Hops: the path changes under running flows, by the clock and because it went bad, and nobody notices."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from kcpg.core.env import EventKind
from kcpg.core.native.dial.dialer import TunnelDialer
from kcpg.core.native.link.link import Link
from netem.profile import Impair, load
from tests.line import MS
from tests.sim.actors import PacketStream
from tests.sim.chain import KCP, PORTS, Hop, SimChain
from tests.sim.network import host_of, port_of

EVERY_MS = 400  # between hops: shorter than the configuration permits, as the simulation has no time to waste
LINE = Impair(delay_ns=20 * MS, rate_bps=100_000_000)  # loses nothing, so that every resend is one too many
RTT_MS = 40
SCHEDULING_MS = 12  # a turn of the simulator, and what the bulk transfer has queued on the line
DRAINED_MS = 4_000
UP_MS = 500


class Watch:
    """Which ports the client's datagrams leave from and go to."""

    def __init__(self, chain: SimChain, host: str = "client") -> None:
        self.chain = chain
        self.host = host
        self.sources: set[bytes] = set()
        self.targets: set[bytes] = set()
        chain.world.network.tap = self._tap

    def _tap(self, source: bytes, target: bytes, datagram: bytes) -> None:
        if host_of(source) == self.host:
            self.sources.add(source)
            self.targets.add(target)


def hopping(
    engine: str, seed: str, relays: int = 0, line: str | Impair = LINE, **options: object
) -> SimChain:
    dial = {"hop_every_ms": EVERY_MS}
    chain = SimChain(engine, seed, relays, line, dial=dial, udp_timeout_ms=5_000, **options)  # type: ignore[arg-type]
    chain.world.pass_time(UP_MS)  # the handshakes; what is measured is a link that is up
    return chain


def peer(chain: SimChain) -> Link:
    """The client's link as its listener has it."""
    (link,) = chain[chain.names[1]].node.tunnels[0].links  # type: ignore[attr-defined]
    assert isinstance(link, Link)
    return link


def run_stream(chain: SimChain, stream: PacketStream, limit_ms: int = 60_000) -> None:
    chain.world.run(stream.complete, limit_ms)


def sockets(chain: SimChain, name: str = "client") -> int:
    """UDP sockets of the dialling leg; in a relay those of the listening leg come on top."""
    return len(chain[name].sockets) - (len(PORTS) if name != "client" else 0)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_twenty_hops_are_not_noticed(engine: str, direction: str) -> None:
    """A bulk transfer and a request every 10 ms: every answer within the round trip, nothing sent twice."""
    hop = Hop(bytes(32), kcp=replace(KCP, snd_wnd=48, rcv_wnd=48))  # half of what the line carries
    chain = hopping(engine, f"twenty {direction}", hops=[hop])
    watch = Watch(chain)
    size = 20_000_000
    chain.talk(size if direction == "up" else 0, size if direction == "down" else 0)
    stream = chain.stream(count=21 * (EVERY_MS + 2 * RTT_MS) // 10, every_ms=10)
    run_stream(chain, stream)
    near, far = chain.link("client"), peer(chain)
    assert near.counters.hops >= 20 and near.counters.hops_failed == 0
    assert stream.worst_ms <= RTT_MS + SCHEDULING_MS
    assert not any(pair[0].clean for pair in chain.pairs), "the transfer outlasts the hops"
    assert near.link_wire.segments_resent == far.link_wire.segments_resent == 0
    assert near.link_wire.srtt_ms < RTT_MS + SCHEDULING_MS
    assert len(watch.sources) > 20 and len(watch.targets) == len(PORTS)
    assert near.counters.resumes == near.counters.silences == near.counters.hops_urgent == 0
    assert EventKind.LINK_MOVED not in {event.kind for _, event in chain.events}
    assert EventKind.LINK_HOPPED not in {event.kind for _, event in chain.events}
    assert sockets(chain) <= 2 + DRAINED_MS // EVERY_MS, "old sockets are given back while the hops go on"


def test_the_peer_follows_a_client_that_only_listens(engine: str) -> None:
    """A download that pauses: nothing leaves the client but what the hop itself sends. The server still
    answers from the port that was asked, to the new source."""
    chain = hopping(engine, "listener")
    _, far = chain.talk(0, 10, near={"end": False}, far={"end": False})
    chain.world.pass_time(10 * EVERY_MS)
    near, peers = chain.link("client"), peer(chain)
    assert near.counters.hops >= 7
    chain.world.run(lambda: near.link_wire.source == near.link_wire.path, EVERY_MS)
    assert near.link_wire.path is not None and peers.link_wire.path is not None
    client, server = chain["client"].sockets, chain["server"].sockets
    assert peers.link_wire.path[1] == client[near.link_wire.path[0]].addr
    assert server[peers.link_wire.path[0]].addr == near.link_wire.path[1]
    assert near.link_wire.segments_resent == peers.link_wire.segments_resent == 0
    assert far.sent == 10


@pytest.mark.parametrize("delay_ms", [5, 12, 28, 40])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_paths_of_other_lengths_cause_no_storm(engine: str, direction: str, delay_ms: int) -> None:
    """The server has an address that is nearer or farther: what went there overtakes, or is overtaken."""
    chain = hopping(engine, f"lengths {delay_ms} {direction}", addresses=("other",))
    chain.world.network.link("client", "other", replace(LINE, delay_ns=delay_ms * MS))
    chain.talk(7_000_000 if direction == "up" else 0, 7_000_000 if direction == "down" else 0)
    stream = chain.stream(count=800, every_ms=10)
    run_stream(chain, stream)
    near, far = chain.link("client"), peer(chain)
    assert near.counters.hops >= 10 and near.counters.silences == 0
    assert stream.worst_ms <= 2 * max(delay_ms, RTT_MS // 2) + SCHEDULING_MS
    sent = near.link_wire.segments_sent + far.link_wire.segments_sent
    assert near.link_wire.segments_resent + far.link_wire.segments_resent <= sent // 50


@pytest.mark.parametrize("profile", ["lossy10", "reorder"])
def test_hopping_goes_on_over_a_bad_network(engine: str, profile: str) -> None:
    """No lost challenge, answer or PING ends it."""
    chain = hopping(engine, f"bad {profile}", 0, profile)
    chain.talk(0, 1_500_000, far={"reads": (3_000, 10)}, near={"reads": (3_000, 10)})
    stream = chain.stream(count=800, every_ms=10)
    run_stream(chain, stream)
    link = chain.link("client")
    assert link.counters.hops >= 12
    assert link.counters.silences == 0
    chain.finish()


def test_the_first_challenges_of_every_candidate_get_lost(engine: str) -> None:
    chain = hopping(engine, "first lost")
    seen: dict[bytes, int] = {}
    chain.stream(count=1, every_ms=10)
    chain.world.pass_time(100)
    first = chain.link("client").link_wire.path
    assert first is not None
    old = chain["client"].sockets[first[0]].addr

    def lose(source: bytes, target: bytes) -> bool:
        if host_of(source) != "client" or source == old:
            return False
        seen[source] = seen.get(source, 0) + 1
        return seen[source] <= 2

    chain.world.network.lose = lose
    stream = chain.stream(count=400, every_ms=10)
    run_stream(chain, stream)
    assert chain.link("client").counters.hops >= 4
    assert stream.worst_ms <= RTT_MS + SCHEDULING_MS


def test_a_dead_port_is_found_out_without_a_gap(engine: str) -> None:
    chain = hopping(engine, "dead port")
    stream = chain.stream(count=1_200, every_ms=10)
    chain.world.pass_time(100)
    path = chain.link("client").link_wire.path
    assert path is not None
    dead = next(port for port in PORTS if port != port_of(path[1]))
    chain.world.network.lose = lambda source, target: dead in (port_of(source), port_of(target))
    run_stream(chain, stream)
    link = chain.link("client")
    assert link.counters.hops >= 10 and 1 <= link.counters.hops_failed <= 5, "it is remembered"
    assert stream.worst_ms <= RTT_MS + SCHEDULING_MS
    assert link.counters.silences == 0


def test_ports_that_the_listener_does_not_tell_are_not_tried(engine: str) -> None:
    told = Hop(bytes(32), both={"ports": ((PORTS[0], PORTS[1]),)})
    chain = SimChain(engine, "told", 0, LINE, hops=[told], dial={"hop_every_ms": EVERY_MS})
    chain.world.network.lose = lambda source, target: (
        host_of(target) == "server" and port_of(target) not in PORTS[:2]
    )
    stream = chain.stream(count=1_200, every_ms=10)
    run_stream(chain, stream)
    link = chain.link("client")
    assert link.counters.hops >= 10 and link.counters.hops_failed == 0


def test_hops_that_always_fail_are_told_once(engine: str) -> None:
    chain = hopping(engine, "stuck")
    watch = Watch(chain)
    stream = chain.stream(count=2_500, every_ms=10)
    chain.world.pass_time(100)
    used = set(watch.sources)
    chain.world.network.lose = lambda source, target: host_of(source) == "client" and source not in used
    chain.world.pass_time(600)  # what was under way
    before = chain.link("client").counters.hops
    run_stream(chain, stream)
    assert chain.link("client").counters.hops == before
    told = [event.text for name, event in chain.events if event.kind == EventKind.HOPS_FAILED]
    assert len(told) == 1 and "destination_port" in told[0]


def test_a_path_that_answers_but_carries_nothing_back_is_left_again(engine: str) -> None:
    """The first datagram from the server, which answers the challenge, comes through, and none after it."""
    chain = hopping(engine, "one answer")
    stream = chain.stream(count=800, every_ms=10)
    chain.world.pass_time(100)
    path = chain.link("client").link_wire.path
    assert path is not None
    good, answers = port_of(path[1]), 0

    def lose(source: bytes, target: bytes) -> bool:
        nonlocal answers
        if host_of(source) != "server" or port_of(source) == good:
            return False
        answers += 1
        return answers > 1

    chain.world.network.lose = lose
    run_stream(chain, stream)
    assert stream.complete() and chain.link("client").counters.hops_failed >= 1
    assert port_of(chain.link("client").link_wire.path[1]) == good  # type: ignore[index]


def test_a_nat_forgets_its_mappings_during_the_hops(engine: str) -> None:
    chain = hopping(engine, "nat")
    chain.world.network.behind_nat("client")
    chain["client"].restart()
    chain.talk(3_000_000, 3_000_000)
    stream = chain.stream(count=600, every_ms=10)
    for at_ms in range(150, 6_000, 330):
        chain.world.after(at_ms, lambda: chain.world.network.rebind_nat("client"))
    run_stream(chain, stream)
    chain.finish()
    assert chain.link("client").counters.hops >= 10
    chain.settle()


def test_hops_on_both_sides_of_a_relay(engine: str) -> None:
    chain = hopping(engine, "relay", 1)
    chain.talk(6_000_000, 0)
    stream = chain.stream(count=1_000, every_ms=10)
    run_stream(chain, stream)
    assert stream.worst_ms <= 2 * RTT_MS + 2 * SCHEDULING_MS
    for name in ("client", "relay1"):
        link = chain.link(name)
        assert link.counters.hops >= 15 and link.link_wire.segments_resent == 0
    chain.finish()
    chain.settle()
    chain.world.pass_time(DRAINED_MS)
    assert sockets(chain) == sockets(chain, "relay1") == 1


def test_sockets_are_given_back(engine: str) -> None:
    """A link that nobody uses does not hop, and after a while has one socket."""
    chain = hopping(engine, "sockets")
    stream = chain.stream(count=1_000, every_ms=10)
    run_stream(chain, stream)
    chain.settle()
    chain.world.pass_time(DRAINED_MS)
    hops = chain.link("client").counters.hops
    chain.world.pass_time(60_000)
    assert sockets(chain) == 1
    assert chain.link("client").counters.hops == hops


def test_a_blocked_port_is_left_within_a_second(engine: str) -> None:
    """Blocked all at once, both ways: silence, and RESUME finds another port. The clock has no part in it."""
    chain = SimChain(engine, "blocked", 0, LINE)
    stream = chain.stream(count=400, every_ms=10)
    chain.world.pass_time(1_000)
    path = chain.link("client").link_wire.path
    assert path is not None
    blocked = port_of(path[1])
    chain.world.network.lose = lambda source, target: blocked in (port_of(source), port_of(target))
    run_stream(chain, stream)
    assert stream.worst_ms < 1_000
    assert port_of(chain.link("client").link_wire.path[1]) != blocked  # type: ignore[index]


@pytest.mark.parametrize("deaf", ["client", "server"])
def test_a_port_blocked_one_way_is_left_in_about_a_second(engine: str, deaf: str) -> None:
    """Who hears nothing notices the silence; who is not heard, that everything has to be sent again."""
    chain = SimChain(engine, f"one way {deaf}", 0, LINE)
    chain.world.pass_time(UP_MS)
    chain.talk(0, 3_000_000)
    stream = chain.stream(count=400, every_ms=10)
    chain.world.pass_time(1_000)
    link = chain.link("client")
    bad = port_of(link.link_wire.path[1])  # type: ignore[index]
    chain.world.network.lose = lambda source, target: (
        host_of(target) == deaf and bad in (port_of(source), port_of(target))
    )
    run_stream(chain, stream)
    assert stream.worst_ms < 1_200
    assert port_of(link.link_wire.path[1]) != bad  # type: ignore[index]
    chain.finish()


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_throttled_port_is_left_within_a_second(engine: str, direction: str) -> None:
    """From some moment on a port loses three datagrams of ten. A hop, at a time of its own."""
    chain = SimChain(engine, f"throttled {direction}", 0, LINE)
    size = 8_000_000
    chain.talk(size if direction == "up" else 0, size if direction == "down" else 0)
    chain.world.pass_time(1_000)
    path = chain.link("client").link_wire.path
    assert path is not None
    bad, rng = port_of(path[1]), random.Random("throttled")

    def lose(source: bytes, target: bytes) -> bool:
        return bad in (port_of(source), port_of(target)) and rng.random() < 0.3

    chain.world.network.lose = lose
    link = chain.link("client")
    took_ms = chain.world.run(lambda: link.counters.hops_urgent > 0, 2_000)
    assert took_ms <= 1_000
    assert port_of(link.link_wire.path[1]) != bad  # type: ignore[index]
    assert link.counters.silences == 0
    chain.finish()
    assert link.counters.hops == link.counters.hops_urgent == 1
    kinds = [event.kind for name, event in chain.events if name == "client"]
    assert kinds.count(EventKind.LINK_HOPPED) == 1


def test_a_network_that_loses_everywhere_is_no_reason_to_hop_for_ever(engine: str) -> None:
    chain = SimChain(engine, "everywhere", 0, "lossy10")
    chain.talk(8_000_000, 0)
    chain.finish(120_000)
    assert chain.link("client").counters.hops_urgent <= 4


def test_one_of_two_server_addresses_goes_and_returns(engine: str) -> None:
    """Spread over both by the hops; away from the dead one in a second; back when it lives again."""
    chain = hopping(engine, "two addresses", addresses=("other",))
    watch = Watch(chain)
    stream = chain.stream(count=6_000, every_ms=10)
    chain.world.pass_time(8_000)
    assert {host_of(target) for target in watch.targets} == {"server", "other"}
    link = chain.link("client")
    chain.world.run(lambda: host_of(link.link_wire.path[1]) == "other", 10_000)  # type: ignore[index]
    chain.world.network.cut("client", "other")
    chain.world.pass_time(1_000)
    assert host_of(link.link_wire.path[1]) == "server"  # type: ignore[index]
    assert stream.worst_ms < 1_000
    chain.world.pass_time(9_000)
    assert host_of(link.link_wire.path[1]) == "server"  # type: ignore[index]
    chain.world.network.mend("client", "other")
    chain.world.run(lambda: host_of(link.link_wire.path[1]) == "other", 30_000)  # type: ignore[index]
    run_stream(chain, stream, 90_000)
    assert stream.worst_ms < 1_000
    assert isinstance(chain["client"].node.egress, TunnelDialer)
    assert link.counters.resumes <= 2


def test_ports_that_are_slowed_down_one_by_one(engine: str) -> None:
    """A provider slows a port down after a megabyte: the transfer is faster than the slow rate alone."""
    took = []
    for every_ms in (0, 300):
        chain = SimChain(engine, "slowed", 0, load("port-throttle").up, dial={"hop_every_ms": every_ms})
        chain.talk(0, 2_500_000)
        took.append(chain.finish(120_000))
    assert max(took) < 2_500_000 * 8 / 2_000, "the slow rate alone, in ms"


def test_the_same_seed_hops_the_same_way(engine: str) -> None:
    histories = []
    for _ in range(2):
        chain = hopping(engine, "same", 0, "lossy5")
        seen: list[tuple[int, bytes, bytes]] = []
        chain.world.network.tap = lambda source, target, datagram, chain=chain, seen=seen: seen.append(
            (chain.world.elapsed_ms, source + target, datagram)
        )
        run_stream(chain, chain.stream(count=200, every_ms=10))
        histories.append(seen)
    assert histories[0] == histories[1]
