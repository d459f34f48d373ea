"""Programs under test: starts one, waits until it is ready, reads its costs, and ends it and only it."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[1]

# Interval for checking a file or a process: far below what a person or a result notices.
POLL_S = 0.02

TERMINATE_S = 10.0  # How long a program may take to end; kcpg drains for 5 s unless configured otherwise

_PR_SET_PDEATHSIG = 1  # prctl(2)
_LIBC = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    """A program failed; the message ends with its last lines of output."""


class TooLong(Failed):
    """A program did not end in time."""


class Program:
    """A child process whose output goes to a file. Use it in a `with` statement, whose end ends it."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Start it. It gets SIGTERM if this process dies, but no Ctrl-C: this process ends it in its
        order."""
        self.name = name
        self.log = log
        self.command = list(command)
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=None if environ is None else {**os.environ, **environ},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
                preexec_fn=end_with_parent,
            )

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def wait_for(self, pattern: str, timeout_s: float = 20.0) -> re.Match[str]:
        """Wait for a line of output that matches `pattern`. Raises Failed if it ends or takes too long."""
        until_s = time.monotonic() + timeout_s
        while True:
            ended = not self.running  # before reading, so that the last lines are never missed
            match = re.search(pattern, self.output(), re.MULTILINE)
            if match is not None:
                return match
            if ended:
                raise Failed(f"{self.name} exited with code {self._process.returncode}{self._last_words()}")
            if time.monotonic() > until_s:
                raise Failed(f"{self.name} was not ready within {timeout_s:.0f} s{self._last_words()}")
            time.sleep(POLL_S)

    def wait(self, timeout_s: float) -> int:
        """Wait until it ends, and return its exit code. Raises TooLong."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise TooLong(f"{self.name} did not end within {timeout_s:.0f} s{self._last_words()}") from None

    def output(self) -> str:
        """All of its output so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def ask_to_end(self) -> None:
        """Send SIGTERM without waiting."""
        if self.running:
            self._process.send_signal(signal.SIGTERM)

    def stop(self, timeout_s: float = TERMINATE_S) -> int:
        """End it, by SIGKILL if it does not obey in time; returns the exit code. Idempotent."""
        self.ask_to_end()
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def cpu_s(self) -> float:
        """Processor seconds of all its threads, user and kernel; 0.0 after its end."""
        return cpu_s(self.pid)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """Let it stand still until `resume`."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def peak_rss_bytes(self) -> int:
        """Its peak resident memory; 0 after its end."""
        return peak_rss_bytes(self.pid)

    def _last_words(self) -> str:
        lines = self.output().strip().splitlines()[-12:]
        # The last one stands in the first line, too, which is all that a table shows.
        return f": {lines[-1].strip()}\n    " + "\n    ".join(lines) if lines else " and wrote nothing"


def cpu_s(pid: int) -> float:
    """Processor seconds of a process: from schedstat (nanoseconds), or from stat (clock ticks)."""
    total_ns = 0
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total_ns += int((task / "schedstat").read_text(encoding="ascii").split()[0])
        return total_ns / 1e9
    except (OSError, ValueError, IndexError):
        return _cpu_ticks_s(pid)


def waited_s(pid: int) -> float:
    """Seconds for which a process had something to do and other processes had the processors."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def _cpu_ticks_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime: proc(5) 14 and 15


def peak_rss_bytes(pid: int) -> int:
    """VmHWM of a process."""
    return _memory_bytes(pid, "VmHWM")


def resident_bytes(pid: int) -> int:
    """VmRSS of a process."""
    return _memory_bytes(pid, "VmRSS")


def _memory_bytes(pid: int, what: str) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    match = re.search(rf"^{what}:\s+(\d+) kB", status, re.MULTILINE)
    return int(match.group(1)) * 1024 if match else 0


def machine_busy_s() -> float:
    """Processor seconds that the whole machine has worked since it started."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
    idle = int(fields[3]) + int(fields[4])
    return (sum(map(int, fields)) - idle) / os.sysconf("SC_CLK_TCK")


def end_with_parent() -> None:
    """Runs in a child before its program: have the kernel send SIGTERM if this process dies."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
