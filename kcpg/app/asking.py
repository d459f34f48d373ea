"""Asks a running process for its status report (`kcpg.app.status`), without what a tunnel needs."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kcpg.app.lock import connect
from kcpg.app.paths import Instance

# A report takes milliseconds. A process that needs longer is stuck, and its silence says so.
ANSWER_LIMIT_S = 3.0

MAX_ANSWER_BYTES = 64 << 20

_MAX_SOCKET_NAME = 100  # Most bytes of a path in a sockaddr_un on every system (Linux 108, BSD 104)


def ask(one: Instance) -> dict[str, Any] | None:
    """The report of the process that runs the instance; None if it does not answer in time."""
    for connected in (lambda: _connect(one.socket), lambda: connect(one.name, ANSWER_LIMIT_S)):
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            return _read(connected)
    return None


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(ANSWER_LIMIT_S)
        with short(path) as name:
            connection.connect(name)
    except OSError:
        connection.close()
        raise
    return connection


def _read(connect_: Callable[[], Any]) -> dict[str, Any] | None:
    """The answer; raises FileNotFoundError or ConnectionRefusedError where nobody listens."""
    parts = []
    size = 0
    try:
        with contextlib.closing(connect_()) as connection:
            while size < MAX_ANSWER_BYTES and (part := connection.recv(1 << 16)):
                parts.append(part)
                size += len(part)
        answer = json.loads(b"".join(parts))
    except (FileNotFoundError, ConnectionRefusedError):
        raise
    except (OSError, ValueError):
        return None
    return answer if isinstance(answer, dict) else None


@contextlib.contextmanager
def short(path: Path) -> Iterator[str]:
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
