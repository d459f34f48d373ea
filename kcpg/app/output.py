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

# Of log, status and address files: they name peers and targets, and log files are often for a group to read.
FILE_MODE = 0o640

_NO_LINK = "is a symbolic link, which is not followed: whoever made it would choose what is written to"


def open_file(path: Path, flags: int) -> int:
    """A descriptor of a file to write to, of mode FILE_MODE if it is new.

    Raises OSError, also for a symbolic link, and for a named pipe that nobody reads instead of waiting.
    """
    safely = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return os.open(path, flags | os.O_WRONLY | os.O_CREAT | safely, FILE_MODE)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise OSError(errno.ELOOP, _NO_LINK, str(path)) from error


def replace_file(path: Path, text: str) -> None:
    """Write a whole file; its readers never see half of it. Raises OSError.

    A draft that somebody left, or placed, beside it is removed and not written to.
    """
    draft = path.with_name(path.name + ".new")
    with contextlib.suppress(FileNotFoundError):
        draft.unlink()
    with open(open_file(draft, os.O_EXCL), "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)


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
    """A file that is renamed to `.1`, `.2`… up to `keep` before it grows beyond `rotate_bytes`.

    Whoever moves or removes it gets a new one with the next line.
    """

    def __init__(self, path: Path, rotate_bytes: int, keep: int) -> None:
        self._path = Path(os.path.abspath(path))
        self._rotate_bytes = rotate_bytes
        self._keep = keep
        self._writer: _Writer | None = None

    def put(self, line: str) -> None:
        """Append the line, whatever happened to the lines before. Raises OSError."""
        data = line.encode("utf-8", "backslashreplace")
        if self._writer is not None and not self._writer.is_at(self._path):
            self.close()  # logrotate has moved it
        if self._writer is not None and self._writer.is_full(len(data) + 1, self._rotate_bytes):
            self._rotate()
        self.open().put(data)

    def open(self) -> _Writer:
        """Open the file unless it is open. Raises OSError."""
        if self._writer is None:
            self._writer = _Writer(open_file(self._path, os.O_APPEND))
        return self._writer

    def give_to(self, uid: int, gid: int) -> None:
        """Give the open file to a user, so that it can be opened again by one. Raises OSError."""
        if self._writer is not None and self._writer.is_own:
            os.fchown(self._writer.fd, uid, gid)

    @property
    def directory(self) -> Path:
        """Where it is, and where rotation renames it."""
        return self._path.parent

    def close(self) -> None:
        """Close the file; the next line opens it again. Raises nothing: no line waits in here."""
        if self._writer is not None:
            with contextlib.suppress(OSError):  # close(2): the descriptor is gone all the same
                os.close(self._writer.fd)
            self._writer = None

    def _rotate(self) -> None:
        """Begin an empty file. In a directory that takes no renaming, the old lines are lost."""
        if self._writer is not None and not os.access(self._path.parent, os.W_OK):
            os.ftruncate(self._writer.fd, 0)
            return
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
        facts = os.fstat(fd)
        self._is_file = stat.S_ISREG(facts.st_mode)
        self._identity = facts.st_dev, facts.st_ino
        # Not what somebody else put here, nor one file under two names.
        self.is_own = self._is_file and (facts.st_uid, facts.st_nlink) == (os.geteuid(), 1)
        self._ready: select.poll = _poll()
        self._ready.register(fd, select.POLLOUT)
        self._is_torn = False  # the last line was taken in part

    def is_at(self, path: Path) -> bool:
        """Whether the path still leads to this file, or it is none that can be moved."""
        if not self._is_file:
            return True
        try:
            facts = os.lstat(path)
        except OSError:
            return False
        return (facts.st_dev, facts.st_ino) == self._identity

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
