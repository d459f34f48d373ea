"""Tells the two meanings of SIGHUP apart: the terminal has closed, or reread the configuration."""

from __future__ import annotations

import os
import signal


class Terminal:
    """Whether this process started in a terminal that it should not outlive."""

    def __init__(self) -> None:
        """To be called before a handler for SIGHUP is set: if it is ignored, nohup(1) did that."""
        self._ours = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and _controlling()

    def is_gone(self) -> bool:
        """Whether the terminal has closed, so that SIGHUP means: end."""
        return self._ours and not _controlling()


def _controlling() -> bool:
    """Whether this process has a controlling terminal now (tty(4): without one, /dev/tty cannot be
    opened)."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
