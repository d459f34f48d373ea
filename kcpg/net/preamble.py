"""What an application says on a TCP connection before the flow begins: where it wants to go, who it is.

A preamble is a `Script`, a generator that knows no socket: it asks for bytes and gives answers to be sent.
`Greeting` runs it on a connection and takes not one byte more than the script asks for, so whatever follows
is the flow's and is still in the socket.
"""

from __future__ import annotations

import _socket
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

from kcpg.net import READ
from kcpg.net.clock import now_ms
from kcpg.net.task import Task

# From the connection to the end of its preamble. SOCKS clients and balancers say it at once.
PREAMBLE_MS = 10_000
LINE_MAX_BYTES = 65_536  # of anything that is asked for up to a mark

T = TypeVar("T")


class Malformed(Exception):
    """These bytes are no preamble of ours. `answer`: to be sent before the connection is closed."""

    def __init__(self, reason: str, answer: bytes = b"") -> None:
        super().__init__(reason)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Until:
    """Bytes up to this mark, with it; more than `most` are malformed."""

    mark: bytes
    most: int = LINE_MAX_BYTES


# Yields a number (so many bytes are wanted), an Until, or bytes to be sent (b"" comes back).
Script = Generator["int | Until | bytes", bytes, T]


class Greeting:
    """A connection during its preamble. Ends by `done(fd, result)`, or by closing the connection."""

    def __init__(
        self,
        fd: int,
        script: Script[T],
        done: Callable[[int, T], None],
        over: Callable[[Greeting, str], None],
    ) -> None:
        """`fd` is owned from now on. `done` gets it back; `over` hears at every end, with a reason if it is
        bad."""
        self._sock = _socket.socket(fileno=fd)
        self._script = script
        self._done = done
        self._over = over
        self._want: int | Until = 0
        self._got = b""
        self._until_ms = now_ms() + PREAMBLE_MS
        self._task = Task(self._turn, fd, READ)
        self._closed = False

    def start(self) -> None:
        """Begin. Calls nothing back before the next turn of the event loop."""
        self._want = self._next(None)
        self._task.wait_io(PREAMBLE_MS)

    def close(self) -> None:
        """Give up. Idempotent."""
        if not self._closed:
            self._closed = True
            self._task.close()
            self._script.close()
            self._sock.close()

    def _next(self, data: bytes | None) -> int | Until:
        """What the script wants after this. Sends its answers. Raises StopIteration at its end."""
        wanted = next(self._script) if data is None else self._script.send(data)
        while isinstance(wanted, bytes):
            self._sock.send(wanted)  # some bytes on a fresh connection: there is always room for them
            wanted = self._script.send(b"")
        return wanted

    def _turn(self) -> None:
        try:
            self._read()
        except StopIteration as end:
            self._finish(end.value)
        except Malformed as error:
            self._fail(str(error), error.answer)
        except BlockingIOError:
            if now_ms() >= self._until_ms:
                self._fail("its preamble takes too long")
            else:
                self._task.wait_io(self._until_ms - now_ms())
        except OSError:
            self._fail("")

    def _read(self) -> None:
        while True:
            data = self._take()
            if not data:
                raise OSError("the application has closed the connection")
            self._got += data
            if isinstance(self._want, int):
                complete = len(self._got) == self._want
            else:
                complete = self._got.endswith(self._want.mark)
                if not complete and len(self._got) >= self._want.most:
                    raise Malformed("its preamble is too long")
            if complete:
                got, self._got = self._got, b""
                self._want = self._next(got)

    def _take(self) -> bytes:
        """Some of what is wanted, and nothing behind it. Raises BlockingIOError."""
        if isinstance(self._want, int):
            return self._sock.recv(self._want - len(self._got))
        mark = self._want.mark
        ahead = self._sock.recv(self._want.most - len(self._got), _socket.MSG_PEEK)
        known = self._got[-(len(mark) - 1) :] if len(mark) > 1 else b""
        at = (known + ahead).find(mark)
        size = len(ahead) if at < 0 else at + len(mark) - len(known)
        return self._sock.recv(size) if size else b""

    def _finish(self, result: object) -> None:
        self._closed = True
        self._task.close()
        fd = self._sock.detach()
        self._over(self, "")
        self._done(fd, result)  # type: ignore[arg-type]

    def _fail(self, reason: str, answer: bytes = b"") -> None:
        try:
            if answer:
                self._sock.send(answer)
            # Unread bytes would turn the close into a reset, and the answer might not arrive.
            self._sock.recv(LINE_MAX_BYTES)
        except OSError:
            pass
        self.close()
        self._over(self, reason)
