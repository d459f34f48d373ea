"""Round-trip times, and which transmissions have arrived for certain: how a sender knows what was lost.

The ts that an acknowledgement echoes names the very transmission that arrived. As in RACK (RFC 8985), what
was sent before that one is lost once it is overdue by a reordering window; a time-out only sends a probe,
and the answer tells what else is missing, or that nothing was (F-RTO, RFC 5682).
"""

from __future__ import annotations

from dataclasses import dataclass

from kcpg.core.kcp.params import KcpParams
from kcpg.core.kcp.sent import Sent
from kcpg.core.units import MASK32, diff32

RTO_START_MS = 200  # IKCP_RTO_DEF
RTO_MAX_MS = 60_000  # IKCP_RTO_MAX
RTO_MARGIN_MS = 5  # between srtt and RTO at least: ticks of both clocks and a batch at the peer
REORDER_MIN_MS = 3  # reordering window: some ticks of a millisecond clock; else srtt / 4 (RFC 8985)


@dataclass(slots=True)
class Echo:
    """What the acknowledgements of one datagram say: the latest transmission that arrived, `ts` and `sn`."""

    found: bool = False
    ts: int = 0
    sn: int = 0
    first: bool = False  # it was a first transmission
    before_timeout: bool = False  # something sent before the time-out arrived


def is_later(ts: int, sn: int, than_ts: int, than_sn: int) -> bool:
    """Of two transmissions; within one millisecond they leave in order of sn."""
    by = diff32(ts, than_ts)
    return by > 0 or (by == 0 and diff32(sn, than_sn) > 0)


class Rtt:
    """Smoothed round-trip time, its variation, and the RTO of a segment sent for the first time."""

    def __init__(self, params: KcpParams) -> None:
        self.params = params
        self.srtt_ms = 0
        self.rttvar_ms = 0
        self.rto_ms = RTO_START_MS
        self.ack_hold_ms = 0  # how long the peer may hold an acknowledgement back
        self._srtt8 = 0  # both in eighths of a millisecond; 0: nothing measured
        self._rttvar8 = 0
        self._rttvar_shrinks_at = 0

    def expect(self, rtt_ms: int) -> None:
        """Until there is a sample the RTO goes by this round trip, which is known from elsewhere."""
        if not self._srtt8:
            self.rto_ms = min(
                max(2 * rtt_ms + RTO_MARGIN_MS + self.ack_hold_ms, self.params.min_rto_ms), RTO_MAX_MS
            )

    def sample(self, rtt: int, now: int) -> None:
        """Smooth one round-trip time (RFC 6298) and derive the RTO.

        In eighths of a millisecond: with KCP's whole ones srtt, and so the RTO, stays up to 7 ms below a
        short RTT. The variation shrinks once per round trip, not per sample: the many samples of one datagram
        would make it forget.
        """
        if not 0 <= rtt <= RTO_MAX_MS:
            return
        rtt8 = 8 * max(rtt, 1)
        if not self._srtt8:
            self._srtt8 = rtt8
            self._rttvar8 = rtt8 // 2
            self._rttvar_shrinks_at = now + rtt
        else:
            delta8 = abs(rtt8 - self._srtt8)
            if delta8 > self._rttvar8 or now >= self._rttvar_shrinks_at:
                self._rttvar8 = (3 * self._rttvar8 + delta8) // 4
                self._rttvar_shrinks_at = now + self.srtt_ms
            self._srtt8 = (7 * self._srtt8 + rtt8 + 3) // 8
        self.srtt_ms = (self._srtt8 + 4) // 8
        self.rttvar_ms = (self._rttvar8 + 4) // 8
        spread = max(self.params.interval_ms, self._rttvar8 // 2, self.srtt_ms // 4, self.margin_ms)
        self.rto_ms = min(max(self.srtt_ms + spread, self.params.min_rto_ms), RTO_MAX_MS)

    @property
    def margin_ms(self) -> int:
        """Between srtt and RTO at least: samples may know nothing of acknowledgements held back."""
        return RTO_MARGIN_MS + self.ack_hold_ms


class Rack:
    """The latest transmission known to have arrived; what was sent before it was overtaken by it."""

    def __init__(self, initial_sn: int) -> None:
        self.known = False
        self.ts = 0
        self.sn = 0
        self.rtt_ms = 0
        self.end = initial_sn  # no segment at or beyond it was overtaken
        self.at: int | None = None  # when an overtaken segment counts as lost
        self.reorder_ms = 0  # by how much segments were seen to be overtaken

    def note_reordering(self, ts: int, srtt_ms: int) -> None:
        """The transmission of time `ts` arrived after a later one: wait longer for the next."""
        if self.known and diff32(self.ts, ts) > 0:
            self.reorder_ms = max(self.reorder_ms, min(diff32(self.ts, ts) + 1, srtt_ms))

    def note_needed(self) -> None:
        """A resend arrived that nothing made needless: the reordering window may shrink."""
        self.reorder_ms -= (self.reorder_ms + 15) // 16

    def window_ms(self, srtt_ms: int) -> int:
        """How many milliseconds a segment may be overtaken by without being lost."""
        window = max(srtt_ms // 4, self.reorder_ms, REORDER_MIN_MS)
        return min(window, max(srtt_ms, REORDER_MIN_MS))

    def update(self, echo: Echo, snd_nxt: int, now: int) -> None:
        """Something arrived: remember the latest transmission, and what it may have overtaken."""
        if not self.known or is_later(echo.ts, echo.sn, self.ts, self.sn):
            self.known = True
            self.ts, self.sn = echo.ts, echo.sn
            self.rtt_ms = (now - echo.ts) & MASK32
        # first transmissions leave in order of sn; a copy may have overtaken all that was sent before it
        self.extend(echo.sn if echo.first else snd_nxt)

    def extend(self, end: int) -> None:
        """Segments before `end` may have been overtaken."""
        if diff32(end, self.end) > 0:
            self.end = end

    def missing(self, flight: dict[int, Sent], srtt_ms: int) -> int:
        """Segments in flight of which the last copy was overtaken by more than a reordering window: lost, by
        all that is known."""
        window, found = self.window_ms(srtt_ms), 0
        for sn, segment in flight.items() if self.known else ():
            if diff32(sn, self.end) >= 0:
                break
            found += diff32(self.ts, segment.ts) >= window
        return found

    def settle(self, snd_una: int) -> None:
        """Nothing before `snd_una` is of interest any more."""
        if diff32(snd_una, self.end) >= 0:
            self.end = snd_una
            self.at = None
