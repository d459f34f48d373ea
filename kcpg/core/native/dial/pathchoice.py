"""Which host, port and address to try next, after what failed lately."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import eq

from kcpg.core.native.dial.penaltybox import MOST_ENTRIES, PenaltyBox

# Draws among all hosts and ports; enough to find the good one of two in all but one of 65,536 cases.
PICKS = 16

# The host and the port that were chosen last are avoided, which spreads several links over all of them; but
# less than anything that failed.
LAST_LEVEL = 0.1

HOST_HALF_LIFE_MS = 10_000  # A host that was away is tried again soon: a hop to it that fails costs nothing

PORT_HALF_LIFE_MS = 60_000  # Boxes that throttle a flow go on for minutes


@dataclass(frozen=True, slots=True)
class Destination:
    """A host and its ports. `host`: name or address."""

    host: str
    ports: Sequence[int]


class PathChoice:
    """Where to send next: a random host, port and address, but for the last choice and what failed lately.

    `host_key`: the part of an address that stands for one host. What is said of an address counts for its
    host too, but for a port that is throttled. `servers`: each host is a peer of its own; else all are one.
    """

    def __init__(
        self,
        destinations: Sequence[Destination],
        rng: random.Random,
        host_key: Callable[[bytes], bytes] = bytes,
        servers: bool = False,
    ) -> None:
        assert destinations and all(d.ports for d in destinations)
        self._destinations = destinations
        self._rng = rng
        self._host_key = host_key
        self.servers = servers
        self._hosts = PenaltyBox(HOST_HALF_LIFE_MS)
        self._ports = PenaltyBox(PORT_HALF_LIFE_MS)
        self._last: tuple[str, int] | None = None
        self._last_addr = b""
        self._chosen: dict[bytes, tuple[str, int]] = {}
        self._heeded: dict[str, list[int]] = {}

    @property
    def hosts(self) -> list[str]:
        """The names or addresses of all hosts, for people."""
        return sorted({destination.host for destination in self._destinations})

    def target(self, now_ms: int, home: bytes = b"") -> tuple[str, int]:
        """A host and a port. `home`: an address of the peer that has to be met, where hosts are several."""
        destinations = self._of_peer(home) if self.servers and home else self._destinations
        best = self._pick(destinations)
        least = self._target_level(best, now_ms)
        for _ in range(PICKS):
            if not least:
                break
            other = self._pick(destinations)
            level = self._target_level(other, now_ms)
            if level < least:
                best, least = other, level
        self._last = best
        return best

    def address(self, host: str, port: int, addresses: list[bytes], now_ms: int, home: bytes = b"") -> bytes:
        """One of a target's addresses. `home`: as of `target`."""
        if self.servers and home:
            addresses = [addr for addr in addresses if self.is_same_host(addr, home)] or [home]
        levels = [self._address_level(addr, now_ms) for addr in addresses]
        least = min(levels)
        best = self._rng.choice([a for a, level in zip(addresses, levels, strict=True) if level == least])
        self._last_addr = best
        self._chosen.pop(best, None)
        self._chosen[best] = (host, port)
        if len(self._chosen) > MOST_ENTRIES:
            del self._chosen[next(iter(self._chosen))]
        return best

    def heed(self, addr: bytes, told: Sequence[tuple[int, int]]) -> None:
        """The listener at this address tells the first and last ports of what it listens to: others of that
        host are not tried. Where a port is forwarded its numbers mean nothing, as the one in use shows.
        """

        def is_told(port: int) -> bool:
            return any(first <= port <= last for first, last in told)

        host, used = self._chosen.get(addr, ("", 0))
        self._heeded.pop(host, None)
        if is_told(used):
            self._heeded[host] = [
                port
                for destination in self._destinations
                if destination.host == host
                for port in destination.ports
                if is_told(port)
            ]

    def heed_nobody(self) -> None:
        """The peer is looked for, and may listen to other ports by now."""
        self._heeded.clear()

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

    def _of_peer(self, addr: bytes) -> Sequence[Destination]:
        """Those that the address was chosen for."""
        host, _ = self._chosen.get(addr, ("", 0))
        return [one for one in self._destinations if one.host == host] or self._destinations

    def _pick(self, destinations: Sequence[Destination]) -> tuple[str, int]:
        destination = self._rng.choice(destinations)
        ports = self._heeded.get(destination.host, destination.ports)
        return destination.host, self._rng.choice(ports)
