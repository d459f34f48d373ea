"""The status socket: answers each connection with a JSON report of the process, then closes it.

It is in a directory that only its user can enter, takes no commands and reveals no secret.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
from gevent.pool import Pool
from gevent.server import StreamServer

# A report takes milliseconds. A process that needs longer is stuck, and its silence says so.
ANSWER_LIMIT_S = 3.0

MAX_ANSWER_BYTES = 64 << 20
MAX_READERS = 8  # Reports sent at once; a reader that does not read blocks no other

_MAX_SOCKET_NAME = 100  # Most bytes of a path in a sockaddr_un on every system (Linux 108, BSD 104)


class StatusServer:
    """Answers every connection to a unix socket with `report()`, until closed."""

    def __init__(self, path: Path, report: Callable[[], dict[str, object]]) -> None:
        self._path = path
        self._report = report
        self._server: StreamServer | None = None

    def start(self) -> None:
        """Listen, and replace the socket of a process that crashed. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        listener = gevent.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with _short(self._path) as name:
            listener.bind(name)
        os.chmod(self._path, 0o600)
        listener.listen(MAX_READERS)
        self._server = StreamServer(listener, self._answer, spawn=Pool(MAX_READERS))
        self._server.start()

    def close(self) -> None:
        """Stop answering and remove the socket."""
        if self._server is not None:
            self._server.close()
            self._server = None
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)

    def _answer(self, connection: gevent.socket.socket, _peer: object) -> None:
        data = json.dumps(self._report(), ensure_ascii=False, default=str).encode()
        with gevent.Timeout(ANSWER_LIMIT_S, False), contextlib.suppress(OSError):
            connection.sendall(data)


def ask(path: Path) -> dict[str, Any] | None:
    """The report of the process behind the socket; None if it does not answer in time."""
    parts = []
    size = 0
    try:
        with _short(path) as name, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_LIMIT_S)
            connection.connect(name)
            while size < MAX_ANSWER_BYTES and (part := connection.recv(1 << 16)):
                parts.append(part)
                size += len(part)
        answer = json.loads(b"".join(parts))
    except (OSError, ValueError):
        return None
    return answer if isinstance(answer, dict) else None


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name for `path` that fits a socket address: a long path goes through a descriptor of its directory
    (proc(5))."""
    if len(os.fsencode(path)) <= _MAX_SOCKET_NAME:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
