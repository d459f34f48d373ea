"""Captures of both ends of a cable, by tcpdump."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from harness.link import End, Link
from harness.process import Failed, Program

# The kernel's buffer for each capture: at full speed, a busy machine is late by some tenths of a second.
BUFFER_KIB = 32768


@dataclass
class Capture:
    """Use it in a `with` statement. Afterwards `files` are complete; until then they end with a whole
    frame."""

    link: Link
    directory: Path
    prefix: str = "capture"

    def __enter__(self) -> Capture:
        if shutil.which("tcpdump") is None:
            raise Failed("tcpdump is not installed")
        self._stack = ExitStack()
        try:
            for side, end in (("near", self.link.near), ("far", self.link.far)):
                self._stack.enter_context(self._start(side, end))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def files(self) -> tuple[Path, Path]:
        """Of the near and the far end."""
        return self._file("near"), self._file("far")

    def _file(self, side: str) -> Path:
        return self.directory / f"{self.prefix}-{side}.pcap"

    def _start(self, side: str, end: End) -> Program:
        words = ["tcpdump", "-i", end.device, "-w", str(self._file(side)), "-U", "--immediate-mode"]
        words += ["-B", str(BUFFER_KIB), "-s", "0", "-n", "-Z", "root"]
        program = Program(
            f"tcpdump {side}", end.namespace.command(words), self.directory / f"{self.prefix}-{side}.log"
        )
        try:
            program.wait_for("listening on")
        except BaseException:
            program.stop()
            raise
        return program
