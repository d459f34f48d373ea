"""One data conversation with its peer: what both kinds of links have in common, and the plain kind.

A plain link carries one flow. kcptube has no half-close: its DISCONNECT closes both ways at the receiver.
Here it is the end of one direction, and the other one goes on as long as the peer answers; so between two
nodes of ours a half-close works, and towards kcptube it ends as with kcptube.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from kcpg.core.flow import READABLE, WRITABLE, Kind, Reset, ResetCode
from kcpg.core.kcp.params import MAX_FRAGMENTS
from kcpg.core.kcptube import messages
from kcpg.core.kcptube.messages import Carries
from kcpg.core.units import earliest

if TYPE_CHECKING:
    from kcpg.core.kcptube.flow import TubeFlow
    from kcpg.core.kcptube.wire import Conv

IDLE_MS = 255_000  # A link that was silent for this long is over: kcptube has forgotten it by then

# The same of a mux link. A dialer gives it up first, as kcptube's does: it must not take a flow to a listener
# that has forgotten the link a moment ago.
IDLE_MUX_MS = 31_000
IDLE_MUX_LISTENER_MS = 40_000

# Silence after which the peer is asked for a sign of life where `keep_alive` is not set: often enough that a
# lost answer or two leaves the link alive. A UDP flow may end by silence.
ASK_MS = {Carries.TCP: 60_000, Carries.UDP: IDLE_MS, Carries.MUX: 10_000}

# A dialer tells the end of what the application sends only after this long without an answer: kcptube cuts
# off an answer that is under way. Most come within this.
END_GRACE_MS = 1000

# kcptube takes a path that it has probed at its next transmission, but forgets the path 8 s after the probe.
# A peer that may have probed, and is silent since, is asked in time, so that its answer takes the path.
PROBED_ASK_MS = (4000, 6000)
PROBED_HEARD_MS = 1000  # What comes within this of the probe may still have taken the former path

SILENT_MS = 5000  # A peer that owes an answer for this long is looked for by another path

# After our end the peer is asked so often whether it still knows the conversation, and after so long a
# silence it does not: kcptube forgets it at once. Longer than the usual outage.
CLOSED_ASK_MS = 2000
CLOSED_SILENT_MS = 10_000

DRAIN_MS = 2000  # A link that is over acknowledges what the peer repeats for this long: some of its time-outs

# Answers that wait for acknowledgement; a peer that asks for more without acknowledging gets none.
CONTROL_QUEUE = 512


class LinkState(Enum):
    """What a link is doing."""

    FRESH = "fresh"  # Nothing came on its conversation yet (listener)
    UP = "up"
    DRAINING = "draining"  # Its flow is over; what was accepted is still delivered
    CLOSED = "closed"


@dataclass(slots=True)
class LinkCounters:
    """One link's life in numbers."""

    flows_opened: int = 0
    flows_finished: int = 0
    flows_reset: int = 0
    flows_stalled: int = 0  # Of these: cut off because a reader that took nothing held up the others
    messages_unknown: int = 0  # Messages that mean nothing here
    packets_too_long: int = 0
    moves: int = 0
    hops: int = 0
    hops_failed: int = 0


class LinkOwner(Protocol):
    """What a link asks of its leg."""

    now_ms: int

    def link_touched(self, link: Link) -> None:
        """Its deadline may have come nearer."""

    def link_over(self, link: Link, reason: Reset | None) -> None:
        """It is closed, for good. None: cleanly."""

    def link_taken(self, link: Link, flow: TubeFlow) -> None:
        """The node has reached what this flow, which came in, wants (listener)."""

    def link_refused(self, link: Link, reason: Reset) -> bool:
        """The flow of a new plain link is refused. False: the peer knows the link already (listener)."""


