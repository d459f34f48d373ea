"""One link that a dialer wants: called until it answers, kept on a path that works, and called again if it is
for many flows (mux)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcpg.core.env import REPEAT_EVENT_MS, EventKind
from kcpg.core.flow import WRITABLE, Open, Reset, ResetCode
from kcpg.core.kcptube import messages
from kcpg.core.kcptube.leg import FIRST_NUMBER, agreed_rate
from kcpg.core.kcptube.link import SILENT_MS, LinkState, PlainLink
from kcpg.core.kcptube.messages import Carries
from kcpg.core.kcptube.mux import MuxLink
from kcpg.core.kcptube.request import Request
from kcpg.core.pacer import Pacer
from kcpg.core.units import earliest

if TYPE_CHECKING:
    from collections.abc import Callable

    from kcpg.core.kcptube.dialer import TubeDialer
    from kcpg.core.kcptube.flow import TubeFlow
    from kcpg.core.kcptube.link import Link
    from kcpg.core.kcptube.wire import Conv

# The peer may repeat an answer in conversation 0: for this long after the first we acknowledge it.
ANSWER_DRAIN_MS = 4000

RETIRE_MS = 8000  # A socket that the link has left takes what is still under way to it for this long

# A peer that answers a probe and sends nothing on the link for this long has forgotten the link.
LOST_MS = 10_000

# A refusal stands in a configuration: asking again helps only once somebody has changed it.
REFUSED_WAIT_MS = 5000


class DialedLink:
    """`flow` and `wanted`: what a plain link is for; None: a mux link.

    After every call the dialer asks for `deadline` again.
    """

    def __init__(self, dialer: TubeDialer, flow: TubeFlow | None = None, wanted: Open | None = None) -> None:
        self.link: Link | None = None
        self.over = False
        self.flow = flow
        self._dialer = dialer
        self._open = wanted
        self._since_ms = dialer.now_ms
        self._request: Request | None = None
        self._greeted: tuple[int, Request] | None = None
        self._sock: int | None = None
        self._retired: list[tuple[int, int]] = []
        self._ask_at_ms: int | None = dialer.now_ms
        self._hop_at_ms: int | None = None
        self._answered_ms: int | None = None

    @property
    def is_up(self) -> bool:
        """It has a link that takes flows."""
        return self.link is not None and self.link.state is LinkState.UP

    @property
    def flow_count(self) -> int:
        """Flows it carries."""
        return self.link.flow_count if self.link is not None else 0

    def find(self, sock: int, number: int) -> Conv | None:
        """The conversation of this number on one of its sockets."""
        if number == 0:
            request = self._request or (self._greeted[1] if self._greeted else None)
            own = request.conv if request is not None else None
            return own if own is not None and own.path is not None and own.path[0] == sock else None
        conv = self.link.conv if self.link is not None else None
        return conv if conv is not None and conv.number == number else None

    # -- time --

    def deadline(self) -> int | None:
        """When `advance` has something to do."""
        due_ms = earliest(self._ask_at_ms, self._hop_due_ms())
        if self._request is not None:
            due_ms = earliest(due_ms, self._request.due_ms)
        if self._greeted is not None:
            due_ms = earliest(due_ms, self._greeted[0])
        if self._retired:
            due_ms = earliest(due_ms, self._retired[0][0])
        if self._answered_ms is not None:
            due_ms = earliest(due_ms, self._answered_ms + LOST_MS)
        if self.flow is not None and self.link is None and not self.over:
            due_ms = earliest(due_ms, self._since_ms + self._dialer.settings.flow_wait_ms)
        return due_ms

    def advance(self, now_ms: int) -> None:
        """Serve the timers."""
        if self._greeted is not None and self._greeted[0] <= now_ms:
            self._greeted[1].close()
            self._greeted = None
        while self._retired and self._retired[0][0] <= now_ms:
            self._dialer.give_back(self._retired.pop(0)[1])
        if self._request is not None and self._request.due_ms <= now_ms:
            self._unanswered(self._request, now_ms)
        if self.over:
            return
        if self._ask_at_ms is not None and self._ask_at_ms <= now_ms:
            self._ask_at_ms = None
            self._ask(self._request_message(), self._answered)
        hop_ms = self._hop_due_ms()
        if hop_ms is not None and hop_ms <= now_ms and self._request is None:
            self._hop_at_ms = None
            self._ask(messages.PROBE, self._probed)
        self._inspect(now_ms)

    def _inspect(self, now_ms: int) -> None:
        """Is the peer there that answered a probe, and does it not know the link?"""
        link, flow = self.link, self.flow
        if link is None and flow is not None and not self.over:
            if flow.closed:
                self.close()
            elif now_ms - self._since_ms >= self._dialer.settings.flow_wait_ms:
                self._dialer.counters.flows_unreachable += 1
                self._give_up(Reset(ResetCode.UNREACHABLE, "the next node does not answer"))
        elif link is not None and self._answered_ms is not None:
            if link.conv.heard_ms >= self._answered_ms or not link.owed:
                self._answered_ms = None
            elif now_ms - self._answered_ms >= LOST_MS:
                self._answered_ms = None
                link.close(Reset(ResetCode.LINK_LOST, "the other end does not know the link any more"))

    def _hop_due_ms(self) -> int | None:
        """When another path is to be asked for: by the clock, or because the peer is silent."""
        link = self.link
        if link is None or self._request is not None or link.state is not LinkState.UP:
            return None
        if not link.owed or link.is_ending or self._answered_ms is not None:
            return self._hop_at_ms
        return earliest(self._hop_at_ms, link.conv.heard_ms + SILENT_MS)

    # -- asking --

    def _request_message(self) -> bytes:
        settings = self._dialer.settings
        fields = messages.Settings(
            out_bytes_s=settings.outbound_bps // 8,
            in_bytes_s=settings.inbound_bps // 8,
            target=self._open.target if self._open is not None else None,
        )
        carries = Carries.MUX if self._open is None else messages.CARRIES[self._open.kind]
        return messages.pack_settings(carries, fields)

    def _ask(self, message: bytes, on_message: Callable[[bytes], None]) -> None:
        if self._greeted is not None:
            self._greeted[1].close()
            self._greeted = None
        self._request = Request(self._dialer, self, message, on_message)
        self._request.start()
        self._dialer.wake(self)

    def _unanswered(self, request: Request, now_ms: int) -> None:
        dialer = self._dialer
        request.close()
        self._request = None
        if request.addr:
            dialer.counters.no_answer += 1
            dialer.choice.blame(request.addr, now_ms)
        if self.link is None:
            text = request.failed or "no answer; wrong address, another password, or UDP is blocked"
            dialer.report(EventKind.NO_ANSWER, request.addr, text, REPEAT_EVENT_MS)
            self._ask_at_ms = now_ms + (REFUSED_WAIT_MS if request.failed else 0)
        else:
            self.link.counters.hops_failed += 1
            self._hop_at_ms = self._next_hop(now_ms)

    def _next_hop(self, now_ms: int) -> int | None:
        every_ms = self._dialer.settings.hop_every_ms
        return now_ms + every_ms if every_ms else None

    def _probed(self, message: bytes) -> None:
        """A path was asked and works: it is the link's from now on."""
        request, link = self._request, self.link
        if message[0] & 15 != messages.KEEP_ALIVE or request is None or link is None or self._sock is None:
            return
        now_ms = self._dialer.now_ms
        self._request = None
        self._answered_ms = now_ms if link.conv.heard_ms + SILENT_MS <= now_ms else None
        self._retired.append((now_ms + RETIRE_MS, self._sock))
        self._take_socket(request, now_ms)
        link.counters.hops += 1
        link.conv.move_to((self._sock, request.addr))
        link.conv.kcp.hurry(now_ms)
        link.greet()
        self._hop_at_ms = self._next_hop(now_ms)
        self._dialer.wake(self)

    def _take_socket(self, request: Request, now_ms: int) -> None:
        self._sock = request.hand_over()
        self._greeted = (now_ms + ANSWER_DRAIN_MS, request)
        self._dialer.choice.praise(request.addr)

    # -- the link --

    def _answered(self, message: bytes) -> None:
        """Something came in answer to the request."""
        request = self._request
        if request is None or self.link is not None:
            return
        feature = messages.split(message)[1]
        if feature in (messages.FAILURE, messages.DISCONNECT):
            self._refused(messages.read_reason(message, ResetCode.REFUSED))
            return
        settings = messages.read_settings(message) if feature == messages.INITIALISE else None
        if settings is None or settings.number < FIRST_NUMBER:
            self._dialer.counters.messages_malformed += 1
            return
        self._request = None
        self._up(request, settings)

    def _up(self, request: Request, settings: messages.Settings) -> None:
        dialer, now_ms = self._dialer, self._dialer.now_ms
        self._take_socket(request, now_ms)
        assert self._sock is not None
        conv = dialer.converse(settings.number, dialer.kcp_params, None, (self._sock, request.addr))
        rate_bps = agreed_rate(dialer.settings.outbound_bps, settings.in_bytes_s)
        conv.pacers = (dialer.pacer, Pacer(rate_bps, dialer.format.datagram_bytes))
        self._hop_at_ms = self._next_hop(now_ms)
        keep_alive_ms = dialer.settings.keep_alive_ms
        if self.flow is not None:
            link: Link = PlainLink(dialer, conv, self.flow, True, keep_alive_ms)
        else:
            link = MuxLink(dialer, conv, True, keep_alive_ms, dialer.env.entropy, None)
        self.link = link
        link.greet()
        dialer.adopt(self, link)
        if self.flow is not None and self.flow.closed:
            link.flow_reset(self.flow, Reset(ResetCode.RESET_BY_APPLICATION))
        elif self.flow is not None:
            self.flow.notice(WRITABLE)

    def _refused(self, reason: Reset) -> None:
        dialer = self._dialer
        dialer.counters.refused += 1
        if self.flow is not None:
            self._give_up(reason)
            return
        assert self._request is not None
        dialer.report(EventKind.REFUSED, self._request.addr, str(reason), REPEAT_EVENT_MS)
        self._request.close()
        self._request = None
        self._ask_at_ms = dialer.now_ms + REFUSED_WAIT_MS
        dialer.wake(self)

    def link_gone(self, by_silence: bool) -> None:
        """The link is closed: a mux one is called again."""
        now_ms, dialer = self._dialer.now_ms, self._dialer
        if self.link is not None and by_silence and self.link.peer:
            dialer.choice.blame(self.link.peer, now_ms)
        self.link = None
        self._answered_ms = None
        if self.flow is not None:
            self.close()
            return
        self._drop_request()
        if self._sock is not None:
            self._retired.append((now_ms, self._sock))
            self._sock = None
        self._ask_at_ms = now_ms
        dialer.wake(self)

    def _give_up(self, reason: Reset) -> None:
        flow = self.flow
        self.close()
        if flow is not None:
            flow.aborted(reason)

    def _drop_request(self) -> None:
        for request in (self._request, self._greeted[1] if self._greeted else None):
            if request is not None:
                request.close()
        self._request = self._greeted = None

    def close(self) -> None:
        """It is not wanted any more: its sockets close when what is queued has left."""
        self.over = True
        self._ask_at_ms = None
        self._drop_request()
        if self._sock is not None:
            self._retired.append((self._dialer.now_ms, self._sock))
            self._sock = None
        self._dialer.wake(self)

    @property
    def is_empty(self) -> bool:
        """Over, and nothing is left of it."""
        return self.over and not self._retired and self.link is None
