"""Whole chains with FEC on described lines, in virtual time: what it costs, and what waits less for it.

Run as a program it prints the table of docs/fec.md: `python -m tests.fecchain`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.native.handshake.params import FEC_AUTO, FEC_OFF, Fec
from netem.profile import Chance, GilbertElliott, Impair
from tests.line import MS
from tests.sim.actors import Echo, Pattern
from tests.sim.chain import Hop, SimChain
from tests.sim.memory import Answer, App, AppSocket
from tests.sim.network import HEADERS_BYTES
from tests.sim.world import World

AUTO = KcpParams(nodelay=1, interval_ms=30, resend=2, snd_wnd=8192, rcv_wnd=8192, auto=True)
FOREVER = 1 << 40


class Pinger(App):
    """Sends `size` bytes every `every_ms` on a TCP connection; the other end echoes them. `rtts_ms`: how long
    each took to come back."""

    def __init__(self, world: World, size: int = 64, every_ms: int = 10) -> None:
        self.world = world
        self.size = size
        self.every_ms = every_ms
        self.rtts_ms: list[int] = []
        self._sent_ms: list[int] = []
        self._received = 0
        self._pattern = Pattern("ping")

    def start(self, sock: AppSocket) -> None:
        at = len(self._sent_ms) * self.size
        if sock.send(self._pattern.take(at, self.size)) == self.size:
            self._sent_ms.append(self.world.now_ms)
        self.world.after(self.every_ms, lambda: self.start(sock))

    def readable(self, sock: AppSocket) -> None:
        while data := sock.recv(4096):
            assert data == self._pattern.take(self._received, len(data))
            self._received += len(data)
            while (len(self.rtts_ms) + 1) * self.size <= self._received:
                self.rtts_ms.append(self.world.now_ms - self._sent_ms[len(self.rtts_ms)])


def line(loss: float, rtt_ms: int = 50, mbit: float = 20, burst: float = 1.0) -> Impair:
    """A path that loses so much, in runs of `burst` datagrams on average; 1: each by itself."""
    recover = 1 / burst
    model = Chance(loss) if burst <= 1 else GilbertElliott(recover * loss / (1 - loss), recover)
    queue = int(mbit * 1000 * (rtt_ms / 2 + 50) / 8 / (1400 + HEADERS_BYTES))
    return Impair(delay_ns=rtt_ms * MS // 2, loss=model, rate_bps=int(mbit * 1e6), limit=max(queue, 10))


@dataclass
class Figures:
    """Of one run after its warm-up. Wire bytes are UDP payload that the dialers send: requests and what
    acknowledges the answers, or all of a transfer but its acknowledgements."""

    rtts_ms: list[int]
    wire_ratio: float
    resent: int
    goodput_mbit: float

    def percentile(self, share: float) -> int:
        ordered = sorted(self.rtts_ms)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0


def chain_of(
    engine: str, name: str, path: Impair, fec: Fec, relays: int = 0, kcp: KcpParams = AUTO
) -> SimChain:
    hops = [Hop(bytes([7 + n] * 32), kcp=kcp, both={"fec_out": fec}) for n in range(relays + 1)]
    return SimChain(engine, name, relays, path, hops=hops)


def link_wires(chain: SimChain) -> list[Any]:
    """Both ends' of every link."""
    nodes = [node.node for node in chain.world.nodes]
    return [link.link_wire for node in nodes for leg in node.tunnels for link in leg.links]  # type: ignore[attr-defined]


def ping(engine: str, name: str, path: Impair, fec: Fec, seconds: int = 60, **options: Any) -> Figures:
    """64 bytes every 10 ms, echoed, measured after 3 s."""
    chain = chain_of(engine, name, path, fec, **options)
    pinger = Pinger(chain.world)
    chain.connect(pinger, Answer(0, Echo(chain.world)))
    return _measure(chain, lambda: len(pinger.rtts_ms) * pinger.size, pinger.rtts_ms, seconds)


def bulk(engine: str, name: str, path: Impair, fec: Fec, seconds: int = 10, **options: Any) -> Figures:
    """One transfer as fast as it goes, measured after 3 s."""
    chain = chain_of(engine, name, path, fec, **options)
    _, far = chain.talk(FOREVER, 0)
    return _measure(chain, lambda: far.received, [], seconds)


def _measure(chain: SimChain, payload: Any, rtts_ms: list[int], seconds: int) -> Figures:
    chain.world.pass_time(3_000)

    def counted() -> tuple[int, int, int]:
        found = link_wires(chain)
        return (
            payload(),
            sum(link_wire.tx_bytes for link_wire in found if link_wire.user.dials),
            sum(link_wire.segments_resent for link_wire in found),
        )

    before, first = counted(), len(rtts_ms)
    chain.world.pass_time(seconds * 1000)
    paid, wire, resent = (b - a for a, b in zip(before, counted(), strict=True))
    return Figures(
        rtts_ms=rtts_ms[first:],
        wire_ratio=wire / paid,
        resent=resent,
        goodput_mbit=paid * 8 / seconds / 1e6,
    )


SETTINGS = (FEC_OFF, Fec(2, 1), Fec(10, 3), Fec(20, 4), FEC_AUTO)
LINES = (
    ("1 %", line(0.01)),
    ("5 %", line(0.05)),
    ("10 %", line(0.10)),
    ("5 %, runs of 3", line(0.05, burst=3)),
)


def main() -> None:
    """Print the table."""
    print("| loss | fec | p50 | p99 | worst | wire/payload | bulk | wire/payload |")
    print("|---|---|---|---|---|---|---|---|")
    for name, path in LINES:
        for fec in SETTINGS:
            small = ping("compiled", f"table {name} {fec}", path, fec)
            large = bulk("compiled", f"table {name} {fec}", path, fec)
            print(
                f"| {name} | {fec} | {small.percentile(0.5)} ms | {small.percentile(0.99)} ms"
                f" | {max(small.rtts_ms)} ms | {small.wire_ratio:.1f}"
                f" | {large.goodput_mbit:.1f} Mbit/s | {large.wire_ratio:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
