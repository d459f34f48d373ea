"""How many handshakes a listener begins, so that each that it begins is also finished in time.

More than the processor can serve must not be begun: their dialers would have given up, and called again, when
the answers leave. Who comes when there is no time for him is told when there will be, one after another in
the order in which they came, so that the newest waits and nobody starves.
"""

from __future__ import annotations

MS_NS = 1_000_000

# A handshake's time before one was measured. A guess that is too small costs a RETRY more of some dialers.
FIRST_COST_MS = 1.0

# Part of a handshake's work that is measured: the rest is done by its link's first datagrams.
MEASURED_PART = 0.6

SHARE = 0.85  # of a processor for handshakes; what is left is for the links that there are

# Measurements over which the mean is taken: single ones take a hundred times as long where processes
# interrupt each other, and the mean is what can be served. The guess counts for a few at first.
SAMPLES = 64
FIRST_SAMPLES = 4
MOST_COST_MS = 100.0  # A measurement beyond this tells of a machine that stood still

START_MS = 50  # So much work may wait before a newcomer is told to wait as well
SLACK_MS = 150  # and so much before somebody who comes when he was told: a round trip varies

# A cookie is good for at least this long. Who would have to wait longer is told this, and then asks again.
MOST_WAIT_MS = 30_000

LATE_MS = 5_000  # Who comes later than this is a newcomer: five INITs of a dialer for whom somebody waits

MAX_PROMISES = 65_536  # As many as salts are remembered; half a minute's at twice the rate of a quick machine


class Pace:
    """One listener's. Times are ms of its clock; `who`: the same in all INITs of an attempt."""

    def __init__(self) -> None:
        self._measured_ms = FIRST_COST_MS * MEASURED_PART
        self._samples = FIRST_SAMPLES
        self._promised_ms = 0.0  # all time until then is given away ...
        self._taken_ms = 0.0  # ... and until then the handshakes last that were begun
        self._promises: dict[bytes, int] = {}  # when to come again, in the order in which they were made

    @property
    def cost_ms(self) -> float:
        """The time to plan with for one handshake."""
        return self._measured_ms / (MEASURED_PART * SHARE)

    def begun(self, took_ns: int) -> None:
        """A handshake was answered, and its link begun, in so long. 0: nobody measured it."""
        if took_ns:
            took_ms = min(took_ns / MS_NS, MOST_COST_MS)
            self._samples = min(self._samples + 1, SAMPLES)
            self._measured_ms += (took_ms - self._measured_ms) / self._samples

    def admit(self, who: bytes, now_ms: int) -> bool:
        """May this handshake begin now?"""
        told_ms = self._promises.get(who)
        if told_ms is None:
            admitted = max(self._promised_ms, self._taken_ms) <= now_ms + START_MS
            if admitted:
                self._promised_ms = max(self._promised_ms, now_ms) + self.cost_ms
        else:
            admitted = told_ms <= now_ms and self._taken_ms <= now_ms + SLACK_MS
        if not admitted and self._taken_ms + START_MS > now_ms:  # else those who were told do not come
            return False
        self._promises.pop(who, None)
        self._taken_ms = max(self._taken_ms, now_ms) + self.cost_ms
        return True

    def promise(self, who: bytes, now_ms: int) -> int:
        """In how many ms to come again, 0: at once. The time is his from now on."""
        told_ms = self._promises.get(who, 0)
        if told_ms > now_ms:
            return told_ms - now_ms
        self._promises.pop(who, None)
        wait_ms = int(max(self._promised_ms - now_ms, 0.0))
        if wait_ms > MOST_WAIT_MS:
            return MOST_WAIT_MS
        self._promised_ms = max(self._promised_ms, now_ms) + self.cost_ms
        self._promises[who] = now_ms + wait_ms
        self._forget(now_ms)
        return wait_ms

    def _forget(self, now_ms: int) -> None:
        """Those who did not come."""
        while self._promises:
            first = next(iter(self._promises))
            if len(self._promises) <= MAX_PROMISES and self._promises[first] + LATE_MS > now_ms:
                return
            del self._promises[first]
