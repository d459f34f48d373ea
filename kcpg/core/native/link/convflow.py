"""A user's flow as one conversation of a link."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from kcpg.core.flow import ENDED, SINK_FULL, SOURCE_DRY, TCP, WRITABLE, Flow, Kind, Moved, Reset
from kcpg.core.native.link.open_message import DATAGRAM, ORDERED, Delivery
from kcpg.core.native.wire.conv import SEGMENT_HEADER_BYTES

if TYPE_CHECKING:
    from kcpg.core.native.wire.wire import Conv


class ConvFlowOwner(Protocol):
    """What a flow asks of the table that it stands in."""

    def abort(self, flow: ConvFlow, reason: Reset) -> None:
        """Abort both directions at once and make sure that the peer learns it."""

    def drain(self, flow: ConvFlow) -> None:
        """Both directions have ended: keep the conversation until what was accepted has arrived."""


class ConvFlow(Flow):
    """The Flow over a Conv. One that is dialled while there is no link is `opening` until `attach`.

    A TCP flow's end is an empty message. A UDP flow's end is a RESET with code FINISHED, because there an
    empty message is an empty packet; it is sent when everything before it has arrived.
    """

    __slots__ = (
        "_table",
        "_tcp",
        "bypasses",
        "conv",
        "delivery",
        "draining",
        "ended",
        "heard_end",
        "peer_finished",
    )  # fmt: skip

    def __init__(self, kind: Kind, delivery: Delivery) -> None:
        self._begin(kind)
        self.delivery = delivery
        self.opening = True
        self._tcp = kind is TCP
        self.conv: Conv | None = None
        self.ended = False  # end() was called
        self.heard_end = False  # the peer's end was reached (TCP) or announced (UDP)
        self.peer_finished = (
            False  # the peer has taken all we sent, our end included, and has forgotten the flow
        )
        self.bypasses = False  # the engine moves what little comes on to the next hop
        self.draining = False  # it was released, and its conversation waits for what is owed
        self._table: ConvFlowOwner | None = None

    def attach(self, table: ConvFlowOwner, conv: Conv) -> None:
        """The link is there: bytes may go into `conv`, which has sent or taken its OPEN message already."""
        self._table, self.conv = table, conv
        conv.user = self
        if self.delivery is not ORDERED:
            conv.mark_first = conv.unordered = True
        self.opening = False
        if self.splice is not None:
            self.splice.ready(self, WRITABLE)

    def change_table(self, table: ConvFlowOwner) -> None:
        """Another link carries the conversation from now on."""
        self._table = table

    # -- moving --

    def move_to(self, sink: Flow) -> Moved:
        """Conversation to conversation inside the engine; anything else by the sink's way."""
        if not self._meets(sink):
            return sink.pull(self)
        assert isinstance(sink, ConvFlow) and self.conv is not None and sink.conv is not None
        if not self.bypasses:  # from now on the engine may move what little comes by itself
            self.bypasses = True
            self.conv.bypass_to(sink.conv, not self._tcp, sink.delivery is DATAGRAM)
        if not self._tcp:  # packets are moved whole, by the sink
            return sink.pull(self)
        count = self.conv.move_to(sink.conv, False)
        if self._reached_end():
            return Moved(count, ENDED)
        if not self.conv.readable:
            return Moved(count, SOURCE_DRY)
        sink.conv.want_room = True
        return Moved(count, SINK_FULL)

    def _meets(self, sink: Flow) -> bool:
        """Both are conversations, of one engine."""
        return (
            isinstance(sink, ConvFlow)
            and self.conv is not None
            and type(self.conv) is type(sink.conv)
            and not self.closed
            and not sink.closed
        )

    def _reached_end(self) -> bool:
        """Whether the peer's end is the next thing; takes it."""
        if not self._tcp:
            return self.at_end
        if self.conv is not None and not self.heard_end and self.conv.at_end:
            self.conv.recv()
            self.heard_end = True
        return self.heard_end

    # -- bytes --

    def read(self, limit: int) -> bytes | None:
        if self.conv is None or self.closed:
            return None
        data = self.conv.read(limit)
        if data:
            return data
        return b"" if self._reached_end() else None

    def write(self, data: bytes) -> int:
        """Bytes written after the flow was reset are gone."""
        if self.conv is None or self.closed:
            return len(data)
        return self.conv.write(data)

    @property
    def room(self) -> int:
        """Room of 0 is followed by WRITABLE."""
        if self.conv is None or self.closed:
            return 0
        room = self.conv.room
        if room == 0:
            self.conv.want_room = True
        return room * (self.conv.kcp_mtu - SEGMENT_HEADER_BYTES)

    # -- packets --

    def recv_packets(self, limit: int) -> list[bytes]:
        if self.conv is None or self.closed:
            return []
        return self.conv.recv_packets(limit)

    def send_packets(self, packets: list[bytes]) -> int:
        if self.conv is None or self.closed or self.ended:
            return 0
        return self.conv.send_packets(packets, self.delivery is DATAGRAM)

    @property
    def at_end(self) -> bool:
        return self.heard_end and (self.closed or self.conv is None or not self.conv.readable)

    def bypassed(self) -> int:
        return 0 if self.conv is None else self.conv.bypassed

    # -- life --

    def end(self) -> None:
        if self.ended or self.closed:
            return
        self.ended = True
        if self._tcp:
            assert self.conv is not None, "nothing is moved into a flow that is opening"
            self.conv.send(b"")

    def reset(self, reason: Reset) -> None:
        if self.closed:
            return
        self.closed = True
        if self._table is not None:
            self._table.abort(self, reason)

    def release(self) -> None:
        if self.closed:
            return
        if self._table is None:
            self.closed = True
        else:
            self._table.drain(self)

    # -- what the link tells --

    def notice(self, events: int) -> None:
        """The conversation became readable or writable."""
        if self.splice is not None:
            self.splice.ready(self, events)

    def aborted(self, reason: Reset) -> None:
        """The conversation is gone."""
        self.closed = True
        if self.splice is not None:
            self.splice.on_reset(self, reason)
