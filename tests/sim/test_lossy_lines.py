"""What one flow gets out of the benchmark's lossy lines with nothing configured, and at what cost."""

from __future__ import annotations

from statistics import median

import pytest

from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.native.handshake.params import FEC_AUTO
from netem.profile import Chance, Impair
from tests.fecchain import Pinger
from tests.line import MS
from tests.sim.actors import Echo
from tests.sim.chain import Hop, SimChain
from tests.sim.memory import Answer
from tests.sim.network import HEADERS_BYTES, host_of

AUTO = KcpParams(nodelay=1, interval_ms=30, resend=2, snd_wnd=8192, rcv_wnd=8192, auto=True)
ETHERNET_BYTES = 1472  # UDP payload; longer probes never leave an interface of 1,500
FRAME_BYTES, SEGMENT_BYTES = 1514, 1423  # on the line, and payload in it
TCP_SHARE = 1448 / FRAME_BYTES  # as the benchmark counts the limit
FOREVER = 1 << 40

LINES = {
    "lossy1": (100, 50, 0.01),
    "lossy5": (100, 50, 0.05),
    "lossy10": (100, 50, 0.10),
    "long3": (50, 150, 0.03),
}

WARM_UP_MS = 4_000  # then rate and loss are known, and that no other port loses less
MEASURED_MS = 2_000


HOP = Hop(bytes(32), kcp=AUTO, datagram_bytes=ETHERNET_BYTES, both={"fec_out": FEC_AUTO, "fec_in": FEC_AUTO})


class Transfer:
    """One flow from client to server over a line that loses in both directions and queues as netem does."""

    def __init__(
        self, engine: str, seed: str, mbit: float, rtt_ms: int, loss: float, bulk: bool = True
    ) -> None:
        line = Impair(delay_ns=rtt_ms * MS // 2, loss=Chance(loss), rate_bps=int(mbit * 1e6), limit=1000)
        self.chain = SimChain(engine, seed, 0, line, hops=[HOP])
        self.loss = loss
        self.wire_bytes = self.datagrams = 0
        network = self.chain.world.network
        for ends in (("client", "server"), ("server", "client")):
            network.set_mtu(*ends, ETHERNET_BYTES)
        network.tap = self._count
        self.line = network.link("client", "server", line).up
        if bulk:
            self.chain.talk(FOREVER, 0)

    def _count(self, source: bytes, target: bytes, datagram: bytes) -> None:
        if host_of(source) == "client":
            self.wire_bytes += HEADERS_BYTES + len(datagram)
            self.datagrams += 1

    @property
    def arrived_bytes(self) -> int:
        """Payload at the server, also what waits for a gap before it to close."""
        (link,) = self.chain["server"].node.ingress.links  # type: ignore[attr-defined]
        return sum(conv.bytes_received for conv in link.link_wire.convs.values())

    @property
    def _counts(self) -> tuple[int, ...]:
        lost = self.line.drops["loss"] + self.line.drops["limit"]
        begun = self.chain.link("client").link_wire.segment_counts()["bytes_sent"]
        return self.arrived_bytes, begun, self.wire_bytes, self.datagrams, lost

    def measure(self, warm_ms: int, ms: int) -> tuple[float, float]:
        """After a start of `warm_ms`: payload in Mbit/s that arrives, and bytes on the line for a byte that
        is sent for the first time, had exactly the share been lost that the line loses on average."""
        self.chain.world.pass_time(warm_ms)
        before = self._counts
        self.chain.world.pass_time(ms)
        arrived, begun, wire, datagrams, lost = (
            new - old for new, old in zip(self._counts, before, strict=True)
        )
        return arrived * 8 / ms / 1000, wire / begun * (1 - lost / datagrams) / (1 - self.loss)


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
    least = FRAME_BYTES / SEGMENT_BYTES / (1 - loss)
    assert median(ratio for _, ratio in found) <= 1.005 * least <= 1 / (1 - loss) + 0.08


@pytest.mark.parametrize("beside", [False, True])
def test_requests_hardly_notice_that_a_line_loses(engine: str, beside: bool) -> None:
    """64 bytes every 10 ms, echoed; a bulk flow beside them adds at most a round trip."""
    mbit, rtt_ms, loss = LINES["lossy5"]
    if engine == "python":
        mbit /= 10
    line = Transfer(engine, f"requests {beside}", mbit, rtt_ms, loss, beside)
    line.chain.world.pass_time(2_000)
    pinger = Pinger(line.chain.world)
    line.chain.connect(pinger, Answer(0, Echo(line.chain.world)))
    line.chain.world.pass_time(8_000)
    times = sorted(pinger.rtts_ms[300:])  # what is lost is known then
    print(times[len(times) // 2], times[len(times) * 99 // 100], times[-1])
    assert times[len(times) // 2] <= rtt_ms + (rtt_ms if beside else 3)
    assert times[len(times) * 99 // 100] <= 80 + (rtt_ms if beside else 0)
