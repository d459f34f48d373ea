"""What the two kinds of local listening sockets have in common: turns while they are open."""

from __future__ import annotations

import _socket
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from kcpg.net import READ
from kcpg.net.task import Task

if TYPE_CHECKING:
    from kcpg.core.flow import Target
    from kcpg.net.local_tcp import FlowHost


class ListeningPort(ABC):
    """A bound socket of a local leg, and where its flows want to go."""

    def __init__(self, sock: _socket.socket, target: Target | None, host: FlowHost) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.target = target
        self._host = host
        self.closed = False
        self._task = Task(self._ready, self.fd, READ, self._first)

    def start(self) -> None:
        """Begin to take what comes."""
        self._task.wait_io()

    def close(self) -> None:
        """Stop; what the kernel still holds for this socket is lost. Idempotent."""
        if not self.closed:
            self.closed = True
            self._task.close()
            self.sock.close()

    def _first(self) -> bool:
        """What can be done without a turn."""
        return False

    @abstractmethod
    def _turn(self) -> int | None:
        """Take a bounded number of connections or packets. A number: not again for so many milliseconds."""

    def _ready(self) -> None:
        pause_ms = None
        try:
            pause_ms = self._turn()
        except Exception:
            self._host.crashed(f"a turn of a {type(self).__name__}")
        self._host.request_advance()
        if pause_ms is not None:
            self._task.wait(pause_ms)
        else:
            self._task.wait_io()
