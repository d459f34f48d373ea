"""The congestion window that ikcp has, for conversations with nc = False."""

from __future__ import annotations

SSTHRESH_MIN = 2  # IKCP_THRESH_MIN


class CongestionWindow:
    """`segments` may be in flight; `mss` is what a segment holds now."""

    def __init__(self, mss: int) -> None:
        self.segments = 1
        self._ssthresh = SSTHRESH_MIN
        self._incr = mss  # bytes the window stands for
        self._undo_cwnd = 0  # cwnd and ssthresh before the time-out whose answer is awaited
        self._undo_ssthresh = 0

    def grow(self, rmt_wnd: int, mss: int) -> None:
        """New data was acknowledged: slow start up to ssthresh, then about one segment per round trip."""
        if self.segments >= rmt_wnd:
            return
        if self.segments < self._ssthresh:
            self.segments += 1
            self._incr += mss
        else:
            self._incr = max(self._incr, mss)
            self._incr += mss * mss // self._incr + mss // 16
            if (self.segments + 1) * mss <= self._incr:
                self.segments = -(-self._incr // mss)
        if self.segments > rmt_wnd:
            self.segments = rmt_wnd
            self._incr = rmt_wnd * mss

    def after_skips(self, in_flight: int, resend: int, mss: int) -> None:
        """Segments were resent because overtaken: halve what may be in flight."""
        self._ssthresh = max(in_flight // 2, SSTHRESH_MIN)
        self.segments = self._ssthresh + resend
        self._incr = self.segments * mss

    def after_timeout(self, window: int, mss: int) -> None:
        """Segments were resent after a time-out: start again with one segment in flight."""
        self._ssthresh = max(window // 2, SSTHRESH_MIN)
        self.segments = 1
        self._incr = mss

    def remember(self) -> None:
        """A time-out has come that may turn out to have been needless."""
        self._undo_cwnd, self._undo_ssthresh = self.segments, self._ssthresh

    def undo(self, mss: int) -> None:
        """That time-out was needless: nothing was lost."""
        self.segments = max(self.segments, self._undo_cwnd)
        self._ssthresh = max(self._ssthresh, self._undo_ssthresh)
        self._incr = max(self._incr, self.segments * mss)
