"""One try to meet the peer: INITs with one key agreement, to one address after another until one answers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from kcpg.core.native.handshake import Initiator

FIRST_WAIT_MS = 250
WAIT_GROWTH = 1.5
MOST_WAIT_MS = 5000
"""Waits between INITs: quick enough for a lost datagram, slow enough for a peer that is away for hours."""

LIFE_MS = 30_000
"""After so long a fresh key agreement is begun (handshake.Initiator asks for it)."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A host and its ports. `host`: name or address."""

    host: str
    ports: Sequence[int]


class Choice:
    """Where to send the next INIT: a random host, port and address, other than those that just failed."""

    def __init__(self, destinations: Sequence[Destination], rng: random.Random) -> None:
        assert destinations and all(d.ports for d in destinations)
        self._destinations = destinations
        self._rng = rng
        self._last: tuple[str, int] | None = None
        self._last_addr = b""

    def target(self) -> tuple[str, int]:
        """A host and a port."""
        chosen = self._pick()
        if chosen == self._last and (len(self._destinations) > 1 or len(self._destinations[0].ports) > 1):
            chosen = next(t for t in iter(self._pick, None) if t != self._last)
        self._last = chosen
        return chosen

    def address(self, addresses: list[bytes]) -> bytes:
        """One of a target's addresses."""
        others = [a for a in addresses if a != self._last_addr] or addresses
        self._last_addr = self._rng.choice(others)
        return self._last_addr

    def _pick(self) -> tuple[str, int]:
        destination = self._rng.choice(self._destinations)
        return destination.host, self._rng.choice(destination.ports)


class Attempt:
    """The timing of one Initiator's INITs. `first_wait_ms`: before the second one."""

    def __init__(self, initiator: Initiator, now_ms: int, first_wait_ms: int, resumes: bool) -> None:
        self.initiator = initiator
        self.resumes = resumes
        """It asks to resume the link there is."""
        self.quiet = False
        """The peer was heard meanwhile: send nothing more, but take an answer that is on its way."""
        self.began_ms = now_ms
        self.tries = 0
        self.due_ms: int = now_ms
        self.ends_ms = now_ms + LIFE_MS
        self._wait_ms = float(first_wait_ms)

    @property
    def wait_ms(self) -> int:
        """The wait that has been reached."""
        return int(self._wait_ms)

    def take_turn(self, now_ms: int) -> bool:
        """Whether an INIT is to be sent now; sets when the next one is."""
        if self.quiet or self.due_ms > now_ms:
            return False
        self.tries += 1
        self.due_ms = now_ms + int(self._wait_ms)
        self._wait_ms = min(self._wait_ms * WAIT_GROWTH, MOST_WAIT_MS)
        return True

    def deadline(self) -> int:
        """When the next INIT, or the end, is due."""
        return self.ends_ms if self.quiet else min(self.due_ms, self.ends_ms)
