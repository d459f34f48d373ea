"""One conversation of a link, in plain Python: KCP's ARQ plus unreliable packets and ready events."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from kcpg.core.congestion import Totals
from kcpg.core.kcp.kcp import Kcp, KcpParams
from kcpg.core.kcp.params import MAX_FRAGMENTS, QUEUE_SEGMENTS
from kcpg.core.native.wire import frames
from kcpg.core.native.wire.linkfec import BULK_SEGMENTS, LONG_SEGMENTS
from kcpg.core.native.wire.turn import SLOT_BYTES, TURN_SEGMENTS, Turn

if TYPE_CHECKING:
    from kcpg.core.native.wire.linkwire import LinkWire

READABLE = 1
WRITABLE = 2

SEGMENT_HEADER_BYTES = 24

# A starved writer is woken at this much room, not at one segment: fewer, larger refills.
WRITABLE_ROOM_SEGMENTS = 64

# The largest packet a user's UDP socket can hand over (16-bit length field of RFC 768).
PACKET_MAX_BYTES = 65_535

# An answer that comes within this takes the acknowledgement of its request along. Most do: a request to an
# application nearby is answered in well under a millisecond, and one far away would save nothing by more.
# Short against every time-out (the RTO allows for it), long against the clock's tick.
ACK_HOLD_MS = 2

# A conversation with no more than this waiting goes before the others, and with no more than this under way
# it does not wait for theirs: keystrokes beside a download.
SPARSE_SEGMENTS = 4

# What one has under way at most where somebody waits for each bit of it; bulk has more.
LONE_SEGMENTS = 16

# Of a long transfer there is one acknowledgement in an eighth of a round trip, and none waits for more than
# a quarter: the sender's time-outs allow for that, and its controller keeps half of one under way beyond a
# full path. Not at first, where they make it faster.
ACK_BATCH_RTT = 8
ACK_BATCH_MS = 10
ACK_BATCH_AFTER = 128

# Most unreliable packets held per conversation and direction; the rest is dropped and counted.
DATAGRAM_QUEUE = 256


# Of the receive window where it adapts: it grows with what the reader has shown to take.
WINDOW_START_SEGMENTS = 1024


class Conv(Kcp):
    """A conversation registered with its link wire: what changes is sent by the next `Wire.transmit`.

    `user` belongs to the caller (the flow). `events` collects READABLE and WRITABLE until `take_events`;
    WRITABLE comes when room was 0, or `want_room` was set, and room is there again. `want_drained`: be told
    once, by the event DRAINED, when it is `drained`.
    """

    def __init__(self, link_wire: LinkWire, conv: int, params: KcpParams) -> None:
        super().__init__(conv, link_wire.kcp_mtu, params, slot_bytes=SLOT_BYTES)
        self.ack_hold_ms = ACK_HOLD_MS
        self.ack_maps = True
        self.user: object = None
        self.events = 0
        self.closed = False
        self.want_room = False
        self.want_drained = False
        self.is_outstanding = False  # it stands among those of its link wire that have data under way
        self.packets_out: deque[bytes] = deque()
        self.packets_in: deque[bytes] = deque()
        self.packets_limit = DATAGRAM_QUEUE  # unreliable packets that may wait to be read
        self.join(link_wire, params)

    def join(self, link_wire: LinkWire, params: KcpParams) -> None:
        """Belong to this link wire: go by what it allows, and by what it knows of the path."""
        self.link_wire = link_wire
        self.count_for(link_wire.share)
        self.kcp_mtu = link_wire.kcp_mtu
        self.set_windows(params.snd_wnd, params.rcv_wnd)
        self.is_dirty = False
        self.is_capped = False
        self.is_long = False  # a long transfer: see linkfec.LONG_SEGMENTS
        self._bulk_from = 0  # how many segments had been sent before it
        self.seen = Totals()  # what the link's flight holds of this conversation
        self.heeded_spurious = 0  # needless resends that the link wire has counted
        self.acked_empty = 0  # bytes of acknowledged segments without payload, known when all is
        if max(link_wire.srtt_ms, link_wire.rtt_hint_ms) > 0:
            self.expect_rtt(link_wire.srtt_ms if link_wire.srtt_ms > 0 else link_wire.rtt_hint_ms)
        self.snd_limit = params.snd_wnd  # the user's windows: limits where a controller sets them
        self.rcv_limit = params.rcv_wnd
        if link_wire.flight is not None:
            self.set_windows(params.snd_wnd, min(params.rcv_wnd, WINDOW_START_SEGMENTS))

    # What the user does: KCP's own verbs, after each of which the wire knows what there is to do.

    def send(self, message: bytes | bytearray | memoryview) -> None:
        """Queue one KCP message (see Kcp.send)."""
        super().send(message)
        self.note_change()

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Queue stream bytes, as many as room allows; returns how many were taken."""
        taken = super().write(data)
        self.note_change()
        return taken

    def recv(self) -> bytes | None:
        """The next complete message, None if there is none."""
        message = super().recv()
        self.note_change()
        return message

    def read(self, limit: int) -> bytes:
        """At most `limit` stream bytes; b"" if none are there before the next empty message."""
        data = super().read(limit)
        self.note_change()
        return data

    def send_datagram(self, packet: bytes | bytearray | memoryview) -> bool:
        """Queue `packet` to be sent once, unreliably. False: it fits no datagram, use `send`."""
        most = self.link_wire.frame_room - 4
        if not frames.MIN_PACKET_BYTES <= len(packet) <= most:
            return False
        if len(self.packets_out) >= DATAGRAM_QUEUE:
            self.link_wire.wire.drop("datagram_queue_full")
            return True
        self.packets_out.append(bytes(packet))
        self.link_wire.mark_dirty(self)
        return True

    def recv_datagram(self) -> bytes | None:
        """The next packet that came unreliably, None if there is none."""
        return self.packets_in.popleft() if self.packets_in else None

    def send_packets(self, packets: list[bytes], datagram: bool) -> int:
        """Queue each packet of a UDP flow for which there is room; how many.

        `datagram`: unreliably, those that fit one datagram, once something was acknowledged: before that the
        peer may not have the conversation, and would drop them.
        """
        taken = 0
        for packet in packets:
            if datagram and self.snd_una != 0 and self.send_datagram(packet):
                taken += 1
                continue
            fragments = max(1, -(-len(packet) // (self.kcp_mtu - SEGMENT_HEADER_BYTES)))
            if fragments <= MAX_FRAGMENTS and fragments <= self.room:
                super().send(packet)
                taken += 1
        self.note_change()
        return taken

    def recv_packets(self, limit: int) -> list[bytes]:
        """At most `limit` packets of a UDP flow, those that came unreliably first."""
        found: list[bytes] = []
        while len(found) < limit:
            packet = self.recv_datagram()
            if packet is None:
                packet = super().recv()
            if packet is None:
                break
            found.append(packet)
        self.note_change()
        return found

    def move_to(self, other: Conv, packets: bool) -> int:  # type: ignore[override]  # not between engines
        """Move stream bytes (or whole messages, if `packets`) on into `other`; returns the bytes moved.

        Stops where self is dry, at a stream's END, or where `other` has no room; never holds a byte.
        """
        moved = self._relay_messages(other) if packets else self._move_stream(other)
        self.note_change()
        other.note_change()
        return moved

    bypassed = 0  # Bytes or packets that left past the splice: only the compiled twin has a way there

    def bypass_to(self, other: Conv, packets: bool, datagrams: bool) -> None:
        """Let what little comes go into `other`, of the next hop, past the splice.

        `packets`: whole ones, which go unreliably if `datagrams`. This twin leaves all to the splice.
        """

    def take_events(self) -> int:
        """The events since the last call."""
        events, self.events = self.events, 0
        return events

    # What the wire does.

    def deliver(self, packet: bytes) -> None:
        """Take in an unreliable packet from the peer."""
        if len(self.packets_in) >= self.packets_limit:
            self.link_wire.wire.drop("datagram_queue_full")
            return
        self.packets_in.append(packet)
        self.raise_events(READABLE)

    def raise_events(self, events: int) -> None:
        """Tell the user something, by an event of the wire."""
        if self.events == 0:
            self.link_wire.wire.events.ready(self)
        self.events |= events

    @property
    def drained(self) -> bool:
        """Nothing is owed: all that was queued has arrived, and what came is acknowledged."""
        return self.idle and not self.wants_flush and not self.owes_ack

    @property
    def ack_batch_ms(self) -> int:
        """How long the acknowledgements of full segments wait for each other."""
        return self._rx.ack_batch_ms

    @ack_batch_ms.setter
    def ack_batch_ms(self, value: int) -> None:
        self._rx.ack_batch_ms = value

    def thin_acks(self) -> None:
        """Set that by what has come and how far away the peer is."""
        if self.segments_received > ACK_BATCH_AFTER:
            batch_ms = max(self.link_wire.rtt_ms, 0) // ACK_BATCH_RTT
            self._rx.ack_batch_ms = min(batch_ms, ACK_BATCH_MS)

    @property
    def is_urgent(self) -> bool:
        """What it has to send does not wait for a quantum: the pacer does not hold it, or it was lost."""
        rx, tx = self._rx, self._tx
        return rx.owes_ack or rx.tell or tx.ask or tx.fast_due or bool(self.packets_out)

    @property
    def is_lone(self) -> bool:
        """What it has to send is something for which somebody waits."""
        if self.packets_out or (self.unordered and self.queued):
            return True
        return 0 < self.queued <= SPARSE_SEGMENTS and self.in_flight <= LONE_SEGMENTS

    def flush_packets(self, turn: Turn, paced: bool) -> None:
        """Put the unreliable packets into a turn, each in a datagram of its own."""
        if self.packets_out:
            turn.close()
        for _ in range(min(TURN_SEGMENTS, len(self.packets_out))):
            if paced and turn.tokens is not None and turn.tokens <= 0:
                break
            packet = self.packets_out[0]
            if not turn.packet(self.conv.to_bytes(4, "little") + packet):
                break
            self.packets_out.popleft()
            if paced and turn.tokens is not None:
                turn.tokens -= len(packet) + 4

    def notice(self) -> None:
        """Say what the user waits for, if it is there: WRITABLE when there is room enough, or the end."""
        if self.want_room and self.room >= self.wake_room:
            self.want_room = False
            self.raise_events(WRITABLE)
        if self.want_drained and self.drained:
            self.want_drained = False
            self.link_wire.wire.events.drained(self)

    def fit(self) -> None:
        """Cut segments as large as the frames they will travel in."""
        if self.queued <= BULK_SEGMENTS or self._bulk_from > self.segments_sent:
            self._bulk_from = self.segments_sent
        is_long = self.segments_sent - self._bulk_from > LONG_SEGMENTS
        if is_long != self.is_long:
            self.is_long = is_long
            self.kcp_mtu = self.link_wire.segment_bytes(is_long)

    def open_window(self) -> None:
        """Grow the window by what the reader has taken so far; one that never reads holds little."""
        if self.rcv_wnd < self.rcv_limit and self.segments_received > WINDOW_START_SEGMENTS // 2:
            taken = self.segments_received - self.unread
            wanted = min(WINDOW_START_SEGMENTS // 2 + taken, self.rcv_limit)
            if wanted > self.rcv_wnd:
                self.set_windows(self.snd_wnd, wanted)

    @property
    def wake_room(self) -> int:
        """Segments of room that end a wait: always enough for the largest packet that can travel."""
        packet = -(-PACKET_MAX_BYTES // (self.kcp_mtu - SEGMENT_HEADER_BYTES))
        packet = max(WRITABLE_ROOM_SEGMENTS, min(MAX_FRAGMENTS, packet))
        return max(min(packet, self.most_room // 2), 1)  # no more comes where others hold the pool

    def note_change(self) -> None:
        if self.room == 0:
            self.want_room = True
            if self.queued < QUEUE_SEGMENTS:
                self.link_wire.wire.starved[self] = None  # it waits for what others hold
        self.link_wire.conv_changed(self)

    def _relay_messages(self, other: Conv) -> int:
        moved, wanted = 0, other.wake_room
        most = min(PACKET_MAX_BYTES, MAX_FRAGMENTS * (other.kcp_mtu - SEGMENT_HEADER_BYTES))
        while other.room >= wanted:
            packet = super().recv()
            if packet is None:
                return moved
            if len(packet) > most:
                self.link_wire.wire.drop("packet_too_long")
                continue
            Kcp.send(other, packet)
            moved += len(packet)
        other.want_room = True
        return moved
