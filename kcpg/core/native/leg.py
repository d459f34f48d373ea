"""What the two native legs have in common: one wire, many links, and a timer for each link."""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING

from kcpg import engine
from kcpg.core.env import REPEAT_EVENT_MS, Env, EventKind, Reporter
from kcpg.core.flow import Reset
from kcpg.core.native.handshake.keys import RootKeys
from kcpg.core.native.link.cids import Cids
from kcpg.core.native.link.link import Link
from kcpg.core.native.link.state import LinkState
from kcpg.core.native.wire.counters import LegCounters
from kcpg.core.native.wire.events import BEGUN, DRAINED, FRAME, HEARD, MOVED, READY, STRANGER
from kcpg.core.units import earliest

if TYPE_CHECKING:
    from kcpg.core.native.wire.wire import Conv, LinkWire, Path, Wire

# Datagrams up to this are taken even where smaller ones are agreed: handshakes have their own length.
RX_MIN_BYTES = 1500

POOL_BYTES = 256 << 20  # Memory of segments, if nothing else is said

# How often a busy link's timers are checked: well within the shortest silence that means something (250
# ms), and rarely enough to cost nothing beside a thousand turns a second.
INSPECT_MS = 50

# Conversations served before what they caused is sent: with more the next node would stand idle meanwhile,
# and then this one.
READY_PER_TURN = 16


