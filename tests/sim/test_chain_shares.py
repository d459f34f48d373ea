"""Readers that stand still (paused downloads) take of a leg's memory what leaves the others their speed.

All sizes are a sixteenth of the product's: a stalled flow's window would take a twentieth of the pool.
"""

from __future__ import annotations

import pytest

from kcpg.core.kcp.kcp import KcpParams
from netem.profile import Impair
from tests.engines import twin
from tests.sim.chain import Hop, SimChain
from tests.sim.memory import Answer, App, AppSocket
from tests.sim.world import MS

POOL_BYTES = 16 << 20
MBIT = 20


class Source(App):
    """Sends as much as goes."""

    def start(self, sock: AppSocket) -> None:
        self.writable(sock)

    def writable(self, sock: AppSocket) -> None:
        while sock.send(bytes(65536)):
            pass


class Sink(App):
    def __init__(self, reading: bool = True) -> None:
        self.got = 0
        self.reading = reading

    def readable(self, sock: AppSocket) -> None:
        while self.reading and (data := sock.recv(65536)):
            self.got += len(data)


class Chain(SimChain):
    """With small pools."""

    def __init__(self, relays: int, stalled: int, auto: bool) -> None:
        kcp = KcpParams(nodelay=1, interval_ms=30, resend=2, snd_wnd=512, rcv_wnd=512, auto=auto)
        line = Impair(delay_ns=20 * MS // (relays + 1), rate_bps=MBIT * 1_000_000, limit=200)
        hops = [Hop(bytes([7 + n] * 32), kcp=kcp) for n in range(relays + 1)]
        super().__init__("compiled", f"shares {relays} {stalled} {auto}", relays, line, hops=hops)

    def _build(self, sim):  # type: ignore[no-untyped-def]
        wire = twin("compiled", "Wire")
        self.wire = lambda **words: wire(**{**words, "pool_bytes": POOL_BYTES})
        return super()._build(sim)


def rate(chain: Chain, sink: Sink, ms: int) -> float:
    """Mbit/s of a reader."""
    before = sink.got
    chain.world.pass_time(ms)
    return (sink.got - before) * 8 / 1000 / ms


@pytest.mark.parametrize(
    ("relays", "stalled", "auto"), [(0, 25, True), (0, 25, False), (0, 200, True), (1, 200, True)]
)
def test_others_keep_their_rate_beside_stalled_readers(relays: int, stalled: int, auto: bool) -> None:
    chain = Chain(relays, stalled, auto)
    active = Sink()
    chain.connect(active, Answer(0, Source()))
    chain.world.pass_time(2_000)
    alone = rate(chain, active, 2_000)
    for _ in range(stalled):
        chain.connect(Sink(False), Answer(0, Source()))
    chain.world.pass_time(25_000)  # until their windows are full
    beside = rate(chain, active, 5_000)
    print(f"{alone:.1f} alone, {beside:.1f} beside {stalled}")
    assert beside >= 0.9 * alone
    for node in chain.nodes.values():
        for leg in node.node.tunnels:
            assert leg.wire.held_slots < POOL_BYTES // 1536 * 3 // 4
