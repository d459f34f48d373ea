"""One link kept to the peer: it is called, resumed when it falls silent, hops, and is called again if lost.

A dialer has one for each path that it wants (`mux_tunnels`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from kcpg.core.env import REPEAT_EVENT_MS, Env, EventKind, Resolved, ResolveFailed
from kcpg.core.flow import Reset, ResetCode
from kcpg.core.native.dial.attempt import FIRST_WAIT_MS, JITTER, HandshakeAttempt
from kcpg.core.native.dial.dialstate import NEXT_STATE, DialInput, DialState
from kcpg.core.native.dial.hopping import Hopper
from kcpg.core.native.dial.sourceports import SourcePorts
from kcpg.core.native.handshake.handshake import CLOCK_TOLERANCE_S, Initiator
from kcpg.core.native.handshake.outcomes import Accepted, Refused, Resume, Retry
from kcpg.core.native.link.epochs import NewEpoch
from kcpg.core.native.link.link import MAX_SPREAD_MS, Link
from kcpg.core.native.link.rekey import DialerRekey
from kcpg.core.units import earliest

if TYPE_CHECKING:
    from kcpg.core.native.dial.pathchoice import PathChoice
    from kcpg.core.native.handshake.params import LinkParams
    from kcpg.core.native.wire.counters import LegCounters
    from kcpg.core.native.wire.wire import Path

NO_ANSWER_MS = 5000  # After this long without an answer an event is reported; the attempts go on

# A refusal stands in a configuration, or in a list of links that is full, if the peer does not say when to
# ask again: somebody has to change something.
REFUSED_WAIT_MS = 5000

# The round-trip time is unknown when several INITs went out. A PING tells it soon; until then be patient.
RTT_GUESS_MS = 1000

HOPPED_EVENT_MS = 10_000  # Hops away from bad paths are reported at most this often; they are all counted

FURTHER_EVENT_MS = 10_000  # What happens to further links of a dialer is reported at most this often

# Another host may answer sooner than the one that the link is with, and then know nothing of it. For this
# long after a silence was noticed such an answer is not taken while flows would be lost by it: the host may
# only have stood still.
GRACE_MS = 1500

# A path that is back is better than another one: the sizes that it takes are known. Who asks by both at the
# same time gets answers this close to each other.
TOGETHER_MS = 10

FAREWELL_MS = 1000  # A link that is given up keeps its sockets this long: its farewell still has to leave


class DialHost(Protocol):
    """What a dialed link asks of the dialer that keeps it."""

    env: Env
    choice: PathChoice
    counters: LegCounters

    why_silent: str  # What may be wrong where nobody answers

    @property
    def awaited(self) -> bool:
        """Flows wait for a link."""

    def initiator(self, resume: Resume | None) -> Initiator:
        """A new key agreement, for a fresh link or to resume one."""

    def clock_differs(self, offset_s: int) -> None:
        """The peer's clock is this much ahead of ours: later handshakes go by it."""

    def post(self, path: Path, datagram: bytes) -> None:
        """Send a handshake's datagram."""

    def open_link(
        self, dialed: DialedLink, path: Path, epoch: NewEpoch, params: LinkParams, rtt_ms: int, now_ms: int
    ) -> Link:
        """The peer has accepted: the new link, by this path."""

    def link_touched(self, link: Link) -> None:
        """The link's `deadline()` may have come nearer."""

    def wake(self, dialed: DialedLink) -> None:
        """The `deadline()` of this one may have changed."""

    def refused(self, text: str) -> None:
        """The peer wants no link, for this reason."""

    def tell(self, kind: str, peer: bytes, text: str, at_most_every_ms: int) -> None:
        """Report an event."""


STUCK_TEXT = (
    "no hop to another port or address succeeds: does the next node listen to every port of "
    "destination_port, and does every firewall on the way let them pass? The link stays where it is"
)


class _Held(NamedTuple):
    """An answer by another path, that is taken if the path there is stays silent until then."""

    answer: Accepted
    path: Path
    until_ms: int


