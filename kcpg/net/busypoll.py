"""How long the wait for the next event is spent polling, before the node falls asleep.

Falling asleep and being woken cost processor time, and delay the event: 10 to 20 us in a virtual machine
whose processor sleeps with it, some on any other. Where events follow each other about as fast as that, as
requests and answers on one machine or in one rack do, polling costs hardly more and answers sooner
(docs/adr/0011). Everywhere else nobody polls.
"""

from __future__ import annotations

from random import randrange

from kcpg.net import sock
from kcpg.net.clock import now_us

SPIN_US = 100  # the longest that a wait is spent polling
NEAR_US = 90  # at or below this average, falling asleep and waking included, polling is worth a trial
PAYS_US = 40  # at or below this average while polling, go on
LONG_US = 200  # what a wait counts at the most, so that few short ones make up for a long one
WAITS = 64  # weight of the average
TRIAL_WAITS = 256  # before it is judged: the peer has to poll, too, and tries about as often
PAUSE_WAITS = 2048  # at least, after a trial that did not pay; up to twice as many, or two might never meet
REST_WAITS = 8192  # after another process was seen to need the processor ...
PREEMPTED_US = 1000  # ... which it kept for this long after the node let it on

NOTHING_YET = sock.NOTHING_YET


class AdaptiveBusyPoll:
    """Learns from the length of past waits. `spin_us`: how long to poll in the next one; 0: not at all."""

    __slots__ = ("_judged_in", "_mean_us", "spin_us")

    def __init__(self) -> None:
        self.spin_us = 0
        self._mean_us = float(LONG_US)
        self._judged_in = 0  # waits until anything changes

    def next_ready(self, epoll: int) -> int:
        """As `sock.next_ready`, after polling if that has paid lately."""
        began = now_us()
        found = NOTHING_YET
        if self.spin_us > 0:
            found = sock.spin(epoll, self.spin_us)
            if now_us() - began > self.spin_us + PREEMPTED_US:
                self.preempted()
        if found == NOTHING_YET:
            found = sock.next_ready(epoll)
        self.observe(now_us() - began)
        return found

    def observe(self, us: int) -> None:
        """A wait took this long."""
        self._mean_us += (min(us, LONG_US) - self._mean_us) / WAITS
        self._judged_in -= 1
        if self._judged_in > 0:
            return
        if self.spin_us == 0:
            if self._mean_us < NEAR_US:
                self.spin_us, self._judged_in = SPIN_US, TRIAL_WAITS
        elif self._mean_us > PAYS_US:
            self.spin_us, self._judged_in = 0, PAUSE_WAITS + randrange(PAUSE_WAITS)

    def preempted(self) -> None:
        """Another process took the processor and kept it; a sleeping node would have been woken at once."""
        self.spin_us, self._judged_in = 0, REST_WAITS
