"""Lines that change at fixed times: steps of rate and delay, and delays that swing."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netem import quantity
from netem.reader import Reader


@dataclass(frozen=True, slots=True)
class Step:
    """From `at_ns` on, after the beginning: another rate (bit/s) or delay. None: as before."""

    at_ns: int
    rate_bps: int | None = None
    delay_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Swing:
    """The delay grows by up to `delay_ns` and falls back, as a sine, once in `period_ns`."""

    delay_ns: int
    period_ns: int


def read_steps(reader: Reader, key: str) -> tuple[Step, ...]:
    """A list of tables: `[{ at = "5s", rate = "4mbit", delay = "100ms" }, …]`."""
    tables: Sequence[Mapping[str, Any]] = reader.take(key, quantity.tables, ())
    steps: list[Step] = []
    for number, table in enumerate(tables, 1):
        own = Reader(f"{reader.where}.{key}[{number}]", dict(table), reader.problems)
        step = Step(
            own.need("at", quantity.time_ns, 0),
            own.take("rate", quantity.rate_bps, None),
            own.take("delay", quantity.time_ns, None),
        )
        own.finish()
        if step.at_ns <= (steps[-1].at_ns if steps else 0):
            own.problems.append(f"{own.where}.at: must be later than what comes before")
        if step.rate_bps == 0:
            own.problems.append(f"{own.where}.rate: must be more than 0")
        steps.append(step)
    return tuple(steps)


def read_swing(reader: Reader | None) -> Swing | None:
    """`{ delay = "40ms", period = "4s" }`."""
    if reader is None:
        return None
    swing = Swing(reader.need("delay", quantity.time_ns, 0), reader.need("period", quantity.time_ns, 1))
    reader.finish()
    if swing.period_ns <= 0:
        reader.problems.append(f"{reader.where}.period: must be more than 0")
    return swing


class Timeline:
    """Rate and delay over time. All begins again after `every_ns`; 0: the last step stays."""

    def __init__(
        self, rate_bps: int, delay_ns: int, steps: Sequence[Step], every_ns: int, epoch_ns: int
    ) -> None:
        self._epoch_ns, self._every_ns = epoch_ns, every_ns
        self._starts = [0]
        self._pieces = [(rate_bps, delay_ns)]
        for step in steps:
            rate_bps = rate_bps if step.rate_bps is None else step.rate_bps
            delay_ns = delay_ns if step.delay_ns is None else step.delay_ns
            self._starts.append(step.at_ns)
            self._pieces.append((rate_bps, delay_ns))

    def at(self, now_ns: int) -> tuple[int, int, int | None]:
        """Rate and delay then, and until when; None: for ever."""
        since_ns = max(now_ns - self._epoch_ns, 0)
        began_ns = self._epoch_ns
        if self._every_ns:
            began_ns += since_ns // self._every_ns * self._every_ns
            since_ns %= self._every_ns
        place = bisect_right(self._starts, since_ns) - 1
        rate_bps, delay_ns = self._pieces[place]
        if place + 1 < len(self._starts):
            return rate_bps, delay_ns, began_ns + self._starts[place + 1]
        return rate_bps, delay_ns, began_ns + self._every_ns if self._every_ns else None


class Stepped:
    """When packets, one behind the other, are through a line whose rate has steps."""

    def __init__(self, timeline: Timeline, busy_until_ns: int) -> None:
        self._timeline = timeline
        self._busy_until_ns = busy_until_ns

    def done_ns(self, from_ns: int, frame_bytes: int) -> int:
        """When a packet that waits from `from_ns` on, behind all earlier ones, has been carried."""
        now_ns = max(from_ns, self._busy_until_ns)
        need = frame_bytes * 8 * 10**9  # bits, times the nanoseconds of a second
        while True:
            rate_bps, _, until_ns = self._timeline.at(now_ns)
            if not rate_bps:
                break
            if until_ns is None or need <= rate_bps * (until_ns - now_ns):
                now_ns += need // rate_bps
                break
            need -= rate_bps * (until_ns - now_ns)
            now_ns = until_ns
        self._busy_until_ns = now_ns
        return now_ns


def swung_ns(swing: Swing, since_epoch_ns: int) -> int:
    """How much longer the delay is then."""
    turn = 2 * math.pi * (since_epoch_ns % swing.period_ns) / swing.period_ns
    return round(swing.delay_ns * (1 - math.cos(turn)) / 2)
