"""One process per set of configurations: a pid file that is locked for as long as its process lives.

The lock is flock(2), so it ends with the process however that ends: a pid left behind by a crash or a reboot
never counts as running, and a pid that another program got meanwhile is never signalled.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class PidLock:
    """The locked pid file of this process. It survives fork(2): the child that keeps it open holds the
    lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    def acquire(self) -> bool:
        """Take the lock; False if another process has it. Raises OSError if the file cannot be made."""
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
        """Put the number of the calling process into the file."""
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Empty the file and give the lock back. The file stays: removing it would let two processes lock two
        files of the same name."""
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
            self.abandon()

    def abandon(self) -> None:
        """Close this process's copy only; a child that inherited the file still holds the lock."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def holder(path: Path) -> int | None:
    """The process that holds the lock, None if nobody does or its owner has only just begun to start."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        text = os.read(fd, 32).strip()
        # A lock is only tried where it is most likely held: trying takes it for a moment, and another process
        # that starts in that moment would believe that it is running already.
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
