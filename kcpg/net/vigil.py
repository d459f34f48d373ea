"""How long the wait for the next event is spent awake, before the node falls asleep.

To fall asleep and to be woken costs time of the processor, and delays the event: 10 to 20 us in a virtual
machine whose processor sleeps with it, some on any other. Where events follow each other about as fast as
that, as requests and answers on one machine or in one rack do, staying awake costs hardly more and answers
sooner (docs/adr/0011). Everywhere else nobody stays awake.
"""

from __future__ import annotations

from random import randrange

from kcpg.net import sock
from kcpg.net.clock import now_us

AWAKE_US = 100  # the longest that a wait is spent awake
NEAR_US = 90  # waits that are shorter on average, falling asleep and waking included, are worth a trial
PAYS_US = 40  # and those that are so short when they are spent awake are worth to go on
LONG_US = 200  # what a wait counts at the most, so that few short ones make up for a long one
WAITS = 64  # weight of the average
TRIAL_WAITS = 256  # before it is judged: the peer, too, has to be awake, and tries about as often
PAUSE_WAITS = 2048  # at least, after a trial that did not pay; up to twice as many, or two might never meet
REST_WAITS = 8192  # after others were seen to need the processor ...
ROBBED_US = 1000  # ... which they kept for so long after it was to be given back

NOTHING_YET = sock.NOTHING_YET


class Vigil:
    """Learns from how long waits were. `awake_us`: how long the next one is to be spent awake, 0 not at
    all."""

    __slots__ = ("_judged_in", "_mean_us", "awake_us")

    def __init__(self) -> None:
        self.awake_us = 0
        self._mean_us = float(LONG_US)
        self._judged_in = 0  # so many waits from now on nothing changes

    def next_ready(self, epoll: int) -> int:
        """As `sock.next_ready`, begun awake if that has paid lately."""
        began = now_us()
        found = NOTHING_YET
        if self.awake_us > 0:
            found = sock.next_awake(epoll, self.awake_us)
            if now_us() - began > self.awake_us + ROBBED_US:
                self.robbed()
        if found == NOTHING_YET:
            found = sock.next_ready(epoll)
        self.waited(now_us() - began)
        return found

    def waited(self, us: int) -> None:
        """A wait is over that took so long."""
        self._mean_us += (min(us, LONG_US) - self._mean_us) / WAITS
        self._judged_in -= 1
        if self._judged_in > 0:
            return
        if self.awake_us == 0:
            if self._mean_us < NEAR_US:
                self.awake_us, self._judged_in = AWAKE_US, TRIAL_WAITS
        elif self._mean_us > PAYS_US:
            self.awake_us, self._judged_in = 0, PAUSE_WAITS + randrange(PAUSE_WAITS)

    def robbed(self) -> None:
        """Who was let on the processor meanwhile kept it: asleep, one is woken in time."""
        self.awake_us, self._judged_in = 0, REST_WAITS
