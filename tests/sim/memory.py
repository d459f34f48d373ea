"""Local legs without sockets: an application's end of a flow is an `AppSocket`, which behaves like a kernel's
socket.

Buffers on both sides are bounded, so that back-pressure is real. What an application does reaches its node at
the node's next `advance`, as readiness of a real socket would; what the node does reaches the application as
an event of the same virtual time, never from inside the node.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from kcpg.core.flow import READABLE, WRITABLE, Flow, Kind, Open, Reset, ResetCode, Target

BUFFER_BYTES = 65536  # of each direction, a common size of kernel socket buffers
BUFFER_PACKETS = 256  # of each direction of a UDP socket

Soon = Callable[[Callable[[], None]], None]


class App:
    """What an application hears of its socket; actors override. Called as events of their own."""

    def start(self, sock: AppSocket) -> None:
        """The socket is connected."""

    def readable(self, sock: AppSocket) -> None:
        """Bytes, packets or the end are there."""

    def writable(self, sock: AppSocket) -> None:
        """There is room again."""

    def was_reset(self, sock: AppSocket, reason: Reset) -> None:
        """Aborted by the other side."""


class MemoryFlow(Flow):
    """The node's end. `given` and `taken`: bytes or packets that left into the node and came out of it."""

    __slots__ = (
        "__weakref__",
        "app_ended",
        "data",
        "ended",
        "given",
        "leg",
        "packets",
        "packets_lost",
        "sock",
        "starved",
        "taken",
    )

    def __init__(self, leg: MemoryLeg, kind: Kind) -> None:
        super().__init__(kind)
        self.leg = leg
        self.sock: AppSocket | None = None
        self.data = bytearray()  # from the application, TCP
        self.packets: deque[bytes] = deque()  # from the application, UDP
        self.packets_lost = 0  # that the application sent into a full buffer
        self.app_ended = False
        self.ended = False
        self.starved = False  # the node was refused room
        self.given = self.taken = 0

    # -- what the node does ----------------------------------------------------------------------------------

    def read(self, limit: int) -> bytes | None:
        if not self.data:
            return b"" if self.app_ended else None
        chunk = bytes(self.data[:limit])
        del self.data[:limit]
        self.given += len(chunk)
        if self.sock is not None:
            self.sock.tell_writable()
        return chunk

    @property
    def room(self) -> int:
        if self.sock is None:
            return 0
        room = BUFFER_BYTES - len(self.sock.data)
        self.starved = room <= 0
        return room

    def write(self, data: bytes) -> int:
        assert self.sock is not None and not self.ended and not self.closed
        taken = min(len(data), self.room)
        self.sock.data += data[:taken]
        self.taken += taken
        self.sock.tell_readable()
        return taken

    def recv_packet(self) -> bytes | None:
        if not self.packets:
            return None
        self.given += 1
        return self.packets.popleft()

    @property
    def at_end(self) -> bool:
        return self.app_ended and not self.packets

    def send_packet(self, packet: bytes) -> bool:
        if self.sock is None or len(self.sock.packets) >= BUFFER_PACKETS:
            return False
        self.sock.packets.append(packet)
        self.taken += 1
        self.sock.tell_readable()
        return True

    def end(self) -> None:
        if self.ended or self.closed:
            return
        self.ended = True
        if self.sock is not None:
            self.sock.peer_ended = True
            self.sock.tell_readable()

    def reset(self, reason: Reset) -> None:
        if self.closed:
            return
        self.closed = True
        self.leg.forget(self)
        if self.sock is not None:
            self.sock.flow = None
            self.sock.tell_reset(reason)

    def release(self) -> None:
        self.closed = True
        self.leg.forget(self)
        if self.sock is not None:
            self.sock.flow = None


class AppSocket:
    """The application's end."""

    def __init__(self, leg: MemoryLeg, flow: MemoryFlow, app: App) -> None:
        self.leg = leg
        self.flow: MemoryFlow | None = flow
        self.app = app
        self.kind = flow.kind
        self.data = bytearray()  # from the node, TCP
        self.packets: deque[bytes] = deque()  # from the node, UDP
        self.peer_ended = False
        self.reset_reason: Reset | None = None
        self.sent_end = False
        self._told: set[str] = set()

    # -- what the application does ---------------------------------------------------------------------------

    def send(self, data: bytes) -> int:
        """Stream bytes, as many as the buffer takes."""
        assert not self.sent_end
        flow = self.flow
        if flow is None or flow.closed:
            return 0
        taken = min(len(data), BUFFER_BYTES - len(flow.data))
        flow.data += data[:taken]
        if taken:
            self.leg.happened(flow, READABLE)
        return taken

    def recv(self, limit: int) -> bytes | None:
        """None: nothing now; b"": the end."""
        if not self.data:
            return b"" if self.peer_ended else None
        chunk = bytes(self.data[:limit])
        del self.data[:limit]
        flow = self.flow
        if flow is not None and flow.starved:
            flow.starved = False
            self.leg.happened(flow, WRITABLE)
        return chunk

    def send_packet(self, packet: bytes) -> None:
        """As UDP does: gone without a word if the buffer is full."""
        flow = self.flow
        if flow is None or len(flow.packets) >= BUFFER_PACKETS:
            if flow is not None:
                flow.packets_lost += 1
            return
        flow.packets.append(packet)
        self.leg.happened(flow, READABLE)

    def recv_packet(self) -> bytes | None:
        return self.packets.popleft() if self.packets else None

    def end(self) -> None:
        """Half-close."""
        self.sent_end = True
        if self.flow is not None and not self.flow.closed:
            self.flow.app_ended = True
            self.leg.happened(self.flow, READABLE)

    def reset(self) -> None:
        """Abort, as close() with SO_LINGER 0 does."""
        flow, self.flow = self.flow, None
        if flow is not None and not flow.closed:
            self.leg.app_reset(flow)

    # -- what the node did, told as an event -----------------------------------------------------------------

    def tell_readable(self) -> None:
        self._tell("readable", lambda: self.app.readable(self))

    def tell_writable(self) -> None:
        self._tell("writable", lambda: self.app.writable(self))

    def tell_reset(self, reason: Reset) -> None:
        self.reset_reason = reason
        self.data.clear()
        self._tell("reset", lambda: self.app.was_reset(self, reason))

    def _tell(self, what: str, call: Callable[[], None]) -> None:
        if what in self._told:
            return
        self._told.add(what)

        def event() -> None:
            self._told.discard(what)
            call()

        self.leg.soon(event)


