"""Publishes a public address: in a log line, in `ip_address.txt`, and by the user's own program."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gevent

from kcpg.app.logs import NodeLog
from kcpg.app.output import replace_file
from kcpg.app.wording import exit_words
from kcpg.net.addr import AF_INET, family, port, text, to_tuple

FILE = "ip_address.txt"  # Its name in `log_path`, from kcptube's documentation

PROGRAM_LIMIT_S = 30.0  # Publishing an address takes seconds; a program that hangs is ended

KILL_AFTER_S = 2.0  # From SIGTERM to SIGKILL

# Interval for checking whether the program has ended: nobody notices it, and it costs nothing.
LOOK_S = 0.05

MAX_CHANGES = 16  # Changes that may wait for the program. One comes every 25 s at most, so few ever wait.


@dataclass(frozen=True, slots=True)
class Program:
    """The program of `update_ipv4` or `update_ipv6`."""

    key: str
    path: str


class PublicAddress:
    """One leg's public addresses. `programs`: by address family; `directory` None: no file."""

    def __init__(self, log: NodeLog, directory: Path | None, programs: Mapping[int, Program]) -> None:
        self._log = log
        self._directory = directory
        self._programs = programs
        self._known: dict[int, bytes] = {}
        self._changes: deque[bytes] = deque(maxlen=MAX_CHANGES)
        self._job: gevent.Greenlet | None = None

    def changed(self, public: bytes) -> None:
        """Publish a new address. To be called once per change; does not wait for the program."""
        self._known[family(public)] = public
        self._log.say(logging.INFO, f"public address {text(public)} (STUN)")
        if self._directory is not None:
            self._write(self._directory / FILE)
        if family(public) in self._programs:
            self._changes.append(public)
            if self._job is None:
                self._job = gevent.spawn(self._work)

    def close(self) -> None:
        """Start no more programs; a greenlet still waits for one that runs. Idempotent."""
        self._changes.clear()

    def _write(self, file: Path) -> None:
        """Write both families."""
        lines = [f"Update Time: {time.strftime('%Y-%m-%d %H:%M:%S %z')}"]
        for public in sorted(self._known.values()):
            name = "IPv4" if family(public) == AF_INET else "IPv6"
            lines += [
                f"External {name} Address: {to_tuple(public)[0]}",
                f"External {name} Port: {port(public)}",
            ]
        try:
            replace_file(file, "\n".join(lines) + "\n")
        except OSError as error:
            self._log.say(logging.WARNING, f"cannot write {file}: {error.strerror}", "ip_address_file")

    def _work(self) -> None:
        """Run one program at a time, in the order of the changes, so that the newest address comes last."""
        while self._changes:
            public = self._changes.popleft()
            self._run(self._programs[family(public)], text(public))
        self._job = None

    def _run(self, program: Program, argument: str) -> None:
        what = f"{program.key} {program.path} {argument}"
        try:
            # In a session of its own, so that its children can be ended with it. Without a shell.
            running = subprocess.Popen(
                [program.path, argument], stdin=subprocess.DEVNULL, start_new_session=True
            )
        except (OSError, ValueError) as error:
            self._log.say(logging.WARNING, f"cannot run {what}: {getattr(error, 'strerror', error)}")
            return
        if not _ended(running, PROGRAM_LIMIT_S):
            _end(running)
            self._log.say(
                logging.WARNING, f"{what}: did not exit within {PROGRAM_LIMIT_S:.0f} s and was ended"
            )
            return
        code = running.returncode
        level = logging.INFO if code == 0 else logging.WARNING
        self._log.say(level, f"{what}: {exit_words(code)}")


def _ended(running: subprocess.Popen[bytes], limit_s: float) -> bool:
    """Wait for the program's end, and reap it, so that no zombie stays."""
    until_s = time.monotonic() + limit_s
    while running.poll() is None:
        if time.monotonic() >= until_s:
            return False
        gevent.sleep(LOOK_S)
    return True


def _end(running: subprocess.Popen[bytes]) -> None:
    """End the program and its children: SIGTERM first, then SIGKILL."""
    for number, limit_s in ((signal.SIGTERM, KILL_AFTER_S), (signal.SIGKILL, KILL_AFTER_S)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(running.pid, number)
        if _ended(running, limit_s):
            return
