"""One try to meet the peer: INITs with one key agreement, to one address after another until one answers."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from kcpg.core.native.handshake.handshake import Initiator
from kcpg.core.native.link.link import MAX_SPREAD_MS

if TYPE_CHECKING:
    from kcpg.core.native.wire.wire import Path

# Waits between INITs: quick enough for a lost datagram, slow enough for a peer that is away for hours. They
# stay short while somebody waits.
FIRST_WAIT_MS = 250
WAIT_GROWTH = 1.5
AWAITED_WAIT_MS = 1000
MOST_WAIT_MS = 5000

# Each wait is varied by up to this part of it, so that many dialers that began together do not go on in step.
JITTER = 0.25

# Part of the first wait in which an answer comes on a usual line. So much later than by the path there is a
# link is asked for by another path.
ANSWER_PART = 0.75

# The wait after an INIT that came when the peer had said: it is busy, and may be a little late itself.
TOLD_WAIT_MS = 500

LIFE_MS = 30_000  # Then a fresh key agreement begins (handshake.Initiator asks for it)


class HandshakeAttempt:
    """The timing of one Initiator's INITs. `first_wait_ms`: before the second one."""

    def __init__(
        self, initiator: Initiator, now_ms: int, first_wait_ms: int, resumes: bool, rng: random.Random
    ) -> None:
        self.initiator = initiator
        self.resumes = resumes  # It asks to resume the link there is
        # The peer was heard meanwhile: send nothing more, but take an answer that is on its way.
        self.quiet = False
        self.asked = b""  # The chosen address that the last INIT went to
        self.told: Path | None = None  # The peer has said when the next INIT is to come, by this path
        self.began_ms = now_ms
        self.tries = 0
        self.due_ms: int = now_ms
        self.ends_ms = now_ms + LIFE_MS
        self._wait_ms = float(first_wait_ms)
        self._answer_ms = int(first_wait_ms * ANSWER_PART)
        self._rng = rng

    @property
    def wait_ms(self) -> int:
        """The wait that has been reached."""
        return int(self._wait_ms)

    def take_turn(self, now_ms: int, awaited: bool) -> bool:
        """Whether an INIT is to be sent now; sets when the next one is. `awaited`: by somebody's data."""
        if self.quiet or self.due_ms > now_ms:
            return False
        self.tries += 1
        wait_ms = self._wait_ms * self._rng.uniform(1 - JITTER, 1 + JITTER)
        if self.told is None and self.asks_there and not self.asks_elsewhere:
            self.due_ms = now_ms + self._answer_ms
            return True
        if self.told is None and self.tries > 1 and self.resumes:
            wait_ms -= self._answer_ms
        self.due_ms = now_ms + int(wait_ms)
        self._wait_ms = min(self._wait_ms * WAIT_GROWTH, AWAITED_WAIT_MS if awaited else MOST_WAIT_MS)
        return True

    @property
    def asks_there(self) -> bool:
        """This INIT goes by the path there is."""
        return self.resumes and (self.tries == 1 or self.tries % 2 == 0)

    @property
    def asks_elsewhere(self) -> bool:
        """This INIT goes by another path. The first one goes by both, and later ones by another path only if
        none of the one there is was answered: a peer that is back would have to answer both."""
        return not self.resumes or self.tries % 2 == 1

    def come_again(self, path: Path, wait_ms: int, now_ms: int) -> None:
        """The peer is busy, and wants the next INIT then, from here."""
        self.told = path
        self.due_ms = now_ms + min(wait_ms, MAX_SPREAD_MS)
        self.ends_ms = max(self.ends_ms, self.due_ms + LIFE_MS)
        self._wait_ms = float(TOLD_WAIT_MS)

    def deadline(self) -> int:
        """When the next INIT, or the end, is due."""
        return self.ends_ms if self.quiet else min(self.due_ms, self.ends_ms)
