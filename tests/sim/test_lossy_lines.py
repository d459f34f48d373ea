"""What one flow gets out of the benchmark's lossy lines with nothing configured, and at what cost."""

from __future__ import annotations

from statistics import median

import pytest

from kcpg.core.kcp import KcpParams
from netem.profile import Chance, Impair
from tests.sim.chain import Chain, Hop
from tests.sim.world import HEADERS_BYTES, MS, host_of

AUTO = KcpParams(nodelay=1, interval_ms=30, resend=2, snd_wnd=8192, rcv_wnd=8192, auto=True)
ETHERNET_BYTES = 1472  # UDP payload; longer probes never leave an interface of 1,500
TCP_SHARE = 1448 / 1514  # of a full frame, as the benchmark counts the limit
FOREVER = 1 << 40

LINES = {
    "lossy1": (100, 50, 0.01),
    "lossy5": (100, 50, 0.05),
    "lossy10": (100, 50, 0.10),
    "long3": (50, 150, 0.03),
}

WARM_UP_MS = 4_000  # then rate and loss are known, and that no other port loses less
MEASURED_MS = 2_000


class Transfer:
    """One flow from client to server over a line that loses in both directions and queues as netem does."""

    def __init__(self, engine: str, seed: str, mbit: float, rtt_ms: int, loss: float) -> None:
        line = Impair(delay_ns=rtt_ms * MS // 2, loss=Chance(loss), rate_bps=int(mbit * 1e6), limit=1000)
        self.chain = Chain(
            engine, seed, 0, line, hops=[Hop(bytes(32), kcp=AUTO, datagram_bytes=ETHERNET_BYTES)]
        )
        self.loss = loss
        self.wire_bytes = self.datagrams = 0
        network = self.chain.world.network
        for ends in (("client", "server"), ("server", "client")):
            network.set_mtu(*ends, ETHERNET_BYTES)
        network.tap = self._count
        self.line = network.link("client", "server", line).up
        self.chain.talk(FOREVER, 0)

    def _count(self, source: bytes, target: bytes, datagram: bytes) -> None:
        if host_of(source) == "client":
            self.wire_bytes += HEADERS_BYTES + len(datagram)
            self.datagrams += 1

    @property
    def arrived_bytes(self) -> int:
        """Payload at the server, also what waits for a gap before it to close."""
        (link,) = self.chain["server"].node.ingress.links  # type: ignore[attr-defined]
        return sum(conv.bytes_received for conv in link.bundle.convs.values())

    @property
    def _counts(self) -> tuple[int, int, int, int]:
        lost = self.line.drops["loss"] + self.line.drops["limit"]
        return self.arrived_bytes, self.wire_bytes, self.datagrams, lost

    def measure(self, warm_ms: int, ms: int) -> tuple[float, float]:
        """After a start of `warm_ms`: payload in Mbit/s, and bytes on the line for a byte of it, had exactly
        the share been lost that the line loses on average."""
        self.chain.world.pass_time(warm_ms)
        before = self._counts
        self.chain.world.pass_time(ms)
        payload, wire, datagrams, lost = (new - old for new, old in zip(self._counts, before, strict=True))
        return payload * 8 / ms / 1000, wire / payload * (1 - lost / datagrams) / (1 - self.loss)


@pytest.mark.parametrize("name", LINES)
def test_a_lossy_line_is_filled_and_little_is_sent_twice(engine: str, name: str) -> None:
    """95 % of the limit; for each byte of payload what the losses take, and 8 %: 6.4 % are headers."""
    mbit, rtt_ms, loss = LINES[name]
    seeds = 3
    if engine == "python":  # a tenth of the datagrams, once
        mbit /= 10
        seeds = 1
    runs = [Transfer(engine, f"{name} {seed}", mbit, rtt_ms, loss) for seed in range(seeds)]
    found = [run.measure(WARM_UP_MS, MEASURED_MS) for run in runs]
    print(found)
    assert median(goodput for goodput, _ in found) >= 0.95 * mbit * (1 - loss) * TCP_SHARE
    assert median(ratio for _, ratio in found) <= 1 / (1 - loss) + 0.08
