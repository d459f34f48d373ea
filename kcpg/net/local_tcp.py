"""TCP connections of applications and targets as flows: one task reads the socket while its partner has room,
one writes what the socket did not take at once. Bytes go straight between the socket and a conversation's
segments where the engine can (`kcpg.net.fdio`), else through the flow's byte interface."""

from __future__ import annotations

import _socket
import errno
import struct
from typing import TYPE_CHECKING, Protocol

from kcpg.core.flow import COPY_BYTES, READABLE, WRITABLE, Blocked, Flow, Kind, Moved, Reset, ResetCode
from kcpg.net import fdio
from kcpg.net.task import READ, WRITE, Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from kcpg.net.dial import Dial

# Where a pump stopped for good, or until the partner says more.
_WAITS_FOR_PARTNER = (Blocked.SOURCE_DRY, Blocked.ENDED)
_ABORT_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s: close() sends RST (socket(7))
# When the system has no memory, nothing tells that it has some again: look after this.
STARVED_MS = 20


class FlowHost(Protocol):
    """The leg a local flow belongs to."""

    touch: Callable[[], None]
    """To be called after something happened to a flow: the node acts on it, and sends what it caused."""

    moved: Callable[[], None]
    """To be called after bytes were moved, and nothing else happened: they are sent."""

    def forget(self, flow: Flow) -> None:
        """The flow is closed."""

    def notice(self, key: str, text: str) -> None:
        """Tell the person who runs the node; see `kcpg.net.Notice`."""

    def crashed(self, what: str) -> None:
        """An exception that nobody expected ended `what`; called while it is handled."""


def tune(sock: _socket.socket) -> None:
    """Set what every local TCP connection has: small writes leave at once, a dead peer is found.

    Linux gives what a listening socket has to the connections it accepts.
    """
    sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)


def abort(sock: _socket.socket) -> None:
    """Close with RST instead of FIN."""
    try:
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, _ABORT_ON_CLOSE)
    except OSError:  # never connected, or the peer was quicker
        pass
    sock.close()


