"""Speed tests over whole chains, in virtual time: what is measured is what the lines are."""

from __future__ import annotations

from typing import Any

import pytest

from kcpg.app.speedtest import explain
from kcpg.core.flow import Flow, Kind, Open, Reset, ResetCode, Target
from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.node import IngressLeg, OwnTargets
from kcpg.core.speedtest import answers, messages
from kcpg.core.speedtest.answers import BUSY, OFF, Answers
from kcpg.core.speedtest.asker import Asker, Phase
from kcpg.core.speedtest.messages import Answerer, Place, What
from netem.profile import Impair
from tests.line import MS as NS_PER_MS
from tests.sim.chain import Hop, SimChain
from tests.sim.memory import Answer
from tests.sim.world import SimNode

MS = 2000
AUTO = KcpParams(nodelay=1, interval_ms=10, resend=2, nc=True, snd_wnd=1024, rcv_wnd=1024, auto=True)


class MeasuredChain(SimChain):
    """A chain whose client measures. `old`: places whose nodes have no speed tests; `off`: that refuse."""

    def __init__(
        self, *given: Any, old: tuple[int, ...] = (), off: tuple[int, ...] = (), **more: Any
    ) -> None:
        self.old, self.off = old, off
        self.over = False
        self.asker: Asker
        super().__init__(*given, udp_delivery="datagram", **more)
        self.serve = lambda request: Answer(refuse=Reset(ResetCode.FORBIDDEN, "nobody chooses a target here"))

    def _local_listener(self, sim: SimNode) -> IngressLeg:
        self.asker = Asker(lambda phase, passed_ms: None, self._done)
        return self.asker

    def _own(self, place: int) -> OwnTargets | None:
        if not place or place in self.old:
            return None
        who = Answerer.SERVER if place == len(self.names) - 1 else Answerer.RELAY
        return Answers(who, place not in self.off)

    def _done(self) -> None:
        self.over = True

    def measure(self, place: Place, *whats: What | None, ms: int = MS) -> list[Phase]:
        """Run phases to their end."""
        phases = [Phase(place, what, ms) for what in whats]
        self.over = False
        self.asker.begin(phases)
        self["client"].dirty()
        self.world.run(lambda: self.over, len(phases) * (ms + 30_000))
        return phases


class Silent(Flow):
    """A flow that asks for a test and says nothing."""

    def read(self, limit: int) -> bytes | None:
        return None

    def recv_packets(self, limit: int) -> list[bytes]:
        return []

    def reset(self, reason: Reset) -> None:
        self.closed = True


ALL = (None, What.SEND, What.RECEIVE)


@pytest.mark.parametrize("relays", [0, 1, 2])
def test_the_next_node_and_the_last_answer(engine: str, relays: int) -> None:
    chain = MeasuredChain(engine, f"who {relays}", relays)
    rest, down, up = chain.measure(Place.NEXT, *ALL, ms=300)
    assert down.answerer is up.answerer is (Answerer.RELAY if relays else Answerer.SERVER)
    assert not (rest.failed or down.failed or up.failed)
    last = chain.measure(Place.LAST, *ALL, ms=300)
    assert [phase.answerer for phase in last] == [None, Answerer.SERVER, Answerer.SERVER]
    assert all(phase.moved_bytes > 100_000 for phase in (down, up, *last[1:]))
    chain.settle(60_000)


@pytest.mark.parametrize("what", [What.SEND, What.RECEIVE])
def test_the_rate_is_the_lines(engine: str, what: What) -> None:
    """20 Mbit/s and 40 ms there and back; the rest of the rate is headers."""
    line = Impair(delay_ns=20 * NS_PER_MS, rate_bps=20_000_000, limit=150)
    hop = Hop(bytes(32), kcp=AUTO, datagram_bytes=1400)
    chain = MeasuredChain(engine, f"rate {what}", 0, line, hops=[hop])
    rest, bulk = chain.measure(Place.LAST, None, what, ms=4000)
    assert 0.8 * 20e6 < bulk.bps < 20e6
    assert 40 <= min(rest.round_trips_ms) <= 42
    assert rest.lost_there == rest.lost_back == 0.0


