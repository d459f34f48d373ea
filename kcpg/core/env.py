"""What a leg needs from outside: randomness, wall time, sockets, names; and what it reports."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from kcpg.core.workerslot import WorkerSlot

REPEAT_EVENT_MS = 60_000  # an event that strangers or a dead peer can provoke is reported this often at most


class EventKind:
    """The stable names of what a leg reports; tests and log filters rely on them."""

    LINK_UP = "link_up"
    LINK_DOWN = "link_down"
    LINK_RESUMED = "link_resumed"
    LINK_SILENT = "link_silent"
    LINK_MOVED = "link_moved"
    LINK_HOPPED = "link_hopped"
    LINK_LEAVING = "link_leaving"
    HOPS_FAILED = "hops_failed"
    NO_ANSWER = "no_answer"
    REFUSED = "refused"
    UNRESOLVED = "unresolved"
    CLOCK_OFF = "clock_off"
    LINKS_FULL = "links_full"
    STRANGER = "stranger"
    MEMORY_SHORT = "memory_short"


@dataclass(frozen=True, slots=True)
class Event:
    """Something a person may want to read in the log."""

    kind: str  # One of EventKind
    leg: str  # The leg's name, from its settings
    peer: bytes  # The peer's address, opaque to the core (the network ring formats it); b"" if there is none
    text: str  # One sentence, without the peer's address


class Reporter:
    """Reports the events of one leg, and those that come too often only now and then."""

    def __init__(self, leg: str, report: Callable[[Event], None]) -> None:
        self._leg = leg
        self._report = report
        self._reported_ms: dict[str, int] = {}

    def report(self, kind: str, peer: bytes, text: str, now_ms: int, at_most_every_ms: int = 0) -> None:
        """Report an event, unless one of its kind was reported within `at_most_every_ms`."""
        last_ms = self._reported_ms.get(kind)
        if at_most_every_ms and last_ms is not None and now_ms - last_ms < at_most_every_ms:
            return
        self._reported_ms[kind] = now_ms
        self._report(Event(kind, self._leg, peer, text))


@dataclass(frozen=True, slots=True)
class ResolveFailed:
    """A name has no address now."""

    text: str  # Why, for people


# Called once with the packed addresses of the name, best first, or with the reason there are none.
Resolved = Callable[[list[bytes] | ResolveFailed], None]


@dataclass(frozen=True, slots=True)
class Env:
    """The world outside the core; every source of time, chance and sockets a leg has."""

    entropy: Callable[[int], bytes]  # This many unpredictable bytes, for keys, CIDs and salts
    rng: random.Random  # For choices that need no secrecy: ports, order of addresses
    wall_s: Callable[[], int]  # Seconds since 1970, for handshakes only; may be wrong, may jump
    open_socket: Callable[[], int]  # A new local UDP socket (a new source port); OSError if there is none
    close_socket: Callable[[int], None]  # Give a socket back; datagrams queued on it may be lost
    report: Callable[[Event], None]  # Take an event; must not raise
    # Look up (host, port); may call back at once, or later between the leg's own calls. `advance` must
    # follow.
    resolve: Callable[[str, int, Resolved], None]
    # The part of an address that stands for one customer (/32 or /64), by which handshakes are rationed.
    source_key: Callable[[bytes], bytes] = bytes
    # And one site, which may have many of those (/32 or /48): so many links have their share together.
    site_key: Callable[[bytes], bytes] = bytes
    # Nanoseconds of a clock that tells how long a piece of work took. One that stands still: nobody knows.
    clock_ns: Callable[[], int] = int
    # Where several processes serve a listening leg: which of them this one is.
    worker: WorkerSlot | None = None
