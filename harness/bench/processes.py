"""The processes of a system and their children: their costs, their sockets, and their end."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


def group(leader: int) -> list[int]:
    """The live processes of a group: a program of the harness, which leads it, and its children."""
    return sorted(pid for pid, fields in _all() if int(fields[2]) == leader and fields[0] != "Z")


def cpu_s(pid: int) -> float:
    """Processor seconds of a process so far, ended threads included; 0.0 if it has gone.

    From its clock, clock_getcpuclockid(3), in nanoseconds: /proc counts ticks or forgets threads.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def group_cpu_s(leader: int) -> float:
    """Processor seconds of a group so far, ended children included, whether reaped or not."""
    total = sum(cpu_s(pid) for pid, fields in _all() if int(fields[2]) == leader)  # zombies keep their clocks
    fields = _stat(leader)
    return total + (int(fields[13]) + int(fields[14])) / TICKS if fields else total  # cutime, cstime


def group_memory_bytes(leader: int, what: str) -> int:
    """`VmRSS` (now) or `VmHWM` (at most) of a group."""
    return sum(_memory(pid, what) for pid in group(leader))


def end_group(leader: int) -> None:
    """End the processes that a leader has left behind."""
    for pid in group(leader):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def listens(pid: int, protocol: str, port: int) -> bool:
    """Whether a process in this one's namespace has a socket bound there: `tcp` (listening) or `udp`."""
    for version in ("", "6"):
        try:
            lines = (PROC / str(pid) / "net" / f"{protocol}{version}").read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            local, state = fields[1], fields[3]
            if int(local.rpartition(":")[2], 16) == port and (protocol == "udp" or state == "0A"):
                return True
    return False


def _all() -> Iterator[tuple[int, list[str]]]:
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            yield int(entry.name), fields


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state (field 3) on, proc(5); empty if the process has gone."""
    try:
        return (PROC / str(pid) / "stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _memory(pid: int, what: str) -> int:
    try:
        status = (PROC / str(pid) / "status").read_text("utf-8", errors="replace")
    except OSError:
        return 0
    match = re.search(rf"^{what}:\s+(\d+) kB", status, re.MULTILINE)
    return int(match.group(1)) * 1024 if match else 0
