"""FEC on links: what waits for an answer waits less, bulk pays nothing for it, silence stays silent."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import pytest

from kcpg.core.flow import Kind
from kcpg.core.native.handshake.params import FEC_AUTO, FEC_OFF, Fec
from tests.fecchain import AUTO, Pinger, bulk, chain_of, line, link_wires, ping
from tests.sim.actors import Echo, PacketStream
from tests.sim.chain import Hop, SimChain
from tests.sim.memory import Answer

ENGINES = ("compiled", "python")


def test_a_keystroke_is_not_delayed_by_loss() -> None:
    """64 bytes every 10 ms over 50 ms and 5 %: nine of ten as fast as without loss, and p99 far below two
    round trips, which a retransmission takes."""
    path = line(0.05)
    auto = ping("compiled", "keystroke", path, FEC_AUTO, seconds=30)
    off = ping("compiled", "keystroke", path, FEC_OFF, seconds=30)
    clean = ping("compiled", "keystroke", line(0.0), FEC_AUTO, seconds=5)
    assert auto.percentile(0.5) == clean.percentile(0.5) <= 52
    assert auto.percentile(0.99) <= 80 < 120 < off.percentile(0.99)
    assert auto.resent < off.resent / 4


def test_nothing_is_spent_where_nothing_is_lost(engine: str) -> None:
    off = ping(engine, "clean", line(0.0), FEC_OFF, seconds=5)
    auto = ping(engine, "clean", line(0.0), FEC_AUTO, seconds=5)
    assert auto.wire_ratio < off.wire_ratio * 1.05, "the loss reports, ten a second"


@pytest.mark.parametrize("loss", [0.01, 0.05])
def test_bulk_pays_nothing(loss: float) -> None:
    """Or next to nothing: means of three seeds, as one alone tells one per cent more or less."""
    names = [f"bulk {loss} {seed}" for seed in range(3)]
    off = [bulk("compiled", name, line(loss), FEC_OFF, seconds=6) for name in names]
    auto = [bulk("compiled", name, line(loss), FEC_AUTO, seconds=6) for name in names]
    goodputs = [fmean(run.goodput_mbit for run in runs) for runs in (off, auto)]
    assert goodputs[1] >= goodputs[0] * 0.97
    ratios = [fmean(run.wire_ratio for run in runs) for runs in (off, auto)]
    assert ratios[1] <= min(1 / (1 - loss) + 0.08, ratios[0] + 0.02)


def test_a_configured_code_protects_bulk_too() -> None:
    """20:4 at 5 % and 20 Mbit/s: 8 ms close groups of about 14, as well protected as full ones. So 29 % more
    is sent, and half as much is resent: what is taken for lost before its group is complete."""
    names = [f"fixed {seed}" for seed in range(3)]
    fixed = [bulk("compiled", name, line(0.05), Fec(20, 4), seconds=6) for name in names]
    off = [bulk("compiled", name, line(0.05), FEC_OFF, seconds=6) for name in names]
    assert fmean(run.resent for run in fixed) < 0.55 * fmean(run.resent for run in off)
    assert 1.3 < fmean(run.wire_ratio for run in fixed) < 1.45


@pytest.mark.parametrize("engine", ENGINES)
def test_packets_that_are_sent_once_arrive(engine: str) -> None:
    """UDP without retransmission, 100 packets a second, 5 % lost each way."""
    missing = {}
    for fec in (FEC_OFF, FEC_AUTO):
        hops = [Hop(bytes([7] * 32), kcp=AUTO, both={"fec_out": fec})]
        chain = SimChain(engine, "packets", 0, line(0.05), hops=hops, udp_delivery="datagram")
        chain.stream(200, 10)
        chain.world.pass_time(2_500)
        stream = chain.stream(1_000, 10)
        chain.world.pass_time(11_000)
        assert stream.twice == 0
        missing[str(fec)] = 1_000 - len(stream.seen)
    assert missing["off"] > 60 and missing["auto"] <= 10


def test_runs_of_losses_are_met_too() -> None:
    path = line(0.05, burst=3.0)
    auto = ping("compiled", "runs", path, FEC_AUTO, seconds=30)
    off = ping("compiled", "runs", path, FEC_OFF, seconds=30)
    assert auto.percentile(0.99) < off.percentile(0.99)
    assert auto.resent < off.resent * 0.7


@pytest.mark.parametrize("engine", ENGINES)
def test_both_ends_may_differ_and_say_so(engine: str) -> None:
    """The dialer sends by 4:2, the listener adapts; either direction is protected by its sender's setting."""
    hop = Hop(bytes([7] * 32), kcp=AUTO, both={"fec_out": FEC_AUTO}, params={"fec_out": Fec(4, 2)})
    chain = SimChain(engine, "differ", 0, line(0.05), hops=[hop])
    pinger = Pinger(chain.world)
    chain.connect(pinger, Answer(0, Echo(chain.world)))
    chain.world.pass_time(8_000)
    by_dialer = {link_wire.user.dials: link_wire.user.fec_control for link_wire in link_wires(chain)}
    assert str(by_dialer[True].choice.plan).endswith("4:2")
    assert str(by_dialer[False].choice.plan) != "off" and by_dialer[False].loss > 0.02
    assert all(link_wire.fec.rebuilt > 5 and link_wire.fec.malformed == 0 for link_wire in link_wires(chain))
    said = {name: event.text for name, event in chain.events if event.kind == "link_up"}
    assert "fec 4:2 out, auto in" in said["client"] and "you 4:2, here auto" in said["client"]
    assert "fec auto out, 4:2 in" in said["server"]


