"""When did this machine stand still? Witnesses beside a measurement in real time.

A process bound to each processor wakes up every millisecond, and records when that comes late. The gap shows
that the host of a virtual machine ran something else, or that other programs kept the processor. The
measurement itself cannot show it: a delay that the machine adds looks like one of the line. A measurement may
be repeated if such a gap fell into it, and for no other reason.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from harness.process import Failed, end_with_parent

TICK_NS = 1_000_000  # Interval of a witness's wake-ups
LATE_NS = 1_000_000  # A wake-up later than this is a stall; usually it is some ten microseconds late

WITNESSES = 8  # Most of them; on a larger machine, the first processors stand for the others

ANSWER_S = 30.0  # How long a witness may take to answer: it may be stalled itself


@dataclass(frozen=True, slots=True)
class Stall:
    """A time without a processor: from when its witness should have run to when it did."""

    since_ns: int
    until_ns: int

    def within(self, since_ns: int, until_ns: int) -> int:
        """How much of it lies between two times of the monotonic clock."""
        return max(min(self.until_ns, until_ns) - max(self.since_ns, since_ns), 0)


class Watch:
    """Watches while it is open; one Watch serves many measurements."""

    def __init__(self) -> None:
        self._witnesses: dict[int, subprocess.Popen[bytes]] = {}
        self._stalls: dict[int, list[Stall]] = {}

    def __enter__(self) -> Watch:
        for processor in sorted(os.sched_getaffinity(0))[:WITNESSES]:
            self._witnesses[processor] = subprocess.Popen(
                [sys.executable, "-S", "-E", "-c", _WITNESS, *map(str, (processor, TICK_NS, LATE_NS))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                process_group=0,  # Ctrl-C is for whoever watches
                preexec_fn=end_with_parent,
            )
            self._stalls[processor] = []
        self.stalls()  # now all of them run
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._witnesses.values():
            process.kill()
        for process in self._witnesses.values():
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):  # closing flushes a question that nobody has read
                        pipe.close()
            process.wait()
        self._witnesses.clear()

    def stalls(self) -> Mapping[int, Sequence[Stall]]:
        """The stalls of each processor so far, complete up to the moment of the call. Raises Failed."""
        for processor, process in self._witnesses.items():
            assert process.stdin is not None and process.stdout is not None
            try:
                process.stdin.write(b"?")
                process.stdin.flush()
            except BrokenPipeError:
                raise Failed(f"the witness of processor {processor} has ended") from None
            while True:
                if not select.select([process.stdout], [], [], ANSWER_S)[0]:
                    raise Failed(f"processor {processor} has not run for {ANSWER_S:.0f} s")
                line = process.stdout.readline()
                if not line:
                    raise Failed(f"the witness of processor {processor} has ended")
                if line == b"\n":
                    break
                since_ns, until_ns = map(int, line.split())
                self._stalls[processor].append(Stall(since_ns, until_ns))
        return self._stalls

    def away_ns(self, since_ns: int, until_ns: int) -> int:
        """The longest time for which one processor was away, in all, between two times."""
        return max(
            (sum(stall.within(since_ns, until_ns) for stall in each) for each in self.stalls().values()),
            default=0,
        )

    def longest_ns(self, since_ns: int) -> int:
        """The longest stall of any processor since then."""
        now_ns = time.monotonic_ns()
        return max(
            (stall.within(since_ns, now_ns) for each in self.stalls().values() for stall in each), default=0
        )


# Small, so that watching costs about a hundredth of a processor. An empty line says: so far that is all.
_WITNESS = """
import os, select, sys, time
processor, tick_ns, late_ns = map(int, sys.argv[1:])
os.sched_setaffinity(0, {processor})
due_ns = time.monotonic_ns() + tick_ns
while True:
    asked = select.select([0], [], [], max(due_ns - time.monotonic_ns(), 0) / 1e9)[0]
    now_ns = time.monotonic_ns()
    if now_ns - due_ns > late_ns:
        os.write(1, b"%d %d\\n" % (due_ns, now_ns))
    if asked:
        if not os.read(0, 1):
            break
        os.write(1, b"\\n")
    due_ns = now_ns + tick_ns
"""