class MemoryLeg:
    """What both local legs share. `soon` runs something as an event of now; `dirty` has the node advanced."""

    def __init__(self, soon: Soon, dirty: Callable[[], None]) -> None:
        self.soon = soon
        self.dirty = dirty
        self.flows: dict[MemoryFlow, None] = {}
        self._events: dict[MemoryFlow, int] = {}
        self._resets: list[MemoryFlow] = []
        self.closed = False

    def happened(self, flow: MemoryFlow, events: int) -> None:
        self._events[flow] = self._events.get(flow, 0) | events
        self.dirty()

    def app_reset(self, flow: MemoryFlow) -> None:
        self._resets.append(flow)
        self.dirty()

    def forget(self, flow: MemoryFlow) -> None:
        self.flows.pop(flow, None)
        self._events.pop(flow, None)

    def fail(self, flow: MemoryFlow, reason: Reset) -> None:
        """The flow is aborted from its own side."""
        if flow.closed:
            return
        flow.closed = True
        self.forget(flow)
        if flow.splice is not None:
            flow.splice.on_reset(flow, reason)

    def start(self, now_ms: int) -> None:
        pass

    def advance(self, now_ms: int) -> None:
        resets, self._resets = self._resets, []
        for flow in resets:
            self.fail(flow, Reset(ResetCode.RESET_BY_APPLICATION))
        events, self._events = self._events, {}
        for flow, bits in events.items():
            if flow.splice is not None and not flow.opening:
                flow.splice.ready(flow, bits)

    def deadline(self) -> int | None:
        return 0 if self._events or self._resets else None

    def close(self, now_ms: int, reason: str) -> None:
        assert not self.flows, "the node resets every flow before it closes its legs"
        self.closed = True


class MemoryListener(MemoryLeg):
    """Applications connect to this."""

    def __init__(self, soon: Soon, dirty: Callable[[], None]) -> None:
        super().__init__(soon, dirty)
        self.on_flow: Callable[[Flow, Open, int], None]
        self._asked: list[tuple[MemoryFlow, Open]] = []

    def connect(self, kind: Kind, app: App, target: Target | None = None, source: str = "app") -> AppSocket:
        flow = MemoryFlow(self, kind)
        flow.sock = AppSocket(self, flow, app)
        self.flows[flow] = None
        self._asked.append((flow, Open(kind, target, source)))
        sock = flow.sock
        self.soon(lambda: app.start(sock))
        self.dirty()
        return sock

    def advance(self, now_ms: int) -> None:
        asked, self._asked = self._asked, []
        for flow, open in asked:
            if not flow.closed:
                self.on_flow(flow, open, now_ms)
        super().advance(now_ms)

    def deadline(self) -> int | None:
        return 0 if self._asked else super().deadline()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a target does with a connection after `delay_ms`: an application that takes it, or a reason not
    to.
    """

    delay_ms: int = 0
    app: App | None = None
    refuse: Reset | None = None


class MemoryDialer(MemoryLeg):
    """Connects to applications made by `serve`. A refusal without delay is given by `dial` at once."""

    def __init__(self, soon: Soon, dirty: Callable[[], None], serve: Callable[[Open], Answer]) -> None:
        super().__init__(soon, dirty)
        self.serve = serve
        self._dialling: list[tuple[int, MemoryFlow, Answer]] = []

    def dial(self, open: Open, now_ms: int) -> Flow | Reset:
        answer = self.serve(open)
        if answer.refuse is not None and not answer.delay_ms:
            return answer.refuse
        flow = MemoryFlow(self, open.kind)
        flow.opening = True
        self.flows[flow] = None
        self._dialling.append((now_ms + answer.delay_ms, flow, answer))
        self.dirty()
        return flow

    def advance(self, now_ms: int) -> None:
        due = [entry for entry in self._dialling if entry[0] <= now_ms]
        self._dialling = [entry for entry in self._dialling if entry[0] > now_ms]
        for _, flow, answer in due:
            if not flow.closed:
                self._dialled(flow, answer)
        super().advance(now_ms)

    def _dialled(self, flow: MemoryFlow, answer: Answer) -> None:
        if answer.refuse is not None:
            self.fail(flow, answer.refuse)
            return
        assert answer.app is not None
        app = answer.app
        sock = flow.sock = AppSocket(self, flow, app)
        flow.opening = False
        self.soon(lambda: app.start(sock))
        if flow.splice is not None:
            flow.splice.ready(flow, WRITABLE)

    def deadline(self) -> int | None:
        times = [due_ms for due_ms, _, _ in self._dialling]
        own = super().deadline()
        return min(times if own is None else [*times, own], default=None)
