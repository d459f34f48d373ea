"""The kcptube leg that dials: a link for each flow, or a number of links that flows share (mux)."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kcpg.core.env import REPEAT_EVENT_MS, Env, EventKind
from kcpg.core.flow import Open, Reset, ResetCode
from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.kcptube.dialedlink import DialedLink
from kcpg.core.kcptube.flow import TubeFlow
from kcpg.core.kcptube.leg import TubeLeg
from kcpg.core.kcptube.mux import MuxLink
from kcpg.core.kcptube.wire import Conv, Format
from kcpg.core.native.dial.pathchoice import Destination, PathChoice
from kcpg.core.timers import AskedTimers
from kcpg.core.units import earliest

if TYPE_CHECKING:
    from kcpg.core.kcp.kcp import Kcp
    from kcpg.core.kcptube.link import Link
    from kcpg.core.plainwire import Path

MAX_WAITING = 4096  # Flows that wait for a mux link; each holds an accepted socket of an application

# Every socket stays open this long: kcptube answers no other request from its port for 10 s.
PORT_MS = 10_500

MAX_TUNNELS = 100  # Mux links of one dialer, each with a socket


@dataclass(frozen=True, slots=True)
class DialSettings:
    """How a TubeDialer works. `tunnels`: mux links that all flows share; 0: a link for each flow."""

    name: str
    targets: Sequence[Destination]
    format: Format = field(default_factory=Format)
    kcp: KcpParams = field(default_factory=KcpParams)
    outbound_bps: int = 0
    inbound_bps: int = 0
    keep_alive_ms: int = 0
    hop_every_ms: int = 60_000  # 0: only away from a path that is silent
    tunnels: int = 0
    flow_wait_ms: int = 30_000  # How long a flow waits for a link before it is reset


@dataclass(slots=True)
class _Waiting:
    flow: TubeFlow
    open: Open
    since_ms: int


class TubeDialer(TubeLeg):
    """The dialling leg of a node (`node.EgressLeg`)."""

    def __init__(self, settings: DialSettings, env: Env, kcp: type[Kcp] | None = None) -> None:
        super().__init__(settings.name, settings.format, settings.kcp, settings.outbound_bps, env, False, kcp)
        self.settings = settings
        self.choice = PathChoice(settings.targets, env.rng, env.source_key)
        self._running = False
        self._dialed: dict[DialedLink, None] = {}
        self._by_link: dict[Link, DialedLink] = {}
        self._owners: dict[int, DialedLink] = {}
        self._opened: dict[int, int] = {}
        self._closing: list[tuple[int, int]] = []
        self._calls: AskedTimers[DialedLink] = AskedTimers(self._deadline)
        self._waiting: deque[_Waiting] = deque()

    def start(self, now_ms: int) -> None:
        """Mux links are called at once."""
        self._clock(now_ms)
        self._running = True
        for _ in range(min(self.settings.tunnels, MAX_TUNNELS)):
            self._call(DialedLink(self))

    def dial(self, wanted: Open, now_ms: int) -> TubeFlow | Reset:
        self._clock(now_ms)
        if not self._running:
            return Reset(ResetCode.SHUTDOWN, "this node is not running")
        flow = TubeFlow(wanted.kind)
        if not self.settings.tunnels:
            self._call(DialedLink(self, flow, wanted))
            return flow
        link = self._mux_link() if not self._waiting else None
        if link is not None:
            link.dial(flow, wanted)
        elif len(self._waiting) >= MAX_WAITING:
            return Reset(ResetCode.UNREACHABLE, f"{MAX_WAITING} flows wait for a link already")
        else:
            self._waiting.append(_Waiting(flow, wanted, now_ms))
            self.wire.alert = True
        return flow

    def close(self, now_ms: int, reason: str) -> None:
        """There is no farewell but those of flows, which were reset."""
        self._clock(now_ms)
        self._running = False
        for dialed in list(self._dialed):
            if dialed.link is None:
                dialed.close()
        self._abort_waiting(Reset(ResetCode.SHUTDOWN, reason))

    # -- for the links it keeps --

    def converse(self, number: int, params: KcpParams, user: object, path: Path) -> Conv:
        """A conversation by this path."""
        conv = Conv(self.wire, number, params, user, follows=False)
        conv.path = path
        return conv

    def open_socket(self, dialed: DialedLink) -> int:
        """A socket of this link. OSError if there is none."""
        sock = self.env.open_socket()
        self._owners[sock] = dialed
        self._opened[sock] = self.now_ms
        return sock

    def give_back(self, sock: int) -> None:
        """Close a socket, now or when its port may be used again."""
        self._owners.pop(sock, None)
        close_ms = self._opened.pop(sock) + PORT_MS
        if close_ms <= self.now_ms or not self._running:
            self.env.close_socket(sock)
        else:
            heapq.heappush(self._closing, (close_ms, sock))

    def wake(self, dialed: DialedLink) -> None:
        """Its deadline may have come nearer."""
        self._calls.touch(dialed)
        self.wire.alert = True

    def adopt(self, dialed: DialedLink, link: Link) -> None:
        """It has a link."""
        self._by_link[link] = dialed
        self.add(link)
        if isinstance(link, MuxLink):
            self.report(EventKind.LINK_UP, link.peer, f"mux tunnel up, {self.format.algorithm}")
        self.wake(dialed)

    def unresolved(self, text: str) -> None:
        """A name has no address."""
        self.counters.unresolved += 1
        self.report(EventKind.UNRESOLVED, b"", text, REPEAT_EVENT_MS)

    # -- LinkOwner --

    def link_touched(self, link: Link) -> None:
        super().link_touched(link)
        dialed = self._by_link.get(link)
        if dialed is not None:
            self._calls.touch(dialed)

    def link_over(self, link: Link, reason: Reset | None) -> None:
        super().link_over(link, reason)
        if reason is not None:
            self.report(EventKind.LINK_DOWN, link.peer, f"the link is lost: {reason}", REPEAT_EVENT_MS)
        self._by_link.pop(link).link_gone(by_silence=reason is not None)

    def link_taken(self, link: Link, flow: TubeFlow) -> None:
        """Nobody dials to here."""

    def link_refused(self, link: Link, reason: Reset) -> bool:
        return False

    # -- TubeLeg --

    def _find(self, sock: int, addr: bytes, number: int) -> Conv | None:
        dialed = self._owners.get(sock)
        return dialed.find(sock, number) if dialed is not None else None

    def _serve(self, now_ms: int) -> None:
        for dialed in self._calls.take_due(now_ms):
            dialed.advance(now_ms)
            self._calls.touch(dialed)
        self._serve_waiting(now_ms)
        while self._closing and self._closing[0][0] <= now_ms:
            self.env.close_socket(heapq.heappop(self._closing)[1])

    def _own_deadline(self) -> int | None:
        due_ms = self._calls.first()
        if self._closing:
            due_ms = earliest(due_ms, self._closing[0][0])
        if self._waiting:
            due_ms = earliest(due_ms, self._waiting[0].since_ms + self.settings.flow_wait_ms)
        return due_ms

    # -- inside --

    def _call(self, dialed: DialedLink) -> None:
        self._dialed[dialed] = None
        self.wake(dialed)

    def _deadline(self, dialed: DialedLink) -> int | None:
        if not dialed.is_empty:
            return dialed.deadline()
        self._dialed.pop(dialed, None)
        self._calls.forget(dialed)
        return None

    def _mux_link(self) -> MuxLink | None:
        """The one with the fewest flows, of those that do not owe us an answer for long: the peer may have
        forgotten them."""
        links = [
            link
            for dialed in self._dialed
            if dialed.is_up
            and isinstance(link := dialed.link, MuxLink)
            and not (link.full or link.is_doubtful)
        ]
        return min(links, key=lambda link: (link.flow_count, link.counters.flows_opened), default=None)

    def _serve_waiting(self, now_ms: int) -> None:
        while self._waiting:
            first = self._waiting[0]
            if not first.flow.closed:
                link = self._mux_link()
                if link is None:
                    break
                link.dial(first.flow, first.open)
            self._waiting.popleft()
        while self._waiting and now_ms - self._waiting[0].since_ms >= self.settings.flow_wait_ms:
            flow = self._waiting.popleft().flow
            if not flow.closed:
                self.counters.flows_unreachable += 1
                flow.aborted(Reset(ResetCode.UNREACHABLE, "there is no link to the next node"))

    def _abort_waiting(self, reason: Reset) -> None:
        while self._waiting:
            self._waiting.popleft().flow.aborted(reason)
