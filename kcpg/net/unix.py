"""UNIX sockets as the place where applications connect, and as the target of TCP flows."""

from __future__ import annotations

import _socket
import errno
import os
import stat
from typing import TYPE_CHECKING

import gevent

from kcpg.core.flow import WRITABLE, Reset, ResetCode
from kcpg.net.clock import now_ms

if TYPE_CHECKING:
    from kcpg.net.local_tcp import FlowHost, TcpFlow

# A listener whose queue is full says so at once, and nothing tells when it has room (connect(2), EAGAIN).
RETRY_S = 0.02

_CODES = {
    errno.ECONNREFUSED: ResetCode.REFUSED,
    errno.ENOENT: ResetCode.UNREACHABLE,
    errno.EACCES: ResetCode.FORBIDDEN,
    errno.EAGAIN: ResetCode.TIMEOUT,
}


def listen(path: str, backlog: int) -> _socket.socket:
    """A listening, non-blocking socket. One that a process left behind is replaced. Raises OSError."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_abandoned(path):
                raise
            os.unlink(path)
            sock.bind(path)
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return sock


def remove(sock: _socket.socket) -> None:
    """Delete the file of a listening socket that is about to be closed."""
    try:
        path = sock.getsockname()
        if path:
            os.unlink(path)
    except OSError:
        pass


def _is_abandoned(path: str) -> bool:
    """Whether a socket file has nobody listening."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
    except OSError:
        return False
    probe = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        probe.setblocking(False)
        return int(probe.connect_ex(path)) == errno.ECONNREFUSED
    finally:
        probe.close()


class PathDial:
    """One attempt to connect `flow` to the socket of a path."""

    def __init__(self, flow: TcpFlow, path: str, host: FlowHost, timeout_ms: int) -> None:
        self._flow, self._path, self._host = flow, path, host
        self._until_ms = now_ms() + timeout_ms
        self._waiting: gevent.Greenlet | None = None

    def start(self) -> Reset | None:
        """Connect now, as it mostly goes, or begin to try. Gives the reason if it failed already."""
        error = self._try()
        if error == errno.EAGAIN:
            self._flow.dial = self
            self._waiting = gevent.spawn(self._keep_trying)
            return None
        return self._reason(error) if error else None

    def cancel(self) -> None:
        """The flow is gone: give the attempt up."""
        if self._waiting is not None and self._waiting is not gevent.getcurrent():
            self._waiting.kill(block=False)

    def _try(self) -> int:
        """0: the flow has its connection; else an errno."""
        try:
            sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK)
        except OSError as error:
            return error.errno or errno.EIO
        error_number = int(sock.connect_ex(self._path))
        if error_number:
            sock.close()
        else:
            self._flow.dial = None
            self._flow.adopt(sock.detach())
        return error_number

    def _keep_trying(self) -> None:
        error = errno.EAGAIN
        while error == errno.EAGAIN and now_ms() < self._until_ms:
            gevent.sleep(RETRY_S)
            error = self._try()
        splice = self._flow.splice
        if error:
            self._flow.reset(self._reason(error))
            if splice is not None:
                splice.on_reset(self._flow, self._reason(error))
        elif splice is not None:
            splice.ready(self._flow, WRITABLE)
        self._host.request_advance()

    def _reason(self, number: int) -> Reset:
        text = "its queue of connections is full" if number == errno.EAGAIN else os.strerror(number)
        return Reset(_CODES.get(number, ResetCode.UNREACHABLE), f"{self._path}: {text}")
