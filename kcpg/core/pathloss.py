"""What a path loses by itself, told from what a link loses because it sends too much.

Both are counted in transmissions and in how many of them were lost. Sending less for a moment tells them
apart: losses that then stop came from sending too much. Losses while somebody meets no queue are the path's,
or a policer's, which has none. Sans-IO; `kcpg.core.congestion` says when what was sent.
"""

from __future__ import annotations

from collections import deque
from math import sqrt

COMPENSATED = 0.4  # most of the path's own loss that is made up for by sending more
RISEN_ROUNDS = 16  # of STARTUP that are remembered; it doubles the rate in each
SEGMENTS = 32  # transmissions that make their loss worth a thought
LISTEN_SEGMENTS = 96  # transmissions that tell the path's
MEMORY = 512  # transmissions, about, that count as much as new ones: the path may change

# More is lost than by the path, by so much, by half, and by so many deviations of chance: the rate is too
# high. What is lost and what arrives at one time was not sent at one time, so one round alone says nothing.
EXCESS = 0.015
EXCESS_SHARE = 0.5
CHANCE = 4.0
LEAST = 0.01  # what chance is reckoned by where nothing is lost
DOUBT_ROUNDS = 3
STARTUP_EXCESS = 0.1  # a round of STARTUP that loses so much more has filled the path
PROBE_EXCESS = 0.03  # a probe that loses so much more was too large
DEEPER_EXCESS = 0.1  # sending less, so much more is lost still: perhaps that was too much, too

# So many deviations of chance fewer, and less than half of the excess, are lost while less is sent: the rest
# was the link's own.
OWN_CHANCE = 1.2
OWN = 0.5

# After so long what is made up for is found out again; then after twice as long.
VERIFY_MS = 8_000
VERIFY_MOST_MS = 60_000


