"""How many files and sockets this process may have open, and whether that is enough."""

from __future__ import annotations

import os
import resource
from contextlib import suppress

MAX_DESCRIPTORS = 1 << 20  # The kernel's default limit per process (fs.nr_open, proc(5))

# A node with room for fewer flows than this is out of descriptors on an ordinary day: a browser opens some
# hundred connections.
FEW_FLOWS = 1000

# Lists this process's own (proc(5)). /dev/fd leads here, but that link is udev's: a small system has none.
_LIST = "/proc/self/fd"

HOW_TO_RAISE = "raise the limit: ulimit -n in a shell, LimitNOFILE= in a systemd unit"


def allow_descriptors() -> None:
    """Raise the soft limit on descriptors: every flow needs one, and the usual 1,024 is for select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def in_use() -> list[int]:
    """The numbers of this process's descriptors. Raises OSError where /proc is not mounted."""
    numbers = [int(name) for name in os.listdir(_LIST)]
    return [fd for fd in numbers if _is_open(fd)]  # without the listing's own


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def shortage(flows: int) -> str:
    """What is wrong with the descriptors of a process whose nodes have started and may have so many flows;
    empty if nothing is, or if nobody can tell."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return ""
    try:
        used = len(in_use())
    except OSError:
        return ""
    left = limit - used
    if left >= min(flows, FEW_FLOWS):
        return ""
    return f"{used} of {limit} file descriptors are in use, so {left} are left for flows; {HOW_TO_RAISE}"
