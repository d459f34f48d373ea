"""Lines whose rate changes from millisecond to millisecond: traces of delivery opportunities.

The form is mahimahi's (Netravali et al., USENIX ATC 2015): a number per line, the millisecond of one
opportunity, never smaller than the line before. Each opportunity carries up to 1504 bytes: what is left of a
packet waits for the next one; what is left of an opportunity is for the next packet, if that waits already;
an opportunity at which nothing waits is gone. At the last line's millisecond the trace begins again.

`python -m netem.trace MEAN [SEED]` writes a generated one.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from netem import quantity
from netem.reader import Reader

# An IP packet of 1500 bytes, and the four bytes that mahimahi's tunnel puts before each.
OPPORTUNITY_BYTES = 1504

# A frame here begins with 14 bytes of Ethernet instead.
FRAME_EXTRA_BYTES = 14 - 4

MS = 10**6  # nanoseconds

WALK_MS = 20  # The random walk of the rate takes a step every so many milliseconds

# Of a generated trace, unless told otherwise: a moving telephone's rate changes by half within seconds.
SPREAD, MEMORY, EVERY, LENGTH = "50%", "2s", "20s", "120s"


@dataclass(frozen=True, slots=True)
class TraceFile:
    """A trace in a file; `path` is absolute."""

    path: str


@dataclass(frozen=True, slots=True)
class Radio:
    """A generated trace like that of a radio cell, as in Winstein et al., Sprout, NSDI 2013.

    Opportunities are a Poisson process. The logarithm of its rate walks randomly, is drawn back to the mean
    within `memory_ns`, and deviates by `spread`. An outage comes every `every_ns` and takes `outage_ns`, both
    exponentially distributed around these means (`outage_ns` 0: none).
    """

    mean_bps: int
    spread: float
    memory_ns: int
    outage_ns: int
    every_ns: int
    length_ns: int
    seed: int


Trace = TraceFile | Radio


def read(reader: Reader | None, directory: Path) -> Trace | None:
    """The table `trace` of a profile; a relative path is one in `directory`. The file is read, too."""
    if reader is None:
        return None
    if "file" not in reader.table:
        return _read_radio(reader)
    trace = TraceFile(str((directory / reader.take("file", quantity.text, "?")).absolute()))
    reader.finish()
    try:
        opportunities(trace)
    except (OSError, ValueError) as error:
        reader.problems.append(f"{reader.where}.file: {trace.path}: {error}")
        return None
    return trace


def _read_radio(reader: Reader) -> Radio | None:
    radio = Radio(
        reader.need("mean", quantity.rate_bps, 1),
        reader.take("spread", quantity.fraction, quantity.fraction(SPREAD)),
        reader.take("memory", quantity.time_ns, quantity.time_ns(MEMORY)),
        reader.take("outage", quantity.time_ns, 0),
        reader.take("every", quantity.time_ns, quantity.time_ns(EVERY)),
        reader.take("length", quantity.time_ns, quantity.time_ns(LENGTH)),
        reader.take("seed", quantity.whole, 1),
    )
    reader.finish()
    before = len(reader.problems)
    for key, value, least in (
        ("mean", radio.mean_bps, 1),
        ("memory", radio.memory_ns, 1),
        ("every", radio.every_ns, 1),
        ("length", radio.length_ns, MS),
    ):
        if value < least:
            reader.problems.append(f"{reader.where}.{key}: too small")
    return radio if len(reader.problems) == before else None


@cache
def opportunities(trace: Trace) -> array[int]:
    """The milliseconds of a trace's opportunities. Raises OSError; ValueError for what is no trace."""
    if isinstance(trace, Radio):
        return _walk(trace)
    with open(trace.path, encoding="ascii", errors="replace") as file:
        return parse(file)


def parse(lines: Iterable[str]) -> array[int]:
    """Read mahimahi's form. Raises ValueError, which names the line."""
    found = array("Q")
    last = 0
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text.isdecimal():
            raise ValueError(f"line {number}: {text!r} is not a millisecond")
        at_ms = int(text)
        if at_ms < last:
            raise ValueError(f"line {number}: {at_ms} comes after {last}")
        found.append(at_ms)
        last = at_ms
    if last == 0:
        raise ValueError("the last opportunity must come after millisecond 0: there the trace begins again")
    return found


def mean_bps(trace: Trace) -> int:
    """What the trace carries in the mean, in bits per second."""
    found = opportunities(trace)
    return len(found) * OPPORTUNITY_BYTES * 8 * 1000 // found[-1]


