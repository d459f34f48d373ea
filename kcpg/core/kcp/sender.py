"""Segments in flight: what acknowledgements say of them, time-outs, and what leaves when."""

from __future__ import annotations

from kcpg.core.kcp.cwnd import CongestionWindow
from kcpg.core.kcp.params import DONE, HEADER_BYTES, MORE, REMOTE_WINDOW_START, WINDOW_MAX, KcpParams
from kcpg.core.kcp.recovery import RTO_MAX_MS, Echo, Rack, Rtt, is_later
from kcpg.core.kcp.sendqueue import SendQueue
from kcpg.core.kcp.sent import Mark, Push, Sent
from kcpg.core.units import MASK32, add32, diff32

PROBE_MIN_MS = 30  # no window probe sooner, however short the RTT: the reader needs time to read
PROBE_MAX_MS = 120_000  # IKCP_PROBE_LIMIT
LATE_MS = 2  # a time-out noticed later than this: we were not running, answers lie unread
TIMEOUT_SEGMENTS = 2  # resent by a time-out: the oldest, and one more as the probe may be lost too
THIN_SEGMENTS = 16  # in flight with nothing queued: somebody waits for each, copies cost little;
COPY_MS = 5  # a resend is followed by one, outside the burst that may hit it


class Sender:
    """Segments [snd_una, snd_nxt) are in flight (those acknowledged one by one are gone), then `queue`."""

    def __init__(self, queue: SendQueue, params: KcpParams, initial_sn: int) -> None:
        self.params = params
        self.queue = queue
        self.snd_wnd = params.snd_wnd
        self.snd_una = self.snd_nxt = initial_sn
        self.snd_top = initial_sn  # highest sn ever sent, + 1: snd_nxt, unless some were recalled
        self.rmt_wnd = REMOTE_WINDOW_START
        self.ask = False  # a window-ask is due
        self.probe_at: int | None = None
        self.probe_wait_ms = 0
        self.fast_due = False  # a segment is to be resent
        self.rtt = Rtt(params)
        self.rack = Rack(initial_sn)
        self.cwnd = CongestionWindow(queue.mss)
        self.segments_sent = 0
        self.segments_resent_fast = self.segments_resent_rto = self.segments_resent_tail = 0
        self.resends_spurious = 0  # known to have been needless
        self.bytes_sent = 0
        self.acked_bytes = 0  # segments that carry payload and are known to have arrived, headers included
        self.flight: dict[int, Sent] = {}  # in order of sn
        self._clock = 0  # the last time that input or flush was told
        self._sent_ms = 0  # when a segment was sent for the first time last
        self.acked_ms = -1  # when something was acknowledged last
        self._hold_until = 0  # until when a time-out that was noticed late waits for what may lie unread
        self._tail_probed = False  # since the last acknowledgement
        self._overdue = False  # the time-out was noticed
        self._late = False  # resent after a time-out, and ...
        self._overtaken = False  # ... because overtaken, since the congestion window was last shrunk
        self._timeout_ts: int | None = None  # of the time-out whose answer is awaited

    @property
    def in_flight(self) -> int:
        """Segments from the first unacknowledged one to the last one sent."""
        return (self.snd_nxt - self.snd_una) & MASK32

    @property
    def payloads_held(self) -> int:
        """Segments in flight that are not empty."""
        return sum(1 for segment in self.flight.values() if segment.payload)

    def restart(self) -> None:
        """Nothing of what was sent has reached anybody: it is queued again, and nothing is known."""
        for segment in reversed(self.flight.values()):
            self.queue.put_back(segment.frg, segment.payload)
        queue, params, snd_wnd, hold_ms = self.queue, self.params, self.snd_wnd, self.rtt.ack_hold_ms
        Sender.__init__(self, queue, params, self.snd_una)
        self.snd_wnd, self.rtt.ack_hold_ms = snd_wnd, hold_ms

    def clear(self) -> None:
        """Forget the queue and the flight."""
        self.queue.clear()
        self.queue.share.note_queued(-self.payloads_held)
        self.flight.clear()
        self.snd_nxt = self.snd_top = self.rack.end = self.snd_una
        self.rack.at = None
        self.ask = self.fast_due = False
        self.probe_at = None

    # -- acknowledgements --

    def acknowledge(self, una: int, acks: list[tuple[int, int]], now: int, mapped: list[int]) -> None:
        """What one datagram acknowledged: all before `una`, (sn, ts echoed) one by one, and `mapped`."""
        self._clock = now
        una_before = self.snd_una
        newly: dict[int, int] = {}
        for sn, ts in acks:
            if sn in self.flight:
                newly.setdefault(sn, ts)
        mapped = [sn for sn in mapped if sn in self.flight and sn not in newly]
        self._recalled_in_vain(una)
        if not newly and not mapped and una == una_before:
            return
        echo = Echo()
        for sn, ts in newly.items():
            self._heed_echo(sn, ts, echo)
        self._sample([ts for sn, ts in newly.items() if ts == self.flight[sn].first_ts])
        for sn in newly:
            self._arrived(sn)
        for sn in mapped:
            self._note_needless(self.flight[sn])
            self._arrived(sn)
        if una != una_before:
            self._heed_una(una, echo)
        self._answer_timeout(echo)
        self._progress_to(una, echo)
        if newly and self.params.resend > 0:
            highest = max(newly, key=lambda sn: diff32(sn, una_before))
            self._count_skips(highest, newly[highest])
        self._find_overtaken()
        if self.snd_una != una_before and not self.params.nc:
            self.cwnd.grow(self.rmt_wnd, self.queue.mss)

    def _arrived(self, sn: int) -> None:
        """The segment `sn` is known to have arrived."""
        if (segment := self.flight.pop(sn, None)) and segment.payload:
            self.acked_bytes += HEADER_BYTES + len(segment.payload)
            self.queue.share.note_queued(-1)

    def _sample(self, echoes: list[int]) -> None:
        """Measure the RTT by the newest echo of a first transmission: those of later ones tell less."""
        if echoes:
            self.rtt.sample(min(diff32(self._clock, ts) for ts in echoes), self._clock)

    def _heed_echo(self, sn: int, ts: int, echo: Echo) -> None:
        """The acknowledgement of `sn`, just arrived, names the transmission of time `ts`."""
        segment = self.flight[sn]
        if diff32(ts, segment.first_ts) < 0 or diff32(segment.ts, ts) < 0:
            return
        if ts != segment.ts:
            self.resends_spurious += 1
        elif ts != segment.first_ts:
            self.rack.note_needed()
        self.rack.note_reordering(ts, self.rtt.srtt_ms)
        if self._timeout_ts is not None and diff32(ts, self._timeout_ts) < 0:
            echo.before_timeout = True
        if not echo.found or is_later(ts, sn, echo.ts, echo.sn):
            echo.found = True
            echo.ts, echo.sn = ts, sn
            echo.first = ts == segment.first_ts

    def _heed_una(self, una: int, echo: Echo) -> None:
        """What una adds to the acknowledgements: the first segment it covers, and the last, may lack one."""
        first = self.flight.get(self.snd_una)
        if first is not None:
            if first.ts == first.first_ts:
                self.rack.note_reordering(first.ts, self.rtt.srtt_ms)
            else:
                self._note_needless(first)
        last = self.flight.get(add32(una, -1))
        if last is not None and self._timeout_ts is not None and diff32(last.ts, self._timeout_ts) < 0:
            echo.before_timeout = True

    def _note_needless(self, segment: Sent) -> None:
        """Count the last resend of a segment if its copy cannot have been answered yet."""
        if segment.ts != segment.first_ts and self._age(segment) < self.rtt.srtt_ms // 2:
            self.resends_spurious += 1

    def _answer_timeout(self, echo: Echo) -> None:
        """Something sent before it arrived: the time-out was needless. Something sent by it: it was not."""
        if self._timeout_ts is None:
            return
        if echo.before_timeout:
            self._timeout_ts = None
            if not self.params.nc:
                self.cwnd.undo(self.queue.mss)
        elif echo.found:
            self._timeout_ts = None

    def _progress_to(self, una: int, echo: Echo) -> None:
        """All before `una` has arrived; go on over what was acknowledged one by one."""
        self.acked_ms = self._clock
        self._hold_until = 0
        self._tail_probed = self._overdue = False
        if echo.found:
            self.rack.update(echo, self.snd_nxt, self._clock)
        while self.snd_una != una:
            self._arrived(self.snd_una)
            self.snd_una = add32(self.snd_una, 1)
        while self.snd_una != self.snd_nxt and self.snd_una not in self.flight:
            self.snd_una = add32(self.snd_una, 1)
        self.rack.settle(self.snd_una)
        if self.snd_una == self.snd_nxt:
            self.fast_due = self.rack.known = False
            self._timeout_ts = None

    def _count_skips(self, highest: int, newest_ts: int) -> None:
        """Something sent no earlier than a segment's last copy has arrived: that copy was overtaken."""
        if diff32(highest, self.snd_una) <= 0:
            return
        self.rack.extend(highest)
        for sn, segment in self.flight.items():
            if diff32(sn, highest) >= 0:
                break
            by = diff32(newest_ts, segment.ts)
            if by >= 0:
                segment.skips += 1
            if segment.skips >= self.params.resend and by >= self.rack.reorder_ms:
                self.fast_due = True

    def _find_overtaken(self) -> None:
        """When the oldest overtaken segment is lost. The flush at that time looks again."""
        rack = self.rack
        if self.fast_due or rack.at is not None or rack.end == self.snd_una or not rack.known:
            return
        ages = (diff32(rack.ts, s.ts) for sn, s in self.flight.items() if diff32(sn, rack.end) < 0)
        if (age := max(ages, default=-1)) < 0:
            return
        wait = diff32((rack.ts - age + self._overtaken_wait) & MASK32, self._clock & MASK32)
        if wait <= 0:
            self.fast_due = True
        else:
            rack.at = self._clock + wait

    @property
    def _overtaken_wait(self) -> int:
        """From its transmission until an overtaken segment is lost. resend = 0 leaves it to the RTO."""
        wait_ms = self.rack.rtt_ms + self.rack.window_ms(self.rtt.srtt_ms)
        return wait_ms if self.params.resend > 0 else self.rtt.rto_ms

    # -- what the peer had no room for --

    def recall(self, edge: int) -> None:
        """The peer tells a window that ends at `edge`: what was sent beyond, and has not arrived, is neither
        lost nor in flight. It is the next to be sent once the window admits it."""
        if self.queue.mark_first or diff32(self.snd_nxt, edge) <= 0:
            return  # an unordered receiver tells less than it takes
        while self.snd_nxt != edge and (last := add32(self.snd_nxt, -1)) in self.flight:
            segment = self.flight.pop(last)
            self.snd_nxt = last
            self.queue.put_back(segment.frg, segment.payload)
            self.segments_sent -= 1
            self.bytes_sent -= len(segment.payload)
        if diff32(self.rack.end, self.snd_nxt) > 0:
            self.rack.end = self.snd_nxt
        if self.snd_una == self.snd_nxt:
            self.fast_due = self.rack.known = self._overdue = False
            self.rack.at = self._timeout_ts = None
            self._hold_until = 0

    def _recalled_in_vain(self, una: int) -> None:
        """What was recalled has arrived after all, up to `una`."""
        while diff32(una, self.snd_nxt) > 0:
            self._note_sent(self._clock)

    # -- window --

    @property
    def window(self) -> int:
        """Segments that may be in flight."""
        window = min(self.snd_wnd, self.rmt_wnd)
        return window if self.params.nc else min(window, self.cwnd.segments)

    def set_window(self, snd_wnd: int) -> None:
        self.snd_wnd = min(max(snd_wnd, 1), WINDOW_MAX)

    # -- window probes --

    @property
    def _shut_out(self) -> bool:
        """Only the peer's window keeps the queue waiting, and nothing in flight could bring news of it."""
        return self.rmt_wnd == 0 and bool(self.queue) and not self.in_flight

    @property
    def probe_pause_ms(self) -> int:
        return max(self.rtt.rto_ms, PROBE_MIN_MS)

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

    # -- time-outs --

    def _age(self, segment: Sent) -> int:
        """Milliseconds since its last transmission."""
        return (self._clock - segment.ts) & MASK32

    def _rto_of(self, segment: Sent) -> int:
        """A segment's own RTO; before its first time-out the conversation's, as known by now."""
        rto_ms = self.rtt.rto_ms
        if not segment.rto:
            return rto_ms + (rto_ms >> 3 if self.params.nodelay <= 0 else 0)
        return max(segment.rto, rto_ms)

    def _timeout_at(self, segment: Sent, wait: int) -> int:
        """`wait` after the oldest segment left, and not while acknowledgements come in."""
        at = self._clock - self._age(segment) + wait
        if self.acked_ms >= 0:
            at = max(at, self.acked_ms + self.rack.window_ms(self.rtt.srtt_ms))
        return at

    def _tail_at(self, oldest: Sent) -> int | None:
        """When the oldest segment is sent again ahead of its time-out, once; None: not at all.

        Whatever new was sent in the meantime asks for an answer as well.
        """
        srtt_ms = self.rtt.srtt_ms
        if not srtt_ms or self._tail_probed or oldest.rto:
            return None
        wait = srtt_ms + max(srtt_ms, self.rtt.margin_ms)
        return max(self._timeout_at(oldest, wait), self._sent_ms + wait)

    @property
    def _timer(self) -> int:
        """The next time-out or tail probe; something is in flight."""
        oldest = self.flight[self.snd_una]
        at = self._timeout_at(oldest, self._rto_of(oldest))
        tail = self._tail_at(oldest)
        return max(at if tail is None else min(at, tail), self._hold_until)

    def _time_out(self) -> None:
        """Mark what a time-out that has come resends: the oldest segments, not the window, as no loss is
        known yet. Noticed late it waits once more, for as long as it was late: answers may lie unread.
        """
        now, at = self._clock, self._timer
        if now < at:
            return
        if not self._overdue:
            self._overdue = True
            if now - at > LATE_MS:
                self._hold_until = now + min(now - at, self.rtt.rto_ms)
                return
        sn = self.snd_una
        oldest = self.flight[sn]
        if self._timeout_at(oldest, self._rto_of(oldest)) > now:
            oldest.mark = max(oldest.mark, Mark.TAIL)
            sn = add32(sn, 1)
        else:
            sn = self._mark_late(sn)
            if self._timeout_ts is None:
                self._timeout_ts = now & MASK32
                self.cwnd.remember()
        self.rack.extend(sn)
        self.fast_due = True

    def _mark_late(self, sn: int) -> int:
        """Mark the oldest segments, from `sn` on, for a resend; the first sn that is not marked."""
        for j in range(TIMEOUT_SEGMENTS):
            segment = self.flight.get(sn)
            if segment is None or (j and self._age(segment) < self._rto_of(segment)):
                break
            segment.mark = Mark.LATE
            sn = add32(sn, 1)
        return sn

    def _back_off(self, segment: Sent) -> None:
        """Lengthen a segment's RTO after a time-out, as `nodelay` says."""
        rto_ms = self.rtt.rto_ms
        rto = max(segment.rto, rto_ms)
        more = rto if self.params.nodelay <= 0 else rto // 2 if self.params.nodelay == 1 else rto_ms // 2
        segment.rto = min(rto + more, RTO_MAX_MS)

    def hurry(self, now: int) -> None:
        """Undo the back-off of resends and probes; resend what was sent longer ago than a first wait."""
        self._clock = now
        rto_ms = self.rtt.rto_ms
        oldest = self.flight.get(self.snd_una)
        if oldest is not None and oldest.rto > rto_ms:
            for segment in self.flight.values():
                segment.rto = 0
                if self._age(segment) >= rto_ms:
                    segment.mark = Mark.LATE
                    self.rack.end = self.snd_nxt
                    self.rack.at = self._hold_until = now
        if self.probe_at is not None:
            self.probe_wait_ms = self.probe_pause_ms
            self.probe_at = min(self.probe_at, now)

    # -- flush --

    @property
    def wants_flush(self) -> bool:
        """A segment or a probe could be sent right now."""
        if self.fast_due or self.ask:
            return True
        if not self.queue:
            return False
        # a closed window with nothing on its way that could bring news: flush() starts the probe's clock
        return self.in_flight < self.window or (self._shut_out and self.probe_at is None)

    @property
    def deadline(self) -> int | None:
        """When flush() must be called even if nothing else happens; None: nothing is outstanding."""
        times = [self.probe_at]
        if self.in_flight:
            times += [self._timer, self.rack.at]
        return min((at for at in times if at is not None), default=None)

    def flush(self, now: int, push: Push) -> int:
        """Resend what is due, then send what the window admits, until `push` refuses; what it said last."""
        self._clock = now
        if self.in_flight:
            self._time_out()
            late = self.rack.at is not None and now >= self.rack.at
            if self.fast_due or late:
                answer = self._flush_resends(push)
                if answer != MORE:
                    self._shrink_window()
                if answer != DONE:
                    return answer
        return self._flush_new(now, push)

    def _shrink_window(self) -> None:
        """The answer to losses, once for all resends of a flush."""
        window = self.window
        if self._overtaken:
            self.cwnd.after_skips(self.in_flight, self.params.resend, self.queue.mss)
        if self._late:
            self.cwnd.after_timeout(window, self.queue.mss)
        self._late = self._overtaken = False

    def _flush_resends(self, push: Push) -> int:
        """Every segment that is marked or lost, in order of sn."""
        earliest: int | None = None
        for sn, segment in self.flight.items():
            if diff32(sn, self.rack.end) >= 0:
                break
            wait = self._wait_until_lost(sn, segment)
            lost = wait == 0
            if segment.copy:
                wait = min(COPY_MS if wait is None else wait, COPY_MS - self._age(segment))
            if segment.mark or (wait is not None and wait <= 0):
                if answer := push(sn, segment.frg, segment.payload):
                    return answer
                wait = self._resent(segment, lost)
            if wait is not None:
                earliest = self._clock + wait if earliest is None else min(earliest, self._clock + wait)
        self.rack.at = earliest
        self.fast_due = False
        return DONE

    def _wait_until_lost(self, sn: int, segment: Sent) -> int | None:
        """Until an overtaken segment counts as lost, 0 if it does; None: it was not overtaken."""
        rack = self.rack
        if not rack.known or not is_later(rack.ts, rack.sn, segment.ts, sn):
            return None
        if self.params.resend <= 0:
            return max(self._rto_of(segment) - self._age(segment), 0)
        wait = self._overtaken_wait - self._age(segment)
        if wait <= 0:
            return 0
        if segment.skips < self.params.resend:
            return wait
        if self._age(segment) < self.rtt.srtt_ms // 2:
            segment.skips = 0  # two copies within one srtt: these skips tell nothing about the second
            return wait
        return 0 if diff32(rack.ts, segment.ts) >= rack.reorder_ms else wait

    def _resent(self, segment: Sent, lost: bool) -> int | None:
        """Count a resend and why it was made; answers when a copy is to follow."""
        segment.ts = self._clock & MASK32
        segment.skips = 0
        segment.copy = False
        mark, segment.mark = segment.mark, Mark.NONE
        if mark:
            self._overdue = False
            self._hold_until = 0
        if mark is Mark.LATE or (lost and not mark and self.params.resend <= 0):
            self._back_off(segment)
            self.segments_resent_rto += 1
            self._late = True
        elif mark:
            self._tail_probed = True
            self.segments_resent_tail += 1
        else:
            self.segments_resent_fast += 1
            self._overtaken |= lost
            segment.copy = lost and not self.queue and self.in_flight <= THIN_SEGMENTS
        return COPY_MS if segment.copy else None

    def _flush_new(self, now: int, push: Push) -> int:
        """Send queued segments while the window admits more."""
        window = self.window
        while self.queue and self.in_flight < window:
            segment = self.queue.first
            if answer := push(self.snd_nxt, segment.frg, segment.payload):
                return answer
            self._sent_ms = now
            self._note_sent(now)
            if diff32(self.snd_nxt, self.snd_top) > 0:
                self.snd_top = self.snd_nxt
        return DONE

    def _note_sent(self, now: int) -> None:
        """The first segment of the queue is in flight."""
        segment, ts = self.queue.first, now & MASK32
        self.queue.pop_first()
        self.flight[self.snd_nxt] = Sent(segment.frg, segment.payload, ts, ts)
        self.snd_nxt = add32(self.snd_nxt, 1)
        self.segments_sent += 1
        self.bytes_sent += len(segment.payload)
