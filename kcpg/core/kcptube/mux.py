"""A link that many flows share, each under a number that the dialer chose.

kcptube gives the flows of such a link no windows of their own. Here what their readers do not take is kept up
to a limit; then the whole link waits, which stops the sender, and a reader that takes nothing at all
meanwhile is cut off, so that the others go on.

A flow begins with its first message and ends with MUX_CANCEL. kcptube closes both ways then; here it is the
end of one direction, or a reset if its last byte says so, and a second one means that the peer has forgotten
the flow. After our end an empty MUX_DATA asks just that: kcptube answers it with a MUX_CANCEL, a node of ours
only if the flow is over.

A listener of ours sends an empty MUX_DATA before its end. So a dialer that has sent its end and then gets
nothing but MUX_CANCEL knows that a kcptube has cut the answer off.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from kcpg.core.flow import READABLE, WRITABLE, Kind, Open, Reset, ResetCode
from kcpg.core.kcptube import messages
from kcpg.core.kcptube.flow import TubeFlow
from kcpg.core.kcptube.link import END_GRACE_MS, Link, LinkState
from kcpg.core.kcptube.messages import Carries
from kcpg.core.plainwire import WAKE_SEGMENTS
from kcpg.core.units import earliest

if TYPE_CHECKING:
    from collections.abc import Callable

    from kcpg.core.kcptube.link import LinkOwner
    from kcpg.core.kcptube.wire import Conv

INBOX_BYTES = 1 << 20  # Of one flow, before the link waits for its reader: some 100 ms of a fast line

INBOXES_BYTES = 16 << 20  # Of all flows of a link, before it waits for any of them

INBOX_PACKETS = 256  # Of one UDP flow; more are dropped

STALL_MS = 30_000  # A reader that took nothing for this long while the link waited for it is cut off

QUANTUM_SEGMENTS = 32  # What a flow queues before the others that wait have their turn

# How long, and how many, numbers that are over are remembered (kcptube: 15 s): late data for one does not
# open it again.
TOMBSTONE_MS = 30_000
TOMBSTONES = 4096

MAX_FLOWS = 65_535

ID_TRIES = 16  # Draws of a free number; with MAX_FLOWS of 2^32 in use the first is nearly always one


class MuxLink(Link):
    """`on_flow` None: this end dials."""

    def __init__(
        self,
        owner: LinkOwner,
        conv: Conv,
        dials: bool,
        keep_alive_ms: int,
        entropy: Callable[[int], bytes],
        on_flow: Callable[[TubeFlow, Open], None] | None,
    ) -> None:
        super().__init__(owner, conv, Carries.MUX, dials, keep_alive_ms)
        self.flows: dict[int, TubeFlow] = {}
        self._entropy = entropy
        self._on_flow = on_flow
        self._held = 0
        self._blocked_ms: int | None = None
        self._waiting: dict[TubeFlow, None] = {}
        self._ending: dict[TubeFlow, None] = {}
        self._tombstones: OrderedDict[int, int] = OrderedDict()

    @property
    def flow_count(self) -> int:
        return len(self.flows)

    @property
    def full(self) -> bool:
        """It carries no further flow."""
        return len(self.flows) >= MAX_FLOWS

    def dial(self, flow: TubeFlow, wanted: Open) -> None:
        """Open a flow: what tells the peer leaves at once, so that it may speak first."""
        carries = messages.CARRIES[wanted.kind]
        number = next(n for n in self._numbers() if n not in self.flows and n not in self._tombstones)
        self._add(flow, number)
        if wanted.target is not None:
            self.conv.send(messages.mux_target(carries, number, wanted.target))
        elif wanted.kind is Kind.TCP:
            self.conv.send(messages.mux_data(carries, number))
        flow.notice(WRITABLE)

    def _numbers(self) -> list[int]:
        drawn = self._entropy(4 * ID_TRIES)
        return [int.from_bytes(drawn[i : i + 4], "big") for i in range(0, len(drawn), 4)]

    def _add(self, flow: TubeFlow, number: int) -> None:
        self.flows[number] = flow
        self.counters.flows_opened += 1
        flow.attach(self, number)

    # -- out --

    def prefix(self, flow: TubeFlow) -> bytes:
        return messages.mux_data(messages.CARRIES[flow.kind], flow.number)

    def room(self, flow: TubeFlow) -> int:
        """Flows that wait take turns."""
        room = self.conv.kcp.room
        if flow.quota <= 0 and room and not self._waiting:
            flow.quota = QUANTUM_SEGMENTS
        if room == 0 or flow.quota <= 0:
            self._waiting[flow] = None
            self._want_room(room)
            return 0
        return min(room, flow.quota) * (self.conv.chunk_bytes - messages.ID_BYTES)

    def _want_room(self, room: int) -> None:
        if room >= WAKE_SEGMENTS:
            self.conv.raise_events(WRITABLE)
        else:
            self.conv.want_room = True

    def has_room(self) -> None:
        for _ in range(len(self._waiting)):
            if self.conv.kcp.room == 0:
                break
            flow = next(iter(self._waiting))
            del self._waiting[flow]
            flow.quota = QUANTUM_SEGMENTS
            flow.notice(WRITABLE)
        if self._waiting:
            self._want_room(self.conv.kcp.room)

    # -- in --

    def receive(self) -> None:
        """As far as the inboxes hold it."""
        while self.state is not LinkState.CLOSED and not self._is_blocked():
            message = self.conv.recv()
            if message is None:
                return
            if message:
                self._message(message)

    def fill(self, flow: TubeFlow) -> None:
        """The link gives what it has by itself."""

    def drained(self, flow: TubeFlow, size: int) -> None:
        self._held -= size
        if self._blocked_ms is not None and not self._is_blocked():
            self.conv.raise_events(READABLE)

    def _is_blocked(self) -> bool:
        blocked = self._held >= INBOXES_BYTES or (
            self._held >= INBOX_BYTES and any(flow.held >= INBOX_BYTES for flow in self.flows.values())
        )
        if not blocked:
            self._blocked_ms = None
        elif self._blocked_ms is None:
            self._blocked_ms = self.now_ms
            self.owner.link_touched(self)
        return blocked

    def _message(self, message: bytes) -> None:
        carries, feature = messages.split(message)
        if feature not in (messages.MUX_DATA, messages.MUX_CANCEL, messages.MUX_TARGET):
            if not self.control(carries, feature):
                self.unknown()
            return
        number = messages.read_id(message)
        if number is None or carries not in (Carries.TCP, Carries.UDP):
            self.unknown()
            return
        flow = self.flows.get(number)
        if feature == messages.MUX_CANCEL:
            if flow is not None:
                self._canceled(flow, messages.read_code(message))
        elif flow is None:
            self._stranger(Carries(carries), feature, number, message)
        elif feature == messages.MUX_DATA:
            self._take(flow, message[messages.ID_BYTES :])

    def _take(self, flow: TubeFlow, piece: bytes) -> None:
        flow.heard_since_end = flow.end_sent
        if flow.heard_end or (not piece and flow.kind is Kind.TCP):
            return
        if flow.kind is Kind.UDP and len(flow.inbox) >= INBOX_PACKETS:
            self.conv.wire.drop("packets_overflow")
            return
        flow.offer(piece)
        self._held += len(piece)
        flow.notice(READABLE)

    def _stranger(self, carries: Carries, feature: int, number: int, message: bytes) -> None:
        """A message for a flow that is not here: it opens it, or is told that it is over."""
        if self._on_flow is None or number in self._tombstones or self.full:
            self._cancel(carries, number)
            return
        target = None
        if feature == messages.MUX_TARGET:
            target = messages.read_mux_target(message)
            if target is None:
                self.unknown()
                self._cancel(carries, number)
                return
        flow = TubeFlow(messages.KIND_OF[carries])
        self._add(flow, number)
        if feature == messages.MUX_DATA and (len(message) > messages.ID_BYTES or flow.kind is Kind.UDP):
            flow.offer(message[messages.ID_BYTES :])
            self._held += flow.held
        self._on_flow(flow, Open(flow.kind, target, ""))

    def _cancel(self, carries: int, number: int) -> None:
        if self.conv.kcp.queued < 4 * WAKE_SEGMENTS:
            self.conv.send(messages.mux_cancel(carries, number))
        else:
            self.conv.wire.drop("control_overflow")

    def _canceled(self, flow: TubeFlow, code: ResetCode | None) -> None:
        if code is None and self._cuts_off(flow):
            code = ResetCode.RESET_BY_APPLICATION
        if code is None and not flow.heard_end and flow.kind is Kind.TCP:
            if flow.ended:
                self._send_end(flow)
            flow.hear_end()
        elif code is None and flow.kind is Kind.UDP:
            flow.hear_end()
        elif code is not None or not flow.ended:  # else it is the answer to our question after the end
            self._forget(flow)
            self.counters.flows_reset += 1
            code = ResetCode.RESET_BY_APPLICATION if code is None else code
            flow.aborted(Reset(code, "the other end has closed the flow"))

    def _cuts_off(self, flow: TubeFlow) -> bool:
        """A kcptube answers our end by this, whatever was to come."""
        unanswered = flow.end_sent and not flow.heard_since_end and not flow.heard_end
        return self.dials and flow.kind is Kind.TCP and unanswered

    # -- ends --

    def flow_ended(self, flow: TubeFlow) -> None:
        if flow.kind is Kind.TCP and self.dials and not flow.heard_end:
            flow.end_at_ms = max(self.now_ms, flow.moved_ms) + END_GRACE_MS
            self._ending[flow] = None
            self.owner.link_touched(self)
        else:
            self._send_end(flow)

    def _send_end(self, flow: TubeFlow) -> None:
        if flow.end_sent:
            return
        flow.end_sent, flow.end_at_ms = True, None
        self._ending.pop(flow, None)
        carries = messages.CARRIES[flow.kind]
        tcp = flow.kind is Kind.TCP
        if tcp and not self.dials:
            self.conv.send(messages.mux_data(carries, flow.number))
        self.conv.send(messages.mux_cancel(carries, flow.number))
        if tcp and not flow.heard_end:
            self.conv.send(messages.mux_data(carries, flow.number))

    def flow_reset(self, flow: TubeFlow, reason: Reset) -> None:
        self.counters.flows_reset += 1
        carries = messages.CARRIES[flow.kind]
        self.conv.send(messages.mux_cancel(carries, flow.number, reason.code))
        self._forget(flow)

    def flow_released(self, flow: TubeFlow) -> None:
        self.counters.flows_finished += 1
        self._send_end(flow)
        self._forget(flow)

    def _forget(self, flow: TubeFlow) -> None:
        self.flows.pop(flow.number, None)
        self._waiting.pop(flow, None)
        self._ending.pop(flow, None)
        while len(self._tombstones) >= TOMBSTONES:
            self._tombstones.popitem(last=False)
        self._tombstones[flow.number] = self.now_ms + TOMBSTONE_MS

    def abort_flows(self, reason: Reset) -> None:
        flows, self.flows = self.flows, {}
        self._waiting.clear()
        self._ending.clear()
        for flow in flows.values():
            self.counters.flows_reset += 1
            flow.aborted(reason)

    # -- time --

    def advance(self, now_ms: int) -> None:
        while self._tombstones and next(iter(self._tombstones.values())) <= now_ms:
            self._tombstones.popitem(last=False)
        for flow in list(self._ending):
            at_ms = max(flow.end_at_ms or 0, flow.moved_ms + END_GRACE_MS)
            if at_ms <= now_ms:
                self._send_end(flow)
            flow.end_at_ms = at_ms
        if self._blocked_ms is not None and now_ms - self._blocked_ms >= STALL_MS:
            self._cut_off(now_ms)
        super().advance(now_ms)

    def _cut_off(self, now_ms: int) -> None:
        stalled = [flow for flow in self.flows.values() if flow.held and now_ms - flow.moved_ms >= STALL_MS]
        self._blocked_ms = now_ms
        for flow in stalled:
            self.counters.flows_stalled += 1
            reason = Reset(ResetCode.TIMEOUT, "its reader held up the other flows of a mux tunnel")
            self.flow_reset(flow, reason)
            flow.aborted(reason)

    def deadline(self) -> int | None:
        """Tombstones need no punctuality."""
        due_ms = super().deadline()
        if due_ms is None:
            return None
        ends = [flow.end_at_ms for flow in self._ending if flow.end_at_ms is not None]
        due_ms = earliest(due_ms, min(ends, default=None))
        return due_ms if self._blocked_ms is None else earliest(due_ms, self._blocked_ms + STALL_MS)
