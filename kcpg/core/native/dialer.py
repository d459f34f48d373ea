"""The tunnel leg that dials: keeps one link to the next node, and opens flows in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from kcpg.core.flow import Kind, Open, Reset, ResetCode
from kcpg.core.kcp import KcpParams
from kcpg.core.native.attempt import FIRST_WAIT_MS, Attempt, Choice, Destination
from kcpg.core.native.convflow import ConvFlow
from kcpg.core.native.env import Env, EventKind, ResolveFailed
from kcpg.core.native.epochs import NewEpoch
from kcpg.core.native.handshake import CLOCK_TOLERANCE_S, Accepted, Initiator, Refused, Resume, Retry
from kcpg.core.native.hopping import Hopper
from kcpg.core.native.keys import RootKeys
from kcpg.core.native.leg import LOOK_MS, REPEAT_EVENT_MS, NativeLeg
from kcpg.core.native.link import Link, LinkLimits, LinkState
from kcpg.core.native.opening import Delivery
from kcpg.core.native.params import DELIVERIES, LinkParams
from kcpg.core.native.rekeying import DialerRekeying
from kcpg.core.native.sockets import Sockets
from kcpg.core.native.wire import Path, Wire
from kcpg.core.units import earliest

FLOW_WAIT_MS = 30_000
"""A flow waits so long for a link: a few of the application's own connection retries."""

MAX_WAITING = 4096
"""Flows that wait for a link; each holds an accepted socket of an application."""

NO_ANSWER_MS = 5000
"""After so long without an answer somebody is told, while the attempts go on."""

REFUSED_WAIT_MS = 5000
"""A refusal stands in a configuration: asking again is for when somebody has changed it."""

RTT_GUESS_MS = 1000
"""The round-trip time is unknown when several INITs went out. A PING tells it soon; until then be patient."""

HOPPED_EVENT_MS = 10_000
"""Hops away from bad paths are reported at most this often; they are all counted."""

STALE_MS = 60_000
"""A link that was not heard for so long proves itself before a flow is entrusted to it: the peer may have
been
restarted, and then the flow would be lost with the old link."""


@dataclass(frozen=True, slots=True)
class DialSettings:
    """How a TunnelDialer works. `limits.idle_ms` None keeps the link ready."""

    name: str
    targets: Sequence[Destination]
    params: LinkParams = field(default_factory=LinkParams)
    """What to ask for, as seen from here."""
    kcp: KcpParams = field(default_factory=KcpParams)
    """Retransmission behaviour; the windows come from what is agreed."""
    limits: LinkLimits = field(default_factory=lambda: LinkLimits(idle_ms=None))
    hop_every_ms: int = 0
    """Time between hops to another path; 0: only away from a path that has become bad."""


class DialState(Enum):
    """What the dialer is doing."""

    STOPPED = "stopped"
    CALLING = "calling"
    """There is no link; an attempt runs."""
    UP = "up"
    RESUMING = "resuming"
    """The link is silent; an attempt runs."""
    CLOSED = "closed"


class DialInput(Enum):
    """What changes that."""

    START = "start"
    ACCEPTED = "accepted"
    HEARD = "heard"
    SILENT = "silent"
    LOST = "lost"
    CLOSE = "close"


NEXT_STATE = {
    (DialState.STOPPED, DialInput.START): DialState.CALLING,
    (DialState.CALLING, DialInput.ACCEPTED): DialState.UP,
    (DialState.UP, DialInput.SILENT): DialState.RESUMING,
    (DialState.UP, DialInput.LOST): DialState.CALLING,
    (DialState.RESUMING, DialInput.ACCEPTED): DialState.UP,
    (DialState.RESUMING, DialInput.HEARD): DialState.UP,
    (DialState.RESUMING, DialInput.LOST): DialState.CALLING,
    (DialState.STOPPED, DialInput.CLOSE): DialState.CLOSED,
    (DialState.CALLING, DialInput.CLOSE): DialState.CLOSED,
    (DialState.UP, DialInput.CLOSE): DialState.CLOSED,
    (DialState.RESUMING, DialInput.CLOSE): DialState.CLOSED,
}
"""Every other input changes nothing."""


@dataclass(slots=True)
class _Waiting:
    flow: ConvFlow
    open: Open
    until_ms: int


