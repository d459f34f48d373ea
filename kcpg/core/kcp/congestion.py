"""The congestion window that ikcp has, for conversations with nc = False."""

from __future__ import annotations

SSTHRESH_MIN = 2  # IKCP_THRESH_MIN


class Congestion:
    """`cwnd` segments may be in flight; `mss` is what a segment holds now."""

    def __init__(self, mss: int) -> None:
        self.cwnd = 1
        self._ssthresh = SSTHRESH_MIN
        self._incr = mss  # bytes the window stands for
        self._before = (0, 0)  # cwnd and ssthresh at the time-out whose answer is awaited

    def grow(self, rmt_wnd: int, mss: int) -> None:
        """New data was acknowledged."""
        if self.cwnd >= rmt_wnd:
            return
        if self.cwnd < self._ssthresh:
            self.cwnd += 1
            self._incr += mss
        else:
            self._incr = max(self._incr, mss)
            self._incr += mss * mss // self._incr + mss // 16
            if (self.cwnd + 1) * mss <= self._incr:
                self.cwnd = -(-self._incr // mss)
        if self.cwnd > rmt_wnd:
            self.cwnd = rmt_wnd
            self._incr = rmt_wnd * mss

    def after_skips(self, in_flight: int, resend: int, mss: int) -> None:
        """Segments were resent as lost."""
        self._ssthresh = max(in_flight // 2, SSTHRESH_MIN)
        self.cwnd = self._ssthresh + resend
        self._incr = self.cwnd * mss

    def after_timeout(self, window: int, mss: int) -> None:
        """Segments were resent after a time-out."""
        self._ssthresh = max(window // 2, SSTHRESH_MIN)
        self.cwnd = 1
        self._incr = mss

    def remember(self) -> None:
        """A time-out has come that may turn out to have been too early."""
        self._before = (self.cwnd, self._ssthresh)

    def undo(self, mss: int) -> None:
        """It has: nothing was lost."""
        self.cwnd = max(self.cwnd, self._before[0])
        self._ssthresh = max(self._ssthresh, self._before[1])
        self._incr = max(self._incr, self.cwnd * mss)