class Link:
    """Base of both kinds. `ask_ms`: silence after which the peer is asked for a sign of life."""

    def __init__(
        self, owner: LinkOwner, conv: Conv, carries: Carries, dials: bool, keep_alive_ms: int
    ) -> None:
        self.owner = owner
        self.conv = conv
        self.carries = carries
        self.dials = dials
        self.state = LinkState.UP if dials else LinkState.FRESH
        self.counters = LinkCounters()
        self.since_ms = owner.now_ms
        self.ask_ms = keep_alive_ms or ASK_MS[carries]
        self.idle_ms = IDLE_MS
        if carries is Carries.MUX:
            self.idle_ms = IDLE_MUX_MS if dials else IDLE_MUX_LISTENER_MS
        if keep_alive_ms:
            self.idle_ms = max(self.idle_ms, 3 * keep_alive_ms)
        self._asked_ms = owner.now_ms
        self._probed_ms: list[int] = []  # when to ask after a probe
        self._peer = b""
        conv.user = self

    @property
    def now_ms(self) -> int:
        """The leg's clock."""
        return self.owner.now_ms

    @property
    def peer(self) -> bytes:
        """The peer's address; empty while there is none."""
        if self.conv.path is not None:
            self._peer = self.conv.path[1]
        return self._peer

    @property
    def rtt_ms(self) -> int:
        """-1: not measured."""
        return self.conv.kcp.srtt_ms if self.conv.kcp.snd_una else -1

    @property
    def silent_ms(self) -> int:
        """How long nothing came."""
        return self.now_ms - self.conv.heard_ms

    @property
    def owed(self) -> bool:
        """The peer has to acknowledge something."""
        return self.conv.kcp.in_flight > 0

    @property
    def is_doubtful(self) -> bool:
        """The peer owes an answer and is not heard."""
        return self.owed and self.silent_ms >= SILENT_MS

    @property
    def is_ending(self) -> bool:
        """Silence is to be expected: kcptube forgets a link at its end."""
        return False

    @property
    def flow_count(self) -> int:
        """Flows that it carries."""
        raise NotImplementedError

    def ready(self, events: int) -> None:
        """The conversation has events."""
        if self.state is LinkState.FRESH:
            self.state = LinkState.UP
        if events & READABLE:
            self.receive()
        if events & WRITABLE and self.state is not LinkState.CLOSED:
            self.has_room()
        self.owner.link_touched(self)

    def greet(self) -> None:
        """Speak first: the peer learns our path, and may speak."""
        self._ask()

    def probed(self) -> None:
        """The peer's host has probed a path, perhaps for this link (listener)."""
        self._probed_ms = [self.now_ms + ms for ms in PROBED_ASK_MS]
        self.owner.link_touched(self)

    def advance(self, now_ms: int) -> None:
        """Serve the timers."""
        if self.silent_ms >= self.idle_ms:
            self.close(Reset(ResetCode.LINK_LOST, f"nothing came for {self.silent_ms // 1000} s"))
        elif self.state is LinkState.UP and self._ask_at() <= now_ms:
            self._ask_for_a_sign()

    def deadline(self) -> int | None:
        """When `advance` has something to do."""
        if self.state is LinkState.CLOSED:
            return None
        idle_ms = self.conv.heard_ms + self.idle_ms
        return min(idle_ms, self._ask_at()) if self.state is LinkState.UP else idle_ms

    def close(self, reason: Reset | None) -> None:
        """Forget everything at once; flows that are left are aborted."""
        if self.state is LinkState.CLOSED:
            return
        self.state = LinkState.CLOSED
        if reason is not None:
            self.abort_flows(reason)
        self.conv.close()
        self.owner.link_over(self, reason)

    # -- for flows --

    def fill(self, flow: TubeFlow) -> None:
        """Its inbox is empty: put in what is there."""
        raise NotImplementedError

    def drained(self, flow: TubeFlow, size: int) -> None:
        """Bytes left its inbox."""

    def room(self, flow: TubeFlow) -> int:
        """Bytes that `write` takes."""
        raise NotImplementedError

    def prefix(self, flow: TubeFlow) -> bytes:
        """What stands before its bytes in a message."""
        raise NotImplementedError

    def write(self, flow: TubeFlow, data: bytes) -> int:
        """Send bytes of a TCP flow, a segment to a message; all of them, as room said so."""
        if flow.end_sent:
            return len(data)
        prefix = self.prefix(flow)
        step = self.conv.chunk_bytes - len(prefix)
        for at in range(0, len(data), step):
            self.conv.send(prefix + data[at : at + step])
            flow.quota -= 1
        return len(data)

    def send_packet(self, flow: TubeFlow, packet: bytes) -> bool:
        """Send a packet of a UDP flow. False: no room."""
        message = self.prefix(flow) + packet
        if len(message) > MAX_FRAGMENTS * self.conv.chunk_bytes:
            self.counters.packets_too_long += 1
            return False
        if not self.conv.fits(len(message)):
            self.conv.want_room = True
            return False
        self.conv.send(message)
        return True

    def flow_ended(self, flow: TubeFlow) -> None:
        """Nothing more is written into it."""
        raise NotImplementedError

    def flow_reset(self, flow: TubeFlow, reason: Reset) -> None:
        """It was aborted here: tell the peer."""
        raise NotImplementedError

    def flow_released(self, flow: TubeFlow) -> None:
        """It is over in both directions."""
        raise NotImplementedError

    def flow_taken(self, flow: TubeFlow) -> None:
        """The node has reached what it wants."""
        flow.asked = False
        self.owner.link_taken(self, flow)

    # -- for the two kinds --

    def receive(self) -> None:
        """Take the messages that are there."""
        raise NotImplementedError

    def has_room(self) -> None:
        """There is room again."""
        raise NotImplementedError

    def abort_flows(self, reason: Reset) -> None:
        """The link is gone."""
        raise NotImplementedError

    def control(self, carries: int, feature: int) -> bool:
        """Whether this was a message about the link itself; answers it."""
        if feature == messages.KEEP_ALIVE:
            if self.conv.kcp.queued < CONTROL_QUEUE:
                self.conv.send(messages.short(carries, messages.KEPT_ALIVE))
            else:
                self.conv.wire.drop("control_overflow")
            return True
        return feature == messages.KEPT_ALIVE

    def unknown(self) -> None:
        """A message that means nothing here."""
        self.counters.messages_unknown += 1
        self.conv.wire.drop("message_unknown")

    def _ask_at(self) -> int:
        silent_ms = max(self.conv.heard_ms, self._asked_ms) + self.ask_ms
        return min(silent_ms, self._probed_ms[0]) if self._probed_ms else silent_ms

    def _ask_for_a_sign(self) -> None:
        """Ask, unless a question after a probe is not needed any more."""
        if self._probed_ms and self._probed_ms[0] <= self.now_ms:
            probe_ms = self._probed_ms[-1] - PROBED_ASK_MS[-1]
            del self._probed_ms[0]
            if self.conv.heard_ms > probe_ms + PROBED_HEARD_MS:
                self._probed_ms.clear()
                return
        self._ask()

    def _ask(self) -> None:
        self._asked_ms = self.now_ms
        if self.conv.kcp.queued < CONTROL_QUEUE:
            self.conv.send(messages.short(self.carries, messages.KEEP_ALIVE))


