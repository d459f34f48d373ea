"""One listening leg served by several processes: whose a link is, and how a datagram gets there.

Each process has its own links. A listener puts its number into the CIDs it draws, where nobody outside sees
it (CIDs are masked on the wire), so whichever process gets a datagram knows whose it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kcpg.core.native.wire.wire import Path

# Processes of one leg. They take 6 of a CID's 32 bits; among the rest, a thousand links never run out.
MAX_WORKERS = 64


@dataclass(frozen=True, slots=True)
class WorkerSlot:
    """The part of a listening leg that this process is."""

    index: int  # Number of this process, from 0 up
    processes: int  # How many there are, whether they run now or not
    # 32 bytes, the same in all processes: a cookie that one of them gave is good for every other.
    cookie_secret: bytes
    # Give the datagram (clear header, body) that came by this path to the process of that number. False: it
    # is not there.
    hand_over: Callable[[int, Path, bytes, bytes], bool]
    count: Callable[[int], None]  # Tell the others how many links are here now
    # Tell the others that a dialer has begun a new life: its incarnation, packed.
    tell_life: Callable[[bytes], None]
    choose: Callable[[], int]  # The number of the process that should have one more link


def marked(cid: int, index: int) -> int:
    """`cid` with the number of its process in it."""
    return cid // MAX_WORKERS * MAX_WORKERS + index


def owner(cid: int) -> int:
    """The number of the process that receives by `cid`."""
    return cid % MAX_WORKERS
