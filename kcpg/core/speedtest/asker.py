"""The asking side of a speed test: a leg whose flows are those of the test, in phases.

A phase is one direction at one place, with probes beside the bulk: numbered packets that the node sends back,
of which round trip and loss are found. Without bulk it measures the path at rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kcpg.core.flow import READABLE, TCP, UDP, Flow, Kind, Open, Reset, ResetCode
from kcpg.core.speedtest import messages
from kcpg.core.speedtest.answers import BLOCK, ROOM_BYTES
from kcpg.core.speedtest.messages import Answerer, Place, Request, What
from kcpg.core.splice import Splice

PROBE_EVERY_MS = 20  # 250 of them in 5 s tell a loss of half a per cent, with 10 kbit/s
PROBE_PADDING_BYTES = 16

LAST_PROBES_MS = 2000  # How long the last probes may take: what queues of bad lines hold

# How long the bulk may take beyond its time: until the queue before the bottleneck is empty.
GRACE_MS = 15_000

SAMPLE_EVERY_MS = 50  # Of a download

SOURCE = "speedtest"  # Where these flows come from, for the logs of the nodes

STUCK = Reset(ResetCode.TIMEOUT, "nothing moves any more")


@dataclass(slots=True)
class Phase:
    """What is measured at once, and its results. `what` None: only probes. `samples`: (milliseconds since the
    first, bytes in all) as the receiving end sees them."""

    place: Place
    what: What | None
    ms: int
    answerer: Answerer | None = None
    samples: list[tuple[int, int]] = field(default_factory=list)
    round_trips_ms: list[int] = field(default_factory=list)
    sent: int = 0  # probes
    seen: int = 0  # those that the node has
    failed: Reset | None = None

    @property
    def bps(self) -> float:
        """Bits per second, of the last three quarters of the time; 0: nothing was measured."""
        within = [sample for sample in self.samples if sample[0] <= self.ms]
        late = [sample for sample in within if sample[0] >= self.ms // 4]
        if len(late) < 2:
            late = within or [(0, 0)]
        (first_ms, first), (last_ms, last) = late[0], late[-1]
        return (last - first) * 8000 / (last_ms - first_ms) if last_ms > first_ms else 0.0

    @property
    def moved_bytes(self) -> int:
        """Bytes that have arrived so far."""
        return self.samples[-1][1] if self.samples else 0

    @property
    def lost_there(self) -> float:
        """Share of the probes that did not reach the node."""
        return max(1 - self.seen / self.sent, 0.0) if self.sent else 0.0

    @property
    def lost_back(self) -> float:
        """Share of those it had that did not come back."""
        return max(1 - len(self.round_trips_ms) / self.seen, 0.0) if self.seen else 0.0


class Asker:
    """An ingress leg that runs phases, one after the other. `progress` hears of the running one and for how
    many milliseconds it runs, some times a second; `done` when all are over, or one failed."""

    def __init__(self, progress: Callable[[Phase, int], None], done: Callable[[], None]) -> None:
        self.on_flow: Callable[[Flow, Open, int], None] = _unwired
        self.now_ms = 0
        self._progress = progress
        self._done = done
        self._waiting: list[Phase] = []
        self._run: _Run | None = None

    def begin(self, phases: list[Phase]) -> None:
        """Run these; the node has to be advanced soon."""
        self._waiting = list(phases)

    def start(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def advance(self, now_ms: int) -> None:
        self.now_ms = now_ms
        if self._run is not None:
            self._run.advance(now_ms)
            self._progress(self._run.phase, now_ms - self._run.began_ms)
            if not self._run.over:
                return
            failed = self._run.phase.failed is not None
            self._run.close()
            self._run = None
            if failed or not self._waiting:
                self._waiting.clear()
                self._done()
                return
        if self._waiting:
            self._run = _Run(self, self._waiting.pop(0))
            self._run.begin()

    def deadline(self) -> int | None:
        if self._run is None:
            return self.now_ms if self._waiting else None
        return self._run.due_ms

    def advance_deadline(self) -> int | None:
        return self.deadline()

    def close(self, now_ms: int, reason: str) -> None:
        self._waiting.clear()
        if self._run is not None:
            self._run.close()


class _Run:
    """One phase that runs."""

    def __init__(self, asker: Asker, phase: Phase) -> None:
        self.asker = asker
        self.phase = phase
        self.began_ms = asker.now_ms
        self.ends_ms: int | None = None  # when the last probe may come back
        self.over = False
        self._next_probe_ms = self.began_ms
        self._probes = ProbeFlow(self)
        self._bulk = None if phase.what is None else BulkFlow(self, Request(phase.what, phase.ms))

    @property
    def now_ms(self) -> int:
        return self.asker.now_ms

    @property
    def due_ms(self) -> int:
        if self.over:
            return self.now_ms
        if self.ends_ms is not None:
            return self.ends_ms
        return min(self._next_probe_ms, self.began_ms + self.phase.ms + GRACE_MS)

    def begin(self) -> None:
        target = messages.target(self.phase.place)
        for flow in (self._bulk, self._probes):
            if flow is not None and not self.over:
                self.asker.on_flow(flow, Open(flow.kind, target, SOURCE), self.now_ms)
        self.advance(self.now_ms)

    def advance(self, now_ms: int) -> None:
        passed_ms = now_ms - self.began_ms
        if self.over:
            return
        if self.ends_ms is not None:
            self.over = now_ms >= self.ends_ms or self._probes.is_answered
        elif self._bulk is not None and passed_ms >= self.phase.ms + GRACE_MS:
            self.fail(STUCK)
        elif self._bulk.closed if self._bulk is not None else passed_ms >= self.phase.ms:
            self.ends_ms = now_ms + LAST_PROBES_MS
        elif now_ms >= self._next_probe_ms:
            self._next_probe_ms = now_ms + PROBE_EVERY_MS
            self._probes.send(now_ms)
        if self._bulk is not None and not self._bulk.closed:
            self._bulk.advance(now_ms)

    def fail(self, reason: Reset) -> None:
        """The phase is over, without a result."""
        if not self.over and self.phase.failed is None:
            self.phase.failed = reason
        self.over = True

    def close(self) -> None:
        """Let go of the flows."""
        self.over = True
        for flow in (self._bulk, self._probes):
            if flow is not None:
                flow.abort()


class _TestFlow(Flow):
    """What both kinds have in common."""

    def __init__(self, kind: Kind, run: _Run) -> None:
        super().__init__(kind)
        self.run = run

    def reset(self, reason: Reset) -> None:
        self.closed = True
        self.run.fail(reason)

    def abort(self) -> None:
        """Give it up from here; of packets that is a clean end."""
        splice, self.closed = self.splice, True
        if isinstance(splice, Splice) and self.kind is UDP:
            splice.expire()
        elif splice is not None:
            splice.on_reset(self, Reset(ResetCode.RESET_BY_APPLICATION, "the test is over"))

    def readable(self) -> None:
        if self.splice is not None:
            self.splice.ready(self, READABLE)


class BulkFlow(_TestFlow):
    """The TCP flow of a phase: what it receives, or what the node says that it received, are the samples."""

    def __init__(self, run: _Run, request: Request) -> None:
        super().__init__(TCP, run)
        self._request = request
        self._out = bytearray(messages.pack_request(request))
        self._head = bytearray()
        self._reports = bytearray()
        self._received = 0
        self._first_ms = 0

    # -- what the node takes --

    def read(self, limit: int) -> bytes | None:
        if self._out:
            data = bytes(self._out[:limit])
            del self._out[:limit]
            return data
        if self._request.what is What.SEND:
            return b""
        return BLOCK[:limit] if self.run.now_ms < self.run.began_ms + self._request.ms else b""

    # -- what comes --

    @property
    def room(self) -> int:
        return 0 if self.closed else ROOM_BYTES

    def write(self, data: bytes) -> int:
        self._take(data)
        return len(data)

    def end(self) -> None:
        if self._request.what is What.SEND:
            self._sample(self.run.now_ms)

    def advance(self, now_ms: int) -> None:
        """Time has passed."""
        if self._request.what is What.RECEIVE and now_ms >= self.run.began_ms + self._request.ms:
            self.readable()

    def _take(self, data: bytes) -> None:
        phase = self.run.phase
        if len(self._head) < messages.ANSWER_BYTES:
            missing = messages.ANSWER_BYTES - len(self._head)
            self._head += data[:missing]
            data = data[missing:]
            if len(self._head) < messages.ANSWER_BYTES:
                return
            phase.answerer = messages.read_answer(self._head)
            if phase.answerer is None:
                self.run.fail(Reset(ResetCode.INTERNAL, "the answer is none of a speed test"))
                return
        if not data:
            return
        if self._request.what is What.RECEIVE:
            self._reports += data
            while len(self._reports) >= messages.REPORT_BYTES:
                report = messages.read_report(self._reports)
                phase.samples.append((report.ms, report.received_bytes))
                del self._reports[: messages.REPORT_BYTES]
            return
        now_ms = self.run.now_ms
        if not self._received:
            self._first_ms = now_ms
        self._received += len(data)
        if not phase.samples or now_ms - self._first_ms >= phase.samples[-1][0] + SAMPLE_EVERY_MS:
            self._sample(now_ms)

    def _sample(self, now_ms: int) -> None:
        self.run.phase.samples.append((now_ms - self._first_ms, self._received))


class ProbeFlow(_TestFlow):
    """The UDP flow of a phase."""

    def __init__(self, run: _Run) -> None:
        super().__init__(UDP, run)
        self._sent_ms: dict[int, int] = {}
        self._waiting: list[bytes] = []

    @property
    def is_answered(self) -> bool:
        """No probe is on its way."""
        return not self._sent_ms

    def send(self, now_ms: int) -> None:
        """Send one."""
        phase = self.run.phase
        phase.sent += 1
        self._sent_ms[phase.sent] = now_ms
        self._waiting.append(messages.pack_probe(phase.sent, PROBE_PADDING_BYTES))
        self.readable()

    def recv_packets(self, limit: int) -> list[bytes]:
        given, self._waiting = self._waiting[:limit], self._waiting[limit:]
        return given

    def send_packets(self, packets: list[bytes]) -> int:
        phase = self.run.phase
        for packet in packets:
            found = messages.read_probe(packet)
            sent_ms = self._sent_ms.pop(found[0], None) if found is not None else None
            if found is not None and sent_ms is not None:
                phase.seen = max(phase.seen, min(found[1], phase.sent))
                phase.round_trips_ms.append(self.run.now_ms - sent_ms)
        return len(packets)

    def end(self) -> None:
        """The association is over."""


def _unwired(_flow: Flow, _open: Open, _now_ms: int) -> None:
    raise AssertionError("this leg belongs to no node")
