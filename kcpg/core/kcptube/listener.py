"""The kcptube leg that listens: answers requests for links, and hands out the flows that come in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kcpg.core.env import REPEAT_EVENT_MS, Env, EventKind
from kcpg.core.flow import Flow, Open, Reset, ResetCode
from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.kcptube import messages
from kcpg.core.kcptube.flow import TubeFlow
from kcpg.core.kcptube.leg import FIRST_NUMBER, GREETING, TubeLeg, agreed_rate
from kcpg.core.kcptube.link import PlainLink
from kcpg.core.kcptube.messages import Carries
from kcpg.core.kcptube.mux import MuxLink
from kcpg.core.kcptube.wire import Conv, Format
from kcpg.core.pacer import Pacer
from kcpg.core.timers import Timers

if TYPE_CHECKING:
    from kcpg.core.kcp.kcp import Kcp
    from kcpg.core.kcptube.link import Link

# A request is remembered this long after its answer, so that repetitions of it open nothing (kcptube: 8 s).
GREETING_MS = 10_000

# The same where the answer was acknowledged: kcptube may use the same port again after 4 s.
GREETED_MS = 5_000

MAX_GREETINGS = 4096  # Requests remembered; the oldest gives way

LAST_NUMBER = 0xFFFFFFFE


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """How a TubeListener works."""

    name: str
    format: Format = field(default_factory=Format)
    kcp: KcpParams = field(default_factory=KcpParams)
    outbound_bps: int = 0
    inbound_bps: int = 0
    keep_alive_ms: int = 0
    max_links: int = 65_536  # A plain link is one flow


class _Greeting:
    """Conversation 0 with one address."""

    def __init__(self, conv: Conv, addr: bytes, expires_ms: int) -> None:
        self.conv = conv
        self.addr = addr
        self.expires_ms = expires_ms
        self.link: Link | None = None
        self.carries = Carries.MUX
        conv.user = self

    def ready(self, events: int) -> None:
        """What comes after the request is acknowledged and means nothing."""
        while not self.conv.closed and self.conv.recv() is not None:
            pass


class TubeListener(TubeLeg):
    """The listening leg of a node (`node.IngressLeg`)."""

    def __init__(self, settings: ListenSettings, env: Env, kcp: type[Kcp] | None = None) -> None:
        super().__init__(settings.name, settings.format, settings.kcp, settings.outbound_bps, env, True, kcp)
        self.settings = settings
        self.on_flow: Callable[[Flow, Open, int], None] = _nobody
        self._convs: dict[int, Conv] = {}
        self._greetings: dict[bytes, _Greeting] = {}
        self._asked: dict[Link, _Greeting] = {}
        self._expiring: Timers[_Greeting] = Timers()
        self._closed = False

    def start(self, now_ms: int) -> None:
        """The sockets are the driver's."""
        self._clock(now_ms)

    def close(self, now_ms: int, reason: str) -> None:
        """There is no farewell but those of flows, which were reset."""
        self._clock(now_ms)
        self._closed = True

    # -- LinkOwner --

    def link_over(self, link: Link, reason: Reset | None) -> None:
        super().link_over(link, reason)
        self._convs.pop(link.conv.number, None)
        self._asked.pop(link, None)
        # kcptube opens tunnels that it does not use, and new ones when they are gone.
        if reason is not None and isinstance(link, MuxLink) and link.counters.flows_opened:
            self.report(EventKind.LINK_DOWN, link.peer, f"mux tunnel lost: {reason}", REPEAT_EVENT_MS)

    def link_taken(self, link: Link, flow: TubeFlow) -> None:
        """A plain link's request is answered now."""
        greeting = self._asked.pop(link, None)
        if greeting is not None:
            self._accept(greeting, link)

    def link_refused(self, link: Link, reason: Reset) -> bool:
        greeting = self._asked.pop(link, None)
        if greeting is None:
            return False
        self.counters.refused += 1
        self._answer(greeting, messages.pack_failure(greeting.carries, reason))
        return True

    # -- TubeLeg --

    def _find(self, sock: int, addr: bytes, number: int) -> Conv | None:
        if number:
            return self._convs.get(number)
        greeting = self._greetings.get(addr)
        return greeting.conv if greeting is not None else None

    def _stranger(self, sock: int, addr: bytes, block: bytes) -> None:
        greeting = self._greetings.get(addr)
        if self._closed or greeting is not None:
            if greeting is not None:  # two of its datagrams came at once
                greeting.conv.kcp.input(block, self.now_ms)
                self.wire.mark(greeting.conv)
            return
        conv = Conv(self.wire, 0, GREETING, None, follows=True)
        conv.path = (sock, addr)
        if conv.kcp.input(block, self.now_ms) < 0:
            self.wire.drop("kcp_malformed")
        message = conv.recv()
        if not message:
            self.wire.drop("greeting_unknown")
            conv.close()
            return
        self._greeted(_Greeting(conv, addr, self.now_ms + GREETING_MS), message)

    def _greeted(self, greeting: _Greeting, message: bytes) -> None:
        carries, feature = messages.split(message)
        known = carries in tuple(Carries)
        settings = messages.read_settings(message) if known and feature == messages.INITIALISE else None
        if settings is None and feature != messages.KEEP_ALIVE:
            self.counters.messages_malformed += 1
            self.wire.drop("greeting_malformed")
            greeting.conv.close()
            return
        self._remember(greeting)
        if settings is None:
            self._answer(greeting, messages.PROBE)
            host = self.env.source_key(greeting.addr)
            for link in self._links:
                if link.peer and self.env.source_key(link.peer) == host:
                    link.probed()
            return
        greeting.carries = Carries(carries)
        if len(self._links) >= self.settings.max_links:
            self.counters.links_full += 1
            self.report(EventKind.LINKS_FULL, greeting.addr, "too many links", REPEAT_EVENT_MS)
            full = Reset(ResetCode.REFUSED, "too many links")
            self._answer(greeting, messages.pack_failure(carries, full))
            return
        self._open(greeting, settings)

    def _remember(self, greeting: _Greeting) -> None:
        while len(self._greetings) >= MAX_GREETINGS:
            self.counters.greetings_evicted += 1
            self._forget(next(iter(self._greetings.values())))
        self._greetings[greeting.addr] = greeting
        self._expiring.wake_by(greeting, greeting.expires_ms)

    def _forget(self, greeting: _Greeting) -> None:
        del self._greetings[greeting.addr]
        self._expiring.forget(greeting)
        greeting.conv.close()

    def _open(self, greeting: _Greeting, settings: messages.Settings) -> None:
        """Make the link that was asked for."""
        conv = Conv(self.wire, self._number(), self.kcp_params, None, follows=True)
        rate_bps = agreed_rate(self.settings.outbound_bps, settings.in_bytes_s)
        conv.pacers = (self.pacer, Pacer(rate_bps, self.format.datagram_bytes))
        self._convs[conv.number] = conv
        keep_alive_ms = self.settings.keep_alive_ms
        if greeting.carries is Carries.MUX:
            link: Link = MuxLink(self, conv, False, keep_alive_ms, self.env.entropy, self._enter)
            self.add(link)
            self._accept(greeting, link)
            text = f"mux tunnel up, {self.format.algorithm}"
            self.report(EventKind.LINK_UP, greeting.addr, text, REPEAT_EVENT_MS)
            return
        flow = TubeFlow(messages.KIND_OF[greeting.carries])
        link = PlainLink(self, conv, flow, False, keep_alive_ms)
        self.add(link)
        greeting.link = link
        self._asked[link] = greeting
        self._enter(flow, Open(flow.kind, settings.target, ""))

    def _enter(self, flow: TubeFlow, wanted: Open) -> None:
        """Let the node have a flow; what asked for it is answered when its target is reached."""
        flow.asked = True
        self.on_flow(flow, wanted, self.now_ms)
        splice, link = flow.splice, flow.link
        if flow.asked and splice is not None and link is not None and not splice.partner(flow).opening:
            link.flow_taken(flow)

    def _accept(self, greeting: _Greeting, link: Link) -> None:
        # No ports are told: kcptube needs none, and crashes where a forwarded port stands outside of them.
        fields = messages.Settings(
            number=link.conv.number,
            out_bytes_s=self.settings.outbound_bps // 8,
            in_bytes_s=self.settings.inbound_bps // 8,
        )
        self._answer(greeting, messages.pack_settings(greeting.carries, fields))

    def _answer(self, greeting: _Greeting, message: bytes) -> None:
        self.counters.answered += 1
        greeting.expires_ms = self.now_ms + GREETING_MS
        greeting.conv.send(message)
        self._expiring.wake_by(greeting, self.now_ms + GREETED_MS)

    def _number(self) -> int:
        """Of a new conversation: random, so that nobody guesses it."""
        while True:
            number = int.from_bytes(self.env.entropy(4), "big")
            if FIRST_NUMBER <= number <= LAST_NUMBER and number not in self._convs:
                return number

    def _serve(self, now_ms: int) -> None:
        for greeting in self._expiring.take_due(now_ms):
            if greeting.link in self._asked:  # its target is still being reached
                greeting.expires_ms = now_ms + GREETING_MS
            if greeting.expires_ms > now_ms and (greeting.link in self._asked or not greeting.conv.kcp.idle):
                self._expiring.wake_by(greeting, greeting.expires_ms)
            else:
                self._forget(greeting)

    def _own_deadline(self) -> int | None:
        return self._expiring.first()


def _nobody(flow: Flow, _open: Open, _now_ms: int) -> None:
    """Until a node listens there is nobody to serve a flow."""
    flow.reset(Reset(ResetCode.SHUTDOWN))
