"""The status socket: answers each connection with a JSON report of the process, then closes it.

It is in a directory that only its user can enter, takes no commands and reveals no secret.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import gevent
import gevent.socket
from gevent.pool import Pool

from kcpg.app.asking import ANSWER_LIMIT_S, short
from kcpg.app.lock import credentials

# Pause after a connection that could not be accepted even with the descriptor that is kept for it.
PAUSE_S = 1.0

MAX_READERS = 8  # Reports sent at once; a reader that does not read blocks no other

_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class StatusServer:
    """Answers every connection to a unix socket with `report()`, until closed.

    It keeps a descriptor in reserve: that a process has none left is what people look for in its status.
    """

    def __init__(
        self, path: Path, report: Callable[[], dict[str, object]], name: _socket.socket | None = None
    ) -> None:
        """`name`: a listening socket that answers as well, and that is not a file (`kcpg.app.lock`)."""
        self._path = path
        self._name = None if name is None else gevent.socket.socket(fileno=os.dup(name.fileno()))
        self._report = report
        self._listener: gevent.socket.socket | None = None
        self._serving: list[gevent.Greenlet] = []
        self._readers = Pool(MAX_READERS)
        self._reserve = -1

    def start(self) -> None:
        """Listen, and replace the socket of a process that crashed. Raises OSError."""
        self._keep_reserve()
        if self._name is not None:
            self._begin(self._name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        self._listener = gevent.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with short(self._path) as name:
            self._listener.bind(name)
        os.chmod(self._path, 0o600)
        self._listener.listen(MAX_READERS)
        self._begin(self._listener)

    def close(self) -> None:
        """Stop answering and remove the socket."""
        if not self._serving:
            return
        gevent.killall(self._serving)
        self._serving.clear()
        self._readers.kill()
        for listener in (self._listener, self._name):
            if listener is not None:
                listener.close()
        self._give_reserve()
        with contextlib.suppress(FileNotFoundError, PermissionError):  # root's directory, and no longer root
            os.unlink(self._path)

    def _begin(self, listener: gevent.socket.socket) -> None:
        listener.setblocking(False)
        self._serving.append(gevent.spawn(self._serve, listener))

    def _serve(self, listener: gevent.socket.socket) -> None:
        while True:
            gevent.socket.wait_read(listener.fileno())
            try:
                connection, _ = listener.accept()
            except OSError as error:
                if error.errno in _NO_DESCRIPTORS and not self._serve_with_reserve(listener):
                    gevent.sleep(PAUSE_S)
                continue
            self._readers.spawn(self._answer, connection)

    def _serve_with_reserve(self, listener: gevent.socket.socket) -> bool:
        """Answer one connection with the last descriptor; nobody else runs while that is free."""
        self._give_reserve()
        try:
            connection, _ = listener.accept()
        except OSError:
            return False
        else:
            self._answer(connection)
            return True
        finally:
            self._keep_reserve()

    def _keep_reserve(self) -> None:
        with contextlib.suppress(OSError):
            self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _give_reserve(self) -> None:
        if self._reserve >= 0:
            os.close(self._reserve)
            self._reserve = -1

    def _answer(self, connection: gevent.socket.socket) -> None:
        # The name has no mode that would keep other users out, as the file's directory does.
        if credentials(connection)[1] not in (os.geteuid(), 0):
            connection.close()
            return
        data = json.dumps(self._report(), ensure_ascii=False, default=str).encode()
        with connection, gevent.Timeout(ANSWER_LIMIT_S, False), contextlib.suppress(OSError):
            connection.sendall(data)
