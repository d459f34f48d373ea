"""How the process treats its memory: the cyclic collector rests, and what many flows held goes back."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable

COLLECT_AFTER = 50_000  # Objects that may be part of a cycle: those of some thousand flows

# So many ended: what they held, some megabytes if they were open together, is worth half a millisecond.
MANY_FLOWS = 1000


def spare_collector() -> None:
    """What was made for the start stays, and flows end without cycles: let the cyclic collector look rarely.

    At its usual 700 objects it would walk the whole program for every few short connections, a sixth of their
    processor time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)


class Memory:
    """Gives the memory of many flows back to the system when they have ended."""

    def __init__(self, give_back: Callable[[], None] | None = None) -> None:
        self._give_back = give_back or trim
        self._ended = 0
        self._again = False

    def look(self, ended: int) -> None:
        """To be called now and then with the number of flows that have ended so far."""
        many = ended - self._ended >= MANY_FLOWS
        if many or self._again:
            self._give_back()
        if many:
            self._ended = ended
        self._again = many  # some of them still waited for the peer's word


def trim() -> None:
    """Unmap what the C library holds and nobody uses: malloc_trim(3), where there is one."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
