"""Links in kcptube's format over networks and nodes that fail, in virtual time."""

from __future__ import annotations

import random
from typing import Any

import pytest

from kcpg.core.env import EventKind
from kcpg.core.flow import Reset, ResetCode
from kcpg.core.kcptube.dialedlink import LOST_MS, DialedLink
from kcpg.core.kcptube.flow import TubeFlow
from kcpg.core.kcptube.link import CLOSED_SILENT_MS, END_GRACE_MS, IDLE_MS, IDLE_MUX_MS, SILENT_MS
from kcpg.core.kcptube.mux import MuxLink
from tests.sim.actors import Talker
from tests.sim.chain import PORTS, Hop
from tests.sim.memory import Answer
from tests.sim.network import host_of, port_of
from tests.sim.test_kcptube_chain import TUNNELS, chain
from tests.sim.tubechain import TubeChain, TubeHop

FOREVER = 1 << 40
NARROW = "3g"  # where bytes that never end stay few
FLOW_WAIT_MS = 30_000


def unreachable(tube: TubeChain) -> Talker:
    """A flow that finds no way; when it gave up."""
    near = Talker(tube.world, "near", ("up", 10))
    tube.connect(near, Answer(0, None))
    tube.world.run(lambda: near.over, FLOW_WAIT_MS + 1_000)
    assert near.reset_reason is not None and near.reset_reason.code is ResetCode.UNREACHABLE
    return near


@pytest.mark.parametrize("tunnels", TUNNELS)
def test_another_password_is_no_answer(engine: str, tunnels: int) -> None:
    tube = chain(engine, f"password {tunnels}", tunnels, dialer_password=b"another")
    unreachable(tube)
    assert tube.tube_listener().wire.drops.keys() == {"auth"}
    assert any(event.kind == EventKind.NO_ANSWER for _, event in tube.events)
    assert not tube.tube_listener().links
    if not tunnels:
        tube.settle()


@pytest.mark.parametrize("tunnels", TUNNELS)
def test_a_server_that_comes_late(engine: str, tunnels: int) -> None:
    tube = chain(engine, f"late {tunnels}", tunnels)
    tube["server"].restart(down_ms=12_000)
    tube.talk(10_000, 10_000)
    assert 12_000 < tube.finish() < 20_000
    tube.settle()


@pytest.mark.parametrize("tunnels", TUNNELS)
def test_a_clock_that_is_wrong_is_a_counted_drop(engine: str, tunnels: int) -> None:
    tube = chain(engine, f"clock {tunnels}", tunnels)
    wire = tube.tube_listener().wire
    right = wire._wall_s
    wire._wall_s = lambda: right() + 256
    unreachable(tube)
    assert wire.drops.keys() == {"clock"}
    wire._wall_s = lambda: right() - 255
    tube.talk(1_000, 0)
    tube.world.run(lambda: tube.pairs[0][1].received == 1_000, 10_000)


@pytest.mark.parametrize("tunnels", TUNNELS)
@pytest.mark.parametrize("victim", ["client", "server"])
def test_a_restarted_node_carries_new_flows(engine: str, tunnels: int, victim: str) -> None:
    """The format has no word for «unknown»: a dialer finds out by a probe that is answered, a listener by
    silence."""
    tube = chain(engine, f"restart {victim} {tunnels}", tunnels, NARROW)
    near, far = tube.talk(FOREVER, FOREVER)
    tube.world.pass_time(500)
    tube[victim].restart()
    other = far if victim == "client" else near
    limit_ms = SILENT_MS + LOST_MS + 2_000 if victim == "server" else IDLE_MS + 2_000
    tube.world.run(lambda: other.over, limit_ms)
    assert other.reset_reason is not None and other.reset_reason.code is ResetCode.LINK_LOST
    tube.pairs.clear()
    tube.talk(10_000, 10_000)
    tube.finish(10_000)
    tube.world.pass_time(IDLE_MS)
    tube.settle()


def test_a_flow_survives_an_outage(engine: str) -> None:
    tube = chain(engine, "outage", 0, "transcontinental")
    tube.talk(2_000_000, 2_000_000)
    tube.world.pass_time(500)
    tube.world.network.cut("client", "server", for_ms=60_000)
    tube.finish(90_000)
    tube.settle()


def test_a_mux_link_is_called_again_after_an_outage(engine: str) -> None:
    """kcptube forgets one after 31 s, so this end does too."""
    tube = chain(engine, "mux outage", 1, NARROW)
    near, far = tube.talk(FOREVER, FOREVER)
    tube.world.pass_time(500)
    tube.world.network.cut("client", "server", for_ms=IDLE_MUX_MS + 5_000)
    tube.world.run(lambda: near.over and far.over, IDLE_MUX_MS + 21_000)
    assert {end.reset_reason and end.reset_reason.code for end in (near, far)} == {ResetCode.LINK_LOST}
    tube.pairs.clear()
    tube.talk(10_000, 10_000)
    tube.finish(20_000)
    tube.settle()


