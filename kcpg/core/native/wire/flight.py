"""What a link has under way, and who may add to it while a controller limits that; in plain Python."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from kcpg.core.congestion import Totals
from kcpg.core.native.wire.conv import SEGMENT_HEADER_BYTES, SPARSE_SEGMENTS, Conv
from kcpg.core.native.wire.turn import TURN_SEGMENTS
from kcpg.core.pacer import QUANTUM_BYTES, QUANTUM_MS, QUANTUM_RTT

if TYPE_CHECKING:
    from kcpg.core.congestion import CongestionController

# Bursts are for queues that take them. So nothing is saved up before this time without a resend is over,
# twice as long after each time that bursts may have been the reason.
CALM_MS = 500
CALM_MAX_MS = 32_000

# Peers acknowledge in batches. A round is measured when one of the larger ones has just come: another time
# would count one too few or too many. It waits this much for it, more than a peer holds it back.
ROUND_WAIT_MS = 25


class Flight:
    """The unacknowledged segments of a link's conversations, kept below what the controller found.

    The controller limits the sum; a conversation's send window is what is left of it. Whoever finds nothing
    left is capped: it waits in line, and goes on as acknowledgements come.

    Facts: `control` (the controller), `limit_bytes` (the most that may be unacknowledged), `due_ms` (when to
    `measure` is due), `quantum_ms` (for how long data may be saved up).
    """

    def __init__(self, control: CongestionController) -> None:
        self.control = control
        self.limit_bytes = control.flight_bytes
        self.due_ms = 0
        self.quantum_ms = 1
        self._low_rtt_ms = -1  # the shortest since the last round
        self._calm_ms = CALM_MS
        self._calm_at = -1
        self._resent = 0
        self._heard = False  # ... of acknowledgements has come since the last turn
        self._batch_bytes = 0  # of this round: the largest batch ...
        self._totals = Totals()
        self._starved_at = 0  # `acked` up to which the application's rate is measured, not the path's
        self._capped: deque[Conv] = deque()

    @property
    def bytes(self) -> int:
        """Of segments sent and not acknowledged, headers included."""
        return self._totals.sent - self._totals.acked

    def update(self, conv: Conv) -> None:
        """Follow a change of this conversation: its share of the flight, its window, and who may go on."""
        acked = self._tally(conv)
        if acked:
            self._batch_bytes = max(self._batch_bytes, acked)
            self._heard = self._heard or 2 * acked >= self._batch_bytes
            self._release()
        if conv.queued:
            self.admit(conv)

    def admit(self, conv: Conv) -> None:
        """Set the window to what the flight has room for; without room the conversation waits its turn."""
        room, own = self.limit_bytes - self.bytes, (conv.seen.sent - conv.seen.acked) // conv.kcp_mtu
        allowed = room // conv.kcp_mtu + 1 if room > 0 and not conv.is_capped else 0
        least = min(max(self.limit_bytes // conv.kcp_mtu, 1), SPARSE_SEGMENTS)
        if allowed + own < least:
            allowed = least - own
        if allowed == 0 and not conv.is_capped:
            conv.is_capped = True
            self._capped.append(conv)
        conv.set_windows(min(conv.in_flight + allowed, conv.snd_limit), conv.rcv_wnd)

    def leave(self, conv: Conv) -> None:
        """Forget what this conversation has under way: it is over, and nobody will acknowledge it."""
        self._tally(conv)
        total, unacked = self._totals, conv.seen.sent - conv.seen.acked
        self._totals = Totals(total.sent - unacked, total.acked, total.first, total.resent, total.acked_ms)
        self._release()

    def run_dry(self) -> None:
        """Nobody has more to send. Unless somebody is capped, it is the application that is slow."""
        if not self._capped:
            self._starved_at = self._totals.sent

    def take_round(self, now_ms: int) -> bool:
        """Asked once per turn: whether a round is over."""
        heard, self._heard = self._heard, False
        return now_ms >= self.due_ms + (0 if heard else ROUND_WAIT_MS)

    def measure(self, now_ms: int, srtt_ms: int, saves: bool) -> None:
        """Let the controller have one round, and obey it. The pace is up to the caller.

        `saves`: nobody is there for whom data should not be saved up.
        """
        self.control.round(now_ms, self._totals, srtt_ms, self._low_rtt_ms, self._starved_at)
        self._low_rtt_ms = -1
        self.due_ms = self.control.due_ms
        self._batch_bytes = 0
        self.limit_bytes = self.control.flight_bytes
        self._release()
        resent = self._totals.resent
        if resent > self._resent or self._calm_at < 0:
            if self.quantum_ms > 1:
                self._calm_ms = min(2 * self._calm_ms, CALM_MAX_MS)
            self._calm_at = now_ms + self._calm_ms
        self._resent = resent
        rate_bps = self.control.rate_bps
        self.quantum_ms = 1
        if saves and rate_bps and now_ms >= self._calm_at:
            most_ms = min(srtt_ms // QUANTUM_RTT, QUANTUM_MS, QUANTUM_BYTES * 8000 // rate_bps)
            self.quantum_ms = max(most_ms, 1)

    def clear(self) -> None:
        """Forget who waits."""
        self._capped.clear()

    def _tally(self, conv: Conv) -> int:
        """Bring the totals up to date with this conversation; how many bytes were acknowledged."""
        seen, total = conv.seen, self._totals
        resent = conv.segments_resent_fast + conv.segments_resent_rto - conv.resends_spurious
        resent += conv.segments_missing
        sent = conv.bytes_sent + conv.segments_sent * SEGMENT_HEADER_BYTES
        if not conv.in_flight:
            conv.acked_empty = sent - conv.acked_bytes
        conv.seen = now = Totals(sent, conv.acked_bytes + conv.acked_empty, conv.segments_sent, resent)
        self._totals = Totals(
            total.sent + now.sent - seen.sent,
            total.acked + now.acked - seen.acked,
            total.first + now.first - seen.first,
            total.resent + now.resent - seen.resent,
            max(total.acked_ms, conv.acked_ms) if now.acked > seen.acked else total.acked_ms,
        )
        if now.acked > seen.acked and not 0 <= self._low_rtt_ms <= conv.latest_rtt_ms:
            self._low_rtt_ms = conv.latest_rtt_ms
        return now.acked - seen.acked

    def _release(self) -> None:
        """Let those go on that waited longest, as many as the flight has room for."""
        room = self.limit_bytes - self.bytes
        while room > 0 and self._capped:
            conv = self._capped.popleft()
            conv.is_capped = False
            if conv.closed:
                continue
            self.admit(conv)
            room -= min(conv.queued, TURN_SEGMENTS) * conv.kcp_mtu
            if conv.wants_flush:
                conv.link_wire.mark_dirty(conv)
