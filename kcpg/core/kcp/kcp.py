"""KCP (github.com/skywind3000/kcp, protocol.txt) in plain Python: the readable reference of `_kcp.Kcp`.

Wire-compatible with ikcp and kcptube. What differs is the sender's and the acknowledger's own business:

* comparisons are wrapped, so sn and ts may pass 2^32;
* the RTT is sampled from first transmissions only, told apart by the echoed ts, once per datagram;
* a skip counts only if the acknowledged segment was sent no earlier than the skipped one's last copy, and a
  segment overtaken for longer than a reordering window is lost without more skips (`recovery`);
* a time-out resends the oldest segments only: the answer tells what else is missing;
* of the segments before `una` only the newest is acknowledged by a segment of its own; those beyond a
  gap are told again by the next datagrams, as that of the first time may be lost: some as they were, or all
  as bits (`ackmap`);
* a stale window (from a datagram whose una lies behind) is ignored; an opened window is told at once, and
  again until the peer answers; a shut one is probed after one RTO instead of seven seconds;
* nothing is sent by a clock tick: `wants_flush` and `deadline` say when flush() has something to do.
"""

from __future__ import annotations

from kcpg.core.kcp.ackmap import arrived
from kcpg.core.kcp.datagrams import Datagrams
from kcpg.core.kcp.facts import Facts
from kcpg.core.kcp.params import (
    CMD_ACK,
    CMD_ASK,
    CMD_PUSH,
    CMD_TELL,
    DONE,
    HEADER,
    HEADER_BYTES,
    MAX_FRAGMENTS,
    MAX_PAYLOAD,
    MORE,
    PACED,
    QUEUE_SEGMENTS,
    REBUILT_AGE_MS,
    WINDOW_MAX,
    KcpParams,
)
from kcpg.core.kcp.pool import LinkShare
from kcpg.core.kcp.receiver import Receiver
from kcpg.core.kcp.sender import Sender
from kcpg.core.kcp.sendqueue import SendQueue
from kcpg.core.units import MASK32, Bytes, add32, diff32

__all__ = ["Kcp", "KcpParams"]

# input() answers: cut, or longer than a segment can be; of another conversation; a command KCP does not have.
SHORT, WRONG_CONV, UNKNOWN_CMD = -1, -2, -3


