"""The sending half of a KCP conversation: queue, flight, retransmission, RTT and congestion window."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from kcpg.core.kcp_params import (
    FRG_FIRST,
    MAX_FRAGMENTS,
    QUEUE_SEGMENTS,
    REMOTE_WINDOW_START,
    WINDOW_MAX,
    KcpParams,
)
from kcpg.core.units import MASK32, add32, diff32

RTO_START_MS = 200  # IKCP_RTO_DEF
RTO_MAX_MS = 60_000  # IKCP_RTO_MAX
SSTHRESH_MIN = 2  # IKCP_THRESH_MIN
PROBE_MIN_MS = 30  # no window probe sooner, however short the RTT: the reader needs time to read
PROBE_MAX_MS = 120_000  # IKCP_PROBE_LIMIT


class Push(Protocol):
    """Puts one push segment into a datagram; False: the pacer's tokens do not suffice, nothing was done."""

    def __call__(self, sn: int, frg: int, payload: bytes | bytearray) -> bool: ...


@dataclass(slots=True)
class _Queued:
    frg: int
    payload: bytes | bytearray
    stream: bool  # made by write(): more bytes may be added


@dataclass(slots=True)
class _Sent:
    frg: int
    payload: bytes | bytearray
    first_ts: int
    ts: int  # of the last transmission
    rto: int
    resend_at: int
    skips: int = 0  # datagrams that acknowledged later segments, sent no earlier than `ts`


class _Resend(Enum):
    NO = auto()
    LATE = auto()
    SKIPPED = auto()


