"""KCP presets: the meaning of `kcp=`, as data.

The values are those that kcptube really uses. Its documentation gives fast1 and fast2 an interval of 1 ms.
Here the interval only enters the retransmission time-out, as max(interval, 4·rttvar), where 0 and 1 hardly
differ.
"""

from __future__ import annotations

from dataclasses import dataclass

MANUAL = "manual"  # The file sets the four numbers

AUTO = "auto"  # Rate and windows are measured, see kcpg.core.congestion

DEFAULT = "regular5"  # kcptube's default


@dataclass(frozen=True, slots=True)
class Preset:
    """One row: the parameters of KCP's `ikcp_nodelay` and the windows."""

    nodelay: int  # 0: time-outs double; 1: they grow by half the segment's own; 2: by half the link's
    interval_ms: int
    resend: int  # This many later segments acknowledged: a missing one is resent; 0 = at its time-out
    nc: bool  # True: no congestion window
    wnd_segments: int  # Default of both windows


PRESETS: dict[str, Preset] = {
    "fast1": Preset(1, 0, 2, True, 2048),
    "fast2": Preset(2, 0, 2, True, 2048),
    "fast3": Preset(1, 1, 3, True, 2048),
    "fast4": Preset(2, 1, 3, True, 2048),
    "fast5": Preset(1, 1, 4, True, 2048),
    "fast6": Preset(2, 1, 4, True, 2048),
    "regular1": Preset(1, 1, 5, True, 1024),
    "regular2": Preset(2, 1, 5, True, 1024),
    "regular3": Preset(0, 1, 2, True, 1024),
    "regular4": Preset(0, 15, 2, True, 1024),
    "regular5": Preset(0, 30, 2, True, 1024),
    # Windows are limits here: 8,192 segments of 1,351 bytes hold 1 Gbit/s x 88 ms or 100 Mbit/s x 880 ms. The
    # interval keeps time-outs above what a queue adds while the rate is probed.
    AUTO: Preset(1, 30, 2, True, 8192),
}

# What kcptube called its presets until 2023, slowest first, and what is nearest to their numbers now. Most of
# them had a congestion window, and all had timers of 10 to 40 ms.
OLD_NAMES: dict[str, str] = {
    "largo": "regular5",
    "andante": "regular5",
    "moderato": "regular4",
    "allegro": "fast3",
    "presto": "fast5",
    "prestissimo": "fast1",
}

OLD_KEYS: dict[str, str] = {"timeout": "udp_timeout"}  # of the same time

MANUAL_WND_SEGMENTS = 2048  # Default of both windows with `kcp=manual`

NAMES: tuple[str, ...] = (*PRESETS, MANUAL)