class TcpFlow(Flow):
    """One TCP connection. `adopt` gives it its connected, non-blocking socket; until then it is `opening`."""

    __slots__ = ("_ending", "_fd", "_host", "_outlet", "_pending", "_reader", "_released", "_shut", "_sock",
                 "_starved", "_writer", "dial")  # fmt: skip

    def __init__(self, host: FlowHost) -> None:
        super().__init__(Kind.TCP)
        self.opening = True
        self.dial: Dial | None = None  # the attempt that is under way
        self._host = host
        self._outlet: Flow | None = None  # whose little data goes to the socket without us
        self._sock: _socket.socket | None = None
        self._fd = -1
        self._reader: Task | None = None
        self._writer: Task | None = None
        self._pending = b""  # accepted by write(), not yet by the kernel: at most one copy's worth
        self._ending = False
        self._shut = False
        self._released = False
        self._starved = False

    def adopt(self, sock: _socket.socket) -> None:
        """Take over a connected socket and start to carry, as soon as the flow is spliced."""
        assert not self.closed
        self._sock = sock
        self._fd = sock.fileno()
        self._reader = Task(self._read_turn, self._fd, READ)
        self.opening = False
        self._reader.wait_io()

    # -- moving ------------------------------------------------------------------------------------

    def move_to(self, sink: Flow) -> Moved:
        """Socket into the segments of a conversation where that is possible, else by copying."""
        read_into = fdio.reader_into(sink)
        if read_into is None:
            return super().move_to(sink)
        total = 0
        for _ in range(fdio.TURNS):
            count = read_into(self._fd)
            if count > 0:
                total += count
                if count < fdio.SHORT_READ:
                    return Moved(total, Blocked.SOURCE_DRY)
            elif count == 0:
                return Moved(total, Blocked.ENDED)
            elif count == fdio.NO_ROOM:
                return Moved(total, Blocked.SINK_FULL)
            elif count == -errno.EAGAIN:
                return Moved(total, Blocked.SOURCE_DRY)
            elif count == -errno.ENOBUFS:
                self._starved = True
                return Moved(total, Blocked.SINK_FULL)
            else:
                self._broken(-count)
                return Moved(total, Blocked.ENDED)
        return Moved(total, Blocked.BUDGET)

    def pull(self, source: Flow) -> Moved:
        """Segments of a conversation out to the socket where that is possible, else by copying."""
        write_from = fdio.writer_from(source)
        if write_from is None or self._pending:
            moved = super().pull(source)
        else:
            moved = self._pull_fast(source, write_from)
        if moved.blocked is Blocked.SINK_FULL and self._sock is not None:
            self._writing().wait_io()  # whoever called: it is the writer that waits for the socket
        return moved

    def _pull_fast(self, source: Flow, write_from: Callable[[int], int]) -> Moved:
        total = fdio.take_let_out(source)
        for _ in range(fdio.TURNS):
            count = write_from(self._fd)
            if count > 0:
                total += count
            elif count == 0:
                # Dry, or at its end; reading one byte is how a flow gives its end, and takes nothing if there
                # is none.
                if source.read(1) == b"":
                    return Moved(total, Blocked.ENDED)
                if self._outlet is not source and not self.closed:
                    self._outlet = source
                    fdio.let_out(source, self._fd)
                return Moved(total, Blocked.SOURCE_DRY)
            elif count == -errno.EAGAIN:
                return Moved(total, Blocked.SINK_FULL)
            else:
                self._broken(-count)
                return Moved(total, Blocked.SINK_FULL)
        return Moved(total, Blocked.BUDGET)

    def read(self, limit: int) -> bytes | None:
        """See Flow.read."""
        if self._sock is None:
            return None
        try:
            return self._sock.recv(limit)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            self._broken(error.errno or 0)
            return None

    def write(self, data: bytes) -> int:
        """See Flow.write: takes all of it, keeps what the kernel has no room for, and then has no room
        itself."""
        assert not self._pending and self._sock is not None
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._broken(error.errno or 0)
            return len(data)
        self._pending = bytes(data[sent:])
        return len(data)

    @property
    def room(self) -> int:
        """See Flow.room."""
        return 0 if self._pending or self.opening or self.closed else COPY_BYTES

    def wake(self, events: int) -> None:
        """The partner has bytes for the writer, or room for the reader.

        One that waits for the socket itself is left alone: what the partner has does not change that. A few
        bytes are written at once, more when the others of this turn had theirs.
        """
        reader, writer = self._reader, self._writer
        waits = writer is not None and writer.waits_io
        if events & READABLE and not waits and not self._write_little() and self._sock is not None:
            self._writing().wake()
        if events & WRITABLE and reader is not None and not reader.waits_io:
            reader.wake()

    def _write_little(self) -> bool:
        """Move what the partner has if it is little; False: the writer has to."""
        splice = self.splice
        if splice is None or self._sock is None:
            return False
        partner = splice.partner(self)
        return fdio.has_little(partner) and splice.pump(partner).blocked in _WAITS_FOR_PARTNER

    # -- endings -----------------------------------------------------------------------------------

    def end(self) -> None:
        """Half-close, after what was written; if the other direction has ended, `release` closes anyway."""
        self._ending = True
        splice = self.splice
        if not self._pending and not (splice is not None and splice.ended(self)):
            self._shutdown()

    def reset(self, reason: Reset) -> None:
        """Abort: the application sees a reset connection."""
        self._free(with_reset=True)

    def release(self) -> None:
        """Both directions ended: close once everything written is with the kernel."""
        self._released = True
        if not self._pending:
            self._free(with_reset=False)

    def _shutdown(self) -> None:
        if self._shut or self.closed or self._sock is None:
            return
        self._shut = True
        try:
            self._sock.shutdown(_socket.SHUT_WR)
        except OSError:  # the peer has reset it: the reader finds out
            pass

    def _broken(self, number: int) -> None:
        """The application's or the kernel's doing: tell the other side, free everything."""
        timeout = number == errno.ETIMEDOUT
        code = ResetCode.TIMEOUT if timeout else ResetCode.RESET_BY_APPLICATION
        self._fail(Reset(code, errno.errorcode.get(number, str(number))))

    def _fail(self, reason: Reset) -> None:
        splice = self.splice
        self._free(with_reset=True)
        if splice is not None:
            splice.on_reset(self, reason)
            self._host.touch()

    def _free(self, with_reset: bool) -> None:
        if self.closed:
            return
        self.closed = True
        self._pending = b""
        for task in (self._reader, self._writer):
            if task is not None:
                task.close()
        if self.dial is not None:
            self.dial.cancel()
            self.dial = None
        if self._outlet is not None:
            fdio.let_out(self._outlet, -1)
            self._outlet = None
        sock, self._sock, self._fd = self._sock, None, -1
        if sock is not None:
            if with_reset:
                abort(sock)
            else:
                sock.close()
        self._host.forget(self)

    # -- turns -------------------------------------------------------------------------------------

    def _read_turn(self) -> None:
        """Application to partner, until the application's end."""
        try:
            self._read()
        except Exception:
            self._crashed()

    def _read(self) -> None:
        reader, splice = self._reader, self.splice
        assert reader is not None
        if splice is None:
            reader.wait()
            return
        blocked = splice.pump(self).blocked
        if self.closed or splice.ended(self):
            self._host.touch()
            reader.close()
            return
        self._host.moved()
        if self._starved:
            self._starved = False
            reader.wait(STARVED_MS)
        elif blocked is Blocked.SINK_FULL:
            reader.wait()
        else:  # dry; or had its share and is still readable: others first, and polling between
            reader.wait_io()

    def _writing(self) -> Task:
        """The writer, made when it is needed first: a socket mostly takes what there is."""
        if self._writer is None:
            self._writer = Task(self._write_turn, self._fd, WRITE)
        return self._writer

    def _write_turn(self) -> None:
        """Partner to application, as far as the socket takes it."""
        try:
            self._write()
        except Exception:
            self._crashed()

    def _write(self) -> None:
        writer = self._writer
        assert writer is not None
        if (self._pending and not self._send_pending()) or self._write_more():
            writer.wait_io()
        else:
            writer.wait()

    def _write_more(self) -> bool:
        """Move what the partner has; True: go on when the socket is writable."""
        splice = self.splice
        if splice is None or self.closed:
            return False
        partner = splice.partner(self)
        if splice.ended(partner):
            return False
        blocked = splice.pump(partner).blocked
        if self.closed or blocked is Blocked.ENDED:
            self._host.touch()
            return False
        self._host.moved()
        return blocked in (Blocked.SINK_FULL, Blocked.BUDGET)

    def _send_pending(self) -> bool:
        """Whether all that write() kept has gone, and what waited for that is done."""
        assert self._sock is not None
        try:
            sent = self._sock.send(self._pending)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._broken(error.errno or 0)
            return True
        self._pending = self._pending[sent:]
        if self._pending:
            return False
        if self._ending:
            self._shutdown()
        if self._released:
            self._free(with_reset=False)
        elif self.splice is not None:
            self.splice.ready(self, WRITABLE)
        return True

    def _crashed(self) -> None:
        self._host.crashed("a TCP flow")
        self._fail(Reset(ResetCode.INTERNAL, "internal error"))
