"""The local sockets of a dialer."""

from __future__ import annotations

import heapq

from kcpg.core.env import Env
from kcpg.core.native.link.epochs import RETIRE_MS


class SourcePorts:
    """The one in use, a second while resuming, old ones until their late datagrams came.

    A hop opens its own (`open`), makes it the first (`swap`), and gives the former one back (`retire`).
    """

    def __init__(self, env: Env) -> None:
        self._env = env
        self._first: int | None = None
        self._second: int | None = None
        self._retired: list[tuple[int, int]] = []

    def start(self) -> None:
        """Open the first one; OSError if there is none."""
        self._first = self._env.open_socket()

    @property
    def first(self) -> int:
        """The one in use."""
        assert self._first is not None
        return self._first

    def second(self, now_ms: int) -> int:
        """Another source port; the same one if the system has no more."""
        if self._second is None:
            try:
                self._second = self._env.open_socket()
            except OSError:
                return self.first
        return self._second

    def use(self, sock: int, now_ms: int) -> bool:
        """The peer answered on this one: from now on it is the first. False: it is an old one."""
        if sock == self._second:
            self.retire(self.first, now_ms + RETIRE_MS)
            self._first, self._second = sock, None
        self.keep_first()
        return sock == self._first

    def keep_first(self) -> None:
        """The second one is not needed any more."""
        if self._second is not None:
            self._env.close_socket(self._second)
            self._second = None

    def renew(self, now_ms: int, keep: bool) -> None:
        """Nobody answered: take a new source port, in case this one is what the network swallows.

        `keep`: a link still sends by the first one.
        """
        if keep:
            return
        sock = self.second(now_ms)
        if sock != self.first:
            self._second = None
            self.retire(self.first, now_ms + RETIRE_MS)
            self._first = sock

    def open(self) -> int:
        """A further one, the caller's to `swap` or `retire`; OSError if the system has no more."""
        return self._env.open_socket()

    def swap(self, sock: int) -> int:
        """Make a further one the first; gives the former first, which is the caller's from now on."""
        former, self._first = self.first, sock
        return former

    def retire(self, sock: int, at_ms: int) -> None:
        """Close it then; until then it receives."""
        heapq.heappush(self._retired, (at_ms, sock))

    def retire_all(self, at_ms: int) -> None:
        """Close everything then; nothing may be asked of this object until it is `none`."""
        for sock in (self._first, self._second):
            if sock is not None:
                self.retire(sock, at_ms)
        self._first = self._second = None

    @property
    def none(self) -> bool:
        """Nothing is open."""
        return self._first is self._second is None and not self._retired

    def advance(self, now_ms: int) -> None:
        """Close what is old enough."""
        while self._retired and self._retired[0][0] <= now_ms:
            self._env.close_socket(heapq.heappop(self._retired)[1])

    def deadline(self) -> int | None:
        """When `advance` has something to do."""
        return self._retired[0][0] if self._retired else None
