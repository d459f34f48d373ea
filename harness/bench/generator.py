"""The load generator: builds it when needed, starts it as target and as user, and exchanges lines with it."""

from __future__ import annotations

import hashlib
import json
import os
import select
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.process import ROOT, Failed, end_with_parent

SOURCES = Path(__file__).parent / "load"
BUILT = ROOT / "build" / "bench"

FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror")

# Beyond its measured time; the generator itself gives up after 20 s of silence, and says why.
PATIENCE_S = 40.0

GRACE_S = 2.0


def build() -> Path:
    """The executable, recompiled if a source or the compiler's flags have changed. Raises Failed."""
    files = sorted(SOURCES.glob("*.[ch]"))
    compiler = shlex.split(os.environ.get("CC", "cc"))
    digest = hashlib.sha256(" ".join([*compiler, *FLAGS]).encode())
    for file in files:
        digest.update(file.read_bytes())
    path = BUILT / f"load-{digest.hexdigest()[:16]}"
    if not path.exists():
        BUILT.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        sources = [str(file) for file in files if file.suffix == ".c"]
        command = [*compiler, *FLAGS, "-o", str(unfinished), *sources]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise Failed(f"the load generator needs a C compiler: {compiler[0]} is not installed") from None
        if done.returncode:
            raise Failed(f"cannot compile the load generator:\n{done.stderr}")
        unfinished.replace(path)  # atomic, even with two runs in parallel
    return path


def words(
    workload: str, address: tuple[str, int], counters: Path, options: Mapping[str, str | float] | None = None
) -> list[str]:
    """The command line of one half."""
    given = [f"{name}={value}" for name, value in (options or {}).items()]
    return [str(build()), workload, address[0], str(address[1]), str(counters), *given]


class User:
    """A running user of a workload. Use it in a `with` statement, whose end ends it."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        """Start it. Its output goes through a pipe, so that a line is seen at once."""
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                process_group=0,
                preexec_fn=end_with_parent,
            )
        self._pending = b""

    def __enter__(self) -> User:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def until(self, word: str, seconds: float = 0.0) -> dict[str, Any]:
        """Wait for its line that begins with `word`; returns the figures in that line.

        `seconds`: how long the work takes by itself. Raises Failed, with its reason, if it ends before.
        """
        until_s = time.monotonic() + seconds + PATIENCE_S
        while True:
            line = self._line(until_s)
            if line.split(" ", 1)[0] == word:
                figures: dict[str, Any] = json.loads(line.partition(" ")[2] or "{}")
                return figures

    def tell(self, word: str) -> None:
        """Send it a line."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(word.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Failed(self._reason()) from None

    def _line(self, until_s: float) -> str:
        assert self._process.stdout is not None
        file = self._process.stdout.fileno()
        while b"\n" not in self._pending:
            if not select.select([file], [], [], max(until_s - time.monotonic(), 0))[0]:
                raise Failed("the load generator was silent for too long")
            more = os.read(file, 1 << 16)
            if not more:
                raise Failed(self._reason())
            self._pending += more
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode()

    def _reason(self) -> str:
        code = self._process.wait()
        said = self._log.read_text(encoding="utf-8", errors="replace").strip()
        return said or f"the load generator exited with code {code}"


def streamed(counters: Path) -> int:
    """The bytes that have arrived in streams so far, at the target and at the user (struct shared)."""
    fields = counters.read_bytes()
    return int.from_bytes(fields[:8], "little") + int.from_bytes(fields[72:80], "little")


def damaged(counters: Path) -> int:
    """The number of pieces that arrived damaged at the target (the third field of struct shared)."""
    return int.from_bytes(counters.read_bytes()[16:24], "little")
