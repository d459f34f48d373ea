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

from kcpg.core.flow import PACKET_BATCH, PACKET_TURNS, Blocked, Flow, Kind, Moved

if TYPE_CHECKING:
    from kcpg.core.flow import Open, Reset

UP, DOWN = 0, 1  # indexes of the counters: ingress to egress, egress to ingress

# How often one pump repeats because it was asked for again from inside, before others get their turn.
REPEATS = 16

NOTHING_MORE = Moved(0, Blocked.ENDED)
IN_PROGRESS = Moved(0, Blocked.SOURCE_DRY)


class Owner(Protocol):
    """What a splice tells the node that made it."""

    def splice_over(self, splice: Splice, reason: Reset | None) -> None:
        """Said once, last: nothing moves any more. `reason` None: both directions ended cleanly."""

    def splice_later(self, splice: Splice, source: Flow) -> None:
        """This pump had its share and is not done: call `splice.pump(source)` when the others had theirs."""


class Way:
    """One direction of a splice."""

    __slots__ = ("again", "busy", "done", "index", "sink", "source")

    def __init__(self, index: int, source: Flow, sink: Flow) -> None:
        self.index = index
        self.source = source
        self.sink = sink
        self.done = False
        self.busy = False  # a pump of this direction is running further up the stack
        self.again = False  # and was asked for once more meanwhile


class Splice:
    """Joins `ingress` (who asked) with `egress` (who was dialled) and sets `splice` in both.

    `moved` and `dropped` count [up, down], bytes for TCP and packets for UDP; they stay readable afterwards.
    """

    __slots__ = ("_owner", "_ways", "dropped", "kind", "moved", "open", "over")

    def __init__(self, ingress: Flow, egress: Flow, open: Open, owner: Owner | None = None) -> None:
        assert ingress.kind is egress.kind is open.kind, "a splice joins flows of one kind"
        assert ingress.splice is None and egress.splice is None, "a flow is spliced once"
        self.kind = open.kind
        self.open = open
        self.moved = [0, 0]
        self.dropped = [0, 0]
        self.over = False
        self._ways: tuple[Way, ...] = (Way(UP, ingress, egress), Way(DOWN, egress, ingress))
        self._owner = owner
        ingress.splice = egress.splice = self

    def partner(self, flow: Flow) -> Flow:
        """The flow on the other side. Only while not `over`."""
        return self._way(flow).sink

    @property
    def flows(self) -> tuple[Flow, ...]:
        """Ingress and egress; nothing when `over`."""
        return tuple(way.source for way in self._ways)

    def ended(self, source: Flow) -> bool:
        """Whether everything `source` will ever give has been moved."""
        return self.over or self._way(source).done

    # -- moving ----------------------------------------------------------------------------------------------

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

    def run(self, source: Flow) -> None:
        """`pump` for callers that do not wait: what is left undone, the node continues after the others'
        turns.
        """
        if self.pump(source).blocked is Blocked.BUDGET and self._owner is not None:
            self._owner.splice_later(self, source)

    def _pump(self, way: Way) -> Moved:
        source, sink = way.source, way.sink
        total = 0
        for _ in range(REPEATS):
            way.again = False
            if sink.opening:
                return Moved(total, Blocked.SINK_FULL)
            count, blocked = source.move_to(sink)
            total += count
            self.moved[way.index] += count
            if self.over:
                return Moved(total, Blocked.ENDED)
            if blocked is Blocked.SINK_FULL and self.kind is Kind.UDP:
                blocked = self._discard(way)
            if blocked is Blocked.ENDED:
                self._end(way)
                return Moved(total, Blocked.ENDED)
            if not way.again:
                return Moved(total, blocked)
        return Moved(total, Blocked.BUDGET)

    def _discard(self, way: Way) -> Blocked:
        """A UDP sink is full: what the source still has is late already."""
        for _ in range(PACKET_TURNS // PACKET_BATCH):
            late = len(way.source.recv_packets(PACKET_BATCH))
            self.dropped[way.index] += late
            if late < PACKET_BATCH:
                return Blocked.ENDED if way.source.at_end else Blocked.SOURCE_DRY
        return Blocked.BUDGET

    def _end(self, way: Way) -> None:
        way.done = True
        if self.kind is Kind.UDP:
            self.finished(way.source)
            return
        way.sink.end()
        if not self.over and all(w.done for w in self._ways):
            self._finish()

    def push(self, source: Flow, packet: bytes) -> bool:
        """UDP: hand over one packet that `source` cannot keep (it came from a socket that many flows share).

        False: it was dropped, and counted.
        """
        if self.over:
            return False
        way = self._way(source)
        if way.sink.opening or not way.sink.send_packets([packet]):
            self.dropped[way.index] += 1
            return False
        self.moved[way.index] += 1
        return True

    def drop(self, source: Flow, count: int = 1) -> None:
        """Count packets of `source` that its partner refused."""
        if not self.over:
            self.dropped[self._way(source).index] += count

    # -- what flows tell -------------------------------------------------------------------------------------

    def ready(self, flow: Flow, events: int) -> None:
        """`flow` became READABLE and/or WRITABLE; who acts on it is the partner's choice (`Flow.wake`)."""
        if not self.over:
            self._way(flow).sink.wake(events)

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
            self.finished(self.flows[UP])

    def on_reset(self, flow: Flow, reason: Reset) -> None:
        """`flow` was aborted by its own side and is gone: abort the other with the same reason."""
        if self.over:
            return
        partner = self.partner(flow)
        owner = self._detach()
        partner.reset(reason)
        if owner is not None:
            owner.splice_over(self, reason)

    def abort(self, reason: Reset) -> None:
        """The node aborts both flows."""
        if self.over:
            return
        flows = self.flows
        owner = self._detach()
        for flow in flows:
            flow.reset(reason)
        if owner is not None:
            owner.splice_over(self, reason)

    # -- the end ---------------------------------------------------------------------------------------------

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
        for way in self._ways:
            way.source.splice = None
        self._ways = ()
        owner, self._owner = self._owner, None
        return owner

    def _way(self, source: Flow) -> Way:
        up, down = self._ways
        if up.source is source:
            return up
        assert down.source is source, "this flow is not part of this splice"
        return down
