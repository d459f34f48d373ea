"""A greenlet that waits for one file descriptor or to be woken; what a socket's reader and writer are made
of.

It is a raw greenlet (6 kB a parked pair; gevent's own class takes 15 kB), its watcher is kept from one wait
to the next, so that waiting costs no system call. `run` must not let an exception out: there is nobody to
take it but the hub, which prints it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
from gevent.hub import RawGreenlet

READ = 1  # libev's event bits
WRITE = 2


class Task:
    """Runs `run` in a greenlet of its own, at the earliest when `wake` is called.

    `wait` and `wait_io` may only be called from inside `run`. Either may return without a reason, so callers
    look again.
    """

    __slots__ = ("_armed", "_due", "_events", "_fd", "_greenlet", "_watcher", "waits_io")

    def __init__(self, run: Callable[[], None], fd: int, events: int) -> None:
        self._greenlet = RawGreenlet(run, gevent.get_hub())
        self._fd = fd
        self._events = events
        self._watcher: Any = None
        self._armed = False
        self._due = False
        self.waits_io = False
        """Parked in `wait_io`: it will look at everything when the file descriptor is ready."""

    @property
    def is_current(self) -> bool:
        """Whether this is asked from inside `run`."""
        return gevent.getcurrent() is self._greenlet

    def wake(self) -> None:
        """Let it run soon, once however often this is called. Callable from anywhere."""
        if not self._due:
            self._due = True
            gevent.get_hub().loop.run_callback(self._resume)

    def wait(self) -> None:
        """Park until `wake`."""
        if self._armed:
            self._watcher.stop()
            self._armed = False
        gevent.get_hub().switch()

    def wait_io(self) -> None:
        """Park until the file descriptor is ready, or `wake`."""
        hub = gevent.get_hub()
        if not self._armed:
            if self._watcher is None:
                self._watcher = hub.loop.io(self._fd, self._events)
            self._watcher.start(self._greenlet.switch)
            self._armed = True
        self.waits_io = True
        hub.switch()
        self.waits_io = False

    def alarm(self, after_ms: int) -> Any:
        """`wake` once, that much later; `close()` the result in any case."""
        timer = gevent.get_hub().loop.timer(max(after_ms, 0) / 1000)
        timer.start(self.wake)
        return timer

    def close(self) -> None:
        """Let go of the file descriptor: call before closing it. A parked greenlet must be woken to end."""
        watcher, self._watcher = self._watcher, None
        self._armed = False
        if watcher is not None:
            watcher.stop()
            watcher.close()

    def _resume(self) -> None:
        self._due = False
        self._greenlet.switch()  # a finished greenlet takes this as nothing
