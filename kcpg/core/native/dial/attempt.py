"""One try to meet the peer: INITs with one key agreement, to one address after another until one answers."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import eq

from kcpg.core.native.dial.reputation import MOST_ENTRIES, Reputation
from kcpg.core.native.handshake.handshake import Initiator

FIRST_WAIT_MS = 250
WAIT_GROWTH = 1.5
AWAITED_WAIT_MS = 1000
MOST_WAIT_MS = 5000
"""Waits between INITs: quick enough for a lost datagram, slow enough for a peer that is away for hours. They
stay short while somebody waits."""

LIFE_MS = 30_000
"""After so long a fresh key agreement is begun (handshake.Initiator asks for it)."""

PICKS = 16
"""Draws among all hosts and ports; enough to find the good one of two in all but one of 65,536 cases."""

LAST_LEVEL = 0.1
"""The host and the port that were chosen last are avoided, which spreads several links over all of them; but
less than anything that failed."""

HOST_HALF_LIFE_MS = 10_000
"""A host that was away is tried again soon: a hop to it that fails costs nothing."""

PORT_HALF_LIFE_MS = 60_000
"""Boxes that throttle a flow go on for minutes."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A host and its ports. `host`: name or address."""

    host: str
    ports: Sequence[int]


class Choice:
    """Where to send next: a random host, port and address, but for the last choice and what failed lately.

    `host_key`: the part of an address that stands for one host. All destinations are the same peer, so what
    is said of an address counts for its host too, but for a port that is throttled.
    """

    def __init__(
        self,
        destinations: Sequence[Destination],
        rng: random.Random,
        host_key: Callable[[bytes], bytes] = bytes,
    ) -> None:
        assert destinations and all(d.ports for d in destinations)
        self._destinations = destinations
        self._rng = rng
        self._host_key = host_key
        self._hosts = Reputation(HOST_HALF_LIFE_MS)
        self._ports = Reputation(PORT_HALF_LIFE_MS)
        self._last: tuple[str, int] | None = None
        self._last_addr = b""
        self._chosen: dict[bytes, tuple[str, int]] = {}

    def target(self, now_ms: int) -> tuple[str, int]:
        """A host and a port."""
        best = self._pick()
        least = self._target_level(best, now_ms)
        for _ in range(PICKS):
            if not least:
                break
            other = self._pick()
            level = self._target_level(other, now_ms)
            if level < least:
                best, least = other, level
        self._last = best
        return best

    def address(self, host: str, port: int, addresses: list[bytes], now_ms: int) -> bytes:
        """One of a target's addresses."""
        levels = [self._address_level(addr, now_ms) for addr in addresses]
        least = min(levels)
        best = self._rng.choice([a for a, level in zip(addresses, levels, strict=True) if level == least])
        self._last_addr = best
        self._chosen.pop(best, None)
        self._chosen[best] = (host, port)
        if len(self._chosen) > MOST_ENTRIES:
            del self._chosen[next(iter(self._chosen))]
        return best

    def is_same_host(self, one: bytes, other: bytes) -> bool:
        """Two addresses of one host."""
        return self._host_key(one) == self._host_key(other)

    def blame(self, addr: bytes, now_ms: int) -> None:
        """Nothing comes from there: the port may be blocked, or the host away."""
        self.blame_port(addr, now_ms)
        self.blame_host(addr, now_ms)

    def blame_host(self, addr: bytes, now_ms: int) -> None:
        """A single question was not answered, or not yet: others first, and this one again soon."""
        self._hosts.blame(self._host_key(addr), now_ms)
        if addr in self._chosen:
            self._hosts.blame(self._chosen[addr][0], now_ms)

    def blame_name(self, host: str, now_ms: int) -> None:
        """It does not resolve."""
        self._hosts.blame(host, now_ms)

    def blame_port(self, addr: bytes, now_ms: int) -> None:
        """Much is lost on the way there."""
        self._ports.blame(addr, now_ms)
        if addr in self._chosen:
            self._ports.blame(self._chosen[addr], now_ms)

    def praise(self, addr: bytes) -> None:
        """It answers. How well, is for time to tell: what was said of the port fades by itself."""
        self._hosts.clear(self._host_key(addr))
        if addr in self._chosen:
            self._hosts.clear(self._chosen[addr][0])

    def _target_level(self, target: tuple[str, int], now_ms: int) -> float:
        last = 0.0 if self._last is None else LAST_LEVEL * sum(map(eq, target, self._last))
        return self._hosts.level(target[0], now_ms) + self._ports.level(target, now_ms) + last

    def _address_level(self, addr: bytes, now_ms: int) -> float:
        host = self._host_key(addr)
        near = (addr == self._last_addr) + (
            self._last_addr != b"" and host == self._host_key(self._last_addr)
        )
        last = LAST_LEVEL * near
        return self._hosts.level(host, now_ms) + self._ports.level(addr, now_ms) + last

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
        self.asked = b""
        """The chosen address that the last INIT went to."""
        self.began_ms = now_ms
        self.tries = 0
        self.due_ms: int = now_ms
        self.ends_ms = now_ms + LIFE_MS
        self._wait_ms = float(first_wait_ms)

    @property
    def wait_ms(self) -> int:
        """The wait that has been reached."""
        return int(self._wait_ms)

    def take_turn(self, now_ms: int, awaited: bool) -> bool:
        """Whether an INIT is to be sent now; sets when the next one is. `awaited`: by somebody's data."""
        if self.quiet or self.due_ms > now_ms:
            return False
        self.tries += 1
        self.due_ms = now_ms + int(self._wait_ms)
        self._wait_ms = min(self._wait_ms * WAIT_GROWTH, AWAITED_WAIT_MS if awaited else MOST_WAIT_MS)
        return True

    def deadline(self) -> int:
        """When the next INIT, or the end, is due."""
        return self.ends_ms if self.quiet else min(self.due_ms, self.ends_ms)