class DialedLink:
    """`host` owns the wire, the memory of bad paths, and the flows that wait.

    `further`: the host keeps others as well; then this one reports less. After every call the host asks for
    `deadline()` again.
    """

    def __init__(self, host: DialHost, hop_every_ms: int, further: bool) -> None:
        self.state = DialState.STOPPED
        self.link: Link | None = None
        self._host = host
        self._further = further
        self._env = env = replace(host.env, resolve=self._resolve)
        self._attempt: HandshakeAttempt | None = None
        self._held: _Held | None = None
        self._sockets = SourcePorts(env)
        self._hopper = Hopper(hop_every_ms, host.choice, self._sockets, env, self._hopped, self._stuck)
        self._unanswered_since_ms: int | None = None
        self._unanswered_inits = 0
        self._call_at_ms: int | None = None
        self.is_replaced = False  # the host has called for another link in place of this one

    @property
    def is_leaving(self) -> bool:
        """The peer ends soon: new flows belong to another link."""
        return self.link is not None and self.link.is_leaving

    @property
    def flows(self) -> int:
        """Flows that the link carries."""
        return len(self.link.flows.flows) if self.link is not None else 0

    @property
    def unanswered(self) -> tuple[int, int] | None:
        """INITs sent, and since when (ms), while nobody has answered; None: nobody is asked."""
        since_ms, attempt = self._unanswered_since_ms, self._attempt
        if since_ms is None or attempt is None or attempt.quiet:
            return None
        return self._unanswered_inits, since_ms

    @property
    def over(self) -> bool:
        """It was closed, and nothing is left of it."""
        return self.state is DialState.CLOSED and self._sockets.none

    def start(self, now_ms: int) -> None:
        """Begin the handshake. OSError if there is no socket to be had."""
        assert self.state is DialState.STOPPED
        self._sockets.start()
        self._turn(DialInput.START)
        self._call(now_ms, FIRST_WAIT_MS)

    def inspect(self, now_ms: int) -> None:
        """Notice what no timer tells: data became outstanding, so that silence would mean something; or the
        path has become bad."""
        if self.link is not None:
            self.link.advance(now_ms)
        if self.link is not None:
            self._host.link_touched(self.link)
            if self.state is DialState.UP:
                self._hopper.advance(self.link, now_ms)

    def advance(self, now_ms: int) -> None:
        """Serve every timer that is due."""
        if self.link is not None and self.state is DialState.UP and self._hopper.is_due(now_ms):
            self._hopper.advance(self.link, now_ms)
        self._sockets.advance(now_ms)
        self._advance_attempt(now_ms)

    def deadline(self) -> int | None:
        """When `advance` must be called though nothing happens."""
        due_ms = earliest(self._call_at_ms, self._sockets.deadline())
        if self._attempt is not None:
            due_ms = earliest(due_ms, self._attempt.deadline())
            if self._held is not None:
                due_ms = earliest(due_ms, self._held.until_ms)
        if self.link is not None and self.state is DialState.UP:
            due_ms = earliest(due_ms, self._hopper.deadline(self.link))
        return due_ms

    def close(self, reason: Reset) -> None:
        """End the link. The sockets stay open for the farewell; they are the driver's to close."""
        if self._turn(DialInput.CLOSE):
            self._drop_attempt()
            if self.link is not None:
                self.link.close(reason, tell=True)

    def give_up(self, reason: Reset, now_ms: int) -> None:
        """End the link while the dialer goes on, and give the sockets back soon."""
        self._hopper.stop(now_ms)
        self.close(reason)
        self._sockets.retire_all(now_ms + FAREWELL_MS)

    # -- what happened to the link --

    def heard(self, link: Link, now_ms: int) -> None:
        """It is UP."""
        if self._turn(DialInput.HEARD):
            self._hopper.begin(link.peer, now_ms)
            self._held = None
            if self._attempt is not None:
                self._attempt.quiet = True

    def silent(self, link: Link, now_ms: int) -> None:
        """The peer owes an answer and does not give it."""
        if self._turn(DialInput.SILENT):
            self._report(
                EventKind.LINK_SILENT, link.peer, "no answer on the link; resuming it", REPEAT_EVENT_MS
            )
            self._unanswered_since_ms, self._unanswered_inits = now_ms, 0
            self._hopper.stop(now_ms)
            if link.link_wire.path is not None:
                self._host.choice.blame(link.link_wire.path[1], now_ms)
                self._hopper.lost(link.link_wire.path[1])
            self._call(now_ms, max(FIRST_WAIT_MS, link.liveness.rto_ms))

    def closed(self, link: Link, reason: Reset, by_peer: bool, now_ms: int) -> None:
        """The link is gone, its flows are reset."""
        who = "the peer closed the link" if by_peer else "the link is closed"
        self._report(EventKind.LINK_DOWN, link.peer, f"{who}: {reason}")
        if link is not self.link:
            return  # another one has taken its place
        self.link = None
        self._hopper.stop(now_ms)
        self._drop_attempt()
        if self._turn(DialInput.LOST):
            self._call_at_ms = now_ms + int(self._env.rng.uniform(0, link.close_spread_ms))

    def path_answered(self, link: Link, token: bytes, path: Path, now_ms: int) -> None:
        """A PATH_RESPONSE came."""
        if link is self.link and self.state is DialState.UP:
            self._hopper.answered(link, token, path, now_ms)

    def receive(self, path: Path, cid: int, header: bytes, body: bytes, now_ms: int) -> bool:
        """Take an answer to the attempt that runs; False: it is none."""
        attempt = self._attempt
        if attempt is None or cid != attempt.initiator.client_cid:
            return False
        answer = attempt.initiator.receive(header, body, self._env.wall_s())
        if isinstance(answer, Retry):
            self._obey(attempt, answer, path, now_ms)
        elif isinstance(answer, Refused):
            self._refused(answer, path, now_ms)
        elif isinstance(answer, Accepted):
            self._accepted(attempt, answer, path, now_ms)
        else:
            return False
        return True

    # -- inside --

    def _report(self, kind: str, peer: bytes, text: str, at_most_every_ms: int = 0) -> None:
        self._host.tell(kind, peer, text, at_most_every_ms or (FURTHER_EVENT_MS if self._further else 0))

    def _resolve(self, host: str, port: int, answer: Resolved) -> None:
        def answered(found: list[bytes] | ResolveFailed) -> None:
            self._host.wake(self)
            answer(found)

        self._host.env.resolve(host, port, answered)

    def _hopped(self, link: Link, why: str) -> None:
        self._report(EventKind.LINK_HOPPED, link.peer, why, HOPPED_EVENT_MS)

    def _stuck(self, link: Link) -> None:
        self._report(EventKind.HOPS_FAILED, link.peer, STUCK_TEXT)

    # -- attempts --

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
        if self.link is not None:
            rekey = self.link.rekey
            assert isinstance(rekey, DialerRekey)
            resume = Resume(self.link.epochs.peer_cid, rekey.secret)
        if self._unanswered_since_ms is None:
            self._unanswered_since_ms, self._unanswered_inits = now_ms, 0
        initiator = self._host.initiator(resume)
        self._attempt = HandshakeAttempt(initiator, now_ms, first_wait_ms, resume is not None, self._env.rng)

    def _drop_attempt(self) -> None:
        self._attempt = self._held = None
        self._call_at_ms = None
        self._sockets.keep_first()

    def _advance_attempt(self, now_ms: int) -> None:
        if self._call_at_ms is not None and self._call_at_ms <= now_ms:
            self._call(now_ms, FIRST_WAIT_MS)
        attempt = self._attempt
        if attempt is None:
            return
        held = self._held
        if held is not None and held.until_ms <= now_ms:
            self._held = None
            self._accepted(attempt, held.answer, held.path, now_ms, held=True)
            return
        if attempt.ends_ms <= now_ms:
            self._attempt_failed(attempt, now_ms)
        elif attempt.take_turn(now_ms, self._awaited):
            self._send_inits(attempt, now_ms)
        self._complain(now_ms)

    @property
    def _awaited(self) -> bool:
        return self._host.awaited or (self.link is not None and self.link.link_wire.outstanding)

    def _attempt_failed(self, attempt: HandshakeAttempt, now_ms: int) -> None:
        self._drop_attempt()
        if attempt.quiet:
            return
        self._host.counters.no_answer += 1
        self._sockets.renew(now_ms, keep=self.link is not None)
        self._call(now_ms, attempt.wait_ms)

    def _complain(self, now_ms: int) -> None:
        since_ms = self._unanswered_since_ms
        if self._attempt is None or since_ms is None or now_ms - since_ms < NO_ANSWER_MS:
            return
        if self._attempt.told is not None:
            return
        peer = self.link.peer if self.link is not None else b""
        hosts = ", ".join(self._host.choice.hosts)
        text = f"no answer from {hosts}: {self._host.why_silent}"
        self._report(EventKind.NO_ANSWER, peer, text, REPEAT_EVENT_MS)

    def _send_inits(self, attempt: HandshakeAttempt, now_ms: int) -> None:
        """One INIT to a chosen target; when resuming, some on the path there is, and the others from another
        source port."""
        if attempt.told is not None:
            path, attempt.told, attempt.initiator.is_told = attempt.told, None, False
            self._send_init(attempt, path)
            return
        sock = self._sockets.first
        if attempt.resumes and self.link is not None and self.link.link_wire.path is not None:
            if attempt.asks_there:
                self._send_init(attempt, self.link.link_wire.path)
            else:  # a path that is back is better than another one
                self.link.liveness.ping(now_ms)
            if not attempt.asks_elsewhere:
                return
            sock = self._sockets.second(now_ms)
        if attempt.asked:
            self._host.choice.blame_host(attempt.asked, now_ms)
        self._host.choice.heed_nobody()
        home = self._keeps_to(now_ms)
        host, port = self._host.choice.target(now_ms, home)
        self._env.resolve(
            host, port, lambda found: self._resolved(attempt, sock, (host, port), found, now_ms, home)
        )

    def _keeps_to(self, now_ms: int) -> bytes:
        """The server that has the flows, of which no other knows: it alone is asked at first."""
        since_ms = self._unanswered_since_ms
        if self.link is None or since_ms is None or not self.flows:
            return b""
        return self.link.peer if now_ms - since_ms < self._grace_ms(self.link) else b""

    @staticmethod
    def _grace_ms(link: Link) -> int:
        return max(GRACE_MS, link.liveness.silence_ms)

    def _resolved(
        self,
        attempt: HandshakeAttempt,
        sock: int,
        target: tuple[str, int],
        answer: list[bytes] | ResolveFailed,
        now_ms: int,
        home: bytes,
    ) -> None:
        if attempt is not self._attempt:
            return
        if isinstance(answer, ResolveFailed) or not answer:
            self._host.counters.unresolved += 1
            why = answer.text if isinstance(answer, ResolveFailed) else "no address"
            self._report(EventKind.UNRESOLVED, b"", f"{target[0]} does not resolve: {why}", REPEAT_EVENT_MS)
            self._host.choice.blame_name(target[0], now_ms)
            return
        attempt.asked = self._host.choice.address(*target, answer, now_ms, home)
        self._send_init(attempt, (sock, attempt.asked))

    def _send_init(self, attempt: HandshakeAttempt, path: Path) -> None:
        self._host.counters.inits_sent += 1
        self._unanswered_inits += 1
        self._host.post(path, attempt.initiator.init(self._env.wall_s()))

    # -- answers --

    def _obey(self, attempt: HandshakeAttempt, retry: Retry, path: Path, now_ms: int) -> None:
        self._host.counters.retries += 1
        offset_s = attempt.initiator.clock_offset_s
        self._host.clock_differs(offset_s)
        if abs(offset_s) > CLOCK_TOLERANCE_S:
            side = "ahead of" if offset_s > 0 else "behind"
            text = f"the peer's clock is {abs(offset_s)} s {side} ours; going by it"
            self._report(EventKind.CLOCK_OFF, path[1], text, REPEAT_EVENT_MS)
        if retry.wait_ms:
            attempt.come_again(path, retry.wait_ms, now_ms)
        else:
            self._send_init(attempt, path)

    def _refused(self, answer: Refused, path: Path, now_ms: int) -> None:
        """Flows that wait are told when they have waited enough; the link goes on asking, slowly."""
        self._host.counters.refused += 1
        text = answer.verdict.text
        self._report(EventKind.REFUSED, path[1], f"the peer refuses the link: {text}", REPEAT_EVENT_MS)
        self._unanswered_since_ms = None
        link = self.link
        if link is not None:
            link.close(Reset(ResetCode.LINK_LOST, text), tell=False)
        self._drop_attempt()
        wait_ms = min(answer.verdict.again_ms or REFUSED_WAIT_MS, MAX_SPREAD_MS)
        self._call_at_ms = now_ms + int(wait_ms * self._env.rng.uniform(1 - JITTER, 1 + JITTER))
        self._host.refused(text)

    def _accepted(
        self, attempt: HandshakeAttempt, answer: Accepted, path: Path, now_ms: int, held: bool = False
    ) -> None:
        """`held`: it has waited as long as it had to."""
        if self.link is not None and self.state is not DialState.RESUMING and not answer.verdict.resumed:
            return  # heard meanwhile: the old link serves, and this one expires at the peer unused
        until_ms = 0 if held else self._taken_at_ms(answer, path, now_ms)
        if until_ms > now_ms:  # the INITs go on
            self._held = self._held or _Held(answer, path, until_ms)
            return
        self._attempt = self._held = None
        self._unanswered_since_ms = None
        ours = self._sockets.use(path[0], now_ms)
        epoch = NewEpoch(answer.epoch, answer.client_cid, answer.server_cid, answer.session_secret)
        link = self.link
        if link is not None and answer.verdict.resumed:
            # Not the one that a hop has left meanwhile.
            if ours:
                link.take_path(path, now_ms)
            link.renew(epoch, answer.params, now_ms)
            self._report(EventKind.LINK_RESUMED, path[1], "the link is resumed; its flows go on")
        else:
            link = self._begin(epoch, answer, path, attempt, now_ms)
        self._turn(DialInput.ACCEPTED)
        self._host.choice.praise(path[1])
        self._host.choice.heed(path[1], answer.params.ports)
        self._hopper.begin(link.peer, now_ms)
        link.liveness.ping(now_ms)

    def _taken_at_ms(self, answer: Accepted, path: Path, now_ms: int) -> int:
        """When the answer is taken: if another host offers a fresh link, which would end flows that the
        silent one may still have, only after a grace; if it came by another path, only after what came by
        the path there is at the same time."""
        since_ms = self._unanswered_since_ms
        if self.link is None or since_ms is None or not self.flows:
            return 0
        if answer.verdict.resumed:
            return 0 if path == self.link.link_wire.path else now_ms + TOGETHER_MS
        if self._host.choice.is_same_host(path[1], self.link.peer):
            return 0
        return since_ms + self._grace_ms(self.link)

    def _begin(
        self, epoch: NewEpoch, answer: Accepted, path: Path, attempt: HandshakeAttempt, now_ms: int
    ) -> Link:
        former, self.link = self.link, None
        params = answer.params
        took_ms = now_ms - attempt.began_ms
        rtt_ms = took_ms if attempt.tries == 1 else min(took_ms, RTT_GUESS_MS)
        link = self._host.open_link(self, path, epoch, params, rtt_ms, now_ms)
        took = f", handshake {took_ms} ms" if attempt.tries == 1 else ""
        note = f"; {answer.verdict.text}" if answer.verdict.text else ""
        what = f"{params.algorithm}, at most {params.datagram_bytes} bytes a datagram{params.fec_text()}"
        text = f"link up, {what}{took}{note}"
        self._report(EventKind.LINK_UP, path[1], text)
        if former is not None:
            link.flows.take_over(former.flows)
            # Told by the old path, too: another host may have answered, and the one that was left then knows.
            former.close(Reset(ResetCode.LINK_LOST, "the peer does not know the link any more"), tell=True)
        self.link = link
        return link
