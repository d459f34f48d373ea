"""The tunnel leg that listens: takes links from other nodes, and hands out the flows that come in them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from kcpg.core.env import REPEAT_EVENT_MS, Env, EventKind
from kcpg.core.flow import Flow, Open, Reset, ResetCode
from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.native.handshake.handshake import InitRequest, Responder
from kcpg.core.native.handshake.keys import RootKeys
from kcpg.core.native.handshake.outcomes import Accepted, Reply
from kcpg.core.native.handshake.params import DIALER_BYTES, Incarnation, LinkParams, Verdict, negotiate
from kcpg.core.native.leg import POOL_BYTES, NativeLeg
from kcpg.core.native.link.convflow import ConvFlow
from kcpg.core.native.link.epochs import NewEpoch
from kcpg.core.native.link.link import Link
from kcpg.core.native.link.rekey import ListenerRekey
from kcpg.core.native.link.setup import LinkLimits, LinkSetup
from kcpg.core.native.link.state import LinkState
from kcpg.core.native.linkshares import LinkShares, Place
from kcpg.core.native.shaper import SHAPE_MS
from kcpg.core.native.users import Usage, User, Users
from kcpg.core.native.wire.wire import Path, Wire
from kcpg.core.units import earliest
from kcpg.core.workerslot import owner

# When there are too many links, so many at a time of the site that has most of them are asked whether
# somebody is there, those first that were not asked for longest. Who does not answer makes room.
DOUBTED_AT_ONCE = 16
MOST_PLACE_MS = 1000  # Who has most links is looked up at most this often, as there may be as many places
# Handshakes remembered per link, to be forgotten with it: one every 15 s while answers are repeated.
REQUESTS = 8

# Handshakes that were left to other processes and may be repeated: of half a minute, at 30 in a second.
MAX_LEFT = 1024
# A half-open link gives way to a newer one after this: its dialer repeats each RTO what confirms it, so it is
# gone, or too much was begun. Then what is nearly done is not what to throw away.
HALF_OPEN_MS = 5000
FULL_AGAIN_MS = 5000  # Who is refused because of max_links may ask again then: links go as their users do

# At the least, so that flows of the next moment do not wait for a link while the old one still serves.
GOAWAY_SPREAD_MS = 1000
GOAWAY_AGAIN_MS = 1000  # A GOAWAY may get lost; it is told again after this and then ever twice as long
MOVED_EVENT_MS = 10_000  # Peers that change their path often are reported at most this often


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """How a TunnelListener works."""

    # What is offered, as seen from here; `algorithm` is what dialers must have.
    name: str
    params: LinkParams = field(default_factory=LinkParams)
    # Retransmission behaviour; the windows come from what is agreed.
    kcp: KcpParams = field(default_factory=KcpParams)
    limits: LinkLimits = field(default_factory=LinkLimits)
    find_mtu: bool = True  # As of DialSettings
    max_links: int = 1024  # About 24 kB each without flows
    # Links whose dialer has not spoken under the new keys: a second's, as its first word may take that long.
    # Of those who have most, the oldest gives way.
    max_half_open: int = 1024
    answer_wrong_clock: bool = True  # As of Responder
    pool_bytes: int = POOL_BYTES  # Memory of segments
    # From this many on, dialers must show that they receive at their address before any key agreement.
    load_half_open: int = 64
    users: tuple[User, ...] = ()  # Who may have links, where the keys have a pair
    users_bps: int = 0  # What is sent to all users together at most; 0: no limit


class _Drain:
    """A leg that is about to end, and when it says so again."""

    __slots__ = ("_again_ms", "reason", "tell_ms", "until_ms")

    def __init__(self, until_ms: int, reason: str, now_ms: int) -> None:
        self.until_ms = until_ms
        self.reason = reason
        self.tell_ms = now_ms
        self._again_ms = GOAWAY_AGAIN_MS

    def told(self) -> None:
        """All links were told now."""
        self.tell_ms += self._again_ms
        self._again_ms *= 2


class TunnelListener(NativeLeg):
    """`wire`: the engine's class if not the default one."""

    def __init__(
        self, settings: ListenSettings, keys: RootKeys, env: Env, wire: type[Wire] | None = None
    ) -> None:
        super().__init__(
            settings.name, settings.params.datagram_bytes, keys, env, False, wire, settings.pool_bytes
        )
        self.settings = settings
        self.on_flow: Callable[[Flow, Open, int], None] = _nobody
        # None: everybody with the password may have links.
        self.users = Users(settings.users, keys.pair, settings.users_bps) if keys.pair is not None else None
        self._shape_ms: int | None = None  # when to divide bandwidth among them
        self._look_ms: int | None = None  # when to see whether a user has expired
        secret = env.worker.cookie_secret if env.worker is not None else None
        self._responder = Responder(
            keys,
            env.entropy,
            cookie_secret=secret,
            answer_wrong_clock=settings.answer_wrong_clock,
            admits=self.users.admits if self.users is not None else None,
        )
        self._half_open: LinkShares[Link] = LinkShares()
        self._shares: LinkShares[Link] = LinkShares()
        self._most: tuple[int, Place] = (0, Place(b"", b""))  # until when it is believed, who has most links
        self._of_dialer: dict[bytes, dict[Link, None]] = {}  # by the identity that a dialer tells
        self._requests: dict[Link, deque[InitRequest]] = {}
        self._left: dict[bytes, int] = {}
        self._closed = False
        self._drain: _Drain | None = None

    @property
    def handshake_drops(self) -> dict[str, int]:
        """Datagrams of no link that were no acceptable INIT, by reason."""
        return self._responder.drops

    def start(self, now_ms: int) -> None:
        """The sockets are the driver's."""
        self.now_ms = now_ms

    def close(self, now_ms: int, reason: str) -> None:
        self.now_ms = now_ms
        self._closed = True
        spread_ms = self._spread_ms
        for link in self.links:
            link.close(Reset(ResetCode.SHUTDOWN, reason), tell=True, spread_ms=spread_ms)

    def drain(self, now_ms: int, for_ms: int, reason: str) -> None:
        """Have the dialers go elsewhere: this leg closes in `for_ms`. It takes no new link meanwhile."""
        self.now_ms = now_ms
        self._drain = _Drain(now_ms + for_ms, reason, now_ms)

    def advance(self, now_ms: int) -> None:
        NativeLeg.advance(self, now_ms)
        drain = self._drain
        if drain is not None and drain.tell_ms <= now_ms and not self._closed:
            self._tell_drain(drain)
        if self._look_ms is not None and self._look_ms <= now_ms and self.users is not None:
            self._end_users(self.users.overdue(self.env.wall_s()))
        if self._shape_ms is not None and self._shape_ms <= now_ms and self.users is not None:
            self._shape_ms = now_ms + SHAPE_MS if self.users.shape(now_ms) else None

    def set_users(self, users: Iterable[User], now_ms: int) -> None:
        """Know these users from now on: links of all others end. `advance` must follow."""
        self.now_ms = now_ms
        if self.users is not None:
            self._end_users(self.users.replace(users, self.env.wall_s()))

    def bar(self, why: Mapping[str, str], now_ms: int) -> None:
        """These users, by name, may have no links for these reasons. `advance` must follow."""
        self.now_ms = now_ms
        if self.users is not None:
            self._end_users(self.users.bar(why))

    def take_usage(self, for_s: float) -> dict[str, Usage]:
        """What users have used since the last time, `for_s` seconds ago."""
        return self.users.take_usage(for_s) if self.users is not None else {}

    def _end_users(self, gone: list[tuple[User, str]]) -> None:
        assert self.users is not None
        for user, why in gone:
            for link in self.users.links(user):
                link.close(Reset(ResetCode.FORBIDDEN, f"user {user.name} {why}"), tell=True)
            self._responder.forget_dialer(user.public_key)
        self._look_at_users()

    def _look_at_users(self) -> None:
        assert self.users is not None
        in_ms = self.users.look_in_ms(self.env.wall_s())
        self._look_ms = None if in_ms is None else self.now_ms + in_ms

    @property
    def _spread_ms(self) -> int:
        return int(len(self._links) * self._responder.pace.cost_ms)

    def _tell_drain(self, drain: _Drain) -> None:
        spread_ms = max(self._spread_ms, GOAWAY_SPREAD_MS)
        for link in self._links:
            if link.state is not LinkState.FRESH:
                link.go_away(spread_ms, max(drain.until_ms - self.now_ms, 0), drain.reason)
        drain.told()

    # -- LinkOwner --

    def link_heard(self, link: Link, former: LinkState) -> None:
        if former is LinkState.FRESH:
            self._half_open.leave(link)
            if link.incarnation is not None:
                self._doubt_former(link.incarnation)
                if self.env.worker is not None:
                    self.env.worker.tell_life(b"".join(link.incarnation))
            params = link.params
            fec = params.fec_text()
            user = f" of user {name}" if (name := self.user_of(link)) else ""
            text = f"link up{user}, {params.algorithm}, at most {params.datagram_bytes} bytes a datagram{fec}"
            self._report(EventKind.LINK_UP, link.peer, text)

    def link_silent(self, link: Link) -> None:
        """The link asks, a listener can do no more."""

    def link_closed(self, link: Link, reason: Reset, by_peer: bool) -> None:
        super().link_closed(link, reason, by_peer)
        self._tell_count()
        for request in self._requests.pop(link, ()):
            request.forget()
        self._forget_dialer(link)
        self._shares.leave(link)
        user = f" of user {name}" if (name := self.user_of(link)) else ""
        if self.users is not None:
            self.users.remove(link)
        if link in self._half_open:
            self._half_open.leave(link)
            self.counters.half_open_expired += 1
            return
        who = f"the peer closed the link{user}" if by_peer else f"the link{user} is closed"
        self._report(EventKind.LINK_DOWN, link.peer, f"{who}: {reason}")

    # -- NativeLeg --

    def _moved(self, link: Link) -> None:
        if not link.follow():
            text = "the peer now sends from this address"
            self._report(EventKind.LINK_MOVED, link.peer, text, MOVED_EVENT_MS)

    def _stranger(self, path: Path, cid: int, header: bytes, body: bytes) -> None:
        if self._closed:
            return
        if cid == 0:
            # One process remembers an attempt and its salts, or a copy would be answered by every other.
            if not self._handed_over(self._carer(body), path, header, body):
                self._init(path, header, body, settled=False)
        elif not self._handed_over(owner(cid), path, header, body):
            self._unknown(path)

    def take_init(self, path: Path, header: bytes, body: bytes, now_ms: int) -> None:
        """An INIT that another process of this leg leaves to this one. `advance` must follow."""
        self.now_ms = now_ms
        if not self._closed:
            first = self.env.worker is not None and self._carer(body) == self.env.worker.index
            self._init(path, header, body, settled=not first)

    def _carer(self, body: bytes) -> int:
        """The process that takes care of an INIT, which may leave the link to another one."""
        worker = self.env.worker
        return 0 if worker is None else self._responder.group(body) % worker.processes

    def take_life(self, packed: bytes, now_ms: int) -> None:
        """Another process of this leg has a link of a dialer's new life. `advance` must follow."""
        self.now_ms = now_ms
        self._doubt_former(Incarnation(packed[:DIALER_BYTES], packed[DIALER_BYTES:]))

    def _doubt_former(self, incarnation: Incarnation) -> None:
        """Ask on the links of a dialer's other lives whether it is there.

        Where nobody answers, it died, and its flows hold their targets in vain. A clone that lives answers.
        """
        for link in self._of_dialer.get(incarnation.dialer, ()):
            if link.incarnation != incarnation:
                link.doubt(self.now_ms)

    def _forget_dialer(self, link: Link) -> None:
        if link.incarnation is None:
            return
        links = self._of_dialer[link.incarnation.dialer]
        del links[link]
        if not links:
            del self._of_dialer[link.incarnation.dialer]

    def _init(self, path: Path, header: bytes, body: bytes, settled: bool) -> None:
        """`settled`: this process answers it, even if another one might do it better."""
        self.counters.inits_received += 1
        began_ns = self.env.clock_ns()
        sock, addr = path
        answer = self._responder.receive(
            header, body, addr, self.env.source_key(addr), self.env.wall_s(), self.now_ms, self._loaded
        )
        if isinstance(answer, Reply):
            if answer.kind == "retry":
                self.counters.retries += 1
            else:
                self.counters.answers_sent += 1
            self.wire.post(sock, addr, answer.datagram)
        elif answer is not None:
            if settled or not self._handed_over(self._best(answer), path, header, body):
                self._decide(answer, path, began_ns)
        elif self.users is not None and self._responder.refused:
            self.counters.refused += 1
            why = self.users.refusal(self._responder.refused, self.env.wall_s())
            self._report(
                EventKind.REFUSED, path[1], f"a link is refused without an answer: {why}", REPEAT_EVENT_MS
            )
        else:
            self._unknown(path)

    def _own_deadline(self) -> int | None:
        if self._closed:
            return None
        due_ms = earliest(self._look_ms, self._shape_ms)
        return earliest(due_ms, None if self._drain is None else self._drain.tell_ms)

    # -- handshakes --

    @property
    def _loaded(self) -> bool:
        return len(self._half_open) >= self.settings.load_half_open

    def _best(self, request: InitRequest) -> int:
        """The process that should answer: the one with the link that is resumed, or the least busy one."""
        slot = self.env.worker
        if slot is None:
            return 0
        if request.resume_cid is not None:
            return owner(request.resume_cid)
        # An INIT that is repeated goes where the first one went, or it would make a second link.
        if request.message in self._left:
            return self._left[request.message]
        chosen = slot.choose()
        if chosen != slot.index:
            self._left[request.message] = chosen
            if len(self._left) > MAX_LEFT:
                del self._left[next(iter(self._left))]
        return chosen

    def _handed_over(self, worker: int, path: Path, header: bytes, body: bytes) -> bool:
        """Whether another process has the datagram now."""
        slot = self.env.worker
        if slot is None or worker == slot.index or not slot.hand_over(worker, path, header, body):
            return False
        self.counters.handed_over += 1
        return True

    def _unknown(self, path: Path) -> None:
        self.counters.strangers += 1
        text = "datagrams encrypted with another password, or for a closed link"
        self._report(EventKind.STRANGER, path[1], text, REPEAT_EVENT_MS)

    def _decide(self, request: InitRequest, path: Path, began_ns: int) -> None:
        user = self.users.get(request.static) if self.users is not None else None
        mine = self.settings.params if user is None else user.limited(self.settings.params)
        params, verdict = negotiate(request.params, mine)
        if not verdict.accepted:
            self._refuse(request, params, verdict, path)
            return
        link = self._resumed(request)
        if link is None and self._drain is not None:
            self.counters.draining += 1
            return
        place = Place(self.env.site_key(path[1]), self.env.source_key(path[1]))
        if link is None and user is not None and (why := self._too_many(user)):
            self._refuse(request, params, Verdict(False, why), path)
            return
        if link is None and not self._has_half(place):
            self.counters.half_open_full += 1
            return
        if link is None and len(self._links) >= self.settings.max_links:
            self.counters.links_full += 1
            text = f"{self.settings.max_links} links are already open"
            full = Verdict(False, text, again_ms=FULL_AGAIN_MS)
            self._report(EventKind.LINKS_FULL, path[1], full.text, REPEAT_EVENT_MS)
            if not self._doubt_most(place):
                self._refuse(request, params, full, path)
            return  # who has more may make room: it comes again, and its flows wait
        done = request.accept(params, replace(verdict, resumed=link is not None), self.cids.draw())
        if done is None:
            return
        datagram, accepted = done
        self.counters.answers_sent += 1
        self.wire.post(*path, datagram)
        if link is None:
            link = self._begin(accepted, path, place, request)
        else:
            link.renew(_epoch(accepted), accepted.params.mirrored(), self.now_ms)
            if self.users is not None:
                self.users.limit(link)
            self._report(
                EventKind.LINK_RESUMED, path[1], "the link is resumed; its flows go on", REPEAT_EVENT_MS
            )
        self._requests.setdefault(link, deque(maxlen=REQUESTS)).append(request)
        self._responder.pace.begun(self.env.clock_ns() - began_ns)

    def _refuse(self, request: InitRequest, params: LinkParams, verdict: Verdict, path: Path) -> None:
        self.counters.refused += 1
        self._report(EventKind.REFUSED, path[1], f"a link is refused: {verdict.text}", REPEAT_EVENT_MS)
        datagram = request.refuse(params, verdict)
        if datagram is not None:
            self.wire.post(*path, datagram)

    def _resumed(self, request: InitRequest) -> Link | None:
        """The link that this dialer proves to have had, if it is still here."""
        link = self.cids.owner(request.resume_cid) if request.resume_cid is not None else None
        if link is None or not isinstance(link.rekey, ListenerRekey):
            return None
        if link.user_key != request.static:
            return None
        return link if any(request.proves(secret) for secret in link.rekey.secrets) else None

    def _begin(self, accepted: Accepted, path: Path, place: Place, request: InitRequest) -> Link:
        incarnation = request.incarnation
        link_wire = self.wire.link_wire(None)
        link_wire.set_path(*path)
        params, settings = accepted.params.mirrored(), self.settings
        setup = LinkSetup(
            link_wire,
            _epoch(accepted),
            params,
            settings.kcp,
            settings.limits,
            settings.find_mtu,
            on_flow=self._flow if self.users is None else partial(self._users_flow, request.static),
            incarnation=incarnation,
            user_key=request.static,
        )
        link = Link(self, setup, self.now_ms)
        self._add(link)
        self._half_open.enter(link, place)
        self._shares.enter(link, place)
        if incarnation is not None:
            self._of_dialer.setdefault(incarnation.dialer, {})[link] = None
        if self.users is not None:
            self.users.add(link)
            self._look_at_users()
        self._tell_count()
        return link

    def _tell_count(self) -> None:
        if self.env.worker is not None:
            self.env.worker.count(len(self._links))

    def _has_half(self, asker: Place) -> bool:
        """Whether one more link may be half open, if need be in place of the oldest of who has most."""
        if len(self._half_open) < self.settings.max_half_open:
            return True
        most = self._half_open.most()
        (oldest,) = self._half_open.next(most, 1)
        has_more = self._half_open.counts(most)[0] > self._half_open.counts(asker)[0] + 1
        if not has_more and self.now_ms - oldest.since_ms < HALF_OPEN_MS:
            return False
        oldest.close(Reset(ResetCode.TIMEOUT, "too many handshakes"), tell=False)
        return True

    def _doubt_most(self, asker: Place) -> bool:
        """Ask some links of the place that has most of them whether somebody is there. False: that is where
        `asker` is, or hardly more than it has."""
        until_ms, most = self._most
        if until_ms <= self.now_ms or not self._shares.counts(most)[1]:
            most = self._shares.most()
            self._most = (self.now_ms + MOST_PLACE_MS, most)
            for link in self._shares.next(most, DOUBTED_AT_ONCE):
                link.doubt(self.now_ms, "its place is needed, and nobody answers here")
        (site, source), (own_site, own_source) = self._shares.counts(most), self._shares.counts(asker)
        return source > own_source + 1 if most.site == asker.site else site > own_site + 1

    def _too_many(self, user: User) -> str:
        """Why this user gets no further link; empty: he does. Those he has are asked whether he is there."""
        assert self.users is not None
        links = self.users.links(user)
        if not user.max_links or len(links) < user.max_links:
            return ""
        for link in links[:DOUBTED_AT_ONCE]:
            link.doubt(self.now_ms, "its place is needed, and nobody answers here")
            self.users.doubted(link)
        return f"user {user.name} has {len(links)} links already"

    def _flow(self, flow: ConvFlow, request: Open, now_ms: int) -> None:
        self.on_flow(flow, request, now_ms)

    def _users_flow(self, user_key: bytes, flow: ConvFlow, request: Open, now_ms: int) -> None:
        user = self.users.get(user_key) if self.users is not None else None
        if user is None:
            flow.reset(Reset(ResetCode.FORBIDDEN, "the user was removed here"))
        elif user.max_flows and self.users is not None and self.users.flows(user) > user.max_flows:
            flow.reset(Reset(ResetCode.REFUSED, f"user {user.name} has {user.max_flows} flows already"))
        else:
            request.user = user.name
            if self._shape_ms is None:
                self._shape_ms = now_ms
            self.on_flow(flow, request, now_ms)

    def user_of(self, link: Link) -> str:
        """The name of the user whose link it is; empty where there are no users."""
        return self.users.name_of(link) if self.users is not None else ""


def _epoch(accepted: Accepted) -> NewEpoch:
    return NewEpoch(accepted.epoch, accepted.server_cid, accepted.client_cid, accepted.session_secret)


def _nobody(flow: Flow, request: Open, now_ms: int) -> None:
    flow.reset(Reset(ResetCode.REFUSED, "nothing is behind this listener"))
