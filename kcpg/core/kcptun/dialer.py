"""The kcptun leg that dials: keeps a number of links, each by a port of its own, that all flows share.

Nothing of the format tells that the other end has forgotten a link, and no link can move to another
port. So when a peer owes an acknowledgement for a while, another link is begun beside the first. If the
peer answers there and goes on being silent here, the first one is over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from kcpg.core.env import REPEAT_EVENT_MS, Env, EventKind, ResolveFailed
from kcpg.core.flow import Kind, Open, Reset, ResetCode
from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.kcptun.flow import StreamFlow
from kcpg.core.kcptun.framestream import StreamSettings
from kcpg.core.kcptun.leg import TunLeg, in_words
from kcpg.core.kcptun.link import Link, LinkState
from kcpg.core.kcptun.wire import Format, TunConv, TunWire
from kcpg.core.native.dial.pathchoice import Destination, PathChoice
from kcpg.core.plainwire import Path
from kcpg.core.units import earliest

MAX_WAITING = 4096  # Flows that wait for a link; each holds an accepted socket of an application
MAX_SLOTS = 100  # Links of one dialer that take flows, each with a socket

# A link that nobody acknowledged for this long is begun again elsewhere. By then KCP has sent its first
# segment four times.
CALL_MS = 5000

SCAVENGE_MS = 600_000  # How long a link goes on serving its flows once another takes the new ones: kcptun's


@dataclass(frozen=True, slots=True)
class DialSettings:
    """How a TunDialer works. `tunnels`: links that all flows share. `expire_ms`: age at which a link
    gets no more flows; 0: never."""

    name: str
    targets: Sequence[Destination]
    format: Format = field(default_factory=Format)
    kcp: KcpParams = field(default_factory=KcpParams)
    streams: StreamSettings = field(default_factory=StreamSettings)
    outbound_bps: int = 0
    tunnels: int = 1
    expire_ms: int = 0
    scavenge_ms: int = SCAVENGE_MS
    flow_wait_ms: int = 30_000  # How long a flow waits for a link before it is reset


class TunDialer(TunLeg):
    """The dialling leg of a node (`node.EgressLeg`)."""

    def __init__(self, settings: DialSettings, env: Env, wire: type[TunWire] | None = None) -> None:
        super().__init__(settings.name, settings.format, settings.kcp, settings.outbound_bps, env, wire)
        self.settings = settings
        self.choice = PathChoice(settings.targets, env.rng, env.source_key)
        self._running = False
        self._slots = [_Slot(self) for _ in range(min(max(settings.tunnels, 1), MAX_SLOTS))]
        self._waiting: deque[tuple[StreamFlow, int]] = deque()

    def start(self, now_ms: int) -> None:
        """Links are begun at once."""
        self._clock(now_ms)
        self._running = True
        self.wire.alert = True

    def dial(self, wanted: Open, now_ms: int) -> StreamFlow | Reset:
        self._clock(now_ms)
        refusal = self._refusal(wanted)
        if refusal is not None:
            self.counters.flows_refused += 1
            return refusal
        flow = StreamFlow()
        link = self._link() if not self._waiting else None
        if link is not None:
            link.dial(flow)
        elif len(self._waiting) >= MAX_WAITING:
            return Reset(ResetCode.UNREACHABLE, f"{MAX_WAITING} flows wait for a link already")
        else:
            self._waiting.append((flow, now_ms))
            self.wire.alert = True
        return flow

    def _refusal(self, wanted: Open) -> Reset | None:
        if not self._running:
            return Reset(ResetCode.SHUTDOWN, "this node is not running")
        if wanted.kind is not Kind.TCP:
            return Reset(ResetCode.REFUSED, "kcptun's protocol carries no UDP")
        if wanted.target is not None:
            return Reset(ResetCode.REFUSED, "kcptun's protocol cannot name a target: the server has its own")
        return None

    def close(self, now_ms: int, reason: str) -> None:
        """There is no farewell but those of flows, which were reset."""
        self._clock(now_ms)
        self._running = False
        while self._waiting:
            self._waiting.popleft()[0].aborted(Reset(ResetCode.SHUTDOWN, reason))

    # -- LinkOwner --

    def link_up(self, link: Link) -> None:
        self.choice.praise(link.peer)
        self.report(EventKind.LINK_UP, link.peer, f"link up, {in_words(link)}")

    def link_over(self, link: Link, reason: Reset | None) -> None:
        super().link_over(link, reason)
        self.env.close_socket(link.conv.path[0])
        if reason is not None and link.conv.heard:
            self.choice.blame(link.peer, self.now_ms)
            self.report(EventKind.LINK_DOWN, link.peer, f"the link is lost: {reason}", REPEAT_EVENT_MS)
        self.wire.alert = True

    # -- TunLeg --

    def _stranger(self, path: Path, segments: bytes) -> TunConv | None:
        return None

    def _hear(self) -> None:
        for slot in self._slots:
            slot.hear()

    def _serve(self, now_ms: int) -> None:
        if self._running:
            for slot in self._slots:
                slot.advance(now_ms)
        self._serve_waiting(now_ms)

    def _own_deadline(self) -> int | None:
        due_ms = None
        if self._running:
            for slot in self._slots:
                due_ms = earliest(due_ms, slot.deadline())
        if self._waiting:
            due_ms = earliest(due_ms, self._waiting[0][1] + self.settings.flow_wait_ms)
        return due_ms

    # -- inside --

    def begin(self, addr: bytes) -> Link:
        """A link with this address, by a new socket. OSError if there is none."""
        path = (self.env.open_socket(), addr)
        number = int.from_bytes(self.env.entropy(4), "big")
        link = Link(self, self.converse(number, path), self.settings.streams, None)
        self.counters.called += 1
        self.add(link)
        link.greet()
        return link

    def _link(self) -> Link | None:
        """The one with the fewest flows, of those that do not owe us an answer for long."""
        links = [
            slot.link
            for slot in self._slots
            if slot.link is not None
            and slot.link.state is LinkState.UP
            and not (slot.link.full or slot.link.is_doubtful)
        ]
        return min(links, key=lambda each: (each.flow_count, each.counters.flows_opened), default=None)

    def _serve_waiting(self, now_ms: int) -> None:
        while self._waiting:
            flow, since_ms = self._waiting[0]
            if not flow.closed:
                link = self._link()
                if link is not None:
                    link.dial(flow)
                elif now_ms - since_ms >= self.settings.flow_wait_ms:
                    self.counters.flows_unreachable += 1
                    flow.aborted(Reset(ResetCode.UNREACHABLE, "there is no link with the next node"))
                else:
                    return
            self._waiting.popleft()


class _Slot:
    """One of the links that a dialer keeps: the one that takes flows, and another that is to follow it."""

    def __init__(self, dialer: TunDialer) -> None:
        self.link: Link | None = None
        self._dialer = dialer
        self._next: Link | None = None
        self._resolving = False
        self._call_at_ms = 0

    def hear(self) -> None:
        """If the next link is heard it takes the place of the other one."""
        called = self._next
        if called is None or not called.conv.heard or called.state is LinkState.CLOSED:
            return
        self._next = None
        called.heard()
        former, self.link = self.link, called
        if former is not None and former.state is not LinkState.CLOSED:
            if former.is_doubtful:
                former.doubt()
            former.retire(self._dialer.settings.scavenge_ms)

    def advance(self, now_ms: int) -> None:
        """Serve the timers."""
        called, dialer = self._next, self._dialer
        if called is not None and called.since_ms + CALL_MS <= now_ms:
            self._next = None
            dialer.counters.no_answer += 1
            dialer.choice.blame(called.peer, now_ms)
            text = "no answer; wrong address, another password or algorithm, or UDP is blocked"
            dialer.report(EventKind.NO_ANSWER, called.peer, text, REPEAT_EVENT_MS)
            called.close(None)
        if self._next is None and not self._resolving and self._call_at_ms <= now_ms and self._wants(now_ms):
            self._call(now_ms)

    def _wants(self, now_ms: int) -> bool:
        """Another link is wanted."""
        due_ms = self._due_ms()
        return due_ms is None or due_ms <= now_ms

    def _due_ms(self) -> int | None:
        """When another link is wanted, as things are now; None: at once."""
        link, expire_ms = self.link, self._dialer.settings.expire_ms
        if link is None or link.state is not LinkState.UP or link.full:
            return None
        due_ms = link.deadline_of_doubt()
        if expire_ms and link.counters.flows_opened:  # one that nobody uses need not be replaced
            due_ms = min(due_ms, link.since_ms + expire_ms)
        return due_ms

    def deadline(self) -> int | None:
        """When `advance` has something to do."""
        if self._next is not None:
            return self._next.since_ms + CALL_MS
        if self._resolving:
            return None
        due_ms = self._due_ms()
        return self._call_at_ms if due_ms is None else max(due_ms, self._call_at_ms)

    def _call(self, now_ms: int) -> None:
        """Choose a target, look it up, begin."""
        dialer = self._dialer
        host, port = dialer.choice.target(now_ms)
        self._resolving = True
        self._call_at_ms = now_ms + CALL_MS

        def resolved(found: list[bytes] | ResolveFailed) -> None:
            self._resolving = False
            dialer.wire.alert = True
            if not dialer._running:
                return
            if isinstance(found, ResolveFailed):
                dialer.counters.unresolved += 1
                dialer.choice.blame_name(host, dialer.now_ms)
                dialer.report(EventKind.UNRESOLVED, b"", found.text, REPEAT_EVENT_MS)
                return
            try:
                self._next = dialer.begin(dialer.choice.address(host, port, found, dialer.now_ms))
            except OSError as error:
                dialer.counters.sockets_missing += 1
                text = error.strerror or "no socket"
                dialer.report(EventKind.NO_ANSWER, b"", text, REPEAT_EVENT_MS)

        dialer.env.resolve(host, port, resolved)