def test_lost_probes_are_counted_each_way(engine: str) -> None:
    chain = MeasuredChain(engine, "loss", 0, "lossy10")
    (rest,) = chain.measure(Place.LAST, None, ms=10_000)
    # 500 of them, each 10 % of the rest: within five standard deviations.
    assert rest.sent >= 490
    assert 0.03 < rest.lost_there < 0.17 and 0.03 < rest.lost_back < 0.17


def test_bandwidths_of_the_link_hold(engine: str) -> None:
    hop = Hop(bytes(32), kcp=AUTO, params={"outbound_bps": 4_000_000, "inbound_bps": 2_000_000})
    chain = MeasuredChain(engine, "bandwidths", 0, hops=[hop])
    down, up = chain.measure(Place.LAST, What.SEND, What.RECEIVE, ms=3000)
    assert 1.5e6 < down.bps <= 2.1e6 and 3e6 < up.bps <= 4.2e6


@pytest.mark.parametrize("relays", [0, 1])
def test_a_node_without_speed_tests_is_told_apart_from_one_that_refuses(engine: str, relays: int) -> None:
    last = relays + 1
    chain = MeasuredChain(engine, "old", relays, old=tuple(range(1, last + 1)))
    (phase,) = chain.measure(Place.NEXT, None)
    assert phase.failed is not None
    assert "older version (forbidden: nobody chooses a target here)" in explain(phase.failed, Place.NEXT)
    chain = MeasuredChain(engine, "off", relays, off=(last,))
    (phase,) = chain.measure(Place.LAST, What.SEND)
    assert phase.failed == OFF and "speedtest=no" in explain(phase.failed, Place.LAST)
    chain.settle(60_000)


def test_an_old_relay_passes_the_test_on(engine: str) -> None:
    chain = MeasuredChain(engine, "old relay", 1, old=(1,))
    (phase,) = chain.measure(Place.NEXT, What.SEND, ms=300)
    assert phase.answerer is Answerer.SERVER and phase.failed is None


def test_a_few_tests_at_once_and_no_more(engine: str) -> None:
    chain = MeasuredChain(engine, "crowd", 0)
    for _ in range(answers.MOST_FLOWS):
        flow, request = Silent(Kind.UDP), Open(Kind.UDP, messages.target(Place.NEXT), "")
        chain.asker.on_flow(flow, request, chain.world.now_ms)
    chain["client"].dirty()
    chain.world.run(lambda: chain["server"].node.flows == answers.MOST_FLOWS, 1000)
    (phase,) = chain.measure(Place.NEXT, None)
    assert phase.failed == BUSY


def test_a_flow_lasts_as_long_as_a_test(engine: str) -> None:
    """Whoever asks for a test and then does nothing holds nothing for long; nor does a probe flow."""
    chain = MeasuredChain(engine, "life", 0)
    for kind in Kind:
        chain.asker.on_flow(Silent(kind), Open(kind, messages.target(Place.NEXT), ""), chain.world.now_ms)
    chain["client"].dirty()
    chain.world.run(lambda: chain["server"].node.flows == 2, 1000)
    chain.world.after(answers.LIFE_MS + 2000, lambda: None)
    chain.world.run(lambda: chain["server"].node.flows == 0, answers.LIFE_MS + 1000)
    chain.settle(60_000)


def test_other_targets_are_no_speed_test() -> None:
    server, relay = Answers(Answerer.SERVER, True), Answers(Answerer.RELAY, True)
    for target in (None, Target("example.org", 1), Target("x." + messages.NAME, 1)):
        assert not server.takes(Open(Kind.TCP, target, ""))
    assert relay.takes(Open(Kind.TCP, messages.target(Place.NEXT), ""))
    assert not relay.takes(Open(Kind.TCP, messages.target(Place.LAST), ""))