@pytest.mark.parametrize("tunnels", TUNNELS)
def test_idle_flows_live(engine: str, tunnels: int) -> None:
    """Links are asked for signs of life; kcptube would cut them off."""
    tube = chain(engine, f"idle {tunnels}", tunnels, "lossy10")
    tube.talk(2_000, 0, near={"wait_for": 0}, far={})
    near, far = tube.talk(5_000, 5_000, far={"wait_for": 5_000, "reads_from_ms": 600_000})
    tube.world.pass_time(590_000)
    assert not near.over and not far.over
    tube.finish(30_000)
    tube.settle()


@pytest.mark.parametrize("tunnels", TUNNELS)
def test_hops(engine: str, tunnels: int) -> None:
    """Other ports at both ends, every 3 s, while bytes flow; the sockets are given back."""
    tube = chain(engine, f"hops {tunnels}", tunnels, NARROW, hop_every_ms=3_000)
    seen: set[tuple[int, int]] = set()
    tube.world.network.tap = lambda source, target, _: (
        seen.add((port_of(source), port_of(target))) if port_of(target) in PORTS else None
    )
    near, far = tube.talk(FOREVER, FOREVER)
    tube.world.pass_time(20_000)
    link = tube.tube_dialer().links[0]
    assert link.counters.hops >= 5
    assert len({target for _, target in seen}) == len(PORTS)
    assert near.received > 100_000 and far.received > 100_000
    assert len(tube["client"].sockets) <= 4 * max(tunnels, 1)


