"""TCP connections of applications and targets as flows: one task reads the socket while its partner has room,
one writes what the socket did not take at once. Bytes go straight between the socket and a conversation's
segments where the engine can (`kcpg.net.bypass`), else through the flow's byte interface."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, Protocol

from kcpg import engine
from kcpg.core.flow import (
    BUDGET,
    COPY_BYTES,
    ENDED,
    READABLE,
    SINK_FULL,
    SOURCE_DRY,
    TCP,
    WRITABLE,
    Flow,
    Moved,
    Reset,
    ResetCode,
    copy_bytes,
)
from kcpg.net import READ, WRITE
from kcpg.net.bypass import NO_ROOM, SHORT_READ, TURNS, conv_of, has_little
from kcpg.net.task import Task

if engine.ENGINE == "compiled":
    from kcpg.net._bypass import TcpBypass

if TYPE_CHECKING:
    from collections.abc import Callable


# When the system has no memory, nothing tells that it has some again: look after this.
STARVED_MS = 20
EAGAIN = -errno.EAGAIN
ENOBUFS = -errno.ENOBUFS

_sock = engine.module("kcpg.net.sock")
_abort, _close, _shutdown = _sock.abort, _sock.close, _sock.shutdown


class DialAttempt(Protocol):
    """A connection that is being made for a flow."""

    def cancel(self) -> None:
        """The flow is gone: give it up."""


class FlowHost(Protocol):
    """The leg a local flow belongs to."""

    # To be called after something happened to a flow: the node acts on it, and sends what it caused.
    request_advance: Callable[[], None]

    # To be called after bytes were moved, and nothing else happened: they are sent.
    request_flush: Callable[[], None]

    # As `request_flush`, from the event loop's own greenlet: at once if no other socket is ready.
    flush_if_idle: Callable[[], None]

    def forget(self, flow: Flow) -> None:
        """The flow is closed."""

    def notice(self, key: str, text: str) -> None:
        """Tell the person who runs the node; see `kcpg.net.Notice`."""

    def crashed(self, what: str) -> None:
        """An exception that nobody expected ended `what`; called while it is handled."""


class TcpFlow(Flow):
    """One TCP connection. `adopt` gives it a connected descriptor that does not block; until then it is
    `opening`."""

    __slots__ = ("_bypass", "_ending", "_fd", "_host", "_pending", "_reader", "_released", "_shut",
                 "_starved", "_writer", "dial")  # fmt: skip

    def __init__(self, host: FlowHost) -> None:
        self._begin(TCP)
        self.opening = True
        self.dial: DialAttempt | None = None  # the attempt that is under way
        self._host = host
        self._bypass: Any = None  # between the socket and the partner's conversation, if that is compiled
        self._fd = -1
        self._reader: Task | None = None
        self._writer: Task | None = None
        self._pending = b""  # accepted by write(), not yet by the kernel: at most one copy's worth
        self._ending = False
        self._shut = False
        self._released = False
        self._starved = False

    def adopt(self, fd: int) -> None:
        """Take over a connected socket and start to carry, as soon as the flow is spliced."""
        assert not self.closed
        self._fd = fd
        self._reader = Task(self._read_turn, fd, READ, self._read_first)
        self.opening = False
        self._reader.wait_io()

    def fileno(self) -> int:
        """The descriptor; -1 while there is none."""
        return self._fd

    # -- moving --

    def move_to(self, sink: Flow) -> Moved:
        """Socket into the segments of a conversation where that is possible, else by copying."""
        bypass = self._bypass_of(sink)
        if bypass is None:
            return sink.pull(self)
        total = 0
        for _ in range(TURNS):
            count = bypass.read()
            if count > 0:
                total += count
                if count < SHORT_READ:
                    return Moved(total, SOURCE_DRY)
            elif count == 0:
                return Moved(total, ENDED)
            elif count == NO_ROOM:
                return Moved(total, SINK_FULL)
            elif count == EAGAIN:
                return Moved(total, SOURCE_DRY)
            elif count == ENOBUFS:
                self._starved = True
                return Moved(total, SINK_FULL)
            else:
                self._broken(-count)
                return Moved(total, ENDED)
        return Moved(total, BUDGET)

    def pull(self, source: Flow) -> Moved:
        """Segments of a conversation out to the socket where that is possible, else by copying."""
        bypass = self._bypass_of(source)
        if bypass is None or self._pending:
            moved = copy_bytes(source, self)
        else:
            moved = self._pull_segments(source, bypass)
        if moved.blocked is SINK_FULL and self._fd >= 0:
            self._writing().wait_io()  # whoever called: it is the writer that waits for the socket
        return moved

    def _bypass_of(self, partner: Flow) -> Any:
        """The way between our socket and the partner's conversation; None: there is none, or none yet."""
        if self._bypass is None and self._fd >= 0 and not partner.opening:
            conv = conv_of(partner)
            if conv is not None:
                self._bypass = TcpBypass(conv, self._fd)
        return self._bypass

    def _pull_segments(self, source: Flow, bypass: Any) -> Moved:
        total = 0
        for _ in range(TURNS):
            count = bypass.write()
            if count > 0:
                total += count
            elif count == 0:
                # Dry, or at its end; reading one byte is how a flow gives its end, and takes nothing if there
                # is none.
                if source.read(1) == b"":
                    return Moved(total, ENDED)
                bypass.open()  # nothing that came before is left, so what comes next may go past us
                return Moved(total, SOURCE_DRY)
            elif count == EAGAIN:
                return Moved(total, SINK_FULL)
            else:
                self._broken(-count)
                return Moved(total, SINK_FULL)
        return Moved(total, BUDGET)

    def read(self, limit: int) -> bytes | None:
        if self._fd < 0:
            return None
        try:
            return os.read(self._fd, limit)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            self._broken(error.errno or 0)
            return None

    def write(self, data: bytes) -> int:
        """Takes all of it, keeps what the kernel has no room for, and then has no room
        itself."""
        assert not self._pending and self._fd >= 0
        try:
            sent = os.write(self._fd, data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._broken(error.errno or 0)
            return len(data)
        self._pending = bytes(data[sent:])
        return len(data)

    @property
    def room(self) -> int:
        return 0 if self._pending or self.opening or self.closed else COPY_BYTES

    def wake(self, events: int) -> None:
        """The partner has bytes for the writer, or room for the reader.

        One that waits for the socket itself is left alone: what the partner has does not change that. A few
        bytes are written at once, more when the others of this turn had theirs.
        """
        reader, writer = self._reader, self._writer
        waits = writer is not None and writer.waits_io
        if events & READABLE and not waits and not self._write_little() and self._fd >= 0:
            self._writing().wake()
        if events & WRITABLE and reader is not None and not reader.waits_io:
            reader.wake()

    def _write_little(self) -> bool:
        """Move what the partner has if it is little; False: the writer has to."""
        splice = self.splice
        if splice is None or self._fd < 0:
            return False
        partner = splice.partner(self)
        if not has_little(partner):
            return False
        blocked = splice.pump(partner).blocked
        return blocked is SOURCE_DRY or blocked is ENDED  # for good, or until the partner says more

    # -- endings --

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
        if self._shut or self.closed or self._fd < 0:
            return
        self._shut = True
        _shutdown(self._fd)

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
            self._host.request_advance()

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
        if self._bypass is not None:
            self._bypass.close()
        fd, self._fd = self._fd, -1
        if fd >= 0 and with_reset:
            _abort(fd)
        elif fd >= 0:
            _close(fd)
        self._host.forget(self)

    # -- turns --

    def _read_first(self) -> bool:
        """Read once into the conversation; see Task. True: it was little, and nothing else is to do."""
        splice = self.splice
        if splice is None or splice.ended(self):
            return False
        try:
            bypass = self._bypass or self._bypass_of(splice.partner(self))
            if bypass is None:
                return False
            count = bypass.read()
            if count > 0:
                splice.bypassed(self, count)
                if count < SHORT_READ:
                    self._host.flush_if_idle()
                    return True
            elif count == 0:  # its end, which every connection has once, and which is read again
                self._read()
                return True
            elif count not in (NO_ROOM, EAGAIN, ENOBUFS):
                self._broken(-count)
        except Exception:
            self._crashed()
        return self.closed

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
            self._host.request_advance()
            reader.close()
            return
        self._host.request_flush()
        if self._starved:
            self._starved = False
            reader.wait(STARVED_MS)
        elif blocked is SINK_FULL:
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
        if self.closed or blocked is ENDED:
            self._host.request_advance()
            return False
        self._host.request_flush()
        return blocked is SINK_FULL or blocked is BUDGET

    def _send_pending(self) -> bool:
        """Whether all that write() kept has gone, and what waited for that is done."""
        try:
            sent = os.write(self._fd, self._pending)
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