def test_each_hop_has_its_own(engine: str) -> None:
    """Only the lossy hop of two is protected, as configured; the other one knows nothing of it."""
    hops = [
        Hop(bytes([7] * 32), kcp=AUTO, both={"fec_out": Fec(4, 2)}),
        Hop(bytes([8] * 32), kcp=AUTO),
    ]
    chain = SimChain(engine, "hops", 1, [line(0.05), line(0.0)], hops=hops)
    chain.talk(200_000, 50_000)
    chain.finish(60_000)
    fecs = {node.name: [link.link_wire.fec for leg in node.node.tunnels for link in leg.links]  # type: ignore[attr-defined]
            for node in chain.world.nodes}  # fmt: skip
    assert fecs["server"] == [None]
    assert fecs["client"][0].groups > 20 and fecs["client"][0].rebuilt > 0
    chain.settle()


def test_an_idle_link_says_nothing_and_holds_nothing(engine: str) -> None:
    """Reports end with the data, although each of them is a datagram that came."""
    chain = chain_of(engine, "idle", line(0.05), FEC_AUTO)
    stream = chain.stream(300, 10)
    chain.world.pass_time(4_000)
    assert all(link_wire.user.fec_control.loss > 0 for link_wire in link_wires(chain))
    chain.world.pass_time(4_000)
    before = chain.world.network.counts["sent"]
    chain.world.pass_time(15_000)
    assert chain.world.network.counts["sent"] - before <= 4, "keep-alive only"
    assert all(link_wire.fec.held == 0 for link_wire in link_wires(chain))
    assert len(stream.seen) == 300


@pytest.mark.parametrize("engine", ENGINES)
def test_a_line_that_was_gone_is_protected_again(engine: str) -> None:
    """What a blackhole swallowed is no loss rate to send by: nothing came, so nothing was expected."""
    chain = chain_of(engine, "gone", line(0.05), FEC_AUTO)
    pinger = Pinger(chain.world)
    chain.connect(pinger, Answer(0, Echo(chain.world)))
    chain.world.pass_time(4_000)
    chain.world.network.cut("client", "server", 5_000)
    chain.world.pass_time(8_000)
    before: list[Any] = [link_wire.fec.rebuilt for link_wire in link_wires(chain)]
    chain.world.pass_time(4_000)
    assert chain.link("client").counters.silences >= 1
    assert all(
        link_wire.fec.rebuilt > rebuilt for link_wire, rebuilt in zip(link_wires(chain), before, strict=True)
    )
    assert all(0.02 < link_wire.user.fec_control.loss < 0.5 for link_wire in link_wires(chain))


def test_a_stream_of_packets_in_order_is_whole(engine: str) -> None:
    """Every packet once, although rebuilt copies, resends and late originals all arrive."""
    chain = chain_of(engine, "whole", line(0.1, burst=2.0), Fec(4, 2))
    stream = PacketStream(chain.world, "udp", 500, 5)
    chain.connect(stream, Answer(0, Echo(chain.world)), Kind.UDP)
    chain.world.run(stream.complete, 20_000)
    assert stream.twice == 0
