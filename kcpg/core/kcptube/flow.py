"""A user's flow in a kcptube leg: its own conversation, or a share of one (mux). Its link does the work."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from kcpg.core.flow import READABLE, WRITABLE, Flow, Kind, Reset


class Carrier(Protocol):
    """What a flow asks of the link that carries it."""

    @property
    def now_ms(self) -> int:
        """The leg's clock."""

    def fill(self, flow: TubeFlow) -> None:
        """The flow's inbox is empty: put in what is there."""

    def drained(self, flow: TubeFlow, size: int) -> None:
        """Bytes left the flow's inbox."""

    def room(self, flow: TubeFlow) -> int:
        """Bytes that `write` takes."""

    def write(self, flow: TubeFlow, data: bytes) -> int:
        """Send bytes of a TCP flow, at most `room`."""

    def send_packet(self, flow: TubeFlow, packet: bytes) -> bool:
        """Send a packet of a UDP flow. False: no room."""

    def flow_ended(self, flow: TubeFlow) -> None:
        """Nothing more is written into the flow."""

    def flow_reset(self, flow: TubeFlow, reason: Reset) -> None:
        """The flow was aborted here: tell the peer."""

    def flow_released(self, flow: TubeFlow) -> None:
        """The flow is over in both directions."""

    def flow_taken(self, flow: TubeFlow) -> None:
        """The node has reached what the flow wants."""


class TubeFlow(Flow):
    """`opening` until there is a link that takes bytes."""

    __slots__ = (
        "asked",
        "end_at_ms",
        "end_sent",
        "ended",
        "heard_end",
        "heard_since_end",
        "held",
        "inbox",
        "link",
        "moved_ms",
        "number",
        "quota",
    )

    def __init__(self, kind: Kind) -> None:
        super().__init__(kind)
        self.link: Carrier | None = None
        self.number = 0  # in a mux link
        self.opening = True
        self.inbox: deque[bytes] = deque()  # what the conversation gave and nobody took yet
        self.held = 0  # bytes of it
        self.asked = False  # the node was asked to dial and has not answered
        self.ended = False  # end() was called
        self.end_sent = False  # and the peer was told
        self.end_at_ms: int | None = None  # when it will be
        self.heard_since_end = False  # a message came after our end was sent
        self.heard_end = False  # the peer's end is behind what is in the inbox
        self.moved_ms = 0  # when bytes came or were taken last
        self.quota = 0  # segments it may queue before the other flows of its link have their turn

    def attach(self, link: Carrier, number: int = 0) -> None:
        """The link is there: bytes may go into it."""
        self.link, self.number = link, number
        self.moved_ms = link.now_ms
        self.opening = False

    # -- bytes --

    def read(self, limit: int) -> bytes | None:
        if self.link is None or self.closed:
            return None
        taken: list[bytes] = []
        left = limit
        while left > 0 and self._has_piece():
            piece = self.inbox.popleft()
            if len(piece) > left:
                self.inbox.appendleft(piece[left:])
                piece = piece[:left]
            left -= len(piece)
            taken.append(piece)
        if taken and not self._is_over():  # a reset may have stood behind what was taken
            self._took(limit - left)
            return b"".join(taken)
        return b"" if self.heard_end else None

    def write(self, data: bytes) -> int:
        """Bytes written after the flow was reset, or after the peer's end, are gone."""
        if self.link is None or self.closed:
            return len(data)
        return self.link.write(self, data)

    @property
    def room(self) -> int:
        """Room of 0 is followed by WRITABLE."""
        return 0 if self.link is None or self.closed else self.link.room(self)

    # -- packets --

    def recv_packets(self, limit: int) -> list[bytes]:
        packets: list[bytes] = []
        while len(packets) < limit and self._has_piece():
            packet = self.inbox.popleft()
            self._took(len(packet))
            packets.append(packet)
        return [] if self._is_over() else packets

    def send_packets(self, packets: list[bytes]) -> int:
        if self.link is None or self.closed or self.ended:
            return 0
        taken = 0
        for packet in packets:
            taken += self.link.send_packet(self, packet)
        return taken

    @property
    def at_end(self) -> bool:
        return self.heard_end and not self.inbox

    # -- life --

    def end(self) -> None:
        if self.ended or self.closed:
            return
        self.ended = True
        if self.link is not None:
            self.link.flow_ended(self)

    def reset(self, reason: Reset) -> None:
        if self.closed:
            return
        self._over()
        if self.link is not None:
            self.link.flow_reset(self, reason)

    def release(self) -> None:
        if self.closed:
            return
        self._over()
        if self.link is not None:
            self.link.flow_released(self)

    def wake(self, events: int) -> None:
        """A flow that came in is answered once the node has reached where it goes."""
        if self.asked and events & WRITABLE and self.link is not None:
            self.link.flow_taken(self)
        super().wake(events)

    # -- what the link tells --

    def offer(self, piece: bytes) -> None:
        """Bytes, or a packet, came."""
        self.inbox.append(piece)
        self.held += len(piece)
        if self.link is not None:
            self.moved_ms = self.link.now_ms

    def notice(self, events: int) -> None:
        """There is something to read, or room."""
        if self.splice is not None:
            self.splice.ready(self, events)

    def hear_end(self) -> None:
        """The peer sends no more."""
        self.heard_end = True
        self.notice(READABLE)

    def aborted(self, reason: Reset) -> None:
        """The peer, or the link, ended this flow."""
        if self.closed:
            return
        self._over()
        if self.splice is not None:
            self.splice.on_reset(self, reason)

    def _is_over(self) -> bool:
        return self.closed

    def _has_piece(self) -> bool:
        """Whether the inbox has something, or could be filled."""
        if not self.inbox and self.link is not None and not self.closed:
            self.link.fill(self)
        return bool(self.inbox)

    def _took(self, size: int) -> None:
        self.held -= size
        link = self.link
        if link is not None:
            self.moved_ms = link.now_ms
            link.drained(self, size)

    def _over(self) -> None:
        self.closed = True
        self.inbox.clear()
        held, self.held = self.held, 0
        if held and self.link is not None:
            self.link.drained(self, held)
