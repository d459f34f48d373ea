"""Two flows of one node joined. It holds no bytes, ever: it moves only what the other side has room for.

So memory in transit is bounded by the two legs' windows, and a slow reader at the far end stops the sender
through any number of nodes. Half-close, reset and dial failure travel through it:

    direction   open --its source gives ENDED--> sink.end(), done
    splice      both directions done, or `finished`  --> both flows `release()`d
                `on_reset(flow, reason)`             --> the other flow's `reset(reason)`
    afterwards  neither flows nor splice refer to each other; late calls do nothing

UDP differs: packets that the sink has no room for are dropped and counted, because blocking a source of
packets only makes them late; and the end of one direction is the end of the flow.

Every method may be called from inside any other (a flow that is written to may fail, and say so at once).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from kcpg.core.flow import (
    BUDGET,
    ENDED,
    PACKET_BATCH,
    PACKET_TURNS,
    SINK_FULL,
    SOURCE_DRY,
    UDP,
    Blocked,
    Flow,
    Moved,
    Reset,
    ResetCode,
)

if TYPE_CHECKING:
    from kcpg.core.flow import Open

# How often one pump repeats because it was asked for again from inside, before others get their turn.
REPEATS = 16

NOTHING_MORE = Moved(0, ENDED)
IN_PROGRESS = Moved(0, SOURCE_DRY)


def abrupt(reason: Reset) -> Reset:
    """The reason of an abort, as the other flow tells it: FINISHED would mean there that all went well."""
    if reason.code is not ResetCode.FINISHED:
        return reason
    return Reset(ResetCode.RESET_BY_APPLICATION, reason.text)


class Owner(Protocol):
    """What a splice tells the node that made it."""

    def splice_over(self, splice: Splice, reason: Reset | None) -> None:
        """Said once, last: nothing moves any more. `reason` None: both directions ended cleanly."""

    def splice_later(self, splice: Splice, source: Flow) -> None:
        """This pump had its share and is not done: call `splice.pump(source)` when the others had theirs."""


class Way:
    """One direction of a splice; without flows when that is over."""

    __slots__ = ("again", "busy", "done", "dropped", "moved", "sink", "source")

    def __init__(self, source: Flow, sink: Flow) -> None:
        self.source: Flow | None = source
        self.sink: Flow | None = sink
        self.moved = 0  # bytes, or packets
        self.dropped = 0
        self.done = False
        self.busy = False  # a pump of this direction is running further up the stack
        self.again = False  # and was asked for once more meanwhile


class Splice:
    """Joins `ingress` (who asked) with `egress` (who was dialled) and sets `splice` in both."""

    __slots__ = ("_down", "_owner", "_packets", "_up", "kind", "open", "over")

    def __init__(self, ingress: Flow, egress: Flow, request: Open, owner: Owner | None = None) -> None:
        self._join(ingress, egress, request)
        self._owner = owner

    def _join(self, ingress: Flow, egress: Flow, request: Open) -> None:
        assert ingress.kind is egress.kind is request.kind, "a splice joins flows of one kind"
        assert ingress.splice is None and egress.splice is None, "a flow is spliced once"
        self.kind = request.kind
        self.open = request
        self.over = False
        self._packets = request.kind is UDP
        self._up = Way(ingress, egress)
        self._down = Way(egress, ingress)
        ingress.splice = egress.splice = self

    @property
    def moved(self) -> list[int]:
        """Bytes (TCP) or packets (UDP) carried up, from ingress to egress, and down; readable to the end."""
        return [_moved(self._up), _moved(self._down)]

    @property
    def dropped(self) -> list[int]:
        """Packets that were for [egress, ingress] and had no room there; readable to the end."""
        return [self._up.dropped, self._down.dropped]

    def lost(self) -> int:
        """Packets dropped, both ways; readable to the end."""
        return self._up.dropped + self._down.dropped

    def partner(self, flow: Flow) -> Flow:
        """The flow on the other side. Only while not `over`."""
        sink = self._way(flow).sink
        assert sink is not None
        return sink

    @property
    def flows(self) -> tuple[Flow, ...]:
        """Ingress and egress; nothing when `over`."""
        ingress, egress = self._up.source, self._down.source
        return () if ingress is None or egress is None else (ingress, egress)

    def ended(self, source: Flow) -> bool:
        """Whether everything `source` will ever give has been moved."""
        return self.over or self._way(source).done

    # -- moving --

    def pump(self, source: Flow) -> Moved:
        """Move from `source` to its partner what can be moved now; `Blocked` says what the caller waits for.

        Called from inside a pump of the same direction it only makes that one repeat.
        """
        if self.over:
            return NOTHING_MORE
        way = self._way(source)
        if way.done:
            return NOTHING_MORE
        if way.busy:
            way.again = True
            return IN_PROGRESS
        way.busy = True
        try:
            return self._pump(way)
        finally:
            way.busy = False

    def bypassed(self, source: Flow, amount: int) -> None:
        """This many bytes of `source` went on to the partner without a pump."""
        way = self._way(source)
        way.moved += amount

    def run(self, source: Flow) -> None:
        """`pump` for callers that do not wait: what is left undone, the node continues after the others'
        turns.
        """
        if self.pump(source).blocked is BUDGET and self._owner is not None:
            self._owner.splice_later(self, source)

    def _pump(self, way: Way) -> Moved:
        source, sink = way.source, way.sink
        assert source is not None and sink is not None
        total = 0
        for _ in range(REPEATS):
            way.again = False
            if sink.opening:
                return Moved(total, SINK_FULL)
            moved = source.move_to(sink)
            total += moved.amount
            way.moved += moved.amount
            if self.over:
                return Moved(total, ENDED)
            blocked = moved.blocked
            if self._packets and blocked is SINK_FULL:
                blocked = self._discard(way)
            if blocked is ENDED:
                self._end(way)
                return Moved(total, ENDED)
            if not way.again:
                return Moved(total, blocked)
        return Moved(total, BUDGET)

    def _discard(self, way: Way) -> Blocked:
        """A UDP sink is full: what the source still has is late already."""
        source = way.source
        assert source is not None
        for _ in range(PACKET_TURNS // PACKET_BATCH):
            late = len(source.recv_packets(PACKET_BATCH))
            way.dropped += late
            if late < PACKET_BATCH:
                return ENDED if source.at_end else SOURCE_DRY
        return BUDGET

    def _end(self, way: Way) -> None:
        source, sink = way.source, way.sink
        assert source is not None and sink is not None
        way.done = True
        if self._packets:
            self.finished(source)
            return
        sink.end()
        if not self.over and self._up.done and self._down.done:
            self._finish()

    def drop(self, source: Flow, count: int = 1) -> None:
        """Count packets of `source` that its partner refused."""
        if not self.over:
            way = self._way(source)
            way.dropped += count

    # -- what flows tell --

    def ready(self, flow: Flow, events: int) -> None:
        """`flow` became READABLE and/or WRITABLE; the partner decides what to do (`Flow.wake`)."""
        if not self.over:
            self.partner(flow).wake(events)

    def finished(self, flow: Flow) -> None:
        """`flow` is over in both directions, cleanly (a UDP association that idled out or whose end came)."""
        if self.over:
            return
        partner = self.partner(flow)
        partner.end()
        flow.end()
        if not self.over:
            self._finish()

    def expire(self) -> None:
        """The node ends an idle flow, cleanly, on both sides."""
        if not self.over:
            self.finished(self.flows[0])

    def on_reset(self, flow: Flow, reason: Reset) -> None:
        """`flow` was aborted by its own side and is gone: abort the other as well, see `abrupt`."""
        if self.over:
            return
        partner = self.partner(flow)
        owner = self._detach()
        partner.reset(abrupt(reason))
        if owner is not None:
            owner.splice_over(self, reason)

    def abort(self, reason: Reset) -> None:
        """The node aborts both flows."""
        if self.over:
            return
        flows = self.flows
        owner = self._detach()
        for flow in flows:
            flow.reset(abrupt(reason))
        if owner is not None:
            owner.splice_over(self, reason)

    # -- the end --

    def _finish(self) -> None:
        flows = self.flows
        owner = self._detach()
        for flow in flows:
            flow.release()
        if owner is not None:
            owner.splice_over(self, None)

    def _detach(self) -> Owner | None:
        """Let go of everything, before anybody is told, so that whatever they call back finds nothing."""
        self.over = True
        for way in (self._up, self._down):
            way.moved = _moved(way)
            if way.source is not None:
                way.source.splice = None
            way.source = way.sink = None
        owner, self._owner = self._owner, None
        return owner

    def _way(self, source: Flow) -> Way:
        if self._up.source is source:
            return self._up
        assert self._down.source is source, "this flow is not part of this splice"
        return self._down


def _moved(way: Way) -> int:
    return way.moved if way.source is None else way.moved + way.source.bypassed()
