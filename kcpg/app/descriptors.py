"""How many files and sockets this process may have open, and whether that is enough."""

from __future__ import annotations

import os
import resource
from contextlib import suppress

MAX_DESCRIPTORS = 1 << 20  # The kernel's default limit per process (fs.nr_open, proc(5))

# A node with room for fewer flows than this is out of descriptors on an ordinary day: a browser opens some
# hundred connections.
FEW_FLOWS = 1000

HOW_TO_RAISE = "raise the limit: ulimit -n in a shell, LimitNOFILE= in a systemd unit"


def allow_descriptors() -> None:
    """Raise the soft limit on descriptors: every flow needs one, and the usual 1,024 is for select(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def shortage(flows: int) -> str:
    """What is wrong with the descriptors of a process whose nodes have started and may have so many flows;
    empty if nothing is."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return ""
    used = len(os.listdir("/dev/fd")) - 1  # without the listing's own
    left = limit - used
    if left >= min(flows, FEW_FLOWS):
        return ""
    return f"{used} of {limit} file descriptors are in use, so {left} are left for flows; {HOW_TO_RAISE}"
