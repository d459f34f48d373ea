"""What a download costs at the speed of a line: how often nodes wake up, ask conversations and acknowledge.

These are counts in virtual time; what a wake-up costs in processor time stands in docs/adr/0013.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.line import MS
from tests.sim.test_chain_rate import PAYLOAD_SHARE, Bulk, path

RTT_MS = 50
QUANTUM_MS = RTT_MS // 12
COALESCE_MS = RTT_MS // 8


class Download(Bulk):
    """A transfer in bulk whose nodes leave datagrams in their sockets for a while."""

    def __init__(
        self, engine: str, name: str, mbit: float, *, loss: float = 0.0, coalesces: bool = True
    ) -> None:
        super().__init__(engine, name, path(mbit, RTT_MS, loss, queue_ms=500))
        self.mbit = mbit
        for node in self.world.nodes:
            node.coalesces = coalesces
        self.world.pass_time(4_000)

    def counts(self) -> dict[str, int]:
        """So far."""
        client = self.link_wire
        sender, receiver = self.world.nodes[0], self.world.nodes[-1]
        return {
            "bursts": sender.sends,
            "takes": receiver.takes,
            "turns": client.turns,
            "datagrams": client.tx_datagrams,
            "answers": client.rx_datagrams,
            "received": sum(self.received),
        }

    def per_second(self, seconds: int = 4) -> dict[str, float]:
        before = self.counts()
        self.world.pass_time(seconds * 1000)
        return {name: (count - before[name]) / seconds for name, count in self.counts().items()}

    def queue_ms(self) -> list[float]:
        """Of the line, each millisecond of two seconds, sorted."""
        found = []
        for _ in range(2_000):
            self.world.pass_time(1)
            leaves_ns = self.up._last_due_ns - self.world.now_ns
            found.append(max(leaves_ns / MS - RTT_MS / 2, 0.0))
        return sorted(found)


@pytest.mark.parametrize("mbit", [20, 100])
def test_a_download_wakes_its_nodes_seldom(engine: str, mbit: int) -> None:
    if engine == "python" and mbit > 20:
        pytest.skip("the same, for longer")
    found = Download(engine, f"wakes{mbit}", mbit).per_second()
    assert found["received"] * 8 / 1e6 >= 0.95 * mbit * PAYLOAD_SHARE
    assert found["takes"] <= 1.2 * 1000 / COALESCE_MS  # each datagram was one
    assert found["bursts"] <= 2.4 * 1000 / COALESCE_MS  # each millisecond was one
    assert found["turns"] <= 2.4 * 1000 / COALESCE_MS
    assert found["answers"] <= 1.2 * 1000 / COALESCE_MS


def test_acknowledgements_are_few_where_datagrams_are_taken_at_once(engine: str) -> None:
    """The return path is often a twentieth as fast: 1,780 answers a second would fill 1.3 Mbit/s."""
    found = Download(engine, "answers", 20, coalesces=False).per_second()
    assert found["received"] * 8 / 1e6 >= 0.95 * 20 * PAYLOAD_SHARE
    assert found["answers"] <= 1.3 * 1000 / (RTT_MS // 8)


def test_bursts_make_no_queue_to_speak_of(engine: str) -> None:
    queue_ms = Download(engine, "queue", 20).queue_ms()
    assert queue_ms[len(queue_ms) // 2] <= QUANTUM_MS
    assert (
        queue_ms[len(queue_ms) * 95 // 100] <= 15
    )  # 12 ms without bursts: what the controller's probes make


def test_a_line_that_loses_gets_no_bursts(engine: str) -> None:
    bulk = Download(engine, "lossy", 20, loss=0.02)
    quanta = set()
    for _ in range(20):
        bulk.world.pass_time(100)
        quanta.add(bulk.link_wire.flight.quantum_ms)
    assert quanta == {1}


def waits(bulk: Download) -> list[int]:
    """How long 64 bytes are under way, sent every 10 ms beside the transfer, sorted."""
    sent_ms: dict[int, int] = {}
    found: list[int] = []
    stream = bulk.chain.stream(200, 10, size=lambda number: 64)
    start, readable = stream.start, stream.readable

    def note_start(sock: Any) -> None:
        sent_ms[stream.sent] = bulk.world.now_ms
        start(sock)

    def note_readable(sock: Any) -> None:
        seen = set(stream.seen)
        readable(sock)
        found.extend(bulk.world.now_ms - sent_ms[number] for number in stream.seen - seen)

    stream.start, stream.readable = note_start, note_readable  # type: ignore[method-assign]
    bulk.world.run(stream.complete, 10_000)
    return sorted(found)


def test_whoever_waits_for_single_datagrams_gets_them_at_once(engine: str) -> None:
    """The same delays whether nodes may leave datagrams in their sockets or not."""
    left, taken = (waits(Download(engine, "waits", 20, coalesces=coalesces)) for coalesces in (True, False))
    for share in (50, 95, 99):
        assert left[len(left) * share // 100] <= taken[len(taken) * share // 100] + 1
