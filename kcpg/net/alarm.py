"""One time at which something is called, as a file descriptor of the kernel's (timerfd_create(2)).

A timer of the event loop is the time-out of every wait of the loop: the kernel programs its clock when a node
falls asleep and again when a datagram wakes it, which on a virtual machine takes longer than receiving that
datagram. This one stays as it was set, however often the loop waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent

from kcpg import engine
from kcpg.net import READ
from kcpg.net.clock import NEVER_MS

_sock = engine.module("kcpg.net.sock")


class Alarm:
    """Calls `ring` once at the time that was set last, by `kcpg.net.clock.now_ms`."""

    __slots__ = ("_ring", "_then", "_watcher", "at_ms", "fd")

    def __init__(self, ring: Callable[[], None], then: Callable[[], None] | None = None) -> None:
        """`then` is called after `ring` where it was the event loop that saw the time come."""
        self._ring = ring
        self._then = then
        self.fd = _sock.timer()
        self._watcher: Any = gevent.get_hub().loop.io(self.fd, READ)
        self._watcher.start(self._rang)
        self.at_ms = NEVER_MS  # when it rings; NEVER_MS: it is not set

    def set(self, at_ms: int) -> None:
        """Ring then, and no more at the time set before. A time that is over is the loop's next turn, after
        it has looked at the sockets."""
        _sock.set_timer(self.fd, at_ms)
        self.at_ms = at_ms

    def close(self) -> None:
        """Never ring, and let go of the file descriptor. Idempotent."""
        watcher, self._watcher = self._watcher, None
        self.at_ms = NEVER_MS
        if watcher is not None:
            watcher.stop()
            watcher.close()
            _sock.close(self.fd)

    def _rang(self) -> None:
        self.ring()
        if self._then is not None:
            self._then()

    def ring(self) -> None:
        """The time has come, as whoever waits for the descriptor has seen."""
        self.at_ms = NEVER_MS
        try:
            self._ring()
        finally:
            if self.at_ms == NEVER_MS and self._watcher is not None:
                _sock.set_timer(self.fd, NEVER_MS)
