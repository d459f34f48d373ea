"""A node: an ingress leg and an egress leg. Flows that enter at one are dialled at the other and spliced.

`Node(LocalListener, TunnelDialer)` is a client, `Node(TunnelListener, LocalDialer)` a server,
`Node(TunnelListener, TunnelDialer)` a relay, `Node(LocalListener, LocalDialer)` a port forwarder. The node
itself knows no protocol.

A driver (network or simulator) calls, for every wake-up: `receive` of the tunnel legs concerned, then
`node.advance(now)`, then `transmit` of `node.tunnels` until nothing is left, and sleeps until
`node.deadline()`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from kcpg.core.flow import READABLE, UDP, Flow, Open, Reset, ResetCode
from kcpg.core.splice import Splice
from kcpg.core.units import earliest

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

# Idle UDP flows are checked this often per timeout: they end between 1 and 1.25 timeouts after their last
# packet, never earlier, and the clock is not read per packet.
IDLE_CHECKS = 4

# One link, or whoever else asks for flows, may have so many times what is left: three quarters of all if
# nobody else has any flow, and after n of those 1/4^n are left.
SHARE_OF_LEFT = 3


class Leg(Protocol):
    """Where flows enter or leave a node. All times are `now_ms`, monotonic milliseconds."""

    def start(self, now_ms: int) -> None:
        """Begin to work: listen, or bring links up."""

    def advance(self, now_ms: int) -> None:
        """Serve what was received and every timer that is due; tells splices what became ready."""

    def deadline(self) -> int | None:
        """When `advance` (or a tunnel's `transmit`) must be called even if nothing happens; None: never."""

    def advance_deadline(self) -> int | None:
        """When `advance` must be called even if nothing happens; None: never. Not sooner because of a
        tunnel's datagrams, which only `transmit` is for."""

    def close(self, now_ms: int, reason: str) -> None:
        """Stop for good. All its flows were reset before. A tunnel's farewell still leaves by `transmit`."""


class IngressLeg(Leg, Protocol):
    """A leg that listens. It calls `on_flow(flow, request, now_ms)` for every new flow; afterwards
    `flow.splice` is set, or the flow was reset.
    """

    on_flow: Callable[[Flow, Open, int], None]


class EgressLeg(Leg, Protocol):
    """A leg that dials."""

    def dial(self, request: Open, now_ms: int) -> Flow | Reset:
        """A flow to where `request` wants to go, `opening` as long as it cannot take bytes; or at once why
        not.

        Never calls back from inside: a failure found later is `splice.on_reset` before any byte.
        """


@runtime_checkable
class TunnelLeg(Protocol):
    """The wire side of a leg that has links (its memory face; drivers with sockets use the leg's `wire`)."""

    def receive(self, sock: int, addr: bytes, datagram: bytes, now_ms: int) -> None:
        """Take one datagram; raises nothing, whatever it holds. `advance` must follow."""

    def transmit(self, now_ms: int) -> list[tuple[int, bytes, bytes]]:
        """(sock, address, datagram) of everything that may leave now; call again until empty."""


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """`udp_timeout_ms`: idle time after which a UDP flow ends (a relay passes the larger of its two legs').
    `max_flows`: more are refused, because each costs the legs memory. `tells_all`: `report` hears of every
    flow's begin and end; else only of ends with a reason."""

    udp_timeout_ms: int = 180_000  # kcptube's default for udp_timeout
    max_flows: int = 65_536
    tells_all: bool = True


@dataclass(frozen=True, slots=True)
class FlowOpened:
    """A flow entered and was dialled."""

    open: Open


@dataclass(frozen=True, slots=True)
class FlowOver:
    """A flow is over: cleanly (`reason` None) or not. `up`, `down`: bytes (TCP) or packets (UDP)."""

    open: Open
    reason: Reset | None
    up: int
    down: int
    dropped: int


@dataclass(slots=True)
class NodeCounters:
    """Flows since start; `packets_dropped`: UDP packets that a full sink refused, of flows that are over."""

    opened: int = 0
    refused: int = 0  # more than max_flows, or the egress leg said no at once
    finished: int = 0
    reset: int = 0
    idled: int = 0  # UDP flows ended by udp_timeout (also counted in finished)
    packets_dropped: int = 0


@dataclass(slots=True)
class _IdleCheck:
    due_ms: int
    splice: Splice
    seen: int  # packets moved and dropped at the last look
    since_ms: int  # no packet since then


class OwnTargets(Protocol):
    """Flows that end in the node itself: a leg's `dial`, `advance` and `deadline` for those it takes."""

    flows: set[Any]

    def takes(self, request: Open) -> bool:
        """Whether this flow is for the node itself."""

    def dial(self, request: Open, now_ms: int) -> Flow | Reset:
        """As of an egress leg."""

    def advance(self, now_ms: int) -> None:
        """Serve every timer that is due; called before the legs, so that their flows find the time told."""

    def deadline(self) -> int | None:
        """When `advance` must be called even if nothing happens; None: never."""


class Node:
    """Wires `ingress.on_flow` to `egress.dial`, keeps the splices; `report` hears of flows as `settings`
    say. `own`: targets that are the node itself; None: it has none."""

    def __init__(
        self,
        ingress: IngressLeg,
        egress: EgressLeg,
        settings: NodeSettings | None = None,
        report: Callable[[FlowOpened | FlowOver], None] | None = None,
        own: OwnTargets | None = None,
    ) -> None:
        self.ingress = ingress
        self.egress = egress
        self.settings = settings or NodeSettings()
        self.counters = NodeCounters()
        legs: tuple[Leg, ...] = (ingress, egress)
        self.tunnels: tuple[TunnelLeg, ...] = tuple(leg for leg in legs if isinstance(leg, TunnelLeg))
        self.splices: dict[Splice, None] = {}  # an ordered set
        self._of_asker: dict[Hashable, int] = {}  # flows
        self._max_flows = self.settings.max_flows
        self._report = report
        self._own = own
        self._tells_all = report is not None and self.settings.tells_all
        self._later: deque[tuple[Splice, Flow]] = deque()
        self._idle: deque[_IdleCheck] = deque()  # in order of due_ms, because every check waits equally long
        self._closed = False
        ingress.on_flow = self._on_flow

    @property
    def flows(self) -> int:
        """How many flows are being carried."""
        return len(self.splices)

    def start(self, now_ms: int) -> None:
        """Egress first, so that the first flow finds its way out prepared."""
        self.egress.start(now_ms)
        self.ingress.start(now_ms)

    def advance(self, now_ms: int) -> None:
        """Serve both legs and the node's own timers. What is left over makes `deadline()` due at once."""
        if self._own is not None and self._own.flows:
            self._own.advance(now_ms)
        self.ingress.advance(now_ms)
        self.egress.advance(now_ms)
        for _ in range(len(self._later)):
            splice, source = self._later.popleft()
            splice.run(source)
        self._check_idle(now_ms)

    def deadline(self) -> int | None:
        """When `advance` must be called even if nothing happens; 0: work is left over; None: never."""
        if self._later:
            return 0
        return self._with_own(earliest(self.ingress.deadline(), self.egress.deadline()))

    def advance_deadline(self) -> int | None:
        """When `advance` must be called even if nothing happens; None: never. See `Leg`."""
        if self._later:
            return 0
        return self._with_own(earliest(self.ingress.advance_deadline(), self.egress.advance_deadline()))

    def _with_own(self, due_ms: int | None) -> int | None:
        """The earliest of the legs' deadline and those of the node itself."""
        if self._own is not None and self._own.flows:
            due_ms = earliest(due_ms, self._own.deadline())
        return earliest(due_ms, self._idle[0].due_ms) if self._idle else due_ms

    def is_left_over(self) -> bool:
        """Some flow had its share and waits for the next `advance`."""
        return bool(self._later)

    def close(self, now_ms: int, reason: str = "shutdown") -> None:
        """Abort every flow with SHUTDOWN and close both legs. Idempotent."""
        if self._closed:
            return
        self._closed = True
        for splice in list(self.splices):
            splice.abort(Reset(ResetCode.SHUTDOWN, reason))
        self._later.clear()
        self._idle.clear()
        self.ingress.close(now_ms, reason)
        self.egress.close(now_ms, reason)

    # -- flows --

    def _on_flow(self, flow: Flow, request: Open, now_ms: int) -> None:
        answer = self._dial(request, now_ms)
        if not isinstance(answer, Flow):
            self.counters.refused += 1
            flow.reset(answer)
            self._tell(FlowOver(request, answer, 0, 0, 0))
            return
        egress = answer
        splice = Splice(flow, egress, request, self)
        self.splices[splice] = None
        asker = request.asker
        if asker is not None:
            self._of_asker[asker] = self._of_asker.get(asker, 0) + 1
        self.counters.opened += 1
        if self._tells_all:
            self._tell(FlowOpened(request))
        if request.kind is UDP:
            self._idle.append(_IdleCheck(now_ms + self._idle_step_ms, splice, 0, now_ms))
        if not egress.opening:
            splice.ready(flow, READABLE)  # the first bytes often come together with the request

    def _dial(self, request: Open, now_ms: int) -> Flow | Reset:
        if self._closed:
            return Reset(ResetCode.SHUTDOWN)
        if len(self.splices) >= self._max_flows:
            return Reset(ResetCode.REFUSED, f"this node already carries {self._max_flows} flows")
        if request.asker is not None:
            free = self._max_flows - len(self.splices)
            if self._of_asker.get(request.asker, 0) >= SHARE_OF_LEFT * free:
                return Reset(ResetCode.REFUSED, "this link has its share of the flows that this node carries")
        if self._own is not None and self._own.takes(request):
            return self._own.dial(request, now_ms)
        return self.egress.dial(request, now_ms)

    def splice_over(self, splice: Splice, reason: Reset | None) -> None:
        del self.splices[splice]
        asker = splice.open.asker
        if asker is not None:
            self._of_asker[asker] -= 1
            if not self._of_asker[asker]:
                del self._of_asker[asker]
        if reason is None:
            self.counters.finished += 1
        else:
            self.counters.reset += 1
        dropped = splice.lost()
        if dropped:
            self.counters.packets_dropped += dropped
        if self._tells_all or reason is not None:
            up, down = splice.moved
            self._tell(FlowOver(splice.open, reason, up, down, dropped))

    def splice_later(self, splice: Splice, source: Flow) -> None:
        if (splice, source) not in self._later:
            self._later.append((splice, source))

    def _tell(self, event: FlowOpened | FlowOver) -> None:
        if self._report is not None:
            self._report(event)

    # -- idle UDP flows --

    @property
    def _idle_step_ms(self) -> int:
        return max(self.settings.udp_timeout_ms // IDLE_CHECKS, 1)

    def _check_idle(self, now_ms: int) -> None:
        while self._idle and self._idle[0].due_ms <= now_ms:
            check = self._idle.popleft()
            splice = check.splice
            if splice.over:
                continue
            seen = sum(splice.moved) + splice.lost()
            if seen != check.seen:
                check.seen, check.since_ms = seen, now_ms
            elif now_ms - check.since_ms >= self.settings.udp_timeout_ms:
                self.counters.idled += 1
                splice.expire()
                continue
            check.due_ms = now_ms + self._idle_step_ms
            self._idle.append(check)
