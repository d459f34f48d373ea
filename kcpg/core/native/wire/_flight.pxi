"""What a link has under way, and who may add to it; see flight.py. Included by _wire.pyx."""
from kcpg.core.congestion import Totals


cdef class Flight:
    """The unacknowledged segments of a link's conversations, kept below what the controller found."""

    def __init__(self, control):
        self.control = control
        self.limit_bytes = control.flight_bytes
        self.capped = deque()
        self.low_rtt_ms = -1
        self.quantum_ms = 1
        self.calm_ms = CALM_MS
        self.calm_at = -1

    @property
    def bytes(self):
        """Of segments sent and not acknowledged, headers included."""
        return self.totals.sent - self.totals.acked

    cdef int update(self, Conv conv) except -1:
        """Follow a change of this conversation: its share of the flight, its window, and who may go on."""
        cdef int64_t acked = self.tally(conv)
        if acked > 0:
            self.batch_bytes = max(self.batch_bytes, acked)
            self.heard = self.heard or 2 * acked >= self.batch_bytes
            self.release()
        if kcp_queued(&conv.k) > 0:
            self.admit(conv)

    cdef int admit(self, Conv conv) except -1:
        """Set the window to what the flight has room for; without room the conversation waits its turn."""
        cdef kcp_t* k = &conv.k
        cdef int64_t segment = k.mss + KCP_HEADER_BYTES
        cdef int64_t room = self.limit_bytes - (self.totals.sent - self.totals.acked)
        cdef int64_t own = (conv.seen.sent - conv.seen.acked) // segment
        cdef int64_t least
        cdef int64_t allowed = room // segment + 1 if room > 0 and not conv.is_capped else 0
        least = min(max(self.limit_bytes // segment, <int64_t>1), <int64_t>SPARSE_SEGMENTS)
        if allowed + own < least:
            allowed = least - own
        if allowed == 0 and not conv.is_capped:
            conv.is_capped = True
            self.capped.append(conv)
        allowed += kcp_in_flight(k)
        k.snd_wnd = <uint32_t>allowed if allowed < conv.snd_limit else conv.snd_limit

    cdef int leave(self, Conv conv) except -1:
        """Forget what this conversation has under way: it is over, and nobody will acknowledge it."""
        self.tally(conv)
        self.totals.sent -= conv.seen.sent - conv.seen.acked
        self.release()

    cdef int run_dry(self) except -1:
        """Nobody has more to send. Unless somebody is capped, it is the application that is slow."""
        if not self.capped:
            self.starved_at = self.totals.sent

    cdef bint take_round(self, int64_t now_ms) noexcept:
        """Asked once per turn: whether a round is over."""
        cdef bint heard = self.heard
        self.heard = False
        return now_ms >= self.due_ms + (0 if heard else ROUND_WAIT_MS)

    cdef int measure(self, int64_t now_ms, int srtt_ms, bint saves) except -1:
        """Let the controller have one round, and obey it; see flight.py. The pace is up to the caller."""
        cdef totals_t* totals = &self.totals
        cdef int64_t rate_bps
        self.control.round(
            now_ms, Totals(totals.sent, totals.acked, totals.first, totals.resent, totals.acked_ms), srtt_ms,
            self.low_rtt_ms, self.starved_at)
        self.low_rtt_ms = -1
        self.due_ms = self.control.due_ms
        self.batch_bytes = 0
        self.limit_bytes = self.control.flight_bytes
        self.release()
        if totals.resent > self.resent or self.calm_at < 0:
            if self.quantum_ms > 1:
                self.calm_ms = min(2 * self.calm_ms, <int64_t>CALM_MAX_MS)
            self.calm_at = now_ms + self.calm_ms
        self.resent = totals.resent
        rate_bps = self.control.rate_bps
        self.quantum_ms = 1
        if saves and rate_bps > 0 and now_ms >= self.calm_at and srtt_ms > 0:
            self.quantum_ms = min(<int64_t>(srtt_ms // QUANTUM_RTT), <int64_t>QUANTUM_MS)
            self.quantum_ms = max(min(self.quantum_ms, <int64_t>QUANTUM_BYTES * 8000 // rate_bps), <int64_t>1)
        return 0

    cdef int clear(self) except -1:
        """Forget who waits."""
        self.capped.clear()

    cdef int64_t tally(self, Conv conv) noexcept:
        """Bring the totals up to date with this conversation; how many bytes were acknowledged."""
        cdef kcp_t* k = &conv.k
        cdef totals_t seen = conv.seen
        cdef totals_t* now = &conv.seen
        now.sent = <int64_t>(k.bytes_sent + k.segments_sent * KCP_HEADER_BYTES)
        if kcp_in_flight(k) == 0:
            conv.acked_empty = now.sent - <int64_t>k.acked_bytes
        now.acked = <int64_t>k.acked_bytes + conv.acked_empty
        now.first = <int64_t>k.segments_sent
        now.resent = <int64_t>(k.segments_resent_fast + k.segments_resent_rto - k.resends_spurious)
        now.resent += kcp_missing(k)
        self.totals.sent += now.sent - seen.sent
        self.totals.acked += now.acked - seen.acked
        self.totals.first += now.first - seen.first
        self.totals.resent += now.resent - seen.resent
        if now.acked > seen.acked:
            self.totals.acked_ms = max(self.totals.acked_ms, k.acked_ms)
            if self.low_rtt_ms < 0 or <int64_t>k.rack_rtt_ms < self.low_rtt_ms:
                self.low_rtt_ms = k.rack_rtt_ms
        return now.acked - seen.acked

    cdef int release(self) except -1:
        """Let those go on that waited longest, as many as the flight has room for."""
        cdef int64_t room = self.limit_bytes - (self.totals.sent - self.totals.acked)
        cdef Conv conv
        cdef uint32_t wanted
        while room > 0 and self.capped:
            conv = self.capped.popleft()
            conv.is_capped = False
            if conv.closed:
                continue
            self.admit(conv)
            wanted = min(kcp_queued(&conv.k), <uint32_t>TURN_SEGMENTS)
            room -= <int64_t>wanted * (conv.k.mss + KCP_HEADER_BYTES)
            if kcp_wants_flush(&conv.k):
                conv.link_wire.mark_dirty(conv)
