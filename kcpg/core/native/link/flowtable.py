"""The flows of one link: conversation numbers, opening, clean ends, resets, and what is over."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kcpg.core.flow import READABLE, UDP, Open, Reset, ResetCode
from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.native.link.convflow import ConvFlow
from kcpg.core.native.link.open_message import ORDERED, OpenMessage, read_open_message
from kcpg.core.native.wire import frames
from kcpg.core.native.wire.conv import DATAGRAM_QUEUE
from kcpg.core.native.wire.counters import LinkCounters

if TYPE_CHECKING:
    from kcpg.core.native.wire.wire import Conv, LinkWire

# A conversation without its OPEN message after this long never gets one: KCP repeated it often.
OPEN_WAIT_MS = 30_000

# Most conversations of which the OPEN message is awaited or not looked at yet: as many as one batch of
# datagrams may open. What comes for further ones is not taken, and comes again.
UNOPENED = 4096

# Unreliable packets that came before the OPEN message of their flow; those of a TCP flow are none.
EARLY_PACKETS = 2

# Of a link, beyond as many as may wait. Twice what one process with a modern processor can serve: this is
# for the peer that asks without an end.
OPENS_PER_S = 20_000

# How long, and how many, finished conversations are remembered; numbers below the forgotten stay used.
TOMBSTONE_MS = 30_000
TOMBSTONES = 4096

UDP_DRAIN_MS = 30_000  # How long packets of an ended UDP association may still be on their way

# A RESET is repeated with doubled waits until it is acknowledged, 25 s in all.
RESET_FIRST_MS = 200
RESET_TRIES = 8

# Most RESETs being repeated. A peer that missed one learns it from the answer to its next segment.
RESETS = TOMBSTONES

TOLD_AGAIN_MS = 100  # Late segments of one conversation are answered at most this often


FINISHED = Reset(ResetCode.FINISHED)  # The end of a flow that went well


class _Tombstone:
    """What is remembered of a conversation that is over. `told_ms`: when the peer was last told so."""

    __slots__ = ("expires_ms", "reason", "told_ms")

    def __init__(self, reason: Reset, expires_ms: int) -> None:
        self.reason = reason
        self.expires_ms = expires_ms
        self.told_ms: int | None = None


@dataclass(slots=True)
class _Resetting:
    payload: bytes
    due_ms: int
    tries: int


class FlowTable:
    """`limit`: most conversations at once. `on_flow` None: the peer opens none.

    `now_ms` is set by the link before anything else of a turn. `touch` is called when `deadline` may have
    come nearer.
    """

    def __init__(
        self,
        link_wire: LinkWire,
        params: KcpParams,
        counters: LinkCounters,
        limit: int,
        on_flow: Callable[[ConvFlow, Open, int], None] | None,
        touch: Callable[[], None],
    ) -> None:
        self.now_ms = 0
        self.flows: dict[int, ConvFlow] = {}
        self._link_wire = link_wire
        self._params = params
        self._counters = counters
        self._limit = limit
        self._on_flow = on_flow
        self._touch = touch
        self._next_conv = 1
        self._floor = 0
        self._pending: dict[int, int] = {}
        self._opens_us = 0  # when all that the peer opened so far would have come at that rate
        self._tombstones: dict[int, _Tombstone] = {}
        self._buried: deque[int] = deque()  # their numbers, oldest first
        self._resets: dict[int, _Resetting] = {}
        self._reset_times: list[tuple[int, int]] = []  # a heap: when one is due, number; some are out of date
        self._draining: deque[tuple[int, int]] = deque()  # UDP's: when they are given up, number
        self._ended: list[int] = []  # those of them that began to drain since the last look at the clock
        if on_flow is not None:
            link_wire.accept = self._accept

    @property
    def full(self) -> bool:
        """No further flow fits this link."""
        return len(self._link_wire.convs) >= self._limit or self._next_conv > 0xFFFFFFFF

    def dial(self, flow: ConvFlow, request: Open) -> None:
        """Open a conversation for `flow`: its OPEN message goes out with the first data, without a round
        trip."""
        assert not self.full
        conv = self._link_wire.open(self._enter(flow), self._params)
        if request.kind is not UDP:
            conv.packets_limit = 0
        conv.send(OpenMessage(request, flow.delivery).encode())
        flow.attach(self, conv)

    def take_over(self, lost: FlowTable) -> None:
        """Open again the flows of a lost link of which nobody has heard: their applications notice nothing.

        The others stay: what was acknowledged may have been acted upon.
        """
        for number, flow in list(lost.flows.items()):
            conv = flow.conv
            if conv is None or not conv.is_unheard or self.full or (flow.draining and flow.kind is UDP):
                continue
            del lost.flows[number]
            self._link_wire.adopt(conv, self._enter(flow), self._params)
            flow.change_table(self)

    def _enter(self, flow: ConvFlow) -> int:
        """Give a flow that this end opens the next number."""
        number = self._next_conv
        self._next_conv += 1
        self.flows[number] = flow
        self._counters.flows_opened += 1
        return number

    # -- what the wire tells --

    def ready(self, conv: Conv) -> None:
        """A conversation has events."""
        events = conv.take_events()
        flow = conv.user
        if isinstance(flow, ConvFlow):
            flow.notice(events)
        elif events & READABLE and not conv.closed:
            self._opened(conv)

    def on_reset(self, payload: bytes) -> None:
        """The peer aborts a conversation, or tells that it is over."""
        reset = frames.read_reset(payload)
        if reset is None:
            self._counters.frames_malformed += 1
            return
        number, code, text = reset
        self._counters.resets_received += 1
        self._link_wire.send(frames.RESET_ACK, frames.pack_conv(number))
        reason = Reset(reset_code(code), text)
        flow = self.flows.get(number)
        if flow is not None and flow.peer_finished:
            return
        if number not in self._link_wire.convs:
            self._bury(number, reason)
        elif flow is None or reason.code is not ResetCode.FINISHED or not self._peer_finished(flow):
            self._drop(number, reason)

    def _peer_finished(self, flow: ConvFlow) -> bool:
        """The peer has forgotten this flow cleanly. False: it cannot have, so the flow is aborted after all.

        Everything the peer sent has been acknowledged, hence is here; what is unread stays to be read.
        """
        if flow.kind is UDP:
            flow.heard_end = True
            flow.notice(READABLE)
        elif not flow.ended:
            return False
        flow.peer_finished = True
        if flow.splice is None:
            self._finish(flow)
        return True

    def on_reset_ack(self, payload: bytes) -> None:
        """The peer has our RESET."""
        number = frames.read_conv(payload)
        if number is not None:
            self._resets.pop(number, None)

    def on_unknown(self, number: int) -> None:
        """A segment came for a conversation that is not here: tell the peer that it is over."""
        self._counters.unknown_convs += 1
        tomb = self._tombstones.get(number)
        if tomb is None and number > self._floor and self._is_crowded:
            return  # it had no place, and may have one the next time
        if tomb is None:
            tomb = self._bury(number, Reset(ResetCode.LINK_LOST, "this flow is not known here"))
        if tomb.told_ms is None or self.now_ms - tomb.told_ms >= TOLD_AGAIN_MS:
            tomb.told_ms = self.now_ms
            self._send_reset(number, tomb.reason)

    # -- what flows ask for --

    def abort(self, flow: ConvFlow, reason: Reset) -> None:
        assert flow.conv is not None
        self._counters.flows_reset += 1
        self._forget(flow.conv.conv, reason)
        self._insist(flow.conv.conv, reason)

    def drain(self, flow: ConvFlow) -> None:
        conv = flow.conv
        assert conv is not None
        if flow.peer_finished or conv.drained:
            self._finish(flow)
            return
        flow.draining = conv.want_drained = True
        if flow.kind is UDP:
            self._ended.append(conv.conv)
            self._touch()

    def drained(self, conv: Conv) -> None:
        """A conversation said that it is, as it was to."""
        flow = conv.user
        if not isinstance(flow, ConvFlow) or not flow.draining:
            return
        if conv.drained:
            self._finish(flow)
        else:  # something has come since
            conv.want_drained = True

    # -- time --

    def advance(self, now_ms: int) -> None:
        """Serve every timer that is due."""
        for number in self._ended:
            self._draining.append((now_ms + UDP_DRAIN_MS, number))
        self._ended.clear()
        while self._draining and self._draining[0][0] <= now_ms:
            flow = self.flows.get(self._draining.popleft()[1])
            if flow is not None:
                self._finish(flow)
        self._repeat_resets(now_ms)
        while self._pending and next(iter(self._pending.values())) <= now_ms:
            number = next(iter(self._pending))
            del self._pending[number]
            self._counters.opens_late += 1
            self._refuse(number, Reset(ResetCode.TIMEOUT, "the request to open the flow did not arrive"))
        while self._buried:
            tomb = self._tombstones[self._buried[0]]
            if tomb.expires_ms > now_ms:
                break
            self._forget_oldest()

    def deadline(self) -> int | None:
        """When `advance` has something to do; None: never. Tombstones go together, with the last of them."""
        if self._ended:
            return self.now_ms
        times = [self._reset_times[0][0]] if self._reset_times else []
        if self._buried:
            times.append(self._tombstones[self._buried[-1]].expires_ms)
        if self._draining:
            times.append(self._draining[0][0])
        if self._pending:
            times.append(next(iter(self._pending.values())))
        return min(times, default=None)

    def close(self, reason: Reset) -> None:
        """The link is gone: so are its flows."""
        for number in list(self.flows):
            self._drop(number, reason)
        self._pending.clear()
        self._resets.clear()
        self._reset_times.clear()
        self._on_flow = None  # who made it, and itself: as cycles they would stay for long
        self._touch = _nothing
        self._link_wire.accept = None
        self._draining.clear()
        self._ended.clear()

    # -- opening, on the side that listens --

    def _accept(self, number: int) -> Conv | None:
        """First segment of a conversation: None if it is over already, or one too many.

        The wire calls this while it receives, before the link hears what time it is.
        """
        self.now_ms = max(self.now_ms, self._link_wire.rx_last_ms)
        if number <= self._floor or number in self._tombstones:
            return None
        if self.full:
            self._counters.flows_refused += 1
            self._bury(number, Reset(ResetCode.REFUSED, f"a link carries at most {self._limit} flows"))
            return None
        if self._is_crowded:
            self._counters.opens_crowded += 1
            return None
        self._opens_us = max(self._opens_us, self.now_ms * 1000) + 1_000_000 // OPENS_PER_S
        self._pending[number] = self.now_ms + OPEN_WAIT_MS  # a link that was heard is advanced soon
        conv = self._link_wire.open(number, self._params)
        conv.early = True
        conv.packets_limit = EARLY_PACKETS
        return conv

    @property
    def _is_crowded(self) -> bool:
        """The peer opens more conversations than it may: what comes of further ones is to come again."""
        ahead_us = self._opens_us - self.now_ms * 1000
        return len(self._pending) >= UNOPENED or ahead_us > UNOPENED * 1_000_000 // OPENS_PER_S

    def _opened(self, conv: Conv) -> None:
        """The first message is there: make it a flow."""
        assert self._on_flow is not None
        message = conv.recv()
        if message is None:
            return
        number = conv.conv
        self._pending.pop(number, None)
        conv.early = False
        opening = read_open_message(message)
        if opening is None:
            self._counters.opens_malformed += 1
            self._refuse(number, Reset(ResetCode.INTERNAL, "the request to open the flow was not understood"))
            return
        request = opening.open
        request.asker = id(self)
        conv.packets_limit = DATAGRAM_QUEUE if request.kind is UDP else 0
        flow = ConvFlow(request.kind, opening.delivery if request.kind is UDP else ORDERED)
        self.flows[number] = flow
        self._counters.flows_opened += 1
        flow.attach(self, conv)
        self._on_flow(flow, request, self.now_ms)

    def _refuse(self, number: int, reason: Reset) -> None:
        self._forget(number, reason)
        self._insist(number, reason)

    # -- ending --

    def _finish(self, flow: ConvFlow) -> None:
        conv = flow.conv
        assert conv is not None
        flow.closed = True
        self._counters.flows_finished += 1
        self._forget(conv.conv, FINISHED)
        if flow.kind is UDP and not flow.peer_finished:
            self._insist(conv.conv, FINISHED)

    def _drop(self, number: int, reason: Reset) -> None:
        """The peer, or the link, ended this conversation."""
        flow = self.flows.get(number)
        self._pending.pop(number, None)
        self._forget(number, reason)
        if flow is None:
            return
        self._counters.flows_reset += 1
        flow.aborted(reason)

    def _forget(self, number: int, reason: Reset) -> None:
        self.flows.pop(number, None)
        self._link_wire.close(number)
        self._bury(number, reason)

    def _bury(self, number: int, reason: Reset) -> _Tombstone:
        """Remember why a conversation is over. One that is remembered keeps its time, and its place."""
        tomb = self._tombstones.get(number)
        if tomb is not None:
            tomb.reason = reason
            return tomb
        if len(self._buried) >= TOMBSTONES:
            self._forget_oldest()
        self._buried.append(number)
        tomb = self._tombstones[number] = _Tombstone(reason, self.now_ms + TOMBSTONE_MS)
        return tomb

    def _forget_oldest(self) -> None:
        number = self._buried.popleft()
        del self._tombstones[number]
        if number > self._floor:
            self._floor = number

    def _insist(self, number: int, reason: Reset) -> None:
        """Send RESET and repeat it until it is acknowledged."""
        payload = self._send_reset(number, reason)
        self._touch()
        if len(self._resets) < RESETS:
            self._resets[number] = _Resetting(payload, self.now_ms + RESET_FIRST_MS, 1)
            heapq.heappush(self._reset_times, (self.now_ms + RESET_FIRST_MS, number))
            if len(self._reset_times) > 2 * RESETS:  # most of them acknowledged
                self._reset_times = sorted((reset.due_ms, at) for at, reset in self._resets.items())

    def _send_reset(self, number: int, reason: Reset) -> bytes:
        payload = frames.pack_reset(number, reason.code, reason.text)
        self._link_wire.send(frames.RESET, payload)
        self._counters.resets_sent += 1
        return payload

    def _repeat_resets(self, now_ms: int) -> None:
        while self._reset_times and self._reset_times[0][0] <= now_ms:
            due_ms, number = heapq.heappop(self._reset_times)
            reset = self._resets.get(number)
            if reset is None or reset.due_ms != due_ms:
                continue
            if reset.tries >= RESET_TRIES:
                del self._resets[number]
                continue
            self._link_wire.send(frames.RESET, reset.payload)
            self._counters.resets_sent += 1
            reset.due_ms = now_ms + (RESET_FIRST_MS << reset.tries)
            reset.tries += 1
            heapq.heappush(self._reset_times, (reset.due_ms, number))


def _nothing() -> None:
    """A table that is closed touches nobody."""


def reset_code(number: int) -> ResetCode:
    """Codes that a later version may add are INTERNAL to us."""
    try:
        return ResetCode(number)
    except ValueError:
        return ResetCode.INTERNAL
