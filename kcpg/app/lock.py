"""One process per set of configurations: a pid file that its process keeps locked while it lives.

The kernel releases an flock(2) with its process, however that ends. So a pid left behind by a crash or a
reboot never counts as running, and kcpg never signals another program that got the same pid.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class PidLock:
    """This process's locked pid file. The lock survives fork(2): a child that keeps it open holds it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    def acquire(self) -> bool:
        """Take the lock; False if another process has it. Raises OSError if the file cannot be created."""
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._fd = fd
        return True

    def fileno(self) -> int:
        """The descriptor that holds the lock."""
        return self._fd

    def write_pid(self) -> None:
        """Write the calling process's pid into the file."""
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Empty the file and release the lock. The file stays: without it, two processes could lock two files
        of the same name."""
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
            self.abandon()

    def abandon(self) -> None:
        """Close this process's copy; a child that inherited the file still holds the lock."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def holder(path: Path) -> int | None:
    """The pid of the lock's holder; None if nobody holds it or the holder is just starting."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        text = os.read(fd, 32).strip()
        # Try the lock only where it is probably held: trying takes it for a moment, in which another process
        # that starts would believe that it runs already.
        if not text.isdigit() or not _exists(int(text)):
            return None
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(text)
    finally:
        os.close(fd)
    return None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
