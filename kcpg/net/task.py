"""What waits for one file descriptor, or to be woken: what a socket's reader and writer are made of.

A turn runs in a greenlet that it has while it runs: it is taken from a pool when the event loop has something
for the task, and goes back when the turn returns. A turn that blocks holds up its own task and nothing else.
A greenlet of its own for as long as a socket exists would cost an idle flow 8 kB, and a short flow a stack to
map, touch and unmap (docs/adr/0005). What takes a few system calls that cannot block, and is most of what
happens, needs none: a task may do that first, in the event loop's own greenlet (`first`). No exception may
leave a turn: there is nobody to take it but the hub, which prints it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
from gevent.hub import RawGreenlet

from kcpg.net.inlinepoll import Served, inline_poll

POOL = 64  # idle greenlets that are kept: more run at once only where turns block


class Task(Served):
    """Runs `turn` when it is woken, and when the file descriptor is ready while it waits for that.

    A turn says before it returns what it waits for: `wait` or `wait_io`. It may be called without a reason,
    so it looks at everything again. The watcher is kept from one wait to the next: waiting costs no system
    call.

    `first` is asked before a turn when the file descriptor is ready: True says that nothing is left for the
    turn, and the task goes on waiting for the file descriptor.
    """

    __slots__ = (
        "_again",
        "_armed",
        "_due",
        "_events",
        "_first",
        "_inline",
        "_loop",
        "_running",
        "_timer",
        "_turn",
        "_watcher",
        "waits_io",
    )

    def __init__(
        self, turn: Callable[[], None], fd: int, events: int, first: Callable[[], bool] | None = None
    ) -> None:
        self._turn: Callable[[], None] | None = turn
        self._first = first
        self.fd = fd
        self._events = events
        self._loop = gevent.get_hub().loop
        self._inline = inline_poll(self._loop)
        self._watcher: Any = None
        self._timer: Any = None
        self._armed = False
        self._due = False
        self._running = False
        self._again = False
        self.waits_io = False  # the turn will look at everything when the file descriptor is ready

    def wake(self) -> None:
        """Run the turn soon, once however often this is called. Callable from anywhere."""
        if not self._due and self._turn is not None:
            self._due = True
            self._loop.run_callback(self._resume)

    def wait(self, at_most_ms: int | None = None) -> None:
        """The next turn is for `wake`, or after this time."""
        self._disarm()
        self.waits_io = False
        self._set_timer(at_most_ms)

    def wait_io(self, at_most_ms: int | None = None) -> None:
        """The next turn is when the file descriptor is ready, for `wake`, or after this time."""
        if self._turn is None:
            return
        if not self._armed:
            if self._watcher is None:
                self._watcher = self._loop.io(self.fd, self._events)
            self._watcher.start(self._ready)
            self._armed = True
            if self._first is not None:
                self._inline.watch(self)
            else:
                self._inline.exit()
        self.waits_io = True
        if at_most_ms is not None or self._timer is not None:
            self._set_timer(at_most_ms)

    def close(self) -> None:
        """No further turn; lets go of the file descriptor, so call it before closing that."""
        self._disarm()
        watcher, self._watcher = self._watcher, None
        self.waits_io = False
        self._turn = self._first = None
        if watcher is not None:
            watcher.close()
        self._set_timer(None)

    def _set_timer(self, after_ms: int | None) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.stop()
            timer.close()
        if after_ms is not None and self._turn is not None:
            self._inline.exit()
            self._loop.update_now()
            self._timer = self._loop.timer(max(after_ms, 0) / 1000)
            self._timer.start(self.wake)

    def _resume(self) -> None:
        self._due = False
        self._begin()

    def _ready(self) -> None:
        """Called by the event loop, in the hub: the file descriptor is ready."""
        if self.serve_inline():
            self._inline.enter()

    def serve_inline(self) -> bool:
        """True: nothing is left to do. False: the turn was begun."""
        if self._first is not None and not self._running and self._first():
            return True
        self._begin()
        return False

    def _begin(self) -> None:
        if self._running:  # and blocks: the next turn is when this one is over
            self._again = True
            self._disarm()
        elif self._turn is not None:
            greenlet = _pool.pop() if _pool else RawGreenlet(_serve, gevent.get_hub())
            greenlet.switch(self)

    def _run(self) -> None:
        global _turns
        if self._turn is None:
            return
        _turns += 1
        self._running = True
        self.waits_io = False
        self._turn()
        self._running = False
        if self._again:
            self._again = False
            self.wake()

    def _disarm(self) -> None:
        if self._armed:
            self._watcher.stop()
            self._armed = False
            self._inline.unwatch(self)


_pool: list[RawGreenlet] = []
_turns = 0


def turns() -> int:
    """How many turns this process has run so far."""
    return _turns


def _serve(task: Task) -> None:
    """What a greenlet of the pool does: one turn after another, of whatever task."""
    hub, me = gevent.get_hub(), gevent.getcurrent()
    park = RawGreenlet.switch  # gevent's own method of the hub does more than is needed here
    while True:
        task._run()
        if len(_pool) >= POOL:
            return
        _pool.append(me)
        task = park(hub)
