"""Serves one lone event after the other in the hub, without a round of the event loop in between.

A round costs half as much as all that is done for a request of 64 bytes (docs/adr/0010). So after such an
event the hub waits on the loop's own epoll. All descriptors are there, and level-triggered: what is not taken
here is still ready when the loop looks. The hub goes back to the loop when anything else is ready than one
descriptor whose owner can be served inline, when callbacks are due, when the loop was asked for something,
and after INLINE_MS in any case.
"""

from __future__ import annotations

from typing import Any

from kcpg.net.busypoll import AdaptiveBusyPoll
from kcpg.net.clock import now_ms

INLINE_MS = 10  # the longest that a timer of the event loop may be late: nothing here sees them


class Served:
    """What owns a watched descriptor: a `Task`."""

    __slots__ = ("fd",)

    fd: int

    def serve_inline(self) -> bool:
        """Serve the event in the hub. False: it takes a greenlet, which was started."""
        raise NotImplementedError


class InlinePoll:
    """One for each event loop. Code that starts or stops a watcher or a timer calls `watch`, `unwatch` or
    `exit`; where that is forgotten, the watcher begins up to INLINE_MS late."""

    __slots__ = ("_asked", "_asked_in", "_epoll", "_poll", "_watched", "alarm", "loop")

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self.alarm: Any = None  # may ring early, which ends the stay. Without one nobody enters
        known = loop.backend == "epoll" and hasattr(loop, "_callbacks")  # the latter is no public attribute
        self._epoll: int = loop.fileno() if known else -1
        self._watched: dict[int, Served] = {}
        self._poll = AdaptiveBusyPoll()
        self._asked = False  # since the last look
        self._asked_in = -1  # the round of the loop in which something was asked last

    def watch(self, owner: Served) -> None:
        """The watcher of the owner's descriptor was started."""
        self._asked = True
        self._watched[owner.fd] = owner

    def unwatch(self, owner: Served) -> None:
        """It was stopped."""
        self._asked = True
        if self._watched.get(owner.fd) is owner:  # not another one of the same descriptor
            del self._watched[owner.fd]

    def exit(self) -> None:
        """Something was asked of the event loop, which has to go round for it; callbacks are seen anyway."""
        self._asked = True

    def enter(self) -> None:
        """Called by the event loop when a lone event was served: serve the next ones, while each is alone."""
        if self._may_enter():
            end_ms = now_ms() + INLINE_MS
            while not self.loop._callbacks and self._serve_next(end_ms):
                pass

    def _may_enter(self) -> bool:
        if self.alarm is None or self._epoll < 0 or self._is_loop_asked():
            return False
        return not self.loop.pendingcnt

    def _serve_next(self, end_ms: int) -> bool:
        """Wait for the next event and serve it. False: go back to the loop."""
        alarm = self.alarm
        if alarm.at_ms > end_ms:
            alarm.set(end_ms)
        fd = self._poll.next_ready(self._epoll)
        if fd == alarm.fd:
            alarm.ring()
            # The next time, if it is not within this stay, is for the loop to see.
            return alarm.at_ms <= end_ms and not (self._asked and self._is_loop_asked())
        owner = self._watched.get(fd)
        if owner is None or not owner.serve_inline():
            return False
        return not (self._asked and self._is_loop_asked())

    def _is_loop_asked(self) -> bool:
        """Something was asked of the loop in this round, be it by those who were called before."""
        if self._asked:
            self._asked = False
            self._asked_in = self.loop.iteration
        return bool(self._asked_in == self.loop.iteration)


_inline_poll: InlinePoll | None = None


def inline_poll(loop: Any) -> InlinePoll:
    """The one of this event loop; a process has one at a time."""
    global _inline_poll
    if _inline_poll is None or _inline_poll.loop is not loop:
        _inline_poll = InlinePoll(loop)
    return _inline_poll