@pytest.mark.parametrize("tunnels", TUNNELS)
def test_who_probed_is_asked_soon(engine: str, tunnels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """kcptube takes a path that it probed when it sends something next, which is too late after 8 s."""

    def probed(self: DialedLink, message: bytes) -> None:
        assert self._request is not None
        self._request.close()
        self._request = None

    monkeypatch.setattr(DialedLink, "_probed", probed)
    tube = chain(engine, f"probed {tunnels}", tunnels, "lan", hop_every_ms=5_000)
    tube.talk(FOREVER, FOREVER, near={"wait_for": 1}, far={"wait_for": 1})
    tube.world.run(lambda: bool(tube.tube_listener().links), 5_000)
    start_ms = tube.world.now_ms
    tube.world.pass_time(4_500)
    answered = tube.tube_listener().counters.answered
    tube.world.pass_time(1_000)
    assert tube.tube_listener().counters.answered > answered, "it probed"
    tube.world.pass_time(7_000)
    for link in tube.tube_listener().links:
        assert 8_900 <= link.conv.heard_ms - start_ms <= 9_500, "asked once, after four seconds"


@pytest.mark.parametrize("tunnels", TUNNELS)
def test_a_peer_that_closes_both_ways_is_no_clean_end_behind_a_relay(engine: str, tunnels: int) -> None:
    """A kcptube forgets a flow at the first end, and answers nothing more."""
    hops = [Hop(bytes(range(32))), TubeHop(bytes(range(32)), tunnels=tunnels)]
    tube = TubeChain(engine, f"both ways {tunnels}", hops, profiles="lan")
    near, _ = tube.talk(50, 5_000, far={"wait_for": 50, "reads_from_ms": 60_000})
    tube.world.pass_time(END_GRACE_MS + 1_000)
    server = tube["server"]
    tube.world.network.lose = lambda source, target: host_of(source) == server.name
    tube.world.run(lambda: near.over, IDLE_MUX_MS + CLOSED_SILENT_MS + 5_000)
    assert near.reset_reason is not None and near.reset_reason.code is not ResetCode.FINISHED


@pytest.fixture
def closes_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kcptube at the listening end: the dialer's MUX_CANCEL is the end of the flow, both ways."""
    of_ours = MuxLink._canceled

    def canceled(self: MuxLink, flow: TubeFlow, code: ResetCode | None) -> None:
        if self.dials:
            of_ours(self, flow, code)
        else:
            self._forget(flow)
            flow.aborted(Reset(ResetCode.FINISHED, ""))

    monkeypatch.setattr(MuxLink, "_canceled", canceled)


@pytest.mark.usefixtures("closes_both_ways")
def test_an_answer_that_a_mux_peer_cuts_off_is_no_clean_end(engine: str) -> None:
    tube = chain(engine, "cut off", 2, "mobile")
    near, _ = tube.talk(50, 5_000, far={"wait_for": 50, "reads_from_ms": 60_000})
    tube.world.run(lambda: near.over, END_GRACE_MS + 2_000)
    assert near.received == 0
    assert near.reset_reason is not None and near.reset_reason.code is ResetCode.RESET_BY_APPLICATION


@pytest.mark.usefixtures("closes_both_ways")
@pytest.mark.parametrize("answer", [0, 5_000])
def test_an_answer_in_time_from_a_mux_peer_is_whole(engine: str, answer: int) -> None:
    """That the target ends within the second of grace is told before our end."""
    tube = chain(engine, f"in time {answer}", 2, "mobile")
    near, _ = tube.talk(50, answer, far={"wait_for": 50})
    tube.world.run(lambda: near.over, END_GRACE_MS + 2_000)
    assert near.received == answer and near.reset_reason is None


@pytest.mark.parametrize("late_ms", [0, END_GRACE_MS - 40, END_GRACE_MS + 500])
def test_an_empty_answer_of_a_mux_peer_of_ours_is_a_clean_end(engine: str, late_ms: int) -> None:
    """However late, as of a target that takes an upload and closes."""
    tube = chain(engine, f"empty {late_ms}", 2, "mobile")
    tube.talk(50_000, 0, far={"wait_for": 50_000, "reads_from_ms": late_ms})
    tube.finish()
    tube.settle()


def test_tunnels_that_nobody_uses_fill_no_log(engine: str) -> None:
    """A kcptube client opens tunnels, says nothing on them, and opens others when they are gone."""
    tube = chain(engine, "unused", 2)
    tube.world.run(lambda: len(tube.tube_listener().links) == 2, 5_000)
    tube.world.network.lose = lambda source, target: host_of(source) == "server"
    tube.world.pass_time(120_000)
    told = [event.kind for name, event in tube.events if name == "server"]
    assert told.count(EventKind.LINK_DOWN) == 0 and told.count(EventKind.LINK_UP) <= 4


def test_a_port_that_is_closed_is_left(engine: str) -> None:
    tube = chain(engine, "closed port", 1, NARROW)
    near, _ = tube.talk(FOREVER, 0)
    tube.world.pass_time(1_000)
    (link,) = tube.tube_dialer().links
    path = link.conv.path
    assert path is not None
    blocked = path[1]
    tube.world.network.lose = lambda source, target: blocked in (source, target)
    before = near.sent
    tube.world.pass_time(SILENT_MS + 10_000)
    assert link.conv.path is not None and link.conv.path[1] != blocked and near.sent > before + 10_000
    assert link.counters.hops == 1 and not near.over


@pytest.mark.parametrize("tunnels", TUNNELS)
def test_a_nat_may_forget(engine: str, tunnels: int) -> None:
    tube = chain(engine, f"nat {tunnels}", tunnels, NARROW)
    tube.world.network.behind_nat("client")
    tube.talk(FOREVER, FOREVER)
    for _ in range(5):
        tube.world.pass_time(1_000)
        tube.world.network.rebind_nat("client")
    before = [end.received for end in tube.pairs[0]]
    tube.world.pass_time(5_000)
    assert all(end.received > then for end, then in zip(tube.pairs[0], before, strict=True))


@pytest.mark.parametrize("tunnels", TUNNELS)
def test_nothing_comes_of_repeated_or_reflected_datagrams(engine: str, tunnels: int) -> None:
    tube = chain(engine, f"replay {tunnels}", tunnels)
    network = tube.world.network
    recorded: list[tuple[bytes, bytes, bytes]] = []
    network.tap = lambda *what: recorded.append(what)
    tube.talk(20_000, 20_000)
    tube.finish()
    network.tap = None
    listener, dialer = tube.tube_listener(), tube.tube_dialer()
    opened = listener.counters.links_opened, tube["server"].node.counters.opened
    paths = [link.conv.path for link in listener.links]
    for source, target, datagram in recorded:
        network.send(source, target, datagram)
        network.send(target, source, datagram)
        network.send(b"client:9", target if port_of(target) in PORTS else source, datagram)
    tube.world.pass_time(1_000)
    assert (listener.counters.links_opened, tube["server"].node.counters.opened) == opened
    assert [link.conv.path for link in listener.links] == paths
    assert listener.wire.drops["replay"] >= 2 * len(recorded) - 10
    assert dialer.wire.drops.keys() <= {"replay", "conv_unknown"}
    tube.settle()


def test_noise_is_counted(engine: str) -> None:
    tube = chain(engine, "noise", 1)
    rng = random.Random(5)
    listener = tube.tube_listener()
    for size in (0, 1, 2, 17, 18, 19, 50, 1440, 2048, 2049):
        listener.receive(1, b"client:5", rng.randbytes(size), tube.world.now_ms)
    assert listener.wire.drops == {"auth": 9, "long": 1}


@pytest.mark.parametrize("tunnels", TUNNELS)
def test_an_orderly_end_is_told(engine: str, tunnels: int) -> None:
    """Unless bytes are under way: what tells it has to queue behind them."""
    for victim in ("client", "server"):
        tube = chain(engine, f"stop {victim} {tunnels}", tunnels)
        near, far = tube.talk(5_000, 5_000, far={"wait_for": 10_000}, near={"wait_for": 10_000})
        tube.world.pass_time(500)
        tube[victim].stop()
        other: Any = far if victim == "client" else near
        tube.world.run(lambda other=other: other.over, 2_000)
        assert other.reset_reason is not None and other.reset_reason.code is ResetCode.SHUTDOWN