class NativeLeg:
    """Base of TunnelDialer and TunnelListener: feeds links from the wire, knows when each is due.

    The driver's turn: `receive` (or the wire's own batch functions), `advance`, then `transmit` (or the
    wire's) until nothing is left; `deadline` tells when the next turn is due, at once if that has passed.
    """

    def __init__(
        self,
        name: str,
        datagram_bytes: int,
        keys: RootKeys,
        env: Env,
        dials: bool,
        wire: type[Wire] | None,
        pool_bytes: int,
    ) -> None:
        mask_rx, mask_tx = (keys.mask_s2c, keys.mask_c2s) if dials else (keys.mask_c2s, keys.mask_s2c)
        make = wire or engine.Wire
        self.name = name
        self.env = env
        self.entropy = env.entropy
        most = max(datagram_bytes, RX_MIN_BYTES)
        self.wire = make(mask_rx=mask_rx, mask_tx=mask_tx, max_datagram=most, pool_bytes=pool_bytes)
        self.cids: Cids[Link] = Cids(env.entropy, env.worker.index if env.worker is not None else None)
        self.counters = LegCounters()
        self.now_ms = 0
        self._links: dict[Link, None] = {}
        self._touched: dict[Link, None] = {}
        # Like core.timers, but with C types and each link's time in the link: this runs in every turn.
        self._timers: list[tuple[int, int, list[Link]]] = []
        self._timer_count = 0
        self._ready: dict[LinkWire, deque[Conv]] = {}  # whose turn it is first
        self._reporter = Reporter(name, env.report)

    @property
    def links(self) -> list[Link]:
        """The links there are, oldest first."""
        return list(self._links)

    def receive(self, sock: int, addr: bytes, datagram: bytes, now_ms: int) -> None:
        self.wire.receive(sock, addr, datagram, now_ms)

    def transmit(self, now_ms: int) -> list[tuple[int, bytes, bytes]]:
        return self.wire.transmit(now_ms)

    def advance(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self._serve_events(now_ms)
        self._serve_ready(now_ms)
        if self.wire.has_events:  # what serving them caused
            self._serve_events(now_ms)
        self._serve_timers(now_ms)

    def too_big(self, sock: int, addr: bytes, size: int) -> None:
        """The kernel refused to send a datagram of `size` bytes by this path: it is too long for the
        interface."""
        for link in self.links:
            if link.link_wire.path == (sock, addr):
                link.too_big(size, self.now_ms)

    def deadline(self) -> int | None:
        if self.wire.news or self.wire.backlog:
            return self.now_ms
        due_ms = earliest(self.wire.deadline(), self.advance_deadline())
        return earliest(due_ms, self.now_ms + INSPECT_MS) if self.wire.has_events else due_ms

    def advance_deadline(self) -> int | None:
        if self._ready:
            return self.now_ms
        self._set_timers()
        while self._timers:
            handle = self._timers[0][2]
            if handle and handle[0].timer_ms == self._timers[0][0]:
                break
            heapq.heappop(self._timers)
        due_ms = self._timers[0][0] if self._timers else None
        return earliest(self._own_deadline(), due_ms)

    # -- LinkOwner --

    def link_touched(self, link: Link) -> None:
        self._touched[link] = None

    def link_active(self, link: Link) -> None:
        self._arm(link, self.now_ms + INSPECT_MS)

    def link_heard(self, link: Link, former: LinkState) -> None:
        raise NotImplementedError

    def link_silent(self, link: Link) -> None:
        raise NotImplementedError

    def link_path_answered(self, link: Link, token: bytes, path: Path) -> None:
        """A leg that asks about no path ignores answers."""

    def link_leaving(self, link: Link, spread_ms: int, text: str) -> None:
        """A dialer goes away by closing its links."""

    def link_closed(self, link: Link, reason: Reset, by_peer: bool) -> None:
        self._links.pop(link, None)
        self._touched.pop(link, None)
        link.timer_ms = None
        self.counters.links_closed += 1

    # -- for the two legs --

    def _moved(self, link: Link) -> None:
        """The newest datagram of this link came from another path than we send by."""
        raise NotImplementedError

    def _stranger(self, path: Path, cid: int, header: bytes, body: bytes) -> None:
        """A datagram of no link: a handshake, or noise."""
        raise NotImplementedError

    def _own_deadline(self) -> int | None:
        """When the leg itself must be called."""
        raise NotImplementedError

    def _add(self, link: Link) -> None:
        self._links[link] = None
        self.counters.links_opened += 1
        self.link_touched(link)

    def _report(self, kind: str, peer: bytes, text: str, at_most_every_ms: int = 0) -> None:
        self._reporter.report(kind, peer, text, self.now_ms, at_most_every_ms)

    # -- inside --

    def _serve_events(self, now_ms: int) -> None:
        """Tell links what happened to them; conversations that are ready are kept for `_serve_ready`."""
        for event in self.wire.take_events():
            kind, owner = event[0], event[1]
            if kind == READY:
                waiting = self._ready.get(owner.link_wire)
                if waiting is None:
                    waiting = self._ready[owner.link_wire] = deque()
                waiting.append(owner)
                continue
            if kind == STRANGER:
                self._stranger(*event[1:])
                continue
            link = owner.link_wire.user if kind == DRAINED else owner.user
            if not isinstance(link, Link) or link.closed:
                continue
            if kind == HEARD:
                link.heard(now_ms)
            elif kind == FRAME:
                link.on_frame(event[2], event[3], event[4], now_ms)
            elif kind == BEGUN:
                self.link_active(link)
            elif kind == MOVED:
                self._moved(link)
            elif not owner.closed:
                flows = link.flows
                flows.now_ms = now_ms
                flows.drained(owner)

    def _serve_ready(self, now_ms: int) -> None:
        """Let some flows take what came, one of each link and then another one. The others, and what that
        makes ready, have the next turn."""
        for _ in range(READY_PER_TURN):
            if not self._ready:
                break
            link_wire = next(iter(self._ready))
            waiting = self._ready.pop(link_wire)
            conv = waiting.popleft()
            if waiting:
                self._ready[link_wire] = waiting
            link = link_wire.user
            if isinstance(link, Link) and not conv.closed:
                flows = link.flows
                flows.now_ms = now_ms
                flows.ready(conv)

    def _set_timers(self) -> None:
        if not self._touched:
            return
        for link in self._touched:
            due_ms = link.deadline()
            if due_ms is not None:
                self._arm(link, due_ms)
        self._touched.clear()

    def _arm(self, link: Link, due_ms: int) -> None:
        if link.timer_ms is None or due_ms < link.timer_ms:
            link.timer_ms = due_ms
            self._timer_count += 1
            heapq.heappush(self._timers, (due_ms, self._timer_count, link.handle))

    def _serve_timers(self, now_ms: int) -> None:
        self._set_timers()
        if self.wire.is_short:
            text = (
                "the memory for what flows hold is three quarters full: who waits for readers gets less of it"
            )
            self._report(EventKind.MEMORY_SHORT, b"", text, REPEAT_EVENT_MS)
        while self._timers and self._timers[0][0] <= now_ms:
            due_ms, _, handle = heapq.heappop(self._timers)
            if handle and handle[0].timer_ms == due_ms:
                link = handle[0]
                link.timer_ms = None
                link.advance(now_ms)
                if not link.closed:
                    self._touched[link] = None
