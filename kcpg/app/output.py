"""Lines to a terminal, a pipe or a file that may take none: the program neither waits for them nor ends.

A full disk, a pipe that nobody reads or a terminal that was stopped (Ctrl-S) must not stop the traffic. `put`
raises OSError for a line that was not taken, and its caller decides who is told.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
from pathlib import Path
from typing import TextIO

from gevent import monkey

# gevent's lets others run first, which the event loop itself must not do; lines come from there as well.
_poll = monkey.get_original("select", "poll")


# What a file system without room for data or for one more file answers; that may be over at any time.
FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})


class Stream:
    """Standard output or standard error, from which writing borrows the descriptor."""

    def __init__(self, stream: TextIO) -> None:
        """`stream` without a descriptor (a test's, for example) is written to as it is."""
        self._stream = stream
        self._writer: _Writer | None = None
        with contextlib.suppress(OSError, ValueError):
            self._writer = _Writer(stream.fileno())

    def put(self, line: str) -> None:
        """Write the line now. Raises OSError if it is not taken at once."""
        if self._writer is None:
            self._stream.write(line + "\n")
            self._stream.flush()
            return
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._writer.put(line.encode(encoding, "backslashreplace"))

    def close(self) -> None:
        """Nothing: the descriptor is the process's."""


class RotatingFile:
    """A file that is renamed to `.1`, `.2`… up to `keep` before it grows beyond `rotate_bytes`."""

    def __init__(self, path: Path, rotate_bytes: int, keep: int) -> None:
        self._path = Path(os.path.abspath(path))
        self._rotate_bytes = rotate_bytes
        self._keep = keep
        self._writer: _Writer | None = None

    def put(self, line: str) -> None:
        """Append the line, whatever happened to the lines before. Raises OSError."""
        data = line.encode("utf-8", "backslashreplace")
        if self._writer is not None and self._writer.is_full(len(data) + 1, self._rotate_bytes):
            self._rotate()
        self.open().put(data)

    def open(self) -> _Writer:
        """Open the file unless it is open. Raises OSError."""
        if self._writer is None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._writer = _Writer(os.open(self._path, flags, 0o666))
        return self._writer

    def close(self) -> None:
        """Close the file; the next line opens it again. Raises nothing: no line waits in here."""
        if self._writer is not None:
            with contextlib.suppress(OSError):  # close(2): the descriptor is gone all the same
                os.close(self._writer.fd)
            self._writer = None

    def _rotate(self) -> None:
        self.close()
        for number in range(self._keep, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = self._path.with_name(f"{self._path.name}.{number - 1}") if number > 1 else self._path
            with contextlib.suppress(OSError):
                os.replace(newer, older)


class _Writer:
    """Writes whole lines to a descriptor, as long as that waits for nobody."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._is_file = stat.S_ISREG(os.fstat(fd).st_mode)
        self._ready: select.poll = _poll()
        self._ready.register(fd, select.POLLOUT)
        self._is_torn = False  # the last line was taken in part

    def is_full(self, more: int, limit: int) -> bool:
        """Whether a regular file would be larger than `limit` bytes with so many `more`."""
        return self._is_file and os.fstat(self.fd).st_size + more > limit

    def put(self, line: bytes) -> None:
        rest = memoryview((b"\n" if self._is_torn else b"") + line + b"\n")
        size = len(rest)
        try:
            while rest:
                # A pipe that is ready takes this much without waiting (pipe(7)), and so does the rest.
                if not self._is_file and not self._ready.poll(0):
                    raise BlockingIOError(errno.EAGAIN, "nobody reads it")
                rest = rest[os.write(self.fd, rest[: select.PIPE_BUF]) :]
        except OSError:
            self._is_torn = self._is_torn if len(rest) == size else True
            raise
        self._is_torn = False
