"""The receiving half of a KCP conversation: pushes in; messages, stream bytes and acknowledgements out."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto

from kcpg.core.kcp.ackmap import AckMap
from kcpg.core.kcp.params import FRG_FIRST, FRG_REST, MAX_FRAGMENTS, WINDOW_MAX
from kcpg.core.kcp.pool import LATE_STOPS, SHARE, LinkShare
from kcpg.core.units import MASK32, add32, diff32

# An opened window is told again until the peer is heard to know of it, as each word may be lost. First after
# an RTO; then often for a while, so that a path that is back does not wait; then seldom, until the peer's own
# probes come.
TELL_OFTEN_MS = 250
TELL_OFTEN_FOR_MS = 30_000
TELL_SELDOM_MS = 5_000
TELL_FOR_MS = 120_000
ACK_BATCH_SEGMENTS = 64  # acknowledged together at most
ACKS_AGAIN = 32  # acknowledgements beyond a gap kept to be told again
ACK_COST = 8  # telling one again costs eight eighths, ...
ACK_CREDIT = 5  # ... telling one earns five: 1.6 x 24 bytes are < 3 % of a full segment
ACK_CREDIT_DUPLICATE = 80  # a needless copy came, as an acknowledgement was lost: ten are far cheaper


class _State(Enum):
    OPEN = auto()  # arrived
    READY = auto()  # unordered: part of a complete message
    DONE = auto()  # unordered: delivered, waits for the gap before it to close


@dataclass(slots=True)
class _Arrived:
    frg: int
    data: bytes
    state: _State = _State.OPEN

    @property
    def rest(self) -> int:
        """Fragments of the same message that follow."""
        return self.frg & FRG_REST


class Receiver:
    """Keeps at most `rcv_wnd` segments: nothing at or beyond `rcv_read + rcv_wnd` is taken; less where the
    pool has less. `early`: nobody knows yet what the conversation is for, and its first message takes little.
    """

    def __init__(self, rcv_wnd: int, initial_sn: int, share: LinkShare) -> None:
        self.rcv_wnd = rcv_wnd
        self.share = share
        self.early = False
        self.rcv_read = initial_sn  # first sn not yet delivered
        self.rcv_nxt = initial_sn  # first sn missing
        self.rcv_end = initial_sn  # 1 + highest sn received
        self.unordered = False
        self.tell = False  # a window-tell is due
        self.tells_on = False  # ... and is to be repeated until the peer answers
        self.told_first: int | None = None  # when it was told first
        self.tell_at: int | None = None  # when to repeat it
        self.told_wnd = rcv_wnd  # the window in the last segment sent
        self.segments_received = 0
        self.duplicates_received = 0
        self.segments_refused = 0
        self.bytes_received = 0
        self._segments: dict[int, _Arrived] = {}
        self._offset = 0  # bytes of the segment at rcv_read that the stream reader took already
        self._held = 0  # segments received and not delivered, gaps not counted
        self._ready: deque[int] = deque()  # unordered: first sn of each complete message
        self._ack_below: tuple[int, int] | None = None  # newest (sn, ts) of those una covers
        self.ack_at: int | None = None  # when that one is told, None: at once
        self._ack_waits = 0  # segments whose acknowledgement waits for that
        self.ack_hold_ms = 0  # how long the acknowledgement of a lone short segment may wait, ...
        self.ack_batch_ms = 0  # ... and how long after the last one that of full segments
        self._ack_told_ms = 0  # when that was
        self._acks_due: deque[tuple[int, int]] = deque()  # (sn, ts) of segments beyond a gap
        self._sns_due: set[int] = set()  # their sns, to find a second copy
        self._acks_told: list[tuple[int, int]] = []  # of those, what the last flush told
        self._acks_fresh: list[tuple[int, int]] = []  # ... and what one that is not complete did
        self._ack_map = AckMap(initial_sn)
        self._ack_credit = 0  # for telling again, in eighths of an acknowledgement

    # -- window --

    @property
    def unread(self) -> int:
        """Segments that wait for the reader; unordered: those beyond a gap too."""
        return self._held if self.unordered else self._in_order()

    @property
    def window(self) -> int:
        """The window to advertise: what still fits."""
        taken = max(self.unread, self._in_order())
        return max(self._limit(taken, False) - taken, 0)

    def _limit(self, taken: int, late: bool) -> int:
        """Segments from rcv_read on that are kept, with `taken` of them here. The more wait for the reader
        the fewer, unless little of the pool is in use. `late`: they may be under way since it read faster.

        Or all of the message that stands first, which in less would never be complete. (KCP wants a window of
        128 of every receiver for that.)
        """
        first = self._segments.get(self.rcv_read)
        whole = 0 if first is None or first.state is _State.DONE else first.rest + 1
        if self.share.pool.calm(self.rcv_wnd):
            return self.rcv_wnd if self.rcv_wnd >= MAX_FRAGMENTS else max(self.rcv_wnd, whole)
        left, moving, stopped = self.share.may_receive(self._own)
        if taken < stopped:
            limit = moving if late else moving - (moving - stopped) * taken // stopped
        else:
            limit = moving if late and taken < LATE_STOPS * stopped else taken
        return max(min(limit, self.rcv_wnd), whole if whole <= left else 0)

    @property
    def _full(self) -> int:
        """The window of a reader that has taken everything: what the pool has for it, the user's at most."""
        calm = self.share.pool.calm(self.rcv_wnd)
        return self.rcv_wnd if calm else min(self.rcv_wnd, self.share.may_receive(self._own)[1])

    @property
    def _own(self) -> int:
        return min(self._held, self.share.rx_slots)

    @property
    def payloads_held(self) -> int:
        """Segments kept that are not empty."""
        return sum(1 for segment in self._segments.values() if segment.data)

    def _in_order(self) -> int:
        return (self.rcv_nxt - self.rcv_read) & MASK32

    def check_tell(self) -> None:
        """Tell the peer when a window that was nearly shut (a quarter) is half open again."""
        full = self._full if self.told_wnd * 4 < self.rcv_wnd else 0
        if self.told_wnd * 4 < full and self.window * 2 >= full:
            self.tell = self.tells_on = True
            self.told_first = self.tell_at = None

    def note_tell(self, now: int, first_pause_ms: int) -> None:
        """The window was told: when it is to be told again, unless the peer answers."""
        self.tell = False
        self.tell_at = None
        if not self.tells_on:
            return
        if self.told_first is None:
            self.told_first = now
            self.tell_at = now + first_pause_ms
        elif now - self.told_first < TELL_FOR_MS:
            often = now - self.told_first < TELL_OFTEN_FOR_MS
            self.tell_at = now + (TELL_OFTEN_MS if often else TELL_SELDOM_MS)
        else:
            self.stop_telling()

    def stop_telling(self) -> None:
        """The peer knows of the window."""
        self.tells_on = False
        self.told_first = self.tell_at = None

    def set_window(self, rcv_wnd: int) -> None:
        """Change the window (segments; it counts as 1 .. 65,535)."""
        self.rcv_wnd = min(max(rcv_wnd, 1), WINDOW_MAX)
        self.check_tell()

    # -- a push --

    def push(self, sn: int, ts: int, frg: int, data: bytes, mss: int, now: int) -> None:
        """One push segment of a datagram: kept, or counted as a duplicate or as refused.

        `mss`: bytes of a full one.
        """
        if diff32(sn, self.rcv_nxt) < 0:
            self.duplicates_received += 1
            self._acknowledge_below(sn, ts)
        elif (sn - self.rcv_read) & MASK32 >= self._limit(self._in_order(), True) or self._is_early(sn):
            self.segments_refused += 1
            self.share.pool.refused += 1
            self.tell = True  # the peer believes in a larger window
        elif sn in self._segments:
            self.duplicates_received += 1
            self._ack_credit += ACK_CREDIT_DUPLICATE
            self._acknowledge_beyond(sn, ts)
        else:
            self._keep(sn, _Arrived(frg, data))
            self._advance(sn)
            if diff32(sn, self.rcv_nxt) < 0:
                self._acknowledge_below(sn, ts, self._hold_until(len(data), mss, now))
            else:
                self._acknowledge_beyond(sn, ts)

    def _is_early(self, sn: int) -> bool:
        return self.early and (sn - self.rcv_read) & MASK32 >= SHARE and not self.readable

    def _keep(self, sn: int, segment: _Arrived) -> None:
        """Keep a new segment and count it."""
        self._segments[sn] = segment
        self.share.note_received(bool(segment.data))
        self._held += 1
        self.segments_received += 1
        self.bytes_received += len(segment.data)

    def _advance(self, sn: int) -> None:
        """The segment `sn` was kept: move rcv_end and rcv_nxt, and make messages ready."""
        self.stop_telling()  # the peer sends
        if diff32(sn, self.rcv_end) >= 0:
            self.rcv_end = add32(sn, 1)
        while self.rcv_nxt in self._segments:
            self.rcv_nxt = add32(self.rcv_nxt, 1)
        if self.unordered:
            self._complete(sn)

    # -- acknowledgements due --

    def _hold_until(self, size: int, mss: int, now: int) -> int | None:
        """Until when the acknowledgement of a segment of this size may wait, None: not at all.

        That of a lone short one for data to travel with; that of full ones for the first that comes when
        there was none for `ack_batch_ms`.
        """
        first = self._ack_below is None
        self._ack_waits = 1 if first else self._ack_waits + 1
        if size == 0 or self._gap or (not first and self.ack_at is None):
            return None
        if size < mss:
            return now + self.ack_hold_ms if first and self.ack_hold_ms else None
        batch_ms = self.ack_batch_ms
        if now - self._ack_told_ms >= batch_ms or self._ack_waits >= ACK_BATCH_SEGMENTS:
            return None
        return self._ack_told_ms + 2 * batch_ms

    def _acknowledge_below(self, sn: int, ts: int, hold_until: int | None = None) -> None:
        """A segment came that una covers."""
        self.ack_at = hold_until
        # of two copies the first: its ts tells whether the second was needed
        if self._ack_below is None or diff32(sn, self._ack_below[0]) > 0:
            self._ack_below = (sn, ts)

    def _acknowledge_beyond(self, sn: int, ts: int) -> None:
        """A segment came beyond a gap."""
        if sn not in self._sns_due:
            self._sns_due.add(sn)
            self._acks_due.append((sn, ts))

    @property
    def acks_due(self) -> bool:
        """Something is to be acknowledged at once."""
        return (self._ack_below is not None and self.ack_at is None) or bool(self._acks_due)

    @property
    def owes_ack(self) -> bool:
        """Something is to be acknowledged, at once or by `ack_at`."""
        return self._ack_below is not None or bool(self._acks_due)

    def next_ack(self) -> tuple[int, int] | None:
        """(sn, ts) to acknowledge: the newest before a gap, as una says the rest; then all beyond it."""
        if self._ack_below is not None:
            return self._ack_below
        while self._acks_due and diff32(self._acks_due[0][0], self.rcv_nxt) < 0:
            self._pass_ack()  # covered by una
        return self._acks_due[0] if self._acks_due else None

    def note_told(self, now: int) -> None:
        """What `next_ack` gave was put into a datagram."""
        if self._ack_below is not None:
            self._ack_below = self.ack_at = None
            self._ack_told_ms = now
        else:
            self._pass_ack()
            self._ack_credit += ACK_CREDIT

    def _pass_ack(self) -> None:
        ack = self._acks_due.popleft()
        self._sns_due.discard(ack[0])
        self._acks_fresh.append(ack)

    def take_map(self, room: int) -> bytes:
        """After something was told: what has arrived as bits, at most `room` bytes."""
        fresh = [sn for sn, _ in self._acks_fresh]
        if not self._gap:
            return b""
        return self._ack_map.make(fresh, self.rcv_nxt, self.rcv_end, room, self._segments.__contains__)

    def take_acks_again(self, most: int) -> list[tuple[int, int]]:
        """Of what the last flush told, the newest again, at most `most`: its datagram may have been lost."""
        again: list[tuple[int, int]] = []
        if not self._acks_told and not self._acks_fresh:
            return again
        while self._acks_told and self._ack_credit >= ACK_COST and len(again) < most:
            sn, ts = self._acks_told.pop()
            if diff32(sn, self.rcv_nxt) >= 0:
                again.append((sn, ts))
                self._ack_credit -= ACK_COST
        self._ack_credit = min(self._ack_credit, ACKS_AGAIN * ACK_COST)
        return again

    def keep_acks(self, maps: bool) -> None:
        """A flush has told all: keep what it told beyond a gap to tell it again, unless `maps` do that."""
        fresh, self._acks_fresh = self._acks_fresh, []
        if maps or not self._gap:
            self._acks_told = []
            self._ack_credit = 0
        elif fresh:
            self._acks_told = fresh[-ACKS_AGAIN:]

    @property
    def _gap(self) -> bool:
        """Something has arrived beyond a missing segment."""
        return len(self._segments) > self._in_order()

    # -- unordered delivery --

    def set_unordered(self) -> None:
        """From now on every message is delivered as soon as all of it is there. Cannot be undone."""
        if self.unordered:
            return
        self.unordered = True
        for sn in sorted(self._segments, key=lambda sn: diff32(sn, self.rcv_read)):
            self._complete(sn)

    def _open(self, sn: int) -> _Arrived | None:
        """The segment `sn`, if it is there and belongs to no complete message yet."""
        segment = self._segments.get(sn)
        return segment if segment is not None and segment.state is _State.OPEN else None

    def _complete(self, sn: int) -> None:
        """Make ready the message that `sn` completes, and unmarked ones behind it, now recognisable."""
        bounds = self._bounds(sn)
        while bounds is not None:
            first, count = bounds
            for j in range(count):
                self._segments[add32(first, j)].state = _State.READY
            self._ready.append(first)
            bounds = self._bounds(add32(first, count))

    def _bounds(self, sn: int) -> tuple[int, int] | None:
        """(first sn, segments) of the message that `sn` belongs to, if all of it is there."""
        segment = self._open(sn)
        if segment is None:
            return None
        after = segment.rest
        for j in range(1, after + 1):
            following = self._open(add32(sn, j))
            if following is None or following.frg != after - j:
                return None
        count = after + 1
        while not self._starts_message(sn):
            sn = add32(sn, -1)
            before = self._open(sn)
            if before is None or before.rest != count:
                return None
            count += 1
        return sn, count

    def _starts_message(self, sn: int) -> bool:
        """Whether a message begins at `sn`: it is marked, or what stands before it ends one."""
        if self._segments[sn].frg & FRG_FIRST or sn == self.rcv_read:
            return True
        before = self._segments.get(add32(sn, -1))
        return before is not None and before.state is not _State.OPEN and before.rest == 0

    # -- delivery --

    @property
    def readable(self) -> bool:
        """A complete message is there."""
        if self.unordered:
            return bool(self._ready)
        there = self._in_order()
        return there > 0 and there > self._segments[self.rcv_read].rest

    def peek_size(self) -> int | None:
        """Bytes of the next message, None if it is not there."""
        if not self.readable:
            return None
        return sum(len(self._segments[sn].data) for sn in self._next_message()) - self._taken(self._first())

    def recv(self) -> bytes | None:
        """Take the next message, None if it is not there."""
        if not self.readable:
            return None
        sns = self._next_message()
        message = b"".join(self._segments[sn].data for sn in sns)[self._taken(sns[0]) :]
        if self.unordered:
            self._ready.popleft()
        self._release(sns)
        return message

    def peek_stream(self, limit: int) -> bytes:
        """Stream bytes that read() would give, without taking them."""
        if self.unordered:
            return b""
        pieces: list[bytes] = []
        size = 0
        sn = self.rcv_read
        while size < limit and sn != self.rcv_nxt:
            segment = self._segments[sn]
            if segment.rest or not segment.data:
                break
            piece = segment.data[self._taken(sn) :]
            pieces.append(piece)
            size += len(piece)
            sn = add32(sn, 1)
        return b"".join(pieces)[:limit]

    def take_stream(self, nbytes: int) -> None:
        """The first `nbytes` of what peek_stream() gave are delivered."""
        nbytes += self._offset
        taken: list[int] = []
        sn = self.rcv_read
        while nbytes and nbytes >= len(self._segments[sn].data):
            nbytes -= len(self._segments[sn].data)
            taken.append(sn)
            sn = add32(sn, 1)
        self._release(taken)
        self._offset = nbytes

    def clear(self) -> None:
        self.share.note_received(-self.payloads_held)
        self._segments.clear()
        self._ready.clear()
        self._acks_due.clear()
        self._sns_due.clear()
        self._acks_told.clear()
        self._acks_fresh.clear()
        self._ack_below = self.ack_at = None
        self.rcv_nxt = self.rcv_end = self.rcv_read
        self._held = self._offset = 0
        self.tell = False
        self.tell_at = None

    def _first(self) -> int:
        return self._ready[0] if self.unordered else self.rcv_read

    def _next_message(self) -> list[int]:
        first = self._first()
        return [add32(first, j) for j in range(self._segments[first].rest + 1)]

    def _taken(self, sn: int) -> int:
        return self._offset if sn == self.rcv_read else 0

    def _release(self, sns: list[int]) -> None:
        self.share.note_received(-sum(bool(self._segments[sn].data) for sn in sns))
        for sn in sns:
            self._segments[sn] = _Arrived(self._segments[sn].frg, b"", _State.DONE)
            self._held -= 1
            if sn == self.rcv_read:
                self._offset = 0
        while self.rcv_read != self.rcv_nxt and self._segments[self.rcv_read].state is _State.DONE:
            del self._segments[self.rcv_read]
            self.rcv_read = add32(self.rcv_read, 1)
        if sns:
            self.check_tell()