class Kcp(Facts):
    """One conversation. Never raises for what the peer sends; keeps rcv_wnd segments and what was queued.

    `kcp_mtu`: most bytes of segments in a datagram, 24-byte headers included. `initial_sn`: first sn of both
    directions, other than 0 only in tests. `slot_bytes`: most payload of a segment, if `kcp_mtu` may
    grow. Times are monotonic milliseconds >= 0, of any epoch.

    `ack_maps`: acknowledgements also tell, as bits, what has arrived beyond a gap, and those of the peer are
    read (`ackmap`). For peers that do the same; any other KCP skips the bits.
    """

    def __init__(
        self, conv: int, kcp_mtu: int, params: KcpParams, *, initial_sn: int = 0, slot_bytes: int = 0
    ) -> None:
        if not HEADER_BYTES < kcp_mtu <= HEADER_BYTES + MAX_PAYLOAD:
            most = HEADER_BYTES + MAX_PAYLOAD
            raise ValueError(f"kcp_mtu {kcp_mtu} is not in {HEADER_BYTES + 1} .. {most}")
        self.conv = conv
        self.params = params
        self._slot_bytes = slot_bytes or kcp_mtu - HEADER_BYTES
        self._cleared = False
        self._queue = SendQueue(kcp_mtu - HEADER_BYTES, share := LinkShare())
        self._tx = Sender(self._queue, params, initial_sn)
        self._rx = Receiver(min(max(params.rcv_wnd, 1), WINDOW_MAX), initial_sn, share)
        self._tx.set_window(params.snd_wnd)
        self.acks_sent = 0
        self.ack_maps = False

    # -- user side --

    def send(self, message: Bytes) -> None:
        """Queue one message, cut into fragments, whatever `room` says. An empty one is a stream's END.

        Raises ValueError for more than 127 fragments.
        """
        if not self._cleared:
            self._queue.send(memoryview(message).cast("B"))

    def write(self, data: Bytes) -> int:
        """Queue stream bytes while there is room; returns how many were taken.

        They fill up the last queued segment if write() made it: messages and stream bytes never share one.
        """
        return self._queue.write(memoryview(data).cast("B"), self.room) if not self._cleared else 0

    def recv(self) -> bytes | None:
        """The next complete message, None if there is none."""
        return self._rx.recv()

    def read(self, limit: int) -> bytes:
        """Bytes of the single-fragment messages that follow, up to an empty one (END); b"" if none."""
        data = self._rx.peek_stream(limit)
        self._rx.take_stream(len(data))
        return data

    def move_to(self, other: Kcp, packets: bool) -> int:
        """Hand on messages, or stream bytes, until this side is dry or the other has no room; bytes moved.

        A message too long for the other side (a smaller kcp_mtu) is discarded.
        """
        return self._move_messages(other) if packets else self._move_stream(other)

    def clear(self) -> None:
        """Forget everything held; nothing is sent or taken from now on."""
        self._cleared = True
        self._tx.clear()
        self._rx.clear()

    def count_for(self, share: LinkShare) -> None:
        """What is held counts for this link from now on."""
        received, queued = self._rx.payloads_held, self._queue.payloads_held + self._tx.payloads_held
        for held, sign in ((self._rx.share, -1), (share, 1)):
            held.note_received(sign * received)
            held.note_queued(sign * queued)
        self._rx.share = self._queue.share = share

    def restart(self, conv: int) -> None:
        """Begin anew under another number, with all that was sent and all counters at 0: see `is_unheard`."""
        self.conv = conv
        self._tx.restart()
        self.acks_sent = 0

    @property
    def is_unheard(self) -> bool:
        """Nothing that was sent is known to have arrived, and nothing came: nobody has this conversation."""
        return self._tx.snd_una == 0 and not self._tx.acked_bytes and not self._rx.segments_received

    def expect_rtt(self, rtt_ms: int) -> None:
        """This is known of the path: until something was measured here, the RTO goes by it."""
        self._tx.rtt.expect(rtt_ms)

    def hurry(self, now_ms: int) -> None:
        """The peer is there again after a silence: do not wait out times that were backed off meanwhile."""
        self._tx.hurry(now_ms)

    def set_windows(self, snd_wnd: int, rcv_wnd: int) -> None:
        """Change the windows (segments; they count as 1 .. 65,535)."""
        self._tx.set_window(snd_wnd)
        self._rx.set_window(rcv_wnd)

    def _move_stream(self, other: Kcp) -> int:
        moved = 0
        while piece := self._rx.peek_stream(self._slot_bytes):
            taken = other.write(piece)
            self._rx.take_stream(taken)
            moved += taken
            if taken < len(piece):
                break
        return moved

    def _move_messages(self, other: Kcp) -> int:
        moved = 0
        while (size := self._rx.peek_size()) is not None:
            fragments = other._queue.fragments(size)
            if other._cleared or (fragments <= MAX_FRAGMENTS and fragments > other.room):
                break
            message = self._rx.recv()
            assert message is not None
            try:
                other.send(message)
            except ValueError:
                continue
            moved += size
        return moved

    # -- wire side --

    def input(self, data: Bytes, now_ms: int, rebuilt: bool = False) -> int:
        """Take the segments of one datagram: 0, or the reason (negative) why the rest of it was discarded.

        `rebuilt`: FEC gave them back, so their lateness says nothing about the path. Their ts counts as
        REBUILT_AGE_MS older, before anything in flight, so that no time is measured from them, here or by the
        peer from their acknowledgements. Their window is an old one and ignored.
        """
        view = memoryview(data).cast("B")
        if not view:
            return SHORT
        if self._cleared:
            return 0
        una, was_shut, told = self._tx.snd_una, not self._tx.rmt_wnd, False
        acks: list[tuple[int, int]] = []
        bits: Bytes = b""
        answer = 0
        while view:
            if len(view) < HEADER_BYTES:
                answer = SHORT
                break
            conv, cmd, frg, wnd, ts, sn, seg_una, size = HEADER.unpack_from(view)
            answer = self._malformed(conv, cmd, size, len(view))
            if answer:
                break
            if rebuilt:
                ts, wnd = (ts - REBUILT_AGE_MS) & MASK32, self._tx.rmt_wnd
            if diff32(seg_una, una) >= 0 and diff32(self._tx.snd_top, seg_una) >= 0:
                una = seg_una
                self._tx.rmt_wnd = wnd
            if cmd == CMD_PUSH:
                data = bytes(view[HEADER_BYTES : HEADER_BYTES + size])
                self._rx.push(sn, ts, frg, data, self._queue.mss, now_ms)
            elif cmd == CMD_ACK:
                acks.append((sn, ts))
                bits = view[HEADER_BYTES : HEADER_BYTES + size] if size else bits
            elif cmd == CMD_ASK:
                self._rx.tell = True
            else:
                told = seg_una == una and not rebuilt
                if self._rx.told_first is not None:
                    self._rx.stop_telling()  # it answers what was asked with the telling
            view = view[HEADER_BYTES + size :]
        self._tx.acknowledge(una, acks, now_ms, list(arrived(bits)) if self.ack_maps else [])
        if told:
            self._tx.recall(add32(una, self._tx.rmt_wnd))
        if self._tx.rmt_wnd > 0:
            self._tx.probe_at = None
            if was_shut:
                self._tx.hurry(now_ms)  # what had no room was resent in vain, ever more rarely
        return answer

    def _malformed(self, conv: int, cmd: int, size: int, left: int) -> int:
        if conv != self.conv:
            return WRONG_CONV
        if size > left - HEADER_BYTES:
            return SHORT
        if not CMD_PUSH <= cmd <= CMD_TELL:
            return UNKNOWN_CMD
        if cmd == CMD_PUSH and size > self._slot_bytes:
            return SHORT
        return 0

    def flush(self, now_ms: int, tokens: int | None = None) -> list[bytes]:
        """Datagrams that may be sent now. `tokens`: bytes of push segments with headers the pacer admits.

        A segment that is held back stays as it was. Acknowledgements and probes always pass.
        """
        datagrams: list[bytes] = []
        answer = MORE
        while answer == MORE:
            out = Datagrams(self._queue.mss + HEADER_BYTES, tokens)
            answer = self.flush_into(out, now_ms, None)
            datagrams += out.close()
            tokens = out.tokens
        return datagrams

    def flush_into(self, out: Datagrams, now_ms: int, max_segments: int | None) -> int:
        """Put what may be sent now into `out`, which stays open: DONE, MORE (`out` has no room, or
        `max_segments` pushes were sent: call again) or PACED (its tokens do not suffice)."""
        if self._cleared:
            return DONE
        if not self._flush_acks(out, now_ms) or not self._flush_probes(out, now_ms):
            return MORE
        left = max_segments

        def push(sn: int, frg: int, payload: bytes | bytearray) -> int:
            nonlocal left
            size = HEADER_BYTES + len(payload)
            if left is not None and left <= 0:
                return MORE
            if out.tokens is not None and out.tokens < size:
                return PACED
            if not out.need(size):
                return MORE
            left = None if left is None else left - 1
            out.tokens = None if out.tokens is None else out.tokens - size
            out.add(self._header(CMD_PUSH, frg=frg, ts=now_ms & MASK32, sn=sn, size=len(payload)), payload)
            return DONE

        return self._tx.flush(now_ms, push)

    def _add_empty(self, out: Datagrams, cmd: int, ts: int = 0, sn: int = 0) -> bool:
        """A segment without payload, if there is room."""
        if not out.need(HEADER_BYTES):
            return False
        out.add(self._header(cmd, ts=ts, sn=sn))
        return True

    def _flush_acks(self, out: Datagrams, now_ms: int) -> bool:
        rx, any_told = self._rx, False
        while (ack := rx.next_ack()) is not None:
            if not self._add_empty(out, CMD_ACK, ack[1], ack[0]):
                return False
            rx.note_told(now_ms)
            self.acks_sent += 1
            any_told = True
        if any_told and self.ack_maps and (bits := rx.take_map(out.space)):
            out.extend(bits)
        if any_told and not self.ack_maps:
            for sn, ts in rx.take_acks_again(out.space // HEADER_BYTES):
                out.add(self._header(CMD_ACK, ts=ts, sn=sn))
                self.acks_sent += 1
        rx.keep_acks(self.ack_maps)
        return True

    def _flush_probes(self, out: Datagrams, now_ms: int) -> bool:
        """The window, asked and told."""
        tx, rx = self._tx, self._rx
        tx.probe(now_ms)
        if rx.tell_at is not None and now_ms >= rx.tell_at:
            rx.tell = tx.ask = True  # so that the peer answers even if it has nothing to send
        if tx.ask:
            if not self._add_empty(out, CMD_ASK):
                return False
            tx.ask = False
        if rx.tell:
            if not self._add_empty(out, CMD_TELL):
                return False
            rx.note_tell(now_ms, tx.probe_pause_ms)
        return True

    def _header(self, cmd: int, *, frg: int = 0, ts: int = 0, sn: int = 0, size: int = 0) -> bytes:
        rx = self._rx
        rx.told_wnd = rx.window
        return HEADER.pack(self.conv, cmd, frg, rx.told_wnd, ts, sn, rx.rcv_nxt, size)

    @property
    def deadline(self) -> int | None:
        """When flush() must be called even if nothing else happens; None: nothing is outstanding."""
        times = (self._tx.deadline, self._rx.tell_at, self._rx.ack_at)
        return min((at for at in times if at is not None), default=None)

    @property
    def wants_flush(self) -> bool:
        """Something could be sent right now, the pacer permitting."""
        return self._rx.acks_due or self._rx.tell or self._tx.wants_flush

    @property
    def owes_ack(self) -> bool:
        """Something that arrived is not acknowledged yet."""
        return self._rx.owes_ack

    # -- settings --

    @property
    def kcp_mtu(self) -> int:
        """Of datagrams and segments made from now on; never above what a slot holds."""
        return self._queue.mss + HEADER_BYTES

    @kcp_mtu.setter
    def kcp_mtu(self, value: int) -> None:
        if not HEADER_BYTES < value <= HEADER_BYTES + self._slot_bytes or self._cleared:
            raise ValueError(f"kcp_mtu {value} does not fit slots of {self._slot_bytes} bytes")
        self._queue.mss = value - HEADER_BYTES

    @property
    def ack_hold_ms(self) -> int:
        """How long the acknowledgement of a lone short segment in order waits for data to travel with, or for
        a second segment; 0: it never waits. The peer's is taken to be the same: the RTO allows for it.
        """
        return self._rx.ack_hold_ms

    @ack_hold_ms.setter
    def ack_hold_ms(self, value: int) -> None:
        self._rx.ack_hold_ms = value
        self._tx.rtt.ack_hold_ms = value

    @property
    def unordered(self) -> bool:
        """True: every message is delivered as soon as all of it is there. Cannot be switched off."""
        return self._rx.unordered

    @unordered.setter
    def unordered(self, value: bool) -> None:
        if self._rx.unordered and not value:
            raise ValueError("an unordered conversation stays unordered")
        if value:
            self._rx.set_unordered()

    @property
    def mark_first(self) -> bool:
        """Messages sent while True carry the mark by which an unordered receiver finds their beginning."""
        return self._queue.mark_first

    @mark_first.setter
    def mark_first(self, value: bool) -> None:
        self._queue.mark_first = value

    # -- state --

    @property
    def room(self) -> int:
        """Segments that may still be queued."""
        tx = self._tx
        return 0 if self._cleared else self._queue.room(tx.in_flight, not tx.rmt_wnd)

    @property
    def most_room(self) -> int:
        """Room when all that is queued will have left, as far as others give way no more."""
        tx, queue = self._tx, self._queue
        queued = len(queue)
        most = queue.share.may_queue(tx.in_flight + queued, 0, queued, not tx.rmt_wnd, QUEUE_SEGMENTS)
        return 0 if self._cleared else most

    @property
    def early(self) -> bool:
        """Its first message, which says what it is for, has not come: it takes little."""
        return self._rx.early

    @early.setter
    def early(self, value: bool) -> None:
        self._rx.early = value

    @property
    def readable(self) -> bool:
        """recv() would give a message."""
        return self._rx.readable

    @property
    def at_end(self) -> bool:
        """The next message is there and empty: the stream's END, which recv() consumes."""
        return self._rx.peek_size() == 0

    @property
    def unread(self) -> int:
        """Segments that wait for the reader."""
        return self._rx.unread

    @property
    def queued(self) -> int:
        """Segments not yet sent."""
        return len(self._queue)

    @property
    def in_flight(self) -> int:
        """Segments from the first unacknowledged one to the last one sent."""
        return self._tx.in_flight

    @property
    def idle(self) -> bool:
        """All that was queued has arrived."""
        return not self._queue and not self._tx.in_flight

    @property
    def payloads_held(self) -> int:
        """Non-empty payloads kept, sending and receiving: 0 when idle and read."""
        return self._queue.payloads_held + self._tx.payloads_held + self._rx.payloads_held
