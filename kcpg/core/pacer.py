"""A token bucket in time: how many bytes may leave now, and when the next ones may."""

from __future__ import annotations

BURST_MS = 2  # What a rest saves up: one turn of a loaded event loop, so that pacing costs no rate

# Time for which data may be saved up and leaves as one burst, which is one turn of the node instead of
# several (docs/adr/0013): a twelfth of a round trip, 4 ms at the most, and of no more than one segmented
# message. It is two thirds of the time from one acknowledgement of a long transfer to the next, so that each
# brings one burst and is followed by one.
QUANTUM_RTT = 12
QUANTUM_MS = 4
QUANTUM_BYTES = 64 * 1400

# The bucket's floor: RFC 6928's initial window, which every network in use takes as one burst.
BURST_DATAGRAMS = 10

MOST_BPS = 10**15  # more than any path; with it no product of a turn comes near 63 bits, which C has

_SCALE = 8000  # Credit is kept in bit-milliseconds, so that integers are exact: 1 byte = 8 bits x 1000 ms/s


class Pacer:
    """The sending budget of one path.

    `rate_bps` bits per second, 0 = no limit. The budget may be overdrawn (acknowledgements are never held
    back); the debt is then paid off before data leaves again.

    `quantum_ms`: what may leave is saved up for this long, unless it is urgent. A turn that is for something
    else takes it along in the second half of that time.
    """

    __slots__ = ("_burst", "_credit", "_last_ms", "_next_ms", "quantum_ms", "rate_bps")

    def __init__(self, rate_bps: int, datagram_bytes: int) -> None:
        self.rate_bps = 0
        self._credit = 0
        self._last_ms: int | None = None
        self._next_ms = 0
        self.change(rate_bps, datagram_bytes)

    def change(self, rate_bps: int, datagram_bytes: int, quantum_ms: int = 1) -> None:
        """Another rate from now on; what was saved up stays, as far as the new bucket holds it."""
        limited, self.rate_bps = self.rate_bps > 0, rate_bps
        self.quantum_ms = quantum_ms
        saved_ms = BURST_MS if quantum_ms == 1 else 2 * quantum_ms + BURST_MS
        self._burst = max(rate_bps * saved_ms, BURST_DATAGRAMS * datagram_bytes * _SCALE)
        self._credit = min(self._credit, self._burst) if limited else self._burst

    def tokens(self, now_ms: int) -> int | None:
        """Bytes that may leave at `now_ms`; negative while in debt, None when nothing is limited."""
        if self.rate_bps == 0:
            return None
        if self._last_ms is not None and now_ms > self._last_ms:
            self._credit = min(self._burst, self._credit + (now_ms - self._last_ms) * self.rate_bps)
        if self._last_ms is None or now_ms > self._last_ms:
            self._last_ms = now_ms
        return self._credit // _SCALE

    def spend(self, sent_bytes: int) -> None:
        """Take `sent_bytes` out of the bucket, into debt if need be."""
        if self.rate_bps:
            self._credit -= sent_bytes * _SCALE

    def save(self) -> None:
        """All that may leave has left: save up for the next quantum."""
        if self.rate_bps and self._last_ms is not None:
            self._next_ms = self._last_ms + self.quantum_ms

    def saves(self, now_ms: int) -> bool:
        """What may leave is saved up now."""
        return now_ms < self._next_ms - self.quantum_ms // 2 and self.rate_bps > 0

    def ready_at(self, need_bytes: int, urgent: bool = True) -> int | None:
        """The first ms at which `need_bytes` may leave, as seen from the last call of `tokens`; None: now."""
        if self.rate_bps == 0 or self._last_ms is None:
            return None
        missing = min(need_bytes * _SCALE, self._burst) - self._credit
        at_ms = self._last_ms + max(0, -(-missing // self.rate_bps))
        return at_ms if urgent else max(at_ms, self._next_ms)
