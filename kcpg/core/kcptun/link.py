"""One link: a conversation that carries many flows, each a stream of smux.

Version 1 of smux gives the flows no windows of their own: what their readers do not take is kept up to a
limit, and then the whole link waits. With version 2 a flow's sender stops for itself.

The end of a direction is a FIN, the only thing that smux knows of ends: an aborted flow ends like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from kcpg.core.flow import READABLE, WRITABLE, Kind, Open, Reset, ResetCode
from kcpg.core.kcptun import smux, snappy
from kcpg.core.kcptun.flow import StreamFlow
from kcpg.core.kcptun.framestream import FrameStream, StreamSettings
from kcpg.core.kcptun.heldends import HeldEnds
from kcpg.core.units import MASK32, diff32, earliest

if TYPE_CHECKING:
    from kcpg.core.kcptube.flow import TubeFlow
    from kcpg.core.kcptun.wire import TunConv

QUANTUM_BYTES = 65536  # What a flow queues before the others that wait have their turn
MAX_FLOWS = 65_535  # Of one link

# Silence of a peer that has to acknowledge something: kcptun's own limit. Every end sends a NOP every 10 s.
OWED_SILENT_MS = 30_000
SILENT_MS = 65_000  # ... of any peer: two NOPs at the longest interval that kcptun takes, and 5 s

# A peer that acknowledges and sends no frame for this long does not understand ours: another smuxver or
# nocomp.
MUTE_MS = 65_000

DOUBT_MS = 3000  # A peer that owes an acknowledgement for this long is looked for by another link
DOUBT_GRACE_MS = 2000  # How long the old link has to be heard once the new one is
DRAIN_MS = 5000  # How long a link without flows, that gets no more, waits for acknowledgements


class LinkState(Enum):
    """What a link is doing."""

    FRESH = "fresh"  # Nothing came that makes it one
    UP = "up"
    RETIRED = "retired"  # It gets no more flows (dialer)
    CLOSED = "closed"


@dataclass(slots=True)
class LinkCounters:
    """One link's life in numbers."""

    flows_opened: int = 0
    flows_finished: int = 0
    flows_reset: int = 0
    frames_unknown: int = 0  # For streams that are not there
    moves: int = 0
    hops: int = 0


class LinkOwner(Protocol):
    """What a link asks of its leg."""

    now_ms: int

    def link_touched(self, link: Link) -> None:
        """Its deadline may have come nearer."""

    def link_up(self, link: Link) -> None:
        """The peer was understood for the first time."""

    def link_over(self, link: Link, reason: Reset | None) -> None:
        """It is closed, for good. None: cleanly."""