class PathLoss:
    """`share`: of what is sent, how much the path loses by itself, as far as is known."""

    def __init__(self) -> None:
        self.share = 0.0
        self._known_sent = 0.0  # transmissions that it is known by
        self.verify_at = 0  # when to find out again
        self._known_lost = 0.0
        # rate, transmissions and losses of rounds of STARTUP
        self._risen: deque[tuple[int, float, float]] = deque(maxlen=RISEN_ROUNDS)
        self._quiet_sent = self._quiet_lost = 0.0  # of rounds in which less was sent than the path takes
        self._probe_sent = self._probe_lost = 0.0
        self._full_sent = self._full_lost = 0.0  # of rounds at the path's rate ...
        self._full_ms = self._full_bytes = self._full_rounds = 0  # ... what they delivered
        self._empty_sent = self._empty_lost = 0.0  # of those in which somebody met no queue
        self._calm_sent = self._calm_lost = 0.0  # the same of earlier cycles
        self._verify_ms = VERIFY_MS

    # Evidence.

    def note_startup(self, sent_bps: int, sent: float, lost: float, path_bps: int) -> None:
        """A round of STARTUP, sent at this rate. Its losses are the path's once the path has that rate."""
        if sent > 0:
            self._risen.append((sent_bps, sent, lost))
        while self._risen and self._risen[0][0] <= path_bps:
            _, sent, lost = self._risen.popleft()
            self._known_sent += sent
            self._known_lost += lost
        if self._known_sent >= SEGMENTS:
            self.share = min(self._known_lost / self._known_sent, COMPENSATED)

    def note_quiet(self, sent: float, lost: float) -> None:
        """A round of less than the path takes."""
        self._quiet_sent += sent
        self._quiet_lost += lost

    def note_probe(self, sent: float, lost: float) -> None:
        """A round of a probe, or the one after it."""
        self._probe_sent += sent
        self._probe_lost += lost

    def note_full(self, sent: float, lost: float, elapsed_ms: int, acked: int, is_empty: bool) -> None:
        """A round at the path's rate. `is_empty`: somebody met no queue in it."""
        self._full_sent += sent
        self._full_lost += lost
        if is_empty:
            self._empty_sent += sent
            self._empty_lost += lost
        self._full_ms += elapsed_ms
        self._full_bytes += acked
        self._full_rounds += 1

    def forget_quiet(self) -> None:
        self._quiet_sent = self._quiet_lost = 0.0

    def forget_probe(self) -> None:
        self._probe_sent = self._probe_lost = 0.0

    def forget_full(self) -> None:
        self._full_sent = self._full_lost = self._empty_sent = self._empty_lost = 0.0
        self._full_ms = self._full_bytes = self._full_rounds = 0

    # Judgements.

    def floods(self, sent: float, lost: float) -> bool:
        """A round of STARTUP lost so much that the path is full."""
        return sent >= SEGMENTS and self._exceeds(sent, lost, STARTUP_EXCESS)

    def probe_floods(self) -> bool:
        """The probe was too large."""
        return self._exceeds(self._probe_sent, self._probe_lost, PROBE_EXCESS)

    def is_doubtful(self) -> bool:
        """More is lost at the path's rate than the path loses by itself."""
        enough = self._full_sent >= SEGMENTS and self._full_rounds >= DOUBT_ROUNDS
        return enough and self._exceeds(
            self._full_sent, self._full_lost, max(EXCESS, self.share * EXCESS_SHARE)
        )

    def is_known(self) -> bool:
        """Enough was heard to go by `share`."""
        return self._known_sent >= LISTEN_SEGMENTS

    def is_heard(self) -> bool:
        """What is lost while less is sent tells the path's loss."""
        return self._quiet_sent >= LISTEN_SEGMENTS

    def stays_high(self) -> bool:
        """Much is lost though less is sent."""
        return self._quiet_lost > self._quiet_sent * (self.share + DEEPER_EXCESS)

    def delivered_bps(self) -> int:
        """In the rounds at the path's rate."""
        return self._full_bytes * 8000 // max(self._full_ms, 1)

    def is_policed(self) -> bool:
        """Most of what is lost at the path's rate is lost without a queue."""
        return 2 * self._empty_lost > self._full_lost

    def judge(self, now_ms: int, is_doubted: bool, is_queued: bool) -> bool:
        """Less was sent for a while: learn from it. Whether what was doubted came from sending too much.

        `is_queued`: meanwhile nobody met an empty queue.
        """
        sent, lost = self._quiet_sent, self._quiet_lost
        heard, own = sent >= SEGMENTS, False
        found = lost / sent if heard else self.share
        if is_doubted and self._full_sent > 0:  # else nothing was heard in between
            loaded = self._full_lost / self._full_sent
            chance = OWN_CHANCE * _deviation(loaded, self._full_sent, max(sent, 1.0))
            own = not heard or loaded - found > max(chance, OWN * (loaded - self.share))
        if not heard and (is_doubted or is_queued):
            self.share /= 2  # the queue was never empty: nobody knows
        known = min(self._known_sent, MEMORY)
        if heard and known > 0 and abs(found - self.share) <= self._chance(sent):
            self._know(known + sent, self.share * known + lost)
            self._verify_ms = min(2 * self._verify_ms, VERIFY_MOST_MS)
        elif heard:
            self._know(sent, lost)
            self._verify_ms = VERIFY_MS
        self.verify_at = now_ms + self._verify_ms
        return own

    def end_cycle(self) -> None:
        """What is lost without a queue tells the path's loss, too; that it has risen, only after long."""
        sent, lost = self._calm_sent + self._empty_sent, self._calm_lost + self._empty_lost
        off = self.share - lost / max(sent, 1.0)
        chance = _deviation(self.share, max(sent, 1.0), MEMORY)
        if (sent >= SEGMENTS and off > chance) or (sent >= MEMORY and off < -2 * chance):
            known = min(self._known_sent, MEMORY)
            self._know(known + sent, self.share * known + lost)
            sent = lost = 0.0
        elif sent > 2 * MEMORY:
            sent, lost = sent / 2, lost / 2
        self._calm_sent, self._calm_lost = sent, lost
        if self._full_sent >= SEGMENTS:
            self.forget_full()
        else:
            self._empty_sent = self._empty_lost = 0.0

    def _know(self, sent: float, lost: float) -> None:
        """So many transmissions tell the path's own loss."""
        self._known_sent = sent
        self.share = min(max(lost / sent, 0.0), COMPENSATED)

    def _chance(self, sent: float) -> float:
        """By how much the losses of so many transmissions deviate from the path's: by chance."""
        return CHANCE * _deviation(self.share, sent, max(self._known_sent, SEGMENTS))

    def _exceeds(self, sent: float, lost: float, slack: float) -> bool:
        """More is lost than by the path and by chance, by so much."""
        return lost > sent * (self.share + max(slack, self._chance(max(sent, 1.0))))


def _deviation(share: float, sent: float, other: float) -> float:
    """The standard deviation of the difference of two shares, each of so many."""
    usual = max(share, LEAST)
    return sqrt(usual * (1 - usual) * (1 / sent + 1 / other))
