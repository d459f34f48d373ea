"""The node's side of a speed test: flows that end in the node itself, instead of at a target.

They are flows like others, so windows, bandwidths and shares of memory of their link hold for them.
"""

from __future__ import annotations

from kcpg.core.flow import READABLE, TCP, UDP, Flow, Kind, Open, Reset, ResetCode
from kcpg.core.speedtest import messages
from kcpg.core.speedtest.messages import Answerer, Place, Report, What

# Flows at once: a test takes two. Tests beside each other measure each other.
MOST_FLOWS = 8

LIFE_MS = 2 * messages.MOST_MS  # Until what was sent has arrived; then the flow is aborted

# Answers to probes, and bytes of reports, that wait for a link with no room: the rest is not said.
WAITING_PROBES = 64
WAITING_REPORT_BYTES = 4096

ROOM_BYTES = 65_536  # What a flow takes at once; nothing of it is kept
BLOCK = bytes(ROOM_BYTES)  # What it sends

OFF = Reset(ResetCode.FORBIDDEN, "speed tests are switched off at this node (speedtest=no)")
BUSY = Reset(ResetCode.REFUSED, "this node has enough of speed tests just now")
UNKNOWN = Reset(ResetCode.INTERNAL, "this node does not understand this speed test: it is of another version")
OVER = Reset(ResetCode.TIMEOUT, "the speed test took too long")


class Answers:
    """Takes the flows of speed tests instead of the egress leg.

    `who`: a relay answers only what is for the next node. `enabled` False: none is answered.
    """

    def __init__(self, who: Answerer, enabled: bool) -> None:
        self.now_ms = 0
        self.flows: set[AnswerFlow] = set()
        self._who = who
        self._enabled = enabled

    def takes(self, request: Open) -> bool:
        """Whether this flow ends here."""
        target = request.target
        if target is None or target.host != messages.NAME:
            return False
        return self._who is Answerer.SERVER or target.port == Place.NEXT

    def dial(self, request: Open, now_ms: int) -> Flow | Reset:
        """As of an egress leg."""
        if not self._enabled:
            return OFF
        if len(self.flows) >= MOST_FLOWS:
            return BUSY
        self.now_ms = now_ms
        flow = BulkAnswer(self, self._who) if request.kind is TCP else ProbeAnswer(self)
        self.flows.add(flow)
        return flow

    def advance(self, now_ms: int) -> None:
        """Serve every timer that is due. Before the legs, so that they find the time set."""
        self.now_ms = now_ms
        for flow in list(self.flows):
            flow.advance(now_ms)

    def deadline(self) -> int | None:
        return min((flow.due_ms for flow in self.flows), default=None)


class AnswerFlow(Flow):
    """What both kinds have in common: a short life."""

    def __init__(self, kind: Kind, answers: Answers) -> None:
        super().__init__(kind)
        self.answers = answers
        self.expires_ms = self.due_ms = answers.now_ms + LIFE_MS

    def advance(self, now_ms: int) -> None:
        """Abort what has lasted too long."""
        if now_ms >= self.expires_ms:
            self.give_up(OVER)

    def give_up(self, reason: Reset) -> None:
        """Abort it from here."""
        splice = self.splice
        self.release()
        if splice is not None:
            splice.on_reset(self, reason)

    def reset(self, reason: Reset) -> None:
        self.release()

    def release(self) -> None:
        self.closed = True
        self.answers.flows.discard(self)

    def readable(self) -> None:
        if self.splice is not None:
            self.splice.ready(self, READABLE)


class BulkAnswer(AnswerFlow):
    """A TCP flow: sends for a while, or counts what comes and says so."""

    def __init__(self, answers: Answers, who: Answerer) -> None:
        super().__init__(TCP, answers)
        self._who = who
        self._head = bytearray()
        self._out = bytearray()
        self._what: What | None = None
        self._until_ms = 0
        self._ends = False
        self._received = self._told = 0
        self._first_ms = self._last_ms = 0

    def write(self, data: bytes) -> int:
        self.take(data)
        return len(data)

    @property
    def room(self) -> int:
        return 0 if self.closed else ROOM_BYTES

    def read(self, limit: int) -> bytes | None:
        if self._out:
            data = bytes(self._out[:limit])
            del self._out[:limit]
            return data
        if self._ends:
            return b""
        return BLOCK[:limit] if self._what is What.SEND else None

    def end(self) -> None:
        if self._what is not What.SEND:
            self._report()
            self._ends = True
        self.readable()

    def advance(self, now_ms: int) -> None:
        super().advance(now_ms)
        if self.closed or now_ms < self.due_ms:
            return
        if self._what is What.SEND:
            self._ends = True
            self.due_ms = self.expires_ms
        else:
            self._report()
            self.due_ms = self.expires_ms if self._ends else now_ms + messages.REPORT_EVERY_MS
        self.readable()

    def take(self, data: bytes) -> None:
        """Bytes came."""
        if self._what is None:
            missing = messages.REQUEST_BYTES - len(self._head)
            self._head += data[:missing]
            data = data[missing:]
            if len(self._head) < messages.REQUEST_BYTES:
                return
            self._start()
        if data and self._what is What.RECEIVE:
            now_ms = self.answers.now_ms
            if not self._received:
                self._first_ms = now_ms
                self.due_ms = now_ms + messages.REPORT_EVERY_MS
            self._received += len(data)
            self._last_ms = now_ms

    def _start(self) -> None:
        request = messages.read_request(self._head)
        if request is None:
            self.give_up(UNKNOWN)
            return
        self._what = request.what
        self._out += messages.pack_answer(self._who, request.ms)
        if request.what is What.SEND:
            self.due_ms = self.answers.now_ms + request.ms
        self.readable()

    def _report(self) -> None:
        if self._received > self._told and len(self._out) < WAITING_REPORT_BYTES:
            self._told = self._received
            self._out += messages.pack_report(Report(self._last_ms - self._first_ms, self._received))


class ProbeAnswer(AnswerFlow):
    """A UDP flow: sends every probe back, with the number of those that came."""

    def __init__(self, answers: Answers) -> None:
        super().__init__(UDP, answers)
        self._seen = 0
        self._waiting: list[bytes] = []

    def send_packets(self, packets: list[bytes]) -> int:
        for packet in packets:
            answer = messages.answer_probe(packet, self._seen + 1)
            if answer is not None:
                self._seen += 1
                if len(self._waiting) < WAITING_PROBES:
                    self._waiting.append(answer)
        self.readable()
        return len(packets)

    def recv_packets(self, limit: int) -> list[bytes]:
        given, self._waiting = self._waiting[:limit], self._waiting[limit:]
        return given

    def end(self) -> None:
        """The association is over; `release` follows."""
