"""One question in conversation 0: a request for a link, or whether a path works; by a socket of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcpg.core.env import Resolved, ResolveFailed
from kcpg.core.kcptube.leg import GREETING
from kcpg.core.kcptube.wire import Conv

if TYPE_CHECKING:
    from collections.abc import Callable

    from kcpg.core.kcptube.dialedlink import DialedLink
    from kcpg.core.kcptube.dialer import TubeDialer

# A question that nobody took for this long is asked again elsewhere. By then KCP has sent it seven times.
ASK_MS = 5000

TAKEN_MS = 30_000  # The same of one that was acknowledged: kcptube answers when it has reached the target


class Request:
    """Sends `message` to the next of the dialer's targets; `on_message` hears what comes back.

    It keeps its socket until `hand_over`, or `close`.
    """

    def __init__(
        self, dialer: TubeDialer, dialed: DialedLink, message: bytes, on_message: Callable[[bytes], None]
    ) -> None:
        self.conv: Conv | None = None
        self.sock: int | None = None
        self.addr = b""
        self.failed = ""  # Why it never left
        self.ends_ms = dialer.now_ms + ASK_MS
        self._dialer = dialer
        self._dialed = dialed
        self._message = message
        self._on_message = on_message
        self._closed = False

    def start(self) -> None:
        """Choose a target, look it up, and ask."""
        dialer = self._dialer
        host, port = dialer.choice.target(dialer.now_ms)
        dialer.counters.asked += 1

        def resolved(found: list[bytes] | ResolveFailed) -> None:
            if self._closed:
                return
            if isinstance(found, ResolveFailed):
                dialer.choice.blame_name(host, dialer.now_ms)
                dialer.unresolved(found.text)
                self.failed = found.text
            else:
                self._send(dialer.choice.address(host, port, found, dialer.now_ms))
            dialer.wire.alert = True

        answer: Resolved = resolved
        dialer.env.resolve(host, port, answer)

    def _send(self, addr: bytes) -> None:
        dialer = self._dialer
        try:
            self.sock = dialer.open_socket(self._dialed)
        except OSError as error:
            dialer.counters.sockets_missing += 1
            self.failed = error.strerror or "no socket"
            return
        self.addr = addr
        self.conv = dialer.converse(0, GREETING, self, (self.sock, addr))
        self.conv.send(self._message)

    def ready(self, events: int) -> None:
        """Its conversation has something."""
        while self.conv is not None and not self._closed and (message := self.conv.recv()) is not None:
            if message:
                self._on_message(message)

    @property
    def due_ms(self) -> int:
        """When it is over without an answer; 0: it is."""
        if self.failed:
            return 0
        taken = self.conv is not None and self.conv.kcp.idle
        return self.ends_ms + (TAKEN_MS - ASK_MS if taken else 0)

    def hand_over(self) -> int:
        """Its socket belongs to the link from now on; the conversation goes on acknowledging."""
        assert self.sock is not None
        sock, self.sock = self.sock, None
        return sock

    def close(self) -> None:
        """Forget it."""
        self._closed = True
        if self.conv is not None:
            self.conv.close()
            self.conv = None
        if self.sock is not None:
            self._dialer.give_back(self.sock)
            self.sock = None
