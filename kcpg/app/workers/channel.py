"""Messages between a process and a worker that it started, over a socket pair that only these two have.

A message is a pickled tuple: both ends are this program, and nobody else can write to the pair.
"""

from __future__ import annotations

import contextlib
import pickle
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import gevent
import gevent.event
import gevent.socket

from kcpg.app.logs import process_log

MAX_WAITING = 10_000  # Messages that may wait to be sent, mostly log lines; the oldest give way.

FDS_AT_ONCE = 200  # Descriptors per message; the kernel allows 253 (SCM_MAX_FD)

_SIZE = struct.Struct("=I")

Message = tuple[Any, ...]


class Channel:
    """One end. Calls `took` with each message, in a greenlet that may wait, and `ended` when the other end is
    gone."""

    def __init__(
        self, sock: gevent.socket.socket, took: Callable[[Message], None], ended: Callable[[], None]
    ) -> None:
        self._sock = sock
        self._took = took
        self._ended = ended
        self._waiting: deque[bytes] = deque(maxlen=MAX_WAITING)
        self._more = gevent.event.Event()
        self._reader = gevent.spawn(self._read)
        self._writer = gevent.spawn(self._write)

    def post(self, *message: object) -> None:
        """Queue a message, in order. Never waits, so any greenlet or callback may call it."""
        self._waiting.append(pack(message))
        self._more.set()

    def flush(self, limit_s: float) -> None:
        """Wait until all messages are sent, `limit_s` at most."""
        with gevent.Timeout(limit_s, False):
            while self._waiting and not self._writer.dead:
                gevent.sleep(0.001)

    def close(self) -> None:
        """Stop and close the socket. Idempotent."""
        current = gevent.getcurrent()
        for job in (self._reader, self._writer):
            if job is not current:
                job.kill(block=False)
        self._sock.close()

    def _read(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                self._take(receive(self._sock))
        self._ended()

    def _take(self, message: Message) -> None:
        try:
            self._took(message)
        except Exception:  # a bug here must not end the other process
            process_log().exception("cannot handle a message between processes")

    def _write(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._more.wait()
                self._more.clear()
                while self._waiting:
                    self._sock.sendall(self._waiting[0])
                    self._waiting.popleft()


def pack(message: object) -> bytes:
    """A message in its form on the socket."""
    data = pickle.dumps(message)
    return _SIZE.pack(len(data)) + data


def receive(sock: socket.socket) -> Message:
    """The next message. Raises EOFError if the other end has closed."""
    message = pickle.loads(_exactly(sock, _SIZE.unpack(_exactly(sock, _SIZE.size))[0]))
    assert isinstance(message, tuple)
    return message


def send_fds(sock: socket.socket, fds: Sequence[int]) -> None:
    """Pass descriptors to the other end, which takes them with `receive_fds`."""
    for at in range(0, len(fds), FDS_AT_ONCE):
        socket.send_fds(sock, [b"\0"], list(fds[at : at + FDS_AT_ONCE]))


def receive_fds(sock: socket.socket, count: int) -> list[int]:
    """The `count` descriptors that `send_fds` passed. Raises EOFError if the other end has closed."""
    found: list[int] = []
    while len(found) < count:
        data, fds, _, _ = socket.recv_fds(sock, 1, FDS_AT_ONCE)
        if not data:
            raise EOFError
        found += fds
    return found


def _exactly(sock: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = sock.recv(min(size - len(parts), 1 << 16))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)