class Sender:
    """Segments [snd_una, snd_nxt) are in flight (those acknowledged one by one are gone), then the queue."""

    def __init__(self, mss: int, params: KcpParams, initial_sn: int) -> None:
        self.params = params
        self.mss = mss
        self.snd_wnd = params.snd_wnd
        self.snd_una = initial_sn
        self.snd_nxt = initial_sn
        self.rmt_wnd = REMOTE_WINDOW_START
        self.mark_first = False
        self.ask = False  # a window-ask is due
        self.probe_at: int | None = None
        self.probe_wait_ms = 0
        self.fast_due = False  # a segment reached the fast-resend threshold
        self.next_resend: int | None = None  # no segment's resend time is earlier; meaningful while in flight
        self.srtt_ms = 0
        self.rttvar_ms = 0
        self.rto_ms = RTO_START_MS
        self.cwnd = 1
        self.segments_sent = 0
        self.segments_resent_fast = 0
        self.segments_resent_rto = 0
        self.bytes_sent = 0
        self._ssthresh = SSTHRESH_MIN
        self._incr = mss  # bytes the congestion window stands for
        self._queue: deque[_Queued] = deque()
        self._flight: dict[int, _Sent] = {}  # in order of sn

    # --- filling --------------------------------------------------------------------------------------------

    @property
    def queued(self) -> int:
        return len(self._queue)

    @property
    def room(self) -> int:
        return max(QUEUE_SEGMENTS - len(self._queue), 0)

    @property
    def in_flight(self) -> int:
        return (self.snd_nxt - self.snd_una) & MASK32

    @property
    def payloads_held(self) -> int:
        return sum(1 for s in self._queue if s.payload) + sum(1 for s in self._flight.values() if s.payload)

    def fragments(self, size: int) -> int:
        return max(-(-size // self.mss), 1)

    def send(self, message: memoryview) -> None:
        count = self.fragments(len(message))
        if count > MAX_FRAGMENTS:
            raise ValueError(f"a message holds at most {MAX_FRAGMENTS * self.mss} bytes")
        for j in range(count):
            frg = count - 1 - j
            if j == 0 and self.mark_first:
                frg |= FRG_FIRST
            self._queue.append(_Queued(frg, bytes(message[j * self.mss : (j + 1) * self.mss]), False))

    def write(self, data: memoryview) -> int:
        taken = 0
        if self._queue and self._queue[-1].stream:
            tail = self._queue[-1].payload
            taken = min(max(self.mss - len(tail), 0), len(data))
            tail += data[:taken]
        while taken < len(data) and self.room:
            piece = bytearray(data[taken : taken + self.mss])
            self._queue.append(_Queued(0, piece, True))
            taken += len(piece)
        return taken

    def clear(self) -> None:
        self._queue.clear()
        self._flight.clear()
        self.snd_nxt = self.snd_una
        self.ask = self.fast_due = False
        self.probe_at = None

    # --- acknowledgements -----------------------------------------------------------------------------------

    def acknowledge(self, una: int, acks: list[tuple[int, int]], now: int) -> None:
        """What one datagram acknowledged: all before `una`, and (sn, ts echoed) one by one."""
        una_before = self.snd_una
        newly = {sn: ts for sn, ts in reversed(acks) if sn in self._flight}
        self._sample([ts for sn, ts in newly.items() if ts == self._flight[sn].first_ts], now)
        for sn in newly:
            del self._flight[sn]
        while self.snd_una != una:
            self._flight.pop(self.snd_una, None)
            self.snd_una = add32(self.snd_una, 1)
        while self.snd_una != self.snd_nxt and self.snd_una not in self._flight:
            self.snd_una = add32(self.snd_una, 1)
        if self.snd_una == self.snd_nxt:
            self.fast_due = False
        if newly and self.params.resend > 0:
            highest = max(newly, key=lambda sn: diff32(sn, una_before))
            self._count_skips(highest, newly[highest])
        if self.snd_una != una_before and not self.params.nc:
            self._grow_window()

    def _sample(self, echoes: list[int], now: int) -> None:
        """Measure the RTT by the newest echo of a first transmission: those of later ones tell less."""
        if not echoes:
            return
        rtt = min(diff32(now, ts) for ts in echoes)
        if not 0 <= rtt <= RTO_MAX_MS:
            return
        if self.srtt_ms == 0:
            self.srtt_ms = rtt
            self.rttvar_ms = rtt // 2
        else:
            self.rttvar_ms = (3 * self.rttvar_ms + abs(rtt - self.srtt_ms)) // 4
            self.srtt_ms = (7 * self.srtt_ms + rtt) // 8
        self.srtt_ms = max(self.srtt_ms, 1)
        rto = self.srtt_ms + max(self.params.interval_ms, 4 * self.rttvar_ms)
        self.rto_ms = min(max(rto, self.params.min_rto_ms), RTO_MAX_MS)

    def _count_skips(self, highest: int, newest_ts: int) -> None:
        """Something sent no earlier than a segment's last copy has arrived: that copy was overtaken."""
        for sn, segment in self._flight.items():
            if diff32(sn, highest) >= 0:
                break
            if diff32(newest_ts, segment.ts) >= 0:
                segment.skips += 1
                if segment.skips >= self.params.resend:
                    self.fast_due = True

    # --- congestion window (nc = False), as ikcp has it -----------------------------------------------------

    @property
    def window(self) -> int:
        """Segments that may be in flight."""
        window = min(self.snd_wnd, self.rmt_wnd)
        return window if self.params.nc else min(window, self.cwnd)

    def _grow_window(self) -> None:
        if self.cwnd >= self.rmt_wnd:
            return
        if self.cwnd < self._ssthresh:
            self.cwnd += 1
            self._incr += self.mss
        else:
            self._incr = max(self._incr, self.mss)
            self._incr += self.mss * self.mss // self._incr + self.mss // 16
            if (self.cwnd + 1) * self.mss <= self._incr:
                self.cwnd = -(-self._incr // self.mss)
        if self.cwnd > self.rmt_wnd:
            self.cwnd = self.rmt_wnd
            self._incr = self.rmt_wnd * self.mss

    def _shrink_window(self, late: bool, skipped: bool) -> None:
        window = self.window
        if skipped:
            self._ssthresh = max(self.in_flight // 2, SSTHRESH_MIN)
            self.cwnd = self._ssthresh + self.params.resend
            self._incr = self.cwnd * self.mss
        if late:
            self._ssthresh = max(window // 2, SSTHRESH_MIN)
            self.cwnd = 1
            self._incr = self.mss

    def set_window(self, snd_wnd: int) -> None:
        self.snd_wnd = min(max(snd_wnd, 1), WINDOW_MAX)

    # --- flush ----------------------------------------------------------------------------------------------

    @property
    def wants_flush(self) -> bool:
        if self.fast_due or self.ask:
            return True
        if not self._queue:
            return False
        # a closed window with nothing on its way that could bring news: flush() starts the probe's clock
        return self.in_flight < self.window or (self._shut_out and self.probe_at is None)

    @property
    def deadline(self) -> int | None:
        times = [self.next_resend if self.in_flight else None, self.probe_at]
        return min((at for at in times if at is not None), default=None)

    @property
    def _shut_out(self) -> bool:
        return self.rmt_wnd == 0 and bool(self._queue) and not self.in_flight

    @property
    def probe_pause_ms(self) -> int:
        return max(self.rto_ms, PROBE_MIN_MS)

    def probe(self, now: int) -> None:
        """Ask for the window when it is the only thing that keeps the queue waiting."""
        if not self._shut_out:
            self.probe_at = None
        elif self.probe_at is None:
            self.probe_wait_ms = self.probe_pause_ms
            self.probe_at = now + self.probe_wait_ms
        elif now >= self.probe_at:
            self.ask = True
            self.probe_wait_ms = min(self.probe_wait_ms + self.probe_wait_ms // 2, PROBE_MAX_MS)
            self.probe_at = now + self.probe_wait_ms

    def hurry(self, now: int) -> None:
        """Undo the back-off of what was sent longer ago than a first wait."""
        for segment in self._flight.values():
            if segment.rto > self.rto_ms and ((now - segment.ts) & MASK32) >= self.rto_ms:
                segment.rto = self.rto_ms
                segment.resend_at = min(segment.resend_at, now)
                self.next_resend = now
        if self.probe_at is not None:
            self.probe_wait_ms = self.probe_pause_ms
            self.probe_at = min(self.probe_at, now)

    def flush(self, now: int, push: Push) -> None:
        """Resend what is due, then send what the window admits, until `push` refuses."""
        if not self._resends_due(now) or self._flush_resends(now, push):
            self._flush_new(now, push)

    def _resends_due(self, now: int) -> bool:
        if not self.in_flight:
            return False
        return self.fast_due or (self.next_resend is not None and now >= self.next_resend)

    def _flush_resends(self, now: int, push: Push) -> bool:
        late, skipped = self.segments_resent_rto, self.segments_resent_fast
        complete = self._resend_all(now, push)
        late, skipped = self.segments_resent_rto - late, self.segments_resent_fast - skipped
        if late or skipped:
            self._shrink_window(late > 0, skipped > 0)
        return complete

    def _resend_all(self, now: int, push: Push) -> bool:
        earliest: int | None = None
        for sn, segment in self._flight.items():
            reason = self._resend_reason(segment, now)
            if reason is not _Resend.NO:
                if not push(sn, segment.frg, segment.payload):
                    return False
                self._resent(segment, reason, now)
            earliest = segment.resend_at if earliest is None else min(earliest, segment.resend_at)
        self.next_resend = earliest
        self.fast_due = False
        return True

    def _resent(self, segment: _Sent, reason: _Resend, now: int) -> None:
        segment.ts = now & MASK32
        segment.skips = 0
        if reason is _Resend.LATE:
            self._back_off(segment)
            self.segments_resent_rto += 1
        else:
            self.segments_resent_fast += 1
        segment.resend_at = now + segment.rto

    def _resend_reason(self, segment: _Sent, now: int) -> _Resend:
        if now >= segment.resend_at:
            return _Resend.LATE
        if self.params.resend <= 0 or segment.skips < self.params.resend:
            return _Resend.NO
        if ((now - segment.ts) & MASK32) < self.srtt_ms // 2:
            segment.skips = 0  # two copies within one srtt already: these skips tell nothing about the second
            return _Resend.NO
        return _Resend.SKIPPED

    def _back_off(self, segment: _Sent) -> None:
        if self.params.nodelay <= 0:
            segment.rto += max(segment.rto, self.rto_ms)
        elif self.params.nodelay == 1:
            segment.rto += segment.rto // 2
        else:
            segment.rto += self.rto_ms // 2
        segment.rto = min(segment.rto, RTO_MAX_MS)

    def _flush_new(self, now: int, push: Push) -> None:
        window = self.window
        first_wait = self.rto_ms + (self.rto_ms >> 3 if self.params.nodelay <= 0 else 0)
        resend_at = now + first_wait
        while self._queue and self.in_flight < window:
            segment = self._queue[0]
            if not push(self.snd_nxt, segment.frg, segment.payload):
                return
            self._queue.popleft()
            if not self.in_flight or self.next_resend is None:
                self.next_resend = resend_at
            self.next_resend = min(self.next_resend, resend_at)
            ts = now & MASK32
            self._flight[self.snd_nxt] = _Sent(segment.frg, segment.payload, ts, ts, self.rto_ms, resend_at)
            self.snd_nxt = add32(self.snd_nxt, 1)
            self.segments_sent += 1
            self.bytes_sent += len(segment.payload)
