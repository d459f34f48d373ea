"""The two clocks of a node: one for timers, one for the time of day.

The protocol core never looks at a clock; `now_ms` and `wall_s` are what the driver passes in.
"""

from __future__ import annotations

import time

NEVER_MS = 1 << 62  # later than any time


def now_ms() -> int:
    """Milliseconds since an arbitrary start; never jumps, never goes backwards."""
    return time.monotonic_ns() // 1_000_000


def now_us() -> int:
    """The same in microseconds, for what is measured within the node."""
    return time.monotonic_ns() // 1_000


def wall_s() -> int:
    """Seconds since 1970-01-01 UTC, for the handshake's freshness check; may jump when the clock is set."""
    return int(time.time())
