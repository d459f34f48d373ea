"""What SIGHUP means: the terminal is gone, or somebody wants the configuration read again."""

from __future__ import annotations

import os
import signal


class Terminal:
    """Remembers whether this process was started in a terminal that it should not outlive."""

    def __init__(self) -> None:
        """Call before a handler for SIGHUP is set: one that is ignored was set so by nohup(1)."""
        self._ours = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and _controlling()

    def is_gone(self) -> bool:
        """Whether SIGHUP came because the terminal was closed, and so means: end."""
        return self._ours and not _controlling()


def _controlling() -> bool:
    """Whether this process has a controlling terminal now (tty(4): opening /dev/tty fails without one)."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
