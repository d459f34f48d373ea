"""The course of a measurement over a line that changes: what the line could carry, what waited before it, and
what the sending node believed of it.

All times are of the monotonic clock, which the link box, the nodes and the workloads of one machine share.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from harness.link import Link
from harness.process import Failed
from harness.workloads.base import BIN_S
from netem import trace as traces
from netem.impair import is_out
from netem.profile import Impair, Profile

SAMPLE_S = 0.05  # As often as the nodes write their lines

# Of a node whose course is drawn: its lines of level trace, as JSON.
TRACED = {"log_level": "trace"}

WAYS = ("up", "down")


def is_drawn(profile: Profile | None) -> bool:
    """Whether a line changes in time, or others share it, so that one figure says little about it."""
    impairs = (profile.up, profile.down) if profile is not None else ()
    return any(
        impair.trace is not None
        or impair.steps
        or impair.swing is not None
        or impair.cross is not None
        or impair.outage is not None
        for impair in impairs
    )


@dataclass(slots=True)
class Sample:
    """A line at one moment: by direction, the milliseconds that a packet would wait, and its delay then."""

    at_s: float
    queue_ms: dict[str, float] = field(default_factory=dict)
    delay_ms: dict[str, float] = field(default_factory=dict)


class LineWatch:
    """Asks a line for its queue, in a thread of its own, while it is open. For the link box alone."""

    def __init__(self, link: Link) -> None:
        self.samples: list[Sample] = []
        self._link = link
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> LineWatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(SAMPLE_S):
            with suppress(Failed):  # a box that does not answer is found by whoever needs it
                facts = self._link.facts()
                sample = Sample(time.monotonic())
                for way in WAYS:
                    sample.queue_ms[way] = facts[way]["queue_ms"]
                    sample.delay_ms[way] = facts[way]["delay_ms"]
                self.samples.append(sample)


def course(
    link: Link, way: str, samples: Sequence[Sample], report: Mapping[str, Any], log: str = ""
) -> dict[str, Any]:
    """What `harness.pictures` draws of one measurement; seconds count from the line's beginning.

    `log`: the sending node's output, with its lines of level trace.
    """
    assert link.profile is not None
    epoch_s = link.facts()[way]["epoch_ns"] / 1e9
    since_s = report["start_s"] - epoch_s
    until_s = since_s + len(report["bins"]) * BIN_S
    return {
        "way": way,
        "since_s": since_s,
        "seconds": report["seconds"],
        # The box's delay takes effect before the rate, so that what comes out of it follows it at once.
        "capacity": capacity(getattr(link.profile, way), math.ceil(until_s / BIN_S)),
        "queue": [[sample.at_s - epoch_s, sample.queue_ms[way]] for sample in samples],
        "base": [[sample.at_s - epoch_s, sum(sample.delay_ms.values())] for sample in samples],
        "believed": [
            [line["monotonic_s"] - epoch_s, line["delivery_bps"] / 1e6, line["srtt_ms"], line["min_rtt_ms"]]
            for line in beliefs(log, "egress" if way == "up" else "ingress")
            if since_s <= line["monotonic_s"] - epoch_s <= until_s and line["min_rtt_ms"] >= 0
        ],
    }


def capacity(impair: Impair, bins: int) -> list[float]:
    """Mbit/s that the line can carry in each bin of its timeline, headers included."""
    if impair.trace is not None:
        return [bits / BIN_S / 1e6 for bits in _opportunities(impair.trace, bins)]
    timeline, bin_ns = impair.timeline(0), int(BIN_S * 1e9)
    middles = [number * bin_ns + bin_ns // 2 for number in range(bins)]
    return [0.0 if is_out(impair.outage, at_ns) else timeline.at(at_ns)[0] / 1e6 for at_ns in middles]


def beliefs(log: str, leg: str) -> list[dict[str, Any]]:
    """The lines of level trace about links of this leg."""
    found = []
    for line in log.splitlines():
        if '"link_congestion"' in line:
            with suppress(ValueError):  # the last one may be cut
                told = json.loads(line)
                if told["leg"] == leg:
                    found.append(told)
    return found


def _opportunities(trace: traces.Trace, bins: int) -> list[int]:
    """The bits of a trace's opportunities in each bin."""
    found, bin_ms = traces.opportunities(trace), int(BIN_S * 1000)
    counts = [0] * bins
    for lap_ms in range(0, bins * bin_ms, found[-1]):
        for at_ms in found:
            place = (lap_ms + at_ms) // bin_ms
            if place >= bins:
                break
            counts[place] += traces.OPPORTUNITY_BYTES * 8
    return counts
