"""The users of a listener that has a key pair: who may have links, what each may do, and which he has."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from kcpg.core.native.handshake.keys import KeyPair
from kcpg.core.native.handshake.params import LinkParams, lower_limit
from kcpg.core.native.shaper import Shaper

if TYPE_CHECKING:
    from kcpg.core.native.link.link import Link

# The clock of the day may jump, so it is looked at this often while a user with links is to expire.
EXPIRY_MS = 5_000


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may have links, known by his public key. A limit of 0 is none."""

    name: str
    public_key: bytes
    expires_s: int = 0  # Seconds since 1970 from which he is refused; 0: never
    disabled: bool = False
    outbound_bps: int = 0  # What this node sends to him, by all of his links
    inbound_bps: int = 0  # What each of his links may send
    max_links: int = 0
    max_flows: int = 0  # Of all of his links

    def why_not(self, wall_s: int) -> str:
        """Why he may have no link now; empty: he may."""
        if self.disabled:
            return "is disabled here"
        return "has expired" if self.expires_s and wall_s >= self.expires_s else ""

    def limited(self, params: LinkParams) -> LinkParams:
        """What the listener offers him, as it sees it."""
        return replace(params, inbound_bps=lower_limit(params.inbound_bps, self.inbound_bps))


class Usage(NamedTuple):
    """What somebody has used in some time, by all of his links; received from him: rx."""

    rx_bytes: int = 0
    tx_bytes: int = 0
    rx_datagrams: int = 0
    tx_datagrams: int = 0
    links: int = 0  # Begun
    seconds: float = 0.0  # With any link

    def plus(self, other: Usage) -> Usage:
        """Both together."""
        return Usage(
            self.rx_bytes + other.rx_bytes,
            self.tx_bytes + other.tx_bytes,
            self.rx_datagrams + other.rx_datagrams,
            self.tx_datagrams + other.tx_datagrams,
            self.links + other.links,
            self.seconds + other.seconds,
        )


