"""The link box's records: captures of both sides, and a verdict for every frame."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from time import monotonic_ns, time_ns
from types import TracebackType
from typing import BinaryIO, TextIO

_MAGIC_NS = 0xA1B23C4D  # pcap with nanoseconds
_ETHERNET = 1  # LINKTYPE_ETHERNET
_MOST_BYTES = 65535

SIDES = ("a", "b")


class Recorder:
    """Use it in a `with` statement, which closes its files; without files `active` is False."""

    def __init__(self, captures: Path | None = None, journal: Path | None = None) -> None:
        """`captures`: directory for a.pcap and b.pcap; `journal`: file for the verdicts, JSON lines."""
        self.active = captures is not None or journal is not None
        self._to_wall_ns = time_ns() - monotonic_ns()
        self._captures: dict[str, BinaryIO] = {}
        self._journal: TextIO | None = None
        if captures is not None:
            captures.mkdir(parents=True, exist_ok=True)
            self._captures = {side: _capture(captures / f"{side}.pcap") for side in SIDES}
        if journal is not None:
            self._journal = journal.open("w", encoding="utf-8")

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (*self._captures.values(), self._journal):
            if file is not None:
                file.close()

    def flush(self) -> None:
        """Flush, so that a reader sees everything up to here."""
        for file in (*self._captures.values(), self._journal):
            if file is not None:
                file.flush()

    def came(self, way: str, frame: bytes, now_ns: int) -> None:
        """Record a frame that a side has sent: side a if it goes up."""
        self._write("a" if way == "up" else "b", frame, now_ns)

    def left(self, way: str, frame: bytes, now_ns: int) -> None:
        """Record a frame that has reached a side."""
        self._write("b" if way == "up" else "a", frame, now_ns)

    def verdict(
        self,
        way: str,
        index: int,
        length_bytes: int,
        now_ns: int,
        departures: Sequence[tuple[int, int | None]],
    ) -> None:
        """Record a verdict: no copies mean a loss; a copy has its delay and its flipped bit."""
        if self._journal is not None:
            copies = [{"delay_ns": due_ns - now_ns, "bit": bit} for due_ns, bit in departures]
            line = {"way": way, "index": index, "bytes": length_bytes, "came_ns": now_ns, "copies": copies}
            self._journal.write(json.dumps(line) + "\n")

    def _write(self, side: str, frame: bytes, now_ns: int) -> None:
        file = self._captures.get(side)
        if file is not None:
            seconds, rest = divmod(now_ns + self._to_wall_ns, 10**9)
            file.write(struct.pack("<IIII", seconds, rest, len(frame), len(frame)))
            file.write(frame)


def _capture(path: Path) -> BinaryIO:
    file = path.open("wb")
    file.write(struct.pack("<IHHiIII", _MAGIC_NS, 2, 4, 0, 0, _MOST_BYTES, _ETHERNET))
    return file
