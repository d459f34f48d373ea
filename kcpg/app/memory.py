"""Memory of the process: keeps the cyclic collector quiet, and returns what many flows have held."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
from collections.abc import Callable
from pathlib import Path

COLLECT_AFTER = 50_000  # Objects that may be part of a cycle: as many as a few thousand flows have

# Windows of 8,192 segments for some twenty flows that nobody reads; more speeds nothing up.
DEFAULT_MOST_BYTES = 320 << 20
DEFAULT_LEAST_BYTES = 8 << 20

# After this many flows have ended, the megabytes that they held are worth the half millisecond of a trim.
MANY_FLOWS = 1000


def spare_collector() -> None:
    """Let the cyclic collector run rarely: the objects of the start stay, and flows end without cycles.

    At its default of 700 objects it would traverse the program every few short connections, for a sixth of
    their processor time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)


def default_bytes() -> int:
    """What flows may hold where the configuration does not say: an eighth of the machine's memory, or of what
    the control group has."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # "max", or no such file
        there = min(there, int(Path("/sys/fs/cgroup/memory.max").read_text("ascii")))
    return min(max(there // 8, DEFAULT_LEAST_BYTES), DEFAULT_MOST_BYTES)


def pool_bytes(whole: int, tunnels: int) -> int:
    """The segments' part of what one of so many tunnel legs may use: a quarter besides is FEC's."""
    return (whole or default_bytes()) // tunnels * 4 // 5


class Memory:
    """Returns the memory of many flows to the system once they have ended."""

    def __init__(self, give_back: Callable[[], None] | None = None) -> None:
        self._give_back = give_back or trim
        self._ended = 0
        self._again = False

    def inspect(self, ended: int) -> None:
        """Trim if many flows have ended; call it every few seconds with the number that has ended so far."""
        many = ended - self._ended >= MANY_FLOWS
        if many or self._again:
            self._give_back()
        if many:
            self._ended = ended
        self._again = many  # some of them were still waiting for the peer


def trim() -> None:
    """Return unused memory of the C library to the system: malloc_trim(3), where it exists."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
