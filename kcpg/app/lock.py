"""One process per set of configurations: a pid file that its process keeps locked while it lives, and a name.

The kernel releases an flock(2) with its process, however that ends. So a pid left behind by a crash or a
reboot never counts as running, and kcpg never signals another program that got the same pid.

Files can be deleted while their process runs, and another HOME leads to other files. So the process also
binds an abstract unix socket (unix(7)) with the name of its instance. Anybody may take such a name; it counts
only if the kernel says that its process belongs to this user (SO_PEERCRED). The sockets are the interpreter's
own: gevent's would create an event loop, and a daemon is still to fork.
"""

from __future__ import annotations

import _socket
import contextlib
import fcntl
import os
import struct
from pathlib import Path

_NAMES = "/proc/net/unix"  # Lists the unix sockets of this network namespace (proc(5)); `@` begins a name

_SO_PEERCRED = 17  # include/uapi/asm-generic/socket.h

_CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid

BACKLOG = 8  # Connections to the name, which also answers for the status, that wait to be accepted

ASK_LIMIT_S = 1.0  # A process that does not even accept keeps nobody waiting for longer


class PidLock:
    """This process's locked pid file and name. Both survive fork(2): a child that keeps them open holds
    them."""

    def __init__(self, path: Path, name: str = "") -> None:
        """`name`: the instance's; empty: only the file counts."""
        self.path = path
        self.sock: _socket.socket | None = None  # Bound to the name, and listening
        self._name = name
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
        if self._name and not self._take_name():
            self.abandon()
            return False
        return True

    def filenos(self) -> set[int]:
        """The descriptors that hold the lock."""
        return {self._fd} if self.sock is None else {self._fd, self.sock.fileno()}

    def write_pid(self) -> None:
        """Write the calling process's pid into the file, and give the name to it."""
        if self.sock is not None:
            self.sock.listen(BACKLOG)  # once more: from now on SO_PEERCRED is of this process
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
        if self.sock is not None:
            self.sock.close()
            self.sock = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _take_name(self) -> bool:
        """Take the name; False if a process of this user has it."""
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            sock.bind(_address(self._name))
            sock.listen(BACKLOG)
        except OSError:  # taken, by a stranger too, or there are no such names on this system
            sock.close()
            return named_holder(self._name) is None
        self.sock = sock
        return True


def named_holder(name: str) -> int | None:
    """The pid of this user's process that has the instance's name; None if there is none."""
    with contextlib.suppress(OSError), contextlib.closing(connect(name, ASK_LIMIT_S)) as sock:
        pid, _ = credentials(sock)
        return pid if _exists(pid) else None
    return None


def credentials(sock: _socket.socket) -> tuple[int, int]:
    """Pid and uid of the process at the other end. Raises OSError."""
    data = sock.getsockopt(_socket.SOL_SOCKET, _SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(data)
    return pid, uid


def connect(name: str, limit_s: float) -> _socket.socket:
    """A connection to the process of this user that has the instance's name. Raises OSError."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        sock.settimeout(limit_s)
        sock.connect(_address(name))
        if credentials(sock)[1] != os.geteuid():
            raise PermissionError(1, "belongs to another user")
    except OSError:
        sock.close()
        raise
    return sock


def names() -> list[str]:
    """The instances whose names this user's processes have in this network namespace."""
    prefix = _address("").replace("\0", "@")
    found = set()
    with contextlib.suppress(OSError), open(_NAMES, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            word = line.split()[-1]
            if word.startswith(prefix):
                found.add(word.removeprefix(prefix))
    return sorted(name for name in found if named_holder(name) is not None)


def _address(name: str) -> str:
    return f"\0kcpg-{os.geteuid()}-{name}"


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