class TunnelDialer(NativeLeg):
    """See the module and `node.EgressLeg`. `wire`: the engine's class if not the default one."""

    def __init__(
        self, settings: DialSettings, keys: RootKeys, env: Env, wire: type[Wire] | None = None
    ) -> None:
        super().__init__(settings.name, settings.params.datagram_bytes, keys, env, True, wire)
        self.settings = settings
        self.state = DialState.STOPPED
        self._keys = keys
        self._link: Link | None = None
        self._attempt: Attempt | None = None
        self._sockets = Sockets(env)
        self._choice = Choice(settings.targets, env.rng, env.source_key)
        self._hopper = Hopper(settings.hop_every_ms, self._choice, self._sockets, env, self._hopped)
        self._clock_offset_s = 0
        self._delivery = Delivery(DELIVERIES.index(settings.params.udp_delivery))
        self._waiting: deque[_Waiting] = deque()
        self._unanswered_since_ms: int | None = None
        self._call_at_ms: int | None = None
        self._looked_ms = -LOOK_MS

    @property
    def link(self) -> Link | None:
        """The link there is, silent or not."""
        return self._link

    def start(self, now_ms: int) -> None:
        """Begin the handshake at once, so that the first flow pays nothing for it."""
        self.now_ms = now_ms
        if self._turn(DialInput.START):
            self._sockets.start()
            self._call(now_ms, FIRST_WAIT_MS)

    def dial(self, open: Open, now_ms: int) -> ConvFlow | Reset:
        """See `node.EgressLeg`."""
        self.now_ms = now_ms
        if self.state in (DialState.STOPPED, DialState.CLOSED):
            return Reset(ResetCode.SHUTDOWN, "this node is not running")
        flow = ConvFlow(open.kind, self._delivery if open.kind is Kind.UDP else Delivery.ORDERED)
        link = self._link
        if link is not None and self.state is DialState.UP and self._fresh(link):
            if link.flows.full:
                return Reset(ResetCode.REFUSED, f"a link carries at most {link.limits.max_flows} flows")
            link.flows.now_ms = now_ms
            link.flows.dial(flow, open)
            return flow
        if len(self._waiting) >= MAX_WAITING:
            return Reset(ResetCode.UNREACHABLE, f"{MAX_WAITING} flows wait for a link already")
        self._waiting.append(_Waiting(flow, open, now_ms + FLOW_WAIT_MS))
        if link is not None and self.state is DialState.UP:
            link.liveness.ping(now_ms)
        return flow

    def advance(self, now_ms: int) -> None:
        """See `node.Leg`."""
        super().advance(now_ms)
        if now_ms - self._looked_ms >= LOOK_MS:
            self._looked_ms = now_ms
            self._look_after_link(now_ms)
            self._look_after_path(now_ms)
        elif self._hopper.is_due(now_ms):
            self._look_after_path(now_ms)
        self._sockets.advance(now_ms)
        self._advance_attempt(now_ms)
        self._serve_waiting(now_ms)

    def close(self, now_ms: int, reason: str) -> None:
        """See `node.Leg`. The sockets stay open for the farewell; they are the driver's to close."""
        self.now_ms = now_ms
        if not self._turn(DialInput.CLOSE):
            return
        shutdown = Reset(ResetCode.SHUTDOWN, reason)
        self._drop_attempt()
        if self._link is not None:
            self._link.close(shutdown, tell=True)
        while self._waiting:
            _abort(self._waiting.popleft().flow, shutdown)

    # LinkOwner.

    def link_heard(self, link: Link, former: LinkState) -> None:
        """See `LinkOwner`."""
        if self._turn(DialInput.HEARD):
            self._hopper.begin(self.now_ms)
            if self._attempt is not None:
                self._attempt.quiet = True

    def link_silent(self, link: Link) -> None:
        """See `LinkOwner`."""
        if self._turn(DialInput.SILENT):
            self._report(
                EventKind.LINK_SILENT, link.peer, "no answer on the link; resuming it", REPEAT_EVENT_MS
            )
            self._unanswered_since_ms = self.now_ms
            self._hopper.stop(self.now_ms)
            if link.bundle.path is not None:
                self._choice.blame(link.bundle.path[1], self.now_ms)
            self._call(self.now_ms, FIRST_WAIT_MS)

    def link_closed(self, link: Link, reason: Reset, by_peer: bool) -> None:
        """See `LinkOwner`."""
        super().link_closed(link, reason, by_peer)
        self._link = None
        self._hopper.stop(self.now_ms)
        self._drop_attempt()
        who = "the peer closed the link" if by_peer else "the link is closed"
        self._report(EventKind.LINK_DOWN, link.peer, f"{who}: {reason}")
        if self._turn(DialInput.LOST):
            self._call(self.now_ms, FIRST_WAIT_MS)

    def link_path_answered(self, link: Link, token: bytes, path: Path) -> None:
        """See `LinkOwner`."""
        if link is self._link and self.state is DialState.UP:
            self._hopper.answered(link, token, path, self.now_ms)

    # NativeLeg.

    def _moved(self, link: Link) -> None:
        """The dialer chooses the path; late datagrams from an earlier one are no reason to go back."""

    def _stranger(self, path: Path, cid: int, header: bytes, body: bytes) -> None:
        attempt = self._attempt
        if attempt is None or cid != attempt.initiator.client_cid:
            self.counters.strangers += 1
            return
        answer = attempt.initiator.receive(header, body, self.env.wall_s())
        if isinstance(answer, Retry):
            self._obey(attempt, answer, path)
        elif isinstance(answer, Refused):
            self._refused(answer, path)
        elif isinstance(answer, Accepted):
            self._accepted(attempt, answer, path)
        else:
            self.counters.strangers += 1

    def _own_deadline(self) -> int | None:
        due_ms = earliest(self._call_at_ms, self._sockets.deadline())
        if self._attempt is not None:
            due_ms = earliest(due_ms, self._attempt.deadline())
        if self._link is not None and self.state is DialState.UP:
            due_ms = earliest(due_ms, self._hopper.deadline(self._link))
        return earliest(due_ms, self._waiting[0].until_ms) if self._waiting else due_ms

    def _look_after_link(self, now_ms: int) -> None:
        """What no timer tells: data has become outstanding, so that silence would mean something."""
        if self._link is not None:
            self._link.advance(now_ms)
        if self._link is not None:
            self.link_touched(self._link)

    def _look_after_path(self, now_ms: int) -> None:
        if self._link is not None and self.state is DialState.UP:
            self._hopper.advance(self._link, now_ms)

    def _hopped(self, link: Link, why: str) -> None:
        self._report(EventKind.LINK_HOPPED, link.peer, why, HOPPED_EVENT_MS)

    # Attempts.

    def _turn(self, what: DialInput) -> bool:
        following = NEXT_STATE.get((self.state, what))
        if following is None:
            return False
        self.state = following
        return True

    def _call(self, now_ms: int, first_wait_ms: int) -> None:
        """Begin an attempt: to resume the link if there is one, else for a fresh one."""
        self._call_at_ms = None
        resume = None
        if self._link is not None:
            rekeying = self._link.rekeying
            assert isinstance(rekeying, DialerRekeying)
            resume = Resume(self._link.epochs.peer_cid, rekeying.secret)
        if self._unanswered_since_ms is None:
            self._unanswered_since_ms = now_ms
        initiator = Initiator(
            self._keys, self.settings.params, self.cids.draw(), self.entropy, resume, self._clock_offset_s
        )
        self._attempt = Attempt(initiator, now_ms, first_wait_ms, resume is not None)

    def _drop_attempt(self) -> None:
        self._attempt = None
        self._call_at_ms = None
        self._sockets.keep_first()

    def _advance_attempt(self, now_ms: int) -> None:
        if self._call_at_ms is not None and self._call_at_ms <= now_ms:
            self._call(now_ms, FIRST_WAIT_MS)
        attempt = self._attempt
        if attempt is None:
            return
        if attempt.ends_ms <= now_ms:
            self._attempt_failed(attempt, now_ms)
        elif attempt.take_turn(now_ms):
            self._send_inits(attempt, now_ms)
        self._complain(now_ms)

    def _attempt_failed(self, attempt: Attempt, now_ms: int) -> None:
        self._drop_attempt()
        if attempt.quiet:
            return
        self.counters.no_answer += 1
        self._sockets.renew(now_ms, keep=self._link is not None)
        self._call(now_ms, attempt.wait_ms)

    def _complain(self, now_ms: int) -> None:
        since_ms = self._unanswered_since_ms
        if self._attempt is None or since_ms is None or now_ms - since_ms < NO_ANSWER_MS:
            return
        peer = self._link.peer if self._link is not None else b""
        to = ", ".join(sorted({target.host for target in self.settings.targets}))
        text = f"no answer from {to}: is the password the same, is the peer up?"
        self._report(EventKind.NO_ANSWER, peer, text, REPEAT_EVENT_MS)

    def _send_inits(self, attempt: Attempt, now_ms: int) -> None:
        """One INIT to a chosen target; when resuming, one on the path there is as well, from another
        source port."""
        sock = self._sockets.first
        if attempt.resumes and self._link is not None and self._link.bundle.path is not None:
            self._send_init(attempt, self._link.bundle.path)
            sock = self._sockets.second(now_ms)
        host, port = self._choice.target(now_ms)
        self.env.resolve(host, port, lambda answer: self._resolved(attempt, sock, (host, port), answer))

    def _resolved(
        self, attempt: Attempt, sock: int, target: tuple[str, int], answer: list[bytes] | ResolveFailed
    ) -> None:
        if attempt is not self._attempt:
            return
        if isinstance(answer, ResolveFailed) or not answer:
            self.counters.unresolved += 1
            why = answer.text if isinstance(answer, ResolveFailed) else "no address"
            self._report(EventKind.UNRESOLVED, b"", f"{target[0]} does not resolve: {why}", REPEAT_EVENT_MS)
            return
        self._send_init(attempt, (sock, self._choice.address(*target, answer, self.now_ms)))

    def _send_init(self, attempt: Attempt, path: Path) -> None:
        self.counters.inits_sent += 1
        self.wire.post(*path, attempt.initiator.init(self.env.wall_s()))

    # Answers.

    def _obey(self, attempt: Attempt, retry: Retry, path: Path) -> None:
        self.counters.retries += 1
        offset_s = self._clock_offset_s = attempt.initiator.clock_offset_s
        if abs(offset_s) > CLOCK_TOLERANCE_S:
            side = "ahead of" if offset_s > 0 else "behind"
            text = f"the peer's clock is {abs(offset_s)} s {side} ours; going by it"
            self._report(EventKind.CLOCK_OFF, path[1], text, REPEAT_EVENT_MS)
        self._send_init(attempt, path)

    def _refused(self, answer: Refused, path: Path) -> None:
        """Whoever waits is told now; asking goes on, slowly."""
        self.counters.refused += 1
        text = answer.verdict.text
        self._report(EventKind.REFUSED, path[1], f"the peer refuses the link: {text}", REPEAT_EVENT_MS)
        self._unanswered_since_ms = None
        link = self._link
        if link is not None:
            link.close(Reset(ResetCode.LINK_LOST, text), tell=False)
        self._drop_attempt()
        self._call_at_ms = self.now_ms + REFUSED_WAIT_MS
        while self._waiting:
            _abort(self._waiting.popleft().flow, Reset(ResetCode.REFUSED, text))

    def _accepted(self, attempt: Attempt, answer: Accepted, path: Path) -> None:
        if self._link is not None and self.state is not DialState.RESUMING and not answer.verdict.resumed:
            return  # heard meanwhile: the old link serves, and this one expires at the peer unused
        self._attempt = None
        self._unanswered_since_ms = None
        ours = self._sockets.use(path[0], self.now_ms)
        epoch = NewEpoch(answer.epoch, answer.client_cid, answer.server_cid, answer.session_secret)
        link = self._link
        if link is not None and answer.verdict.resumed:
            if ours:  # and not the one that a hop has left meanwhile
                link.bundle.set_path(*path)
            link.renew(epoch, answer.params, self.now_ms)
            self._report(EventKind.LINK_RESUMED, path[1], "the link is resumed, its flows go on")
        else:
            link = self._begin(epoch, answer, path, attempt)
        self._turn(DialInput.ACCEPTED)
        self._choice.praise(path[1])
        self._hopper.begin(self.now_ms)
        link.liveness.ping(self.now_ms)

    def _begin(self, epoch: NewEpoch, answer: Accepted, path: Path, attempt: Attempt) -> Link:
        former, self._link = self._link, None
        bundle = self.wire.bundle(None)
        bundle.set_path(*path)
        params = answer.params
        kcp = replace(self.settings.kcp, snd_wnd=params.snd_wnd, rcv_wnd=params.rcv_wnd)
        took_ms = self.now_ms - attempt.began_ms
        rtt_ms = took_ms if attempt.tries == 1 else min(took_ms, RTT_GUESS_MS)
        link = Link(self, bundle, epoch, params, kcp, self.settings.limits, None, rtt_ms, self.now_ms)
        self._add(link)
        took = f", handshake {took_ms} ms" if attempt.tries == 1 else ""
        note = f"; {answer.verdict.text}" if answer.verdict.text else ""
        text = f"link up, {params.algorithm}, {params.datagram_bytes} bytes a datagram{took}{note}"
        self._report(EventKind.LINK_UP, path[1], text)
        if former is not None:
            former.close(Reset(ResetCode.LINK_LOST, "the peer does not know the link any more"), tell=False)
        self._link = link
        return link

    # Waiting flows.

    def _fresh(self, link: Link) -> bool:
        return self.now_ms - link.liveness.heard_ms < STALE_MS

    def _serve_waiting(self, now_ms: int) -> None:
        link = self._link
        while self._waiting and link is not None and self.state is DialState.UP and self._fresh(link):
            waiting = self._waiting.popleft()
            if waiting.flow.closed:
                continue
            if link.flows.full:
                _abort(waiting.flow, Reset(ResetCode.REFUSED, "the link carries no more flows"))
            else:
                link.flows.dial(waiting.flow, waiting.open)
        while self._waiting and (self._waiting[0].until_ms <= now_ms or self._waiting[0].flow.closed):
            flow = self._waiting.popleft().flow
            if not flow.closed:
                self.counters.flows_unreachable += 1
                _abort(flow, Reset(ResetCode.UNREACHABLE, "there is no link to the next node"))


def _abort(flow: ConvFlow, reason: Reset) -> None:
    if not flow.closed:
        flow.aborted(reason)
