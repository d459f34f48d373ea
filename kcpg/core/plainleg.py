"""What the legs of foreign dialects have in common: one plain wire, many links, a timer for each.

Their turns are those of the native legs (`native.leg`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from kcpg.core.env import REPEAT_EVENT_MS, Env, Reporter
from kcpg.core.pacer import Pacer
from kcpg.core.plainwire import PlainWire
from kcpg.core.timers import AskedTimers
from kcpg.core.units import earliest

if TYPE_CHECKING:
    from collections.abc import Callable

    from kcpg.core.flow import Reset
    from kcpg.core.kcp.kcp import KcpParams


class LinkCounters(Protocol):
    """What both kinds of counters have."""

    links_opened: int
    links_closed: int
    links_lost: int
    too_big: int


class PlainLink(Protocol):
    """A link, as its leg sees it."""

    def advance(self, now_ms: int) -> None:
        """Serve every timer that is due."""


L = TypeVar("L", bound=PlainLink)
W = TypeVar("W", bound=PlainWire[Any])
N = TypeVar("N", bound=LinkCounters)


class PlainLeg(Generic[W, L, N]):
    """`deadline`: when a link is to be advanced; None: not by itself. `datagram_bytes`: the longest one's."""

    MTU_KEY = "mtu"  # What a person has to configure where datagrams are too long

    def __init__(
        self,
        name: str,
        env: Env,
        wire: W,
        counters: N,
        deadline: Callable[[L], int | None],
        kcp_params: KcpParams,
        outbound_bps: int,
        datagram_bytes: int,
    ) -> None:
        self.name = name
        self.env = env
        self.wire = wire
        self.counters = counters
        self.kcp_params = kcp_params
        self.now_ms = 0
        self.pacer = Pacer(outbound_bps, datagram_bytes)
        self._links: dict[L, None] = {}
        self._timers: AskedTimers[L] = AskedTimers(deadline)
        self._reporter = Reporter(name, env.report)

    @property
    def links(self) -> list[L]:
        """The links there are, oldest first."""
        return list(self._links)

    def receive(self, sock: int, addr: bytes, datagram: bytes, now_ms: int) -> None:
        self.wire.receive(sock, addr, datagram, now_ms)

    def transmit(self, now_ms: int) -> list[tuple[int, bytes, bytes]]:
        return self.wire.transmit(now_ms)

    def deadline(self) -> int | None:
        if self.wire.news:
            return self.now_ms
        return earliest(self.wire.deadline(), self.advance_deadline())

    def advance_deadline(self) -> int | None:
        return earliest(self._timers.first(), self._own_deadline())

    def too_big(self, sock: int, addr: bytes, size: int) -> None:
        """The kernel refused to send a datagram of `size` bytes by this path. Segments that were cut cannot
        be cut again, so somebody has to configure less."""
        self.counters.too_big += 1
        text = f"datagrams of {size} bytes are too long for the interface; set {self.MTU_KEY}="
        self.report("too_big", addr, text, REPEAT_EVENT_MS)

    # -- LinkOwner --

    def link_touched(self, link: L) -> None:
        self._timers.touch(link)
        self.wire.alert = True

    def link_over(self, link: L, reason: Reset | None) -> None:
        self._links.pop(link, None)
        self._timers.forget(link)
        self.counters.links_closed += 1
        if reason is not None:
            self.counters.links_lost += 1

    # -- for the two legs of a dialect --

    def _serve_links(self, now_ms: int) -> None:
        """What conversations have become, and timers that are due."""
        for conv, events in self.wire.take_ready():
            if not conv.closed:
                conv.user.ready(events)
        for link in self._timers.take_due(now_ms):
            link.advance(now_ms)
            self._timers.touch(link)

    def _own_deadline(self) -> int | None:
        """When the leg itself must be called."""
        raise NotImplementedError

    def add(self, link: L) -> None:
        """A link is there."""
        self._links[link] = None
        self.counters.links_opened += 1
        self.link_touched(link)

    def report(self, kind: str, peer: bytes, text: str, at_most_every_ms: int = 0) -> None:
        """Tell an event."""
        self._reporter.report(kind, peer, text, self.now_ms, at_most_every_ms)

    def _clock(self, now_ms: int) -> None:
        self.now_ms = self.wire.now_ms = now_ms
