"""One direction of the link box: reads frames on one side, holds them, and writes them on the other."""

from __future__ import annotations

import heapq
import os
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import Any

from netem import frame as frames
from netem.impair import Departure, Direction
from netem.profile import Impair
from netem.record import Recorder

BATCH = 32  # Frames read before the other direction and due frames get their turn, a third of a ms later

TICK_NS = (
    5_000_000  # Flows beside are modelled so often: at 20 Mbit/s eight packets, a tenth of a millisecond
)

LATE_STEP_NS, LATE_STEPS = 10_000, 1000  # Lateness is counted in steps of 10 us, up to 10 ms


@dataclass(slots=True)
class Counts:
    """A direction's counters; the others leave out multicast frames."""

    frames: int = 0
    bytes: int = 0
    sent: int = 0
    sent_bytes: int = 0
    groups: int = 0
    refused: int = 0  # Frames that the far side's interface refused because it was down
    late: list[int] = field(default_factory=lambda: [0] * (LATE_STEPS + 1))


class Lane:
    """Reads from `source` and writes to `sink`; both are descriptors of one frame a read or write.

    Multicast frames (ARP, neighbour discovery, multicast reports) pass at once, without impairment: the
    kernel sends them at any time, and each would shift the pattern of a seed.
    """

    def __init__(
        self, way: str, impair: Impair, seed: str, wires: tuple[int, int, int], recorder: Recorder
    ) -> None:
        """`wires`: source, sink, most bytes of a frame."""
        self.way = way
        self.source, self._sink, self._frame_bytes = wires
        self._recorder = recorder
        self._held: list[tuple[int, int, bytes]] = []
        self._number = 0
        self.restart(impair, seed)

    def restart(self, impair: Impair, seed: str, at_ns: int = 0) -> None:
        """Restart from the seed's first packet and reset the counters; held frames still leave on time.

        `at_ns`: since the timeline's beginning.
        """
        self.counts = Counts()
        self._tick_ns: int | None = None  # When the flows beside go on, though no frame comes
        self._direction = Direction(impair, f"{seed}:{self.way}", monotonic_ns() - at_ns)
        self._by_port = impair.port is not None
        self._tick_ns = None if impair.cross is None else monotonic_ns()

    def change(self, impair: Impair) -> None:
        """Change the impairment, like `tc qdisc change`."""
        self._direction.change(impair, monotonic_ns())
        self._by_port = impair.port is not None
        self._tick_ns = None if impair.cross is None else monotonic_ns()

    @property
    def next_due_ns(self) -> int | None:
        """When the next frame leaves, or the flows beside want to go on."""
        held_ns = self._held[0][0] if self._held else None
        if self._tick_ns is None:
            return held_ns
        return self._tick_ns if held_ns is None else min(held_ns, self._tick_ns)

    def take(self) -> None:
        """Read the frames that have arrived, a batch at most."""
        source, most, counts, offer = self.source, self._frame_bytes, self.counts, self._direction.offer
        for _ in range(BATCH):
            try:
                frame = os.read(source, most)
            except (BlockingIOError, InterruptedError):
                return
            now_ns = monotonic_ns()
            if frame[0] & 1:
                counts.groups += 1
                self._send(frame, now_ns)
                continue
            counts.frames += 1
            counts.bytes += len(frame)
            departures = offer(now_ns, len(frame), self._port(frame) if self._by_port else 0)
            for due_ns, bit in departures:
                self._number += 1
                copy = frame if bit is None else frames.flipped(frame, bit)
                heapq.heappush(self._held, (due_ns, self._number, copy))
            if self._recorder.active:
                self._record(frame, now_ns, departures)

    def release(self, now_ns: int) -> None:
        """Write the due frames, a batch at most, so that reading never waits for long."""
        held, counts = self._held, self.counts
        if self._tick_ns is not None and now_ns >= self._tick_ns:
            self._direction.idle(now_ns)
            self._tick_ns = now_ns + TICK_NS
        for _ in range(BATCH):
            if not held or held[0][0] > now_ns:
                return
            due_ns, _, frame = heapq.heappop(held)
            counts.late[min((now_ns - due_ns) // LATE_STEP_NS, LATE_STEPS)] += 1
            if self._send(frame, now_ns):
                counts.sent += 1
                counts.sent_bytes += len(frame)

    def facts(self) -> dict[str, Any]:
        """The counters by name."""
        counts, direction, now_ns = self.counts, self._direction, monotonic_ns()
        return {
            "frames": counts.frames,
            "bytes": counts.bytes,
            "sent": counts.sent,
            "sent_bytes": counts.sent_bytes,
            "held": len(self._held),
            "epoch_ns": direction.epoch_ns,
            "queue_ms": direction.queue_ns(now_ns) / 1e6,
            "delay_ms": direction.delay_ns(now_ns) / 1e6,
            "groups": counts.groups,
            "refused": counts.refused,
            "drops": dict(direction.drops),
            "duplicated": direction.duplicated,
            "corrupted": direction.corrupted,
            "reordered": direction.reordered,
            "cross_bytes": [flow.goodput_bytes for flow in direction.cross],
            "late_us": {share: _late_us(counts.late, int(share) / 100) for share in ("50", "99", "100")},
        }

    def _port(self, frame: bytes) -> int:
        """The port of the server's side: destination of what goes up, source of what comes down."""
        source, destination = frames.ports(frame)
        return destination if self.way == "up" else source

    def _send(self, frame: bytes, now_ns: int) -> bool:
        try:
            os.write(self._sink, frame)
        except OSError:
            self.counts.refused += 1
            return False
        if self._recorder.active:
            self._recorder.left(self.way, frame, now_ns)
        return True

    def _record(self, frame: bytes, now_ns: int, departures: list[Departure]) -> None:
        self._recorder.came(self.way, frame, now_ns)
        self._recorder.verdict(self.way, self.counts.frames - 1, len(frame), now_ns, departures)


def _late_us(late: list[int], share: float) -> int:
    """The quantile of the lateness in microseconds, rounded up to a step."""
    wanted, seen = share * sum(late), 0
    for step, count in enumerate(late):
        seen += count
        if seen >= wanted:
            return (step + 1) * LATE_STEP_NS // 1000 if seen else 0
    return 0