class Link:
    """`on_flow` None: this end dials."""

    def __init__(
        self,
        owner: LinkOwner,
        conv: TunConv,
        settings: StreamSettings,
        on_flow: Callable[[StreamFlow, Open], None] | None,
    ) -> None:
        self.owner = owner
        self.conv = conv
        self.settings = settings
        self.dials = on_flow is None
        self.state = LinkState.FRESH
        self.counters = LinkCounters()
        self.since_ms = owner.now_ms
        self.framed_ms = owner.now_ms  # when a frame came last
        self.framed = False
        self.flows: dict[int, StreamFlow] = {}
        self.frames = FrameStream(conv, settings)
        self._on_flow = on_flow
        self._next_stream = smux.FIRST_STREAM
        self._held = 0
        self._blocked = False
        self._waiting: dict[StreamFlow, None] = {}
        self._held_ends = HeldEnds(self.frames, self._send_end)
        self._nop_ms = owner.now_ms + settings.keep_alive_ms
        self._owed_ms = owner.now_ms  # when something was sent after all before was acknowledged
        self._retired_ms = 0
        self._ends_ms: int | None = None  # when a retired link is over, flows or not
        self._doubt: tuple[int, int] | None = None  # heard since the first is well, else over at the second
        conv.user = self

    @property
    def now_ms(self) -> int:
        """The leg's clock."""
        return self.owner.now_ms

    @property
    def peer(self) -> bytes:
        """The peer's address."""
        return self.conv.path[1]

    @property
    def version(self) -> int:
        """Of smux; 0: not known yet."""
        return self.frames.version

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
        """The peer has to acknowledge something, or again what it had acknowledged."""
        return self.conv.kcp.in_flight > 0 or self.conv.is_behind

    @property
    def is_doubtful(self) -> bool:
        """The peer owes an answer and is not heard."""
        return self.owed and self.now_ms - self._unheard_ms >= DOUBT_MS

    @property
    def _unheard_ms(self) -> int:
        """Since when the peer could have answered what it owes, and nothing came."""
        return max(self.conv.heard_ms, self._owed_ms)

    def deadline_of_doubt(self) -> int:
        """When it becomes doubtful if nothing is heard."""
        return self._unheard_ms + DOUBT_MS if self.owed else self.conv.heard_ms + SILENT_MS

    @property
    def flow_count(self) -> int:
        """Flows that it carries."""
        return len(self.flows)

    @property
    def full(self) -> bool:
        """It carries no further flow."""
        return len(self.flows) >= MAX_FLOWS or self._next_stream > MASK32 - 2

    # -- what the leg tells --

    def ready(self, events: int) -> None:
        """The conversation has events."""
        if events & READABLE:
            self._receive()
        if events & WRITABLE and self.state is not LinkState.CLOSED:
            self._has_room()
        self.owner.link_touched(self)

    def greet(self) -> None:
        """Speak first, so that the peer has something to acknowledge."""
        self._control(smux.NOP, 0)

    def heard(self) -> None:
        """The peer answers (dialer)."""
        if self.state is LinkState.FRESH:
            self.state = LinkState.UP
            self.owner.link_up(self)

    def dial(self, flow: StreamFlow) -> None:
        """Open a flow: the peer is told at once, so that its target may speak first."""
        number = self._next_stream
        self._next_stream += 2
        self._add(flow, number)
        self._control(smux.SYN, number)
        flow.notice(WRITABLE)

    def retire(self, most_ms: int) -> None:
        """No more flows: it is over when it has none, or after so long."""
        if self.state in (LinkState.FRESH, LinkState.UP):
            self.state = LinkState.RETIRED
            self._retired_ms = self.now_ms
            self._ends_ms = self.now_ms + most_ms
            self.owner.link_touched(self)

    def doubt(self) -> None:
        """Another link with the same peer is heard, this one is not: it has a moment to be heard."""
        self._doubt = (self.now_ms, self.now_ms + DOUBT_GRACE_MS)
        self.conv.kcp.hurry(self.now_ms)
        self.conv.wire.mark(self.conv)
        self.owner.link_touched(self)

    def close(self, reason: Reset | None) -> None:
        """Forget everything at once; flows that are left are aborted."""
        if self.state is LinkState.CLOSED:
            return
        self.state = LinkState.CLOSED
        flows, self.flows = self.flows, {}
        self._waiting.clear()
        self._held_ends.clear()
        for flow in flows.values():
            self.counters.flows_reset += 1
            flow.aborted(reason or Reset(ResetCode.LINK_LOST, "the link was at its end"))
        self.conv.close()
        self.owner.link_over(self, reason)

    # -- in --

    def _receive(self) -> None:
        while self.state is not LinkState.CLOSED and not self._is_blocked():
            try:
                frames = self.frames.read()
                if frames is None:
                    return
                for command, number, body in frames:
                    if not self.conv.closed:
                        self._frame(command, number, body)
            except (smux.Malformed, snappy.Malformed) as error:
                self.conv.wire.drop("stream_malformed")
                self.close(Reset(ResetCode.LINK_LOST, str(error)))

    def _frame(self, command: int, number: int, body: bytes) -> None:
        self.framed_ms = self.now_ms
        if not self.framed:
            self.framed = True
            self.heard()
        flow = self.flows.get(number)
        if command == smux.SYN:
            self._opened(number, flow)
        elif command == smux.NOP:
            return
        elif flow is None:
            self.counters.frames_unknown += 1
        elif command == smux.PSH:
            if body and not flow.heard_end and not flow.closed:
                flow.offer(body)
                self._held += len(body)
                flow.notice(READABLE)
        elif command == smux.FIN:
            self._peer_ended(flow)
        else:
            self._updated(flow, body)

    def _opened(self, number: int, flow: StreamFlow | None) -> None:
        if self._on_flow is None or flow is not None:
            self.counters.frames_unknown += 1
        elif self.full:
            self._control(smux.FIN, number)
        else:
            flow = StreamFlow()
            flow.asked = True
            self._add(flow, number)
            self._on_flow(flow, Open(Kind.TCP, None, ""))

    def _add(self, flow: StreamFlow, number: int) -> None:
        self.flows[number] = flow
        self.counters.flows_opened += 1
        flow.attach(self, number)

    def _updated(self, flow: StreamFlow, body: bytes) -> None:
        read, window = smux.UPDATE.unpack(body)
        if diff32(flow.sent & MASK32, read) < 0 or window > 1 << 31:
            raise smux.Malformed("more was read than sent")
        was_shut = flow.window <= 0
        flow.peer_read, flow.peer_window = read, window
        if flow in self._held_ends:
            self.owner.link_touched(self)
        if was_shut and flow.window > 0:
            flow.notice(WRITABLE)

    def fill(self, flow: TubeFlow) -> None:
        """The link gives what it has by itself."""

    def drained(self, flow: TubeFlow, size: int) -> None:
        """Bytes left its inbox: the peer may send as many more."""
        assert isinstance(flow, StreamFlow)
        self._held -= size
        if self._blocked and not self._is_blocked():
            self.conv.raise_events(READABLE)
        flow.taken += size
        if self.version != 2 or flow.closed or flow.heard_end:
            return
        if not flow.told or flow.taken - flow.told >= self.settings.stream_bytes // 2:
            flow.told = flow.taken
            self._write(smux.update(flow.number, flow.taken, self.settings.stream_bytes))

    def _is_blocked(self) -> bool:
        self._blocked = self._held >= self.settings.link_bytes or self.frames.is_stuck
        return self._blocked

    # -- out --

    def room(self, flow: TubeFlow) -> int:
        """Flows that wait take turns."""
        assert isinstance(flow, StreamFlow)
        window = flow.window if self.version == 2 else QUANTUM_BYTES
        if window <= 0:
            return 0  # an UPD will come
        room = self.frames.room
        if flow.quota <= 0 and room > 0 and not self._waiting:
            flow.quota = QUANTUM_BYTES
        if room <= 0 or flow.quota <= 0:
            self._waiting[flow] = None
            self.frames.want_room()
            return 0
        return min(room, window, flow.quota)

    def write(self, flow: TubeFlow, data: bytes) -> int:
        """Send bytes; all of them, as room said so."""
        assert isinstance(flow, StreamFlow)
        if flow.end_sent:
            return len(data)
        if self._begins_to_owe():
            self.frames.write_data(flow.number, data)
        flow.sent += len(data)
        flow.quota -= len(data)
        return len(data)

    def send_packet(self, flow: TubeFlow, packet: bytes) -> bool:
        """There are no flows of packets."""
        return False

    def _control(self, command: int, number: int) -> None:
        self._write(smux.frame(self.version or 1, command, number))

    def _write(self, frame: bytes) -> None:
        """Queue a frame, whatever room there is."""
        if self._begins_to_owe():
            self.frames.write(frame)

    def _begins_to_owe(self) -> bool:
        """Something is about to be sent; False: the link is over."""
        if self.state is LinkState.CLOSED:
            return False
        if self.conv.kcp.idle and not self.conv.is_behind:
            self._owed_ms = self.now_ms
        return True

    def _has_room(self) -> None:
        if not self.frames.flush():
            return
        if self._blocked and not self._is_blocked():
            self._receive()
        for _ in range(len(self._waiting)):
            if self.state is LinkState.CLOSED or self.frames.room <= 0 or not self._waiting:
                break
            flow = next(iter(self._waiting))
            del self._waiting[flow]
            flow.quota = QUANTUM_BYTES
            flow.notice(WRITABLE)
        if self._waiting:
            self.frames.want_room()

    # -- ends --

    def _peer_ended(self, flow: StreamFlow) -> None:
        if flow.heard_end:
            return
        flow.heard_end = True
        if flow in self._held_ends:
            self._hold_back(flow)
        if flow.end_sent and flow.closed:
            self._forget(flow)
        else:
            flow.notice(READABLE)

    def flow_ended(self, flow: TubeFlow) -> None:
        """Nothing more is written into it."""
        assert isinstance(flow, StreamFlow)
        if self.dials or flow.heard_end:
            self._hold_back(flow)
        else:
            self._send_end(flow)

    def _hold_back(self, flow: StreamFlow) -> None:
        """Send the end later: see `heldends`."""
        self._held_ends.hold(flow, self.now_ms)
        self.owner.link_touched(self)

    def _send_end(self, flow: StreamFlow) -> None:
        if flow.end_sent:
            return
        flow.end_sent, flow.end_at_ms = True, None
        self._held_ends.forget(flow)
        self._control(smux.FIN, flow.number)
        if flow.closed:
            self._forget(flow)

    def flow_reset(self, flow: TubeFlow, reason: Reset) -> None:
        """It was aborted here; the peer can be told its end only."""
        assert isinstance(flow, StreamFlow)
        self.counters.flows_reset += 1
        self._send_end(flow)
        self._forget(flow)

    def flow_released(self, flow: TubeFlow) -> None:
        """It is over in both directions; an end that is held back still leaves."""
        assert isinstance(flow, StreamFlow)
        self.counters.flows_finished += 1
        if flow.end_sent:
            self._forget(flow)
        elif flow not in self._held_ends:
            self._send_end(flow)

    def flow_taken(self, flow: TubeFlow) -> None:
        """Nobody is told that a target was reached."""
        flow.asked = False

    def _forget(self, flow: StreamFlow) -> None:
        self.flows.pop(flow.number, None)
        self._waiting.pop(flow, None)
        self._held_ends.forget(flow)
        if self.state is LinkState.RETIRED:
            self.owner.link_touched(self)

    # -- time --

    def advance(self, now_ms: int) -> None:
        """Serve the timers."""
        if self._is_over(now_ms):
            return
        self._held_ends.serve(now_ms)
        if self._nop_ms <= now_ms:
            self._nop_ms = now_ms + self.settings.keep_alive_ms
            if self.version:
                self._control(smux.NOP, 0)

    def _is_over(self, now_ms: int) -> bool:
        lost = ""
        if now_ms >= self._silent_at():
            lost = f"nothing came for {self.silent_ms // 1000} s"
        elif now_ms - self.framed_ms >= MUTE_MS and not self._blocked:
            lost = "the other end acknowledges, and says nothing: nocomp or smuxver differ"
        elif self._doubt is not None and self.conv.heard_ms > self._doubt[0]:
            self._doubt = None
        elif self._doubt is not None and self._doubt[1] <= now_ms:
            lost = "the other end does not know this link any more"
        if lost:
            self.close(Reset(ResetCode.LINK_LOST, lost))
        elif self.state is LinkState.RETIRED and self._retired_is_over(now_ms):
            self.close(None)
        return self.state is LinkState.CLOSED

    def _silent_at(self) -> int:
        """When the peer is given up."""
        at_ms = self.conv.heard_ms + SILENT_MS
        return min(at_ms, self._unheard_ms + OWED_SILENT_MS) if self.owed else at_ms

    def _retired_is_over(self, now_ms: int) -> bool:
        assert self._ends_ms is not None
        if self._ends_ms <= now_ms:
            return True
        return not self.flows and (self.conv.kcp.idle or now_ms - self._retired_ms >= DRAIN_MS)

    def deadline(self) -> int | None:
        """When `advance` has something to do."""
        if self.state is LinkState.CLOSED:
            return None
        due_ms = min(self._silent_at(), self._nop_ms)
        if not self._blocked:
            due_ms = min(due_ms, self.framed_ms + MUTE_MS)
        if self._doubt is not None:
            due_ms = min(due_ms, self._doubt[1])
        if self._ends_ms is not None:
            due_ms = min(due_ms, self._ends_ms)
            if not self.flows:
                due_ms = self.now_ms if self.conv.kcp.idle else min(due_ms, self._retired_ms + DRAIN_MS)
        return earliest(due_ms, self._held_ends.deadline())