def length_ns(trace: Trace) -> int:
    """After this time the trace begins again."""
    return opportunities(trace)[-1] * MS


def _walk(radio: Radio) -> array[int]:
    rng = random.Random(f"radio:{radio.seed}")
    length_ms = radio.length_ns // MS
    # An Ornstein-Uhlenbeck process: `keep` of the deviation survives a step.
    keep = math.exp(-WALK_MS * MS / radio.memory_ns)
    kick = radio.spread * math.sqrt(1 - keep * keep)
    mean_per_ms = radio.mean_bps / (OPPORTUNITY_BYTES * 8 * 1000)
    deviation = rng.gauss(0, radio.spread)
    every_ms, outage_ms = radio.every_ns / MS, radio.outage_ns / MS
    out_until_ms, out_from_ms = 0.0, rng.expovariate(1) * every_ms if outage_ms else math.inf
    found = array("Q")
    due, done, per_ms = rng.expovariate(1), 0.0, 0.0
    for at_ms in range(1, length_ms + 1):
        if at_ms % WALK_MS == 1:
            # the mean of exp(deviation) is exp(spread² / 2)
            per_ms = mean_per_ms * math.exp(deviation - radio.spread**2 / 2)
            deviation = deviation * keep + rng.gauss(0, kick)
        if at_ms >= out_from_ms:
            out_until_ms = at_ms + rng.expovariate(1) * outage_ms
            out_from_ms = out_until_ms + rng.expovariate(1) * every_ms
        if at_ms < out_until_ms:
            continue
        done += per_ms
        while done >= due:
            found.append(at_ms)
            due += rng.expovariate(1)
    if not found or found[-1] != length_ms:
        found.append(length_ms)  # which gives the trace its length
    return found


class Served:
    """When packets, one behind the other, are through a line that has this trace from `epoch_ns` on."""

    def __init__(self, trace: Trace, epoch_ns: int, busy_until_ns: int = 0) -> None:
        self._found = opportunities(trace)
        self._lap_ns = self._found[-1] * MS
        self._base_ns = epoch_ns  # when this lap began
        self._place = 0  # of the opportunity in use
        self._left = OPPORTUNITY_BYTES  # of it
        self._seek(busy_until_ns)

    def done_ns(self, from_ns: int, frame_bytes: int) -> int:
        """When a packet that waits from `from_ns` on, behind all earlier ones, has been carried."""
        self._seek(from_ns)
        need = max(frame_bytes - FRAME_EXTRA_BYTES, 1)
        while need > self._left:
            need -= self._left
            self._next()
        self._left -= need
        return self._base_ns + self._found[self._place] * MS

    def _seek(self, from_ns: int) -> None:
        """Go to the first opportunity after `from_ns`; those before it are gone."""
        found = self._found
        if self._base_ns + found[self._place] * MS > from_ns:
            return
        if self._base_ns + self._lap_ns <= from_ns:
            self._base_ns += (from_ns - self._base_ns) // self._lap_ns * self._lap_ns
            self._place = 0
        self._place = bisect_right(found, (from_ns - self._base_ns) // MS, self._place)
        self._left = OPPORTUNITY_BYTES

    def _next(self) -> None:
        self._place += 1
        if self._place == len(self._found):
            self._place = 0
            self._base_ns += self._lap_ns
        self._left = OPPORTUNITY_BYTES


def main(words: Sequence[str]) -> int:
    """Write a generated trace to the standard output."""
    parser = argparse.ArgumentParser(prog="python -m netem.trace", description=main.__doc__)
    parser.add_argument("mean", help="mean rate, for example 8mbit")
    parser.add_argument("seed", nargs="?", type=int, default=1)
    parser.add_argument("--spread", default=SPREAD, help="of the rate's logarithm (%(default)s)")
    parser.add_argument("--memory", default=MEMORY, help="of the rate (%(default)s)")
    parser.add_argument("--outage", default="0s", help="mean length of an outage (%(default)s: none)")
    parser.add_argument("--every", default=EVERY, help="mean time between outages (%(default)s)")
    parser.add_argument("--length", default=LENGTH, help="after which it begins again (%(default)s)")
    options = parser.parse_args(words)
    table = {
        name: getattr(options, name) for name in ("mean", "spread", "memory", "outage", "every", "length")
    }
    problems: list[str] = []
    trace = _read_radio(Reader("trace", {**table, "seed": options.seed}, problems))
    if trace is None:
        parser.error("; ".join(problems))
    sys.stdout.writelines(f"{at_ms}\n" for at_ms in opportunities(trace))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