class PlainLink(Link):
    """A link for one TCP or UDP flow, and for nothing after it."""

    def __init__(self, owner: LinkOwner, conv: Conv, flow: TubeFlow, dials: bool, keep_alive_ms: int) -> None:
        carries = messages.CARRIES[flow.kind]
        super().__init__(owner, conv, carries, dials, keep_alive_ms)
        self.flow: TubeFlow | None = flow
        self._prefix = messages.header(carries, messages.DATA)
        self._over_ms = 0
        self.counters.flows_opened = 1
        flow.attach(self)

    @property
    def is_ending(self) -> bool:
        return self.flow is None or self.flow.end_sent or self.flow.heard_end

    @property
    def flow_count(self) -> int:
        return int(self.flow is not None)

    def prefix(self, flow: TubeFlow) -> bytes:
        return self._prefix

    def room(self, flow: TubeFlow) -> int:
        room = self.conv.kcp.room
        if room == 0:
            self.conv.want_room = True
        return room * (self.conv.chunk_bytes - len(self._prefix))

    def has_room(self) -> None:
        if self.flow is not None:
            self.flow.notice(WRITABLE)

    # -- in --

    def receive(self) -> None:
        """What is for the flow waits until it is read, unless there is no flow any more."""
        flow = self.flow
        if flow is None:
            while self.conv.recv() is not None:
                pass
            return
        self.fill(flow)
        if self.flow is flow and (flow.inbox or flow.heard_end):
            flow.notice(READABLE)

    def fill(self, flow: TubeFlow) -> None:
        """At most one message, so that KCP's window is what bounds the rest."""
        while not flow.inbox and not flow.closed:
            message = self.conv.recv()
            if message is None:
                return
            if message:
                self._message(flow, message)

    def _message(self, flow: TubeFlow, message: bytes) -> None:
        carries, feature = messages.split(message)
        if feature == messages.DATA and carries == self.carries:
            if not flow.heard_end and (len(message) > 1 or flow.kind is Kind.UDP):
                flow.offer(message[1:])
        elif feature == messages.DISCONNECT:
            self._peer_ended(flow)
        elif feature == messages.FAILURE:
            self.counters.flows_reset += 1
            self._finish()
            flow.aborted(messages.read_reason(message, ResetCode.RESET_BY_APPLICATION))
        elif not self.control(carries, feature):
            self.unknown()

    def _peer_ended(self, flow: TubeFlow) -> None:
        if flow.heard_end:
            return
        if flow.ended:
            self._send_end(flow)
        flow.heard_end = True

    # -- out, and ends --

    def flow_ended(self, flow: TubeFlow) -> None:
        if flow.kind is Kind.UDP:
            return
        if self.dials and not flow.heard_end:
            flow.end_at_ms = max(self.now_ms, flow.moved_ms) + END_GRACE_MS
            self.owner.link_touched(self)
        else:
            self._send_end(flow)

    def _send_end(self, flow: TubeFlow) -> None:
        if not flow.end_sent:
            flow.end_sent, flow.end_at_ms = True, None
            self.conv.send(messages.short(self.carries, messages.DISCONNECT))
            self.owner.link_touched(self)

    def flow_reset(self, flow: TubeFlow, reason: Reset) -> None:
        """A kcptube server may take FAILURE for nothing, so the end follows it."""
        self.counters.flows_reset += 1
        if not self.owner.link_refused(self, reason) and flow.kind is Kind.TCP:
            self.conv.send(messages.pack_failure(self.carries, reason))
            self.conv.send(messages.short(self.carries, messages.DISCONNECT))
        self._finish()

    def flow_released(self, flow: TubeFlow) -> None:
        self.counters.flows_finished += 1
        if flow.kind is Kind.TCP:
            self._send_end(flow)
        self._finish()

    def abort_flows(self, reason: Reset) -> None:
        flow, self.flow = self.flow, None
        if flow is not None:
            self.counters.flows_reset += 1
            flow.aborted(reason)

    def _finish(self) -> None:
        self.flow = None
        if self.state is not LinkState.CLOSED:
            self.state = LinkState.DRAINING
            self._over_ms = self.now_ms
            self.owner.link_touched(self)

    # -- time --

    def advance(self, now_ms: int) -> None:
        if self.state is LinkState.DRAINING:
            if self._drained_at() <= now_ms:
                self.close(None)
            return
        flow = self.flow
        if flow is not None and flow.end_at_ms is not None:
            flow.end_at_ms = max(flow.end_at_ms, flow.moved_ms + END_GRACE_MS)
            if flow.end_at_ms <= now_ms:
                self._send_end(flow)
        if flow is not None and flow.end_sent != flow.heard_end:
            if self.owed and self.silent_ms >= CLOSED_SILENT_MS:
                self._finish()
                flow.aborted(
                    Reset(ResetCode.RESET_BY_APPLICATION, "the other end has closed both directions")
                )
                return
            if flow.end_sent and self._ended_ask_at() <= now_ms:
                self._ask()
        super().advance(now_ms)

    def deadline(self) -> int | None:
        if self.state is LinkState.CLOSED:
            return None
        if self.state is LinkState.DRAINING:
            return self._drained_at()
        flow, due_ms = self.flow, super().deadline()
        if flow is None:
            return due_ms
        if flow.end_sent and not flow.heard_end:
            due_ms = earliest(due_ms, self._ended_ask_at())
        if flow.end_sent != flow.heard_end and self.owed:
            due_ms = earliest(due_ms, self.conv.heard_ms + CLOSED_SILENT_MS)
        return earliest(due_ms, flow.end_at_ms)

    def _ended_ask_at(self) -> int:
        return max(self._asked_ms, self.conv.heard_ms) + CLOSED_ASK_MS

    def _drained_at(self) -> int:
        """When nothing of the flow can be under way any more."""
        heard_ms = max(self.conv.heard_ms, self._over_ms)
        kcp = self.conv.kcp
        return heard_ms + (DRAIN_MS if kcp.idle and not kcp.owes_ack else CLOSED_SILENT_MS)
