"""Connect a local flow to its target: look the name up, try its addresses in turn, within one time limit."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from kcpg import engine
from kcpg.core.flow import TCP, WRITABLE, Reset, ResetCode, Target
from kcpg.net import WRITE
from kcpg.net import addr as addresses
from kcpg.net.clock import now_ms
from kcpg.net.local_tcp import FlowHost, TcpFlow
from kcpg.net.resolve import Unresolved
from kcpg.net.sock import PENDING
from kcpg.net.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from kcpg.net.local_udp import UdpTarget
    from kcpg.net.resolve import Answer, Resolver

_sock = engine.module("kcpg.net.sock")

_CODES = {
    errno.ECONNREFUSED: ResetCode.REFUSED,
    errno.ETIMEDOUT: ResetCode.TIMEOUT,
    errno.EACCES: ResetCode.FORBIDDEN,
    errno.EPERM: ResetCode.FORBIDDEN,
}
_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Dial:
    """One attempt to connect `flow` to `target`. `start` it; it ends with `flow.adopt` or with `reason`."""

    __slots__ = (
        "_addr",
        "_addrs",
        "_asker",
        "_deadline_ms",
        "_family",
        "_fd",
        "_flow",
        "_host",
        "_inline",
        "_permits",
        "_resolver",
        "_target",
        "_task",
        "_until_ms",
        "reason",
    )

    def __init__(
        self, flow: TcpFlow | UdpTarget, target: Target, host: FlowHost, resolver: Resolver, *,
        timeout_ms: int, family: int, permits: Callable[[Target, bytes], bool], asker: Hashable = None,
    ) -> None:  # fmt: skip
        self._flow = flow
        self._target = target
        self._host = host
        self._resolver = resolver
        self._deadline_ms = now_ms() + timeout_ms
        self._family = family
        self._permits = permits
        self._addr = b""  # being waited for
        self._until_ms = 0  # it has its share of the time
        self._addrs: list[bytes] = []  # still to be tried
        self._asker = asker
        self._fd = -1
        self._task: Task | None = None
        self._inline = True
        self.reason: Reset | None = None

    def start(self) -> Reset | None:
        """Do what can be done at once (a numeric target on a quick network is connected afterwards).

        Gives the reason if it failed already; a later failure goes to the flow's splice.
        """
        self._flow.dial = self
        self.begin()
        self._inline = False
        return self.reason

    def wait(self) -> None:
        """`begin` follows, instead of `start`."""
        self._flow.dial = self
        self._inline = False

    def begin(self) -> None:
        """Go on after `wait`, unless the flow is over."""
        if not self._flow.closed:
            target = self._target
            self._resolver.resolve(target.host, target.port, self._resolved, self._family, asker=self._asker)

    def go_on(self, fd: int, addr: bytes) -> Reset | None:
        """Wait for an attempt at the target's only address that has been begun. Gives None, as `start`."""
        self._flow.dial = self
        self._fd = fd
        self._inline = False
        self._await(addr)
        return None

    def _resolved(self, answer: Answer) -> None:
        if self._flow.closed:
            return
        if isinstance(answer, Unresolved):
            self._failed(Reset(ResetCode.NO_ROUTE, answer.text))
            return
        self._addrs = [a for a in answer if self._permits(self._target, a)]
        if not self._addrs:
            self._failed(Reset(ResetCode.FORBIDDEN, f"{self._target} is not among the allowed targets"))
            return
        self._next(Reset(ResetCode.UNREACHABLE, str(self._target)))

    def _next(self, reason: Reset) -> None:
        """Begin with the next address, and the next, until one is being waited for, connected, or none is
        left."""
        while self._addrs:
            addr = self._addrs.pop(0)
            self._fd, error = _sock.connect(addr, self._flow.kind is TCP)
            if error == 0:
                self._connected()
                return
            if error in PENDING:
                self._await(addr)
                return
            reason = _reason(error, addr)
            if error in _OUT_OF_RESOURCES:
                break
        self._resolver.forget(self._target.host)
        self._failed(reason)

    def _await(self, addr: bytes) -> None:
        self._addr = addr
        self._until_ms = now_ms() + max(self._deadline_ms - now_ms(), 0) // (len(self._addrs) + 1)
        self._task = Task(self._turn, self._fd, WRITE)
        self._task.wait_io(self._until_ms - now_ms())

    def _turn(self) -> None:
        """The connection stands, has failed, or its share of the time is over."""
        try:
            error = self._outcome()
        except Exception:
            self._host.crashed("a connection attempt")
            error = errno.EIO
        task = self._task
        assert task is not None
        if error in PENDING:
            task.wait_io(self._until_ms - now_ms())
            return
        task.close()
        self._task = None
        if error == 0:
            self._connected()
        else:
            self._drop()
            self._next(_reason(error, self._addr))

    def _outcome(self) -> int:
        """0: connected; one of PENDING: not decided; another errno: failed."""
        error = _sock.again(self._fd, self._addr)
        return errno.ETIMEDOUT if error in PENDING and now_ms() >= self._until_ms else error

    def cancel(self) -> None:
        """The flow is gone: give the attempt up."""
        task, self._task = self._task, None
        if task is not None:
            task.close()
        self._drop()

    def _connected(self) -> None:
        fd, self._fd = self._fd, -1
        self._flow.dial = None
        if not isinstance(self._flow, TcpFlow):
            self._flow.others = self._addrs  # whether anybody listens at this one is not known yet
        self._flow.adopt(fd)
        splice = self._flow.splice
        if splice is not None:
            splice.ready(self._flow, WRITABLE)
            self._host.request_advance()

    def _failed(self, reason: Reset) -> None:
        self.reason = reason
        if self._inline or self._flow.closed:
            return
        splice = self._flow.splice
        self._flow.reset(reason)
        if splice is not None:
            splice.on_reset(self._flow, reason)
            self._host.request_advance()

    def _drop(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            _sock.abort(fd)


def _reason(number: int, addr: bytes) -> Reset:
    code = _CODES.get(number, ResetCode.INTERNAL if number in _OUT_OF_RESOURCES else ResetCode.UNREACHABLE)
    return Reset(code, f"{addresses.text(addr)}: {os.strerror(number)}")
