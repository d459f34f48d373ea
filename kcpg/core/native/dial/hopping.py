"""Hops: a link takes another path (source port, destination port and address) without anybody noticing.

Make before break. A candidate path is asked (PATH_CHALLENGE) while the old one carries the data. When it
answers, the link moves; the old socket goes on receiving until the peer was heard on the new one, and for a
while more. A candidate that does not answer is given up, remembered as bad, and another one has its turn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from kcpg.core.env import Env, ResolveFailed
from kcpg.core.native.link.quality import Quality
from kcpg.core.native.wire import frames
from kcpg.core.units import earliest

if TYPE_CHECKING:
    from kcpg.core.native.dial.pathchoice import PathChoice
    from kcpg.core.native.dial.sourceports import SourcePorts
    from kcpg.core.native.link.link import Link
    from kcpg.core.native.wire.wire import Path

# A candidate is given up after this long: four challenges, of which at 30 % loss each way one in seventeen
# rounds finds none answered.
PROBE_RTOS = 5
PROBE_MIN_MS = 600

WAIT_GROWTH = 1.5  # Of the wait between two challenges, and two PINGs after a move

MOST_CHALLENGES = 16  # Challenges of one candidate whose answers are known, whatever its times are

RESOLVE_MS = 5000  # A name that takes longer is as bad as none

CANDIDATES = 4  # After this many failures in a row there is a pause

# The pause; a hop by the clock does not matter much, and one that is urgent has tried four ways.
PAUSE_MS = 5000

# The peer must be heard on the new path within this, or the link goes back to the old one.
CONFIRM_RTOS = 6
CONFIRM_MIN_MS = 1000

CONFIRM_WAIT_MIN_MS = 30  # Shortest time until the peer is asked again whether it follows

# Once the peer has followed, the old path still takes what is under way for this long.
DRAIN_RTOS = 3
DRAIN_MIN_MS = 3000

# A hop by the clock does not take a path whose round trip is more than twice as long and 10 ms longer: what
# is in flight might be sent again.
SLOWER = 2
SLOWER_MS = 10

# Pause after a hop because of losses; doubled each time, as they may have nothing to do with the port.
AGAIN_MS = 1000
AGAIN_MOST_MS = 60_000

# After this long an address that fell silent is asked whether it is back, and later less often. Hops by
# the clock do that anyway.
HOME_MS = 5000
HOME_MOST_MS = 60_000

STUCK_HOPS = 3  # So many that failed, with none that succeeded between them, are no accident

CALM_PAUSES = 4  # After this many pauses without a bad path the pause is short again


class HopState(Enum):
    """What is being done about the path."""

    RESTING = "resting"
    PROBING = "probing"  # A candidate is asked; the old path carries everything
    CONFIRMING = "confirming"  # The new path is used; the peer was not heard on it yet


class HopInput(Enum):
    """What changes that."""

    DUE = "due"
    ANSWERED = "answered"
    FAILED = "failed"
    CONFIRMED = "confirmed"
    STOP = "stop"


# Every other input changes nothing.
NEXT_STATE = {
    (HopState.RESTING, HopInput.DUE): HopState.PROBING,
    (HopState.PROBING, HopInput.ANSWERED): HopState.CONFIRMING,
    (HopState.PROBING, HopInput.FAILED): HopState.RESTING,
    (HopState.PROBING, HopInput.STOP): HopState.RESTING,
    (HopState.CONFIRMING, HopInput.CONFIRMED): HopState.RESTING,
    (HopState.CONFIRMING, HopInput.FAILED): HopState.RESTING,
    (HopState.CONFIRMING, HopInput.STOP): HopState.RESTING,
}


@dataclass(slots=True)
class _Candidate:
    sock: int
    urgent: bool  # The path in use is bad: any other will do
    due_ms: int
    wait_ms: float
    ends_ms: int
    addr: bytes | None = None
    is_home: bool = False  # The link was there before that address fell silent
    asked: dict[bytes, int] = field(default_factory=dict)  # When each challenge was sent


@dataclass(slots=True)
class _Move:
    """A move that is not confirmed: the way back, and when to ask and to give up."""

    old: Path
    due_ms: int
    wait_ms: float
    ends_ms: int
    urgent: bool


class Hopper:
    """Of one dialer. It acts only while the link is up; silence is the dialer's to resolve (RESUME), which
    then calls `stop`, and `begin` when there is a path again.

    `refresh_ms`: between hops by the clock, 0: only away from bad paths. `moved(link, why)` is told of hops
    that had a reason, `stuck(link)` once of hops that never succeed.
    """

    def __init__(
        self,
        refresh_ms: int,
        choice: PathChoice,
        sockets: SourcePorts,
        env: Env,
        moved: Callable[[Link, str], None],
        stuck: Callable[[Link], None],
    ) -> None:
        self.state = HopState.RESTING
        self._refresh_ms = refresh_ms
        self._choice = choice
        self._sockets = sockets
        self._env = env
        self._moved = moved
        self._stuck = stuck
        self._fruitless: int | None = 0  # hops since the last that succeeded; None: `stuck` was told
        self._quality = Quality()
        self._candidate: _Candidate | None = None
        self._move: _Move | None = None
        self._due_ms: int | None = None
        self._urgent = False
        self._failures = 0
        self._pause_until_ms = 0
        self._again_ms = AGAIN_MS
        self._home: bytes | None = None
        self._home_due_ms = 0
        self._home_wait_ms = HOME_MS

    def begin(self, addr: bytes, now_ms: int) -> None:
        """The link has a path (again), to this address."""
        self.stop(now_ms)
        if self._home is not None and self._choice.is_same_host(self._home, addr):
            self._home = None
        self._home_due_ms, self._home_wait_ms = now_ms + HOME_MS, HOME_MS
        self._rest(now_ms)
        self._quality.reset(now_ms)

    def lost(self, addr: bytes) -> None:
        """This address fell silent. If the link goes to another one, it comes back when it can."""
        if self._home is None and not self._refresh_ms and not self._choice.servers:
            self._home = addr

    def stop(self, now_ms: int) -> None:
        """The link is silent or gone: what is under way is given up."""
        if self._candidate is not None:
            self._sockets.retire(self._candidate.sock, now_ms + DRAIN_MIN_MS)
        if self._move is not None:
            self._sockets.retire(self._move.old[0], now_ms + DRAIN_MIN_MS)
        self._candidate = self._move = None
        self._turn(HopInput.STOP)

    def advance(self, link: Link, now_ms: int) -> None:
        """Serve what is due. Only while the link is up."""
        if self.state is HopState.RESTING:
            self._inspect(link, now_ms)
        if self.state is HopState.PROBING:
            self._probe(link, now_ms)
        elif self.state is HopState.CONFIRMING:
            self._confirm(link, now_ms)

    def answered(self, link: Link, token: bytes, path: Path, now_ms: int) -> None:
        """A PATH_RESPONSE came."""
        candidate = self._candidate
        if candidate is None or path[0] != candidate.sock or token not in candidate.asked:
            return
        rtt_ms = now_ms - candidate.asked[token]
        usual_ms = max(link.link_wire.srtt_ms, link.liveness.rtt_ms)
        if not candidate.urgent and usual_ms >= 0 and rtt_ms > SLOWER * usual_ms + SLOWER_MS:
            self._give_up(link, now_ms, blame=False)
        else:
            self._take(link, candidate, now_ms)

    def is_due(self, now_ms: int) -> bool:
        """`advance` would do something besides watching the path."""
        if self.state is not HopState.RESTING:
            return True
        due_ms = self._rest_ends_ms
        return due_ms is not None and due_ms <= now_ms

    def deadline(self, link: Link) -> int | None:
        """When `advance` must be called though nothing happens. A link that nobody uses stays where it is."""
        if self._candidate is not None:
            return min(self._candidate.due_ms, self._candidate.ends_ms)
        if self._move is not None:
            return min(self._move.due_ms, self._move.ends_ms)
        return self._rest_ends_ms if link.flows.flows else None

    # -- resting --

    @property
    def _rest_ends_ms(self) -> int | None:
        return earliest(self._due_ms, self._home_due_ms if self._home is not None else None)

    def _turn(self, what: HopInput) -> bool:
        following = NEXT_STATE.get((self.state, what))
        if following is None:
            return False
        self.state = following
        return True

    def _rest(self, now_ms: int) -> None:
        self._due_ms = now_ms + self._refresh_ms if self._refresh_ms else None
        self._urgent = False
        self._failures = 0

    def _inspect(self, link: Link, now_ms: int) -> None:
        if not link.flows.flows:
            return
        if self._quality.inspect(link.link_wire, now_ms) and now_ms >= self._pause_until_ms:
            self._pause(now_ms)
            if link.link_wire.path is not None:
                self._choice.blame_port(link.link_wire.path[1], now_ms)
            self._urgent = True
            self._open(link, now_ms)
        elif self._due_ms is not None and self._due_ms <= now_ms:
            self._open(link, now_ms)
        elif self._home is not None and self._home_due_ms <= now_ms:
            self._open(link, now_ms, self._home)

    def _pause(self, now_ms: int) -> None:
        calm = now_ms - self._pause_until_ms >= CALM_PAUSES * self._again_ms
        self._again_ms = AGAIN_MS if calm else min(2 * self._again_ms, AGAIN_MOST_MS)
        self._pause_until_ms = now_ms + self._again_ms

    # -- probing --

    def _open(self, link: Link, now_ms: int, home: bytes | None = None) -> None:
        """Choose a candidate, if it is not the address that the link was at before."""
        try:
            sock = self._sockets.open()
        except OSError:
            link.counters.hops_failed += 1
            self._due_ms = self._home_due_ms = now_ms + PAUSE_MS
            return
        late_ms = now_ms + RESOLVE_MS
        candidate = _Candidate(sock, self._urgent, late_ms, link.liveness.rto_ms, late_ms)
        self._candidate = candidate
        self._turn(HopInput.DUE)
        if home is not None:
            candidate.addr, candidate.due_ms, candidate.is_home = home, 0, True
            return
        peer = link.peer
        host, port = self._choice.target(now_ms, peer)

        def resolved(answer: list[bytes] | ResolveFailed) -> None:
            if self._candidate is not candidate:
                return
            if isinstance(answer, ResolveFailed) or not answer:
                candidate.ends_ms = 0  # at once, in the next turn
            else:
                candidate.addr = self._choice.address(host, port, answer, now_ms, peer)
                candidate.due_ms = 0

        self._env.resolve(host, port, resolved)

    def _probe(self, link: Link, now_ms: int) -> None:
        candidate = self._candidate
        assert candidate is not None
        if candidate.ends_ms <= now_ms:
            self._give_up(link, now_ms, blame=True)
        elif candidate.addr is not None and candidate.due_ms <= now_ms:
            if not candidate.asked:
                candidate.ends_ms = now_ms + max(PROBE_RTOS * link.liveness.rto_ms, PROBE_MIN_MS)
            if len(candidate.asked) < MOST_CHALLENGES:
                token = self._env.entropy(frames.OPAQUE_BYTES)
                candidate.asked[token] = now_ms
                link.link_wire.send(frames.PATH_CHALLENGE, token, (candidate.sock, candidate.addr))
            candidate.due_ms = now_ms + int(candidate.wait_ms)
            candidate.wait_ms *= WAIT_GROWTH

    def _give_up(self, link: Link, now_ms: int, blame: bool) -> None:
        """The candidate is no good; the next one follows, or a pause."""
        candidate, self._candidate = self._candidate, None
        assert candidate is not None
        self._turn(HopInput.FAILED)
        link.counters.hops_failed += 1
        if blame and candidate.addr is not None:
            self._choice.blame(candidate.addr, now_ms)
        self._sockets.retire(candidate.sock, now_ms + DRAIN_MIN_MS)
        if candidate.is_home:
            self._ask_home_later(now_ms)
            return
        self._failures += 1
        if self._failures < CANDIDATES:
            self._open(link, now_ms)
            return
        self._rest(now_ms)
        self._note_failure(link)
        if self._refresh_ms:
            self._due_ms = now_ms + min(self._refresh_ms, PAUSE_MS)

    def _note_failure(self, link: Link) -> None:
        if self._fruitless is None:
            return
        self._fruitless += 1
        if self._fruitless >= STUCK_HOPS:
            self._fruitless = None
            self._stuck(link)

    def _ask_home_later(self, now_ms: int) -> None:
        self._home_wait_ms = min(2 * self._home_wait_ms, HOME_MOST_MS)
        self._home_due_ms = now_ms + self._home_wait_ms

    # -- moving --

    def _take(self, link: Link, candidate: _Candidate, now_ms: int) -> None:
        """Everything leaves by the new path from now on; ask at once, so that the peer follows even if there
        is nothing else to send."""
        assert candidate.addr is not None and link.link_wire.path is not None
        old = link.link_wire.path
        self._candidate = None
        self._turn(HopInput.ANSWERED)
        if candidate.urgent:
            link.link_wire.hurry(now_ms)
        self._go(link, (candidate.sock, candidate.addr), now_ms)
        wait_ms = max(link.liveness.rto_ms * 5 / 8, CONFIRM_WAIT_MIN_MS)  # an RTO is two round trips
        ends_ms = now_ms + max(CONFIRM_RTOS * link.liveness.rto_ms, CONFIRM_MIN_MS)
        self._move = _Move(old, now_ms + int(wait_ms), wait_ms, ends_ms, candidate.urgent)

    def _go(self, link: Link, path: Path, now_ms: int) -> None:
        link.take_path(path, now_ms)
        self._sockets.swap(path[0])
        link.liveness.ping(now_ms)

    def _confirm(self, link: Link, now_ms: int) -> None:
        move, source = self._move, link.link_wire.source
        assert move is not None and link.link_wire.path is not None
        if source is not None and source[0] == link.link_wire.path[0]:
            self._confirmed(link, move, now_ms)
        elif move.ends_ms <= now_ms:
            self._go_back(link, move, now_ms)
        elif move.due_ms <= now_ms:
            link.liveness.ping(now_ms)
            move.wait_ms *= WAIT_GROWTH
            move.due_ms = now_ms + int(move.wait_ms)

    def _confirmed(self, link: Link, move: _Move, now_ms: int) -> None:
        self._move = None
        self._turn(HopInput.CONFIRMED)
        assert link.link_wire.path is not None
        self._choice.praise(link.link_wire.path[1])
        if link.link_wire.path[1] == self._home:
            self._home = None
        rto_ms = link.liveness.rto_ms
        self._sockets.retire(move.old[0], now_ms + max(DRAIN_RTOS * rto_ms, DRAIN_MIN_MS))
        link.counters.hops += 1
        self._fruitless = 0
        self._rest(now_ms)
        self._quality.reset(now_ms + rto_ms)
        if move.urgent:
            link.counters.hops_urgent += 1
            self._moved(link, "the path was losing much; the link has moved to another one")

    def _go_back(self, link: Link, move: _Move, now_ms: int) -> None:
        """The candidate answered, but does not carry the peer's data."""
        self._move = None
        self._turn(HopInput.FAILED)
        link.counters.hops_failed += 1
        assert link.link_wire.path is not None
        sock, addr = link.link_wire.path
        self._choice.blame(addr, now_ms)
        self._ask_home_later(now_ms)
        self._go(link, move.old, now_ms)
        self._sockets.retire(sock, now_ms + DRAIN_MIN_MS)
        self._rest(now_ms)
        self._quality.reset(now_ms + link.liveness.rto_ms)
        if self._refresh_ms:
            self._due_ms = now_ms + min(self._refresh_ms, PAUSE_MS)
