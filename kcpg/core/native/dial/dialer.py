"""The tunnel leg that dials: keeps links to the next node, one for each path, and opens flows in them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from kcpg.core.env import Env, EventKind
from kcpg.core.flow import UDP, Open, Reset, ResetCode
from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.native.dial.dialedlink import DialedLink
from kcpg.core.native.dial.dialstate import DialState
from kcpg.core.native.dial.pathchoice import Destination, PathChoice
from kcpg.core.native.handshake.handshake import Initiator
from kcpg.core.native.handshake.keys import RootKeys
from kcpg.core.native.handshake.outcomes import Resume
from kcpg.core.native.handshake.params import DELIVERIES, LIFE_BYTES, Incarnation, LinkParams
from kcpg.core.native.leg import INSPECT_MS, POOL_BYTES, NativeLeg
from kcpg.core.native.link.convflow import ConvFlow
from kcpg.core.native.link.epochs import NewEpoch
from kcpg.core.native.link.link import Link
from kcpg.core.native.link.open_message import ORDERED, Delivery
from kcpg.core.native.link.setup import LinkLimits, LinkSetup
from kcpg.core.native.link.state import LinkState
from kcpg.core.native.wire.wire import Path, Wire
from kcpg.core.units import earliest

# A flow waits this long for a link by default: a few of the application's own connection retries.
FLOW_WAIT_MS = 30_000

# A flow that could share a path waits this long for one of its own: four INITs on a usual line.
OWN_WAIT_MS = 1000

MAX_WAITING = 4096  # Flows that wait for a link; each holds an accepted socket of an application

# A link that was silent for this long proves itself before a flow is entrusted to it: the peer may have been
# restarted, and then the flow would be lost with the old link.
STALE_MS = 60_000

# Links of one dialer, each with a socket. A listener takes 200 handshakes at once from one address
# (protocol.md 5.4), and a link that falls silent begins with two, so all of them may fall silent together.
MAX_PATHS = 100

# Where each flow has its own path, this many wait for the next flows, which then pay for no handshake: what a
# browser opens at once to one host is six, of which the first has ended when the last begins.
SPARE_PATHS = 4

# How often paths that nobody uses are given up, but for the spare ones: half of them each time, so that what
# comes in bursts finds them again.
TRIM_MS = 30_000

RETIRE_MS = 500  # How often a link to a peer that is going away is looked at, to close it after its last flow


@dataclass(frozen=True, slots=True)
class DialSettings:
    """How a TunnelDialer works. `limits.idle_ms` None keeps the link ready."""

    name: str
    targets: Sequence[Destination]
    params: LinkParams = field(default_factory=LinkParams)  # What to ask for, as seen from here
    # Retransmission behaviour; the windows come from what is agreed.
    kcp: KcpParams = field(default_factory=KcpParams)
    limits: LinkLimits = field(default_factory=lambda: LinkLimits(idle_ms=None))
    find_mtu: bool = True  # Datagrams become as large as the path takes; False: as large as is agreed
    hop_every_ms: int = 0  # Time between hops to another path; 0: only away from a path that has become bad
    # Paths, each a link of its own, that the flows share; 0: each flow has its own. At most MAX_PATHS.
    paths: int = 1
    flow_wait_ms: int = FLOW_WAIT_MS  # How long a flow waits for a link before it is reset
    pool_bytes: int = POOL_BYTES  # Memory of segments
    # 16 bytes that this dialer has over all its restarts, and no other one has; empty: it has none.
    identity: bytes = b""
    servers: bool = False  # Each host of the targets is a node of its own; else all of them are one


class _Waiting:
    __slots__ = ("flow", "open", "since_ms")

    def __init__(self, flow: ConvFlow, request: Open, since_ms: int) -> None:
        self.flow = flow
        self.open = request
        self.since_ms = since_ms


UP = DialState.UP  # Looking it up in its class for each flow is slow


class TunnelDialer(NativeLeg):
    """`wire`: the engine's class if not the default one.

    Where each flow has its own path, a path without a flow is spare: the next flow takes it, and another one
    is called. Beyond MAX_PATHS, and where a new path does not come, flows share the least used one.
    """

    def __init__(
        self, settings: DialSettings, keys: RootKeys, env: Env, wire: type[Wire] | None = None
    ) -> None:
        super().__init__(
            settings.name, settings.params.datagram_bytes, keys, env, True, wire, settings.pool_bytes
        )
        self.settings = settings
        self.keys = keys
        self.choice = PathChoice(settings.targets, env.rng, env.source_key, settings.servers)
        self.clock_offset_s = 0
        self.why_silent = (
            "is the password the same, is the peer up?"
            if keys.pair is None
            else "is server_key its public key, does it know this user, is the peer up?"
        )
        life = self.entropy(LIFE_BYTES)
        self._incarnation = Incarnation(settings.identity, life) if settings.identity else None
        self._delivery = Delivery(DELIVERIES.index(settings.params.udp_delivery))
        self._paths = settings.paths
        self._running = False
        self._dialed: dict[DialedLink, None] = {}
        self._owners: dict[Link, DialedLink] = {}
        self._woken: dict[DialedLink, None] = {}
        self._due: dict[DialedLink, int | None] = {}  # of those too that have only sockets to give back
        self._due_ms: int | None = None
        self._waiting: deque[_Waiting] = deque()
        self._refusal = ""  # why the peer wanted no link, the last time that one was asked for
        self._inspected_ms = -INSPECT_MS
        self._trim_ms: int | None = None
        self._leave_at_ms: dict[DialedLink, int] = {}  # when to call in place of a link that ends soon
        self._retire_ms: int | None = None  # when to see which of those have no flow any more

    @property
    def state(self) -> DialState:
        """What is being done about the oldest link."""
        return next(iter(self._dialed)).state if self._dialed else DialState.STOPPED

    @property
    def unanswered(self) -> tuple[int, int] | None:
        """INITs that its links have sent in vain, and since when (ms); None: none waits for an answer."""
        found = [dialed.unanswered for dialed in self._dialed if dialed.unanswered is not None]
        return (sum(inits for inits, _ in found), min(since for _, since in found)) if found else None

    @property
    def link(self) -> Link | None:
        """The oldest link there is, silent or not."""
        return next((dialed.link for dialed in self._dialed if dialed.link is not None), None)

    def start(self, now_ms: int) -> None:
        """Begin the handshakes at once, so that the first flow pays nothing for them."""
        self.now_ms = now_ms
        if not self._dialed:
            self._running = True
            self._begin(now_ms)
            self._top_up(now_ms)

    def dial(self, request: Open, now_ms: int) -> ConvFlow | Reset:
        self.now_ms = now_ms
        if not self._running:
            return Reset(ResetCode.SHUTDOWN, "this node is not running")
        flow = ConvFlow(request.kind, self._delivery if request.kind is UDP else ORDERED)
        link = self._link_for(0) if not self._waiting else None
        if link is not None and link.flows.full:
            return Reset(ResetCode.REFUSED, f"a link carries at most {link.limits.max_flows} flows")
        if link is not None:
            self._open(link, flow, request)
        elif len(self._waiting) >= MAX_WAITING:
            return Reset(ResetCode.UNREACHABLE, f"{MAX_WAITING} flows wait for a link already")
        else:
            self._waiting.append(_Waiting(flow, request, now_ms))
            self._ask_for_life(now_ms)
        if self._paths == 0 or len(self._dialed) < self._paths:
            self._top_up(now_ms)
        return flow

    def advance(self, now_ms: int) -> None:
        NativeLeg.advance(self, now_ms)
        self._set_due()
        if now_ms - self._inspected_ms >= INSPECT_MS:
            self._inspected_ms = now_ms
            self._inspect(now_ms)
        if self._due_ms is not None and self._due_ms <= now_ms:
            self._serve_due(now_ms)
        if self._leave_at_ms or self._retire_ms is not None:
            self._leave(now_ms)
        self._serve_waiting(now_ms)
        if self._trim_ms is not None and self._trim_ms <= now_ms:
            self._trim(now_ms)

    def close(self, now_ms: int, reason: str) -> None:
        """The sockets stay open for the farewells; they are the driver's to close."""
        self.now_ms = now_ms
        self._running = False
        self._trim_ms = self._retire_ms = None
        self._leave_at_ms.clear()
        shutdown = Reset(ResetCode.SHUTDOWN, reason)
        for dialed in self._dialed:
            dialed.close(shutdown)
        self._abort_waiting(shutdown)

    # -- DialHost --

    @property
    def awaited(self) -> bool:
        return bool(self._waiting)

    def wake(self, dialed: DialedLink) -> None:
        self._woken[dialed] = None

    def initiator(self, resume: Resume | None) -> Initiator:
        params, offset_s = self.settings.params, self.clock_offset_s
        return Initiator(
            self.keys, params, self.cids.draw(), self.entropy, resume, offset_s, self._incarnation
        )

    def clock_differs(self, offset_s: int) -> None:
        self.clock_offset_s = offset_s

    def post(self, path: Path, datagram: bytes) -> None:
        self.wire.post(*path, datagram)

    def open_link(
        self, dialed: DialedLink, path: Path, epoch: NewEpoch, params: LinkParams, rtt_ms: int, now_ms: int
    ) -> Link:
        settings = self.settings
        link_wire = self.wire.link_wire(None)
        link_wire.set_path(*path)
        setup = LinkSetup(
            link_wire, epoch, params, settings.kcp, settings.limits, settings.find_mtu, rtt_ms=rtt_ms
        )
        link = Link(self, setup, now_ms)
        self._owners[link] = dialed
        self._add(link)
        return link

    def refused(self, text: str) -> None:
        """The peer wants no link now. Flows wait: it is asked again, and may have room by then."""
        self._refusal = text

    def tell(self, kind: str, peer: bytes, text: str, at_most_every_ms: int) -> None:
        self._report(kind, peer, text, at_most_every_ms)

    # -- LinkOwner --

    def link_heard(self, link: Link, former: LinkState) -> None:
        self._refusal = ""
        self._owner(link).heard(link, self.now_ms)

    def link_silent(self, link: Link) -> None:
        self._owner(link).silent(link, self.now_ms)

    def link_closed(self, link: Link, reason: Reset, by_peer: bool) -> None:
        super().link_closed(link, reason, by_peer)
        dialed = self._owner(link)
        dialed.closed(link, reason, by_peer, self.now_ms)
        del self._owners[link]
        self._leave_at_ms.pop(dialed, None)
        if dialed.is_replaced and self._running:
            self._give_up(dialed, "another link has taken its place")

    def link_leaving(self, link: Link, spread_ms: int, text: str) -> None:
        at_ms = self.now_ms + int(self.env.rng.uniform(0, spread_ms))
        self._leave_at_ms[self._owner(link)] = at_ms
        self._report(
            EventKind.LINK_LEAVING, link.peer, f"the peer is going away: {text}; calling for another link"
        )

    def link_path_answered(self, link: Link, token: bytes, path: Path) -> None:
        self._owner(link).path_answered(link, token, path, self.now_ms)

    # -- NativeLeg --

    def _moved(self, link: Link) -> None:
        """The dialer chooses the path; late datagrams from an earlier one are no reason to go back."""

    def _stranger(self, path: Path, cid: int, header: bytes, body: bytes) -> None:
        for dialed in self._dialed:
            if dialed.receive(path, cid, header, body, self.now_ms):
                self.wake(dialed)
                return
        self.counters.strangers += 1

    def _own_deadline(self) -> int | None:
        self._set_due()
        due_ms = earliest(self._due_ms, self._trim_ms)
        if self._leave_at_ms:
            due_ms = earliest(due_ms, min(self._leave_at_ms.values()))
        if self._retire_ms is not None:
            due_ms = earliest(due_ms, self._retire_ms)
        return earliest(due_ms, self._patience_ends_ms()) if self._waiting else due_ms

    # -- dialed links --

    def _owner(self, link: Link) -> DialedLink:
        dialed = self._owners[link]
        self.wake(dialed)
        return dialed

    def _begin(self, now_ms: int) -> None:
        """Call one more link. OSError if there is no socket for it."""
        dialed = DialedLink(self, self.settings.hop_every_ms, further=bool(self._dialed))
        dialed.start(now_ms)
        self._dialed[dialed] = None
        self.wake(dialed)

    def _top_up(self, now_ms: int) -> None:
        """Have as many links as are wanted, or are being called."""
        wanted = self.settings.paths
        if wanted == 0:
            wanted = sum(dialed.flows > 0 for dialed in self._dialed) + len(self._waiting) + SPARE_PATHS
        try:
            replaced = sum(dialed.is_replaced for dialed in self._dialed)
            while len(self._dialed) - replaced < min(wanted, MAX_PATHS):
                self._begin(now_ms)
        except OSError:
            self.counters.sockets_missing += 1
        if self._trim_ms is None and self.settings.paths == 0:
            self._trim_ms = now_ms + TRIM_MS

    def _trim(self, now_ms: int) -> None:
        """Give up half of the idle links that are too many, those first that were not heard for longest."""
        idle = [dialed for dialed in self._dialed if not dialed.flows][1:]  # the oldest stays
        surplus = len(idle) + 1 - SPARE_PATHS - len(self._waiting)
        idle.sort(key=lambda dialed: dialed.link.liveness.heard_ms if dialed.link is not None else 0)
        for dialed in idle[: (surplus + 1) // 2 if surplus > 0 else 0]:
            self._give_up(dialed, "this path is not needed any more")
        self._trim_ms = now_ms + TRIM_MS if len(self._dialed) > SPARE_PATHS else None

    def _give_up(self, dialed: DialedLink, why: str) -> None:
        dialed.give_up(Reset(ResetCode.FINISHED, why), self.now_ms)
        self._dialed.pop(dialed, None)
        self._leave_at_ms.pop(dialed, None)
        self.wake(dialed)

    def _leave(self, now_ms: int) -> None:
        """Call in place of links whose peer ends soon, and give those up that have no flow any more."""
        for dialed, at_ms in list(self._leave_at_ms.items()):
            if at_ms <= now_ms:
                del self._leave_at_ms[dialed]
                if dialed.link is not None:
                    self.choice.blame_host(dialed.link.peer, now_ms)
                dialed.is_replaced = True
                self._retire_ms = now_ms
        if self._retire_ms is None or self._retire_ms > now_ms:
            return
        self._top_up(now_ms)
        stays = any(dialed.state is UP and not dialed.is_leaving for dialed in self._dialed)
        for dialed in [dialed for dialed in self._dialed if dialed.is_replaced]:
            if not dialed.is_leaving:  # it has found another peer by itself
                dialed.is_replaced = False
            elif stays and not dialed.flows:
                self._give_up(dialed, "its flows are over, and the peer is going away")
        going = any(dialed.is_replaced for dialed in self._dialed)
        self._retire_ms = now_ms + RETIRE_MS if going else None

    def _inspect(self, now_ms: int) -> None:
        """Notice what no timer tells, on the links that carry something."""
        busy = [dialed for dialed in self._dialed if dialed.flows] or list(self._dialed)[:1]
        for dialed in busy:
            dialed.inspect(now_ms)
            self.wake(dialed)
            if dialed.link is not None and len(self._dialed) > 1:
                dialed.link.share(len(busy))

    def _set_due(self) -> None:
        if not self._woken:
            return
        for dialed in self._woken:
            if dialed.over:
                self._due.pop(dialed, None)
            else:
                self._due[dialed] = dialed.deadline()
        self._woken.clear()
        self._due_ms = None
        for due_ms in self._due.values():
            self._due_ms = earliest(self._due_ms, due_ms)

    def _serve_due(self, now_ms: int) -> None:
        for dialed, due_ms in list(self._due.items()):
            if due_ms is not None and due_ms <= now_ms:
                dialed.advance(now_ms)
                self.wake(dialed)

    # -- flows --

    def _ready_links(self) -> list[Link]:
        """Links that are up, of a peer that is known to know them still: each was heard lately itself, or one
        that is older than its silence was."""
        up = [dialed.link for dialed in self._dialed if dialed.state is UP]
        links = [link for link in up if link is not None]
        links = [link for link in links if not link.is_leaving] or links
        lively = (link.since_ms for link in links if self.now_ms - link.liveness.heard_ms < STALE_MS)
        since_ms = min(lively, default=None)
        return [] if since_ms is None else [link for link in links if link.liveness.heard_ms >= since_ms]

    def _link_for(self, waited_ms: int) -> Link | None:
        """The link that a flow is given; None: it has to wait. That may be full, if all are."""
        if self._paths and len(self._dialed) == 1:  # as most dialers have it, quicker than below
            (dialed,) = self._dialed
            link = dialed.link
            lively = link is not None and self.now_ms - link.liveness.heard_ms < STALE_MS
            return link if lively and dialed.state is UP else None
        return self._shared_link(waited_ms)

    def _shared_link(self, waited_ms: int) -> Link | None:
        links = self._ready_links()
        if not links:
            return None
        if self.settings.paths:
            return min(links, key=lambda link: (len(link.flows.flows), link.counters.flows_opened))
        best = min(links, key=lambda link: (len(link.flows.flows), -link.liveness.heard_ms))
        one_comes = waited_ms < OWN_WAIT_MS and any(not dialed.flows for dialed in self._dialed)
        return None if best.flows.flows and one_comes else best

    def _open(self, link: Link, flow: ConvFlow, request: Open) -> None:
        flows = link.flows
        flows.now_ms = self.now_ms
        if not flows.flows:  # from now on the link may hop
            self.wake(self._owners[link])
        flows.dial(flow, request)

    def _ask_for_life(self, now_ms: int) -> None:
        """Flows wait for a sign of life: have one link ask for it, which speaks for the others."""
        up = [dialed.link for dialed in self._dialed if dialed.state is UP]
        stale = [link for link in up if link is not None]
        if stale and not self._ready_links():
            max(stale, key=lambda link: link.liveness.heard_ms).liveness.ping(now_ms)

    def _serve_waiting(self, now_ms: int) -> None:
        while self._waiting:
            first = self._waiting[0]
            if not first.flow.closed:
                link = self._link_for(now_ms - first.since_ms)
                if link is None:
                    break
                if link.flows.full:
                    first.flow.aborted(Reset(ResetCode.REFUSED, "the link carries no more flows"))
                else:
                    self._open(link, first.flow, first.open)
            self._waiting.popleft()
        while self._waiting:
            first = self._waiting[0]
            if now_ms - first.since_ms < self.settings.flow_wait_ms:
                break
            self._waiting.popleft()
            if not first.flow.closed:
                self.counters.flows_unreachable += 1
                first.flow.aborted(
                    Reset(ResetCode.REFUSED, self._refusal)
                    if self._refusal
                    else Reset(ResetCode.UNREACHABLE, "there is no link to the next node")
                )

    def _patience_ends_ms(self) -> int:
        """When the flow that waits longest shares a path, or gives up."""
        first = self._waiting[0]
        since_ms = first.since_ms
        own = self.settings.paths == 0 and self.now_ms - since_ms < OWN_WAIT_MS
        wait_ms = self.settings.flow_wait_ms
        return since_ms + (min(OWN_WAIT_MS, wait_ms) if own else wait_ms)

    def _abort_waiting(self, reason: Reset) -> None:
        while self._waiting:
            first = self._waiting.popleft()
            if not first.flow.closed:
                first.flow.aborted(reason)