class Users:
    """`pair`: the listener's, which keeps the secrets that it shares with users who have called."""

    def __init__(self, users: Iterable[User], pair: KeyPair, total_bps: int = 0) -> None:
        self._known: dict[bytes, User] = {}
        self._known.update((user.public_key, user) for user in users)
        self._links: dict[bytes, dict[Link, None]] = {}
        self._pair = pair
        self._shaper = Shaper(total_bps)
        self._names: dict[bytes, str] = {}  # Of those with links, who may be known no more
        self._barred: dict[str, str] = {}  # By name: why he may have no link, whatever his section says
        self._counted: dict[Link, Usage] = {}  # What was told already
        self._used: dict[str, Usage] = {}  # What was not: of links that are over

    def admits(self, public_key: bytes, wall_s: int) -> bool:
        """Whether the holder of this key may have a link now."""
        user = self._known.get(public_key)
        return user is not None and not self._why_not(user, wall_s)

    def _why_not(self, user: User, wall_s: int) -> str:
        return user.why_not(wall_s) or self._barred.get(user.name, "")

    def refusal(self, public_key: bytes, wall_s: int) -> str:
        """Why this key gets no link, for the log of the listener."""
        user = self._known.get(public_key)
        if user is None:
            return f"no user has the key {base64.b64encode(public_key).decode()}"
        return f"user {user.name} {self._why_not(user, wall_s)}"

    def get(self, public_key: bytes) -> User | None:
        """The user with this key, admitted or not."""
        return self._known.get(public_key)

    def links(self, user: User) -> list[Link]:
        """Oldest first, or first the one that was asked longest ago whether somebody is there."""
        return list(self._links.get(user.public_key, ()))

    def flows(self, user: User) -> int:
        """How many flows all of his links carry."""
        return sum(len(link.flows.flows) for link in self.links(user))

    def add(self, link: Link) -> None:
        """A new link; `link.user_key` tells whose."""
        self._pair.keep(link.user_key)
        self._links.setdefault(link.user_key, {})[link] = None
        self._names[link.user_key] = self._known[link.user_key].name
        self._counted[link] = Usage()
        self.limit(link)

    def remove(self, link: Link) -> None:
        """A link is over."""
        links = self._links.get(link.user_key)
        if links is None or link not in links:
            return
        self._count(link)
        del links[link], self._counted[link]
        self._shaper.forget(link)
        for other in links:
            self.limit(other)  # what he shared with this one
        if not links:
            del self._links[link.user_key], self._names[link.user_key]
            self._shaper.forget_user(link.user_key)

    def name_of(self, link: Link) -> str:
        """Whose link it is; empty once it is over."""
        return self._names.get(link.user_key, "")

    def take_usage(self, for_s: float) -> dict[str, Usage]:
        """What users have used since the last time, `for_s` seconds ago, by their names."""
        for key, links in self._links.items():
            for link in links:
                self._count(link)
            used = self._used.get(self._names[key], Usage())
            self._used[self._names[key]] = used._replace(seconds=for_s)
        used_up, self._used = self._used, {}
        return used_up

    def _count(self, link: Link) -> None:
        wire, told, name = link.link_wire, self._counted[link], self._names[link.user_key]
        now = Usage(wire.rx_bytes, wire.tx_bytes, wire.rx_datagrams, wire.tx_datagrams, links=1)
        self._counted[link] = now
        fresh = Usage(*(a - b for a, b in zip(now, told, strict=True)))  # type: ignore[arg-type]
        self._used[name] = self._used.get(name, Usage()).plus(fresh)

    def bar(self, why: Mapping[str, str]) -> list[tuple[User, str]]:
        """These users, by name, may have no link, whatever their sections say. Gives those, and why."""
        self._barred = dict(why)
        return [(user, why[user.name]) for user in self._known.values() if user.name in why]

    def doubted(self, link: Link) -> None:
        """It was asked whether somebody is there: others are asked before it the next time."""
        links = self._links[link.user_key]
        links[link] = links.pop(link)

    def limit(self, link: Link) -> None:
        """Keep a link to its user's limit, until `shape` knows better."""
        user = self._known.get(link.user_key)
        if user is not None:
            link.share(1, lower_limit(user.outbound_bps, self._shaper.total_bps))

    def shape(self, now_ms: int) -> bool:
        """Divide what there is among users and links that carry flows. False: nothing is to be divided."""
        total_bps, rows = self._shaper.total_bps, []
        for key, links in self._links.items():
            limit_bps = self._known[key].outbound_bps if key in self._known else 0
            if total_bps or (limit_bps and len(links) > 1):
                busy = [link for link in links if link.flows.flows]
                if busy:
                    rows.append((key, limit_bps, busy))
        self._shaper.shape(rows, now_ms)
        return bool(rows)

    def replace(self, users: Iterable[User], wall_s: int) -> list[tuple[User, str]]:
        """Other users are known from now on. Gives those who may have no links any more, and why."""
        former, self._known = self._known, {user.public_key: user for user in users}
        self._pair.keep_only(self._known.keys())
        names = {user.name for user in self._known.values()}
        gone = []
        for key, user in former.items():
            now = self._known.get(key)
            if now is not None:
                why = self._why_not(now, wall_s)
            else:
                why = "has another key now" if user.name in names else "was removed here"
            if why:
                gone.append((now or user, why))
        for links in self._links.values():
            for link in links:
                self.limit(link)
        return gone

    def overdue(self, wall_s: int) -> list[tuple[User, str]]:
        """Users with links who may have none any more, and why."""
        found = [self._known[key] for key in self._links if key in self._known]
        return [(user, why) for user in found if (why := self._why_not(user, wall_s))]

    def look_in_ms(self, wall_s: int) -> int | None:
        """How soon `overdue` must be asked; None: nobody with links is to expire."""
        found = [self._known[key].expires_s for key in self._links if key in self._known]
        left_s = [expires_s - wall_s for expires_s in found if expires_s]
        return min(max(min(left_s), 0) * 1000, EXPIRY_MS) if left_s else None
