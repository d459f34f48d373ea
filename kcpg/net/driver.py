"""Runs a node: feeds it what its tunnel sockets receive, sends what it wants to send, and keeps its time.

The order is always the same: datagrams in (or local bytes) -> `advance` -> everything out, completely, before
anything waits again. Tunnel sockets are drained when they are readable; local flows have turns of their own
and call `request_advance`; one timer serves every deadline of the node.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import gevent

from kcpg import engine
from kcpg.net import READ, WRITE, Notice
from kcpg.net.alarm import Alarm
from kcpg.net.clock import NEVER_MS, now_ms
from kcpg.net.coalesce import Coalescing
from kcpg.net.datagrams import DatagramIo
from kcpg.net.inlinepoll import inline_poll
from kcpg.net.local import LocalLeg
from kcpg.net.task import Task
from kcpg.net.udp import UdpIo as PlainIo

if engine.ENGINE == "compiled":
    from kcpg.core._datagramwire import DatagramWire

if TYPE_CHECKING:
    from kcpg.core.node import Node
    from kcpg.net.tunnelsockets import TunnelSockets
    from kcpg.net.udp import UdpSocket

# Receive calls of one socket before local flows and other sockets have their turn.
BATCHES_PER_TURN = 16
# Flows that moved something before it is sent: with more the next node would stand idle meanwhile, and then
# this one.
MOVES_PER_SERVE = 16
# Rounds of advance and transmit before the event loop looks at the sockets again.
ROUNDS_PER_TURN = 8
# After an error of this program the same thing may be due again at once; this keeps it from taking the whole
# CPU.
ERROR_PAUSE_MS = 100
# What a full socket holds up is due at once, but its turn comes when the socket is writable; this is only a
# second look.
BLOCKED_MS = 5
# The longest that a node is not advanced while data flows: links look at the clock by themselves.
LOOK_MS = 50
# After a time at which the node is due this soon again, the next one is waited for without a round of the
# event loop.
AWAKE_MS = 8


class Driver:
    """Runs `node`. `tunnels` gives the sockets of each tunnel leg; `report` takes what a person should
    know."""

    def __init__(
        self,
        node: Node,
        tunnels: Mapping[Any, TunnelSockets] | None = None,
        report: Callable[[Notice], None] | None = None,
    ) -> None:
        self.node = node
        self._report = report
        self._tunnels = [_Tunnel(leg, sockets, self) for leg, sockets in (tunnels or {}).items()]
        self._running = False
        self._advance_deadline_ms = 0
        self._touched = False
        self._due = False
        self._moves = 0
        self._serving = False
        self._loop = gevent.get_hub().loop
        self._later = self._loop.run_callback
        self._when_due = self._serve_due
        self._look_ms = NEVER_MS  # when to look at a socket that nobody watches
        self._alarm: Alarm | None = None
        self._inline = inline_poll(self._loop)
        for leg in (node.ingress, node.egress):
            if isinstance(leg, LocalLeg):
                leg.request_advance = self.request_advance
                leg.request_flush = self.request_flush
                leg.flush_if_idle = self.flush_if_idle

    def start(self) -> None:
        """Start the node. Raises OSError if a port cannot be had; then nothing is left running."""
        self._running = True
        try:
            self._alarm = Alarm(self._rang, self._stay_awake)
            self.node.start(now_ms())
            for tunnel in self._tunnels:
                tunnel.start()
        except BaseException:
            self.stop("start failed")
            raise
        self.request_advance()

    def stop(self, reason: str = "shutdown") -> None:
        """Abort all flows, send the farewells and close every socket. Idempotent."""
        if not self._running:
            return
        self._running = False
        try:
            self.node.close(now_ms(), reason)
            for _ in range(ROUNDS_PER_TURN):
                if not sum(tunnel.transmit(now_ms()) for tunnel in self._tunnels):
                    break
        finally:
            if self._inline.alarm is self._alarm:
                self._inline.alarm = None
            if self._alarm is not None:
                self._alarm.close()
            for tunnel in self._tunnels:
                tunnel.stop()

    def request_advance(self) -> None:
        """Something happened to local flows: advance and serve the node once, after everybody who is due in
        this turn of the loop."""
        self._touched = True
        self.request_flush()

    def request_flush(self) -> None:
        """Local flows moved bytes, and that is all: as `request_advance`, without need to advance."""
        self._moves += 1
        if self._moves >= MOVES_PER_SERVE and not self._serving:
            self.serve()
        elif not self._due and self._running:
            self._due = True
            self._later(self._when_due)

    def flush_if_idle(self) -> None:
        """As `request_flush`, from the event loop's own greenlet: sent at once if no other event of this turn
        of the loop is left, which is one callback less in the way of a lone request."""
        if self._loop.pendingcnt > 0:
            self.request_flush()
        else:
            self._moves += 1
            self.serve()

    def serve(self) -> None:
        """Let the node act on what came in, send everything, and set the timer. Never raises, never waits."""
        if not self._running or self._serving:
            return
        self._serving = True
        self._moves = 0
        try:
            due_ms = self._rounds()
        except Exception:
            self.crashed("a turn of the node")
            due_ms = now_ms() + ERROR_PAUSE_MS
        finally:
            self._serving = False
        if self._running:
            self._set_alarm(min(due_ms, self._look_ms))

    def look_at(self, at_ms: int) -> None:
        """A socket is not watched until then. To be called before `serve`, which sets the timer."""
        self._look_ms = min(self._look_ms, at_ms)

    def crashed(self, what: str) -> None:
        """An exception that nobody expected ended `what`; called while it is handled."""
        trace = "".join(traceback.format_exception(*sys.exc_info()))
        self.notice("internal_error", f"an error of this program ended {what}:\n{trace}")

    def notice(self, key: str, text: str) -> None:
        """Tell the person who runs the node."""
        if self._report is not None:
            self._report(Notice(key, text))

    def errors(self) -> dict[str, int]:
        """What the kernel refused to send or receive on tunnel sockets since start, by name."""
        total: dict[str, int] = {}
        for tunnel in self._tunnels:
            for name, count in tunnel.io.errors.items():
                total[name] = total.get(name, 0) + count
        return total

    # -- inside --

    def _serve_due(self) -> None:
        self._due = False
        if self._moves:  # else it has been done since
            self.serve()

    def _rang(self) -> None:
        """A time has come at which something is due: take what came, then serve."""
        now = now_ms()
        served = False
        if now >= self._look_ms:
            self._look_ms = NEVER_MS
            for tunnel in self._tunnels:
                served = tunnel.inspect(now) or served
        if not served:
            self.serve()
        elif self._running:
            self._set_alarm(self._look_ms)

    def _set_alarm(self, at_ms: int) -> None:
        alarm = self._alarm
        # One that rings too early only looks again, so it is never put off.
        if alarm is not None and at_ms < alarm.at_ms:
            alarm.set(at_ms)

    def _stay_awake(self) -> None:
        """The event loop saw the time come: wait for the next one here if that is soon."""
        alarm = self._alarm
        if alarm is not None and alarm.at_ms <= now_ms() + AWAKE_MS:
            self._inline.enter()

    def _rounds(self) -> int:
        """Advance and transmit until nothing is left to do now, or it is time for others; when to come
        back."""
        now = now_ms()
        for _ in range(ROUNDS_PER_TURN):
            if self._touched or now >= self._advance_deadline_ms or self._has_news():
                self._advance(now)
            elif self._advance_deadline_ms > now + LOOK_MS:
                self._advance_deadline_ms = now + LOOK_MS
            # Sending makes room, and room makes flows writable: that is for the next round's advance.
            sent = 0
            blocked = False
            due_ms = self._advance_deadline_ms
            for tunnel in self._tunnels:
                sent += tunnel.transmit(now)
                blocked = blocked or tunnel.is_blocked()
                due_ms = min(due_ms, tunnel.deadline_ms())
            if due_ms > now and not self._touched and not self._has_news():
                return due_ms
            if blocked and not sent:
                return now + BLOCKED_MS
            now = now_ms()
        return now

    def _has_news(self) -> bool:
        """The node has to be advanced. What only puts data into conversations or takes acknowledgements in,
        which is most, is for `transmit` alone."""
        if self.node.is_left_over():
            return True
        for tunnel in self._tunnels:  # noqa: SIM110 (a generator is slower than what it asks)
            if tunnel.has_news():
                return True
        return False

    def _advance(self, now: int) -> None:
        self._touched = False
        self._inline.exit()
        if self._inline.alarm is None:
            self._inline.alarm = self._alarm
        self.node.advance(now)
        at_ms = self.node.advance_deadline()
        self._advance_deadline_ms = NEVER_MS if at_ms is None else at_ms


class _Tunnel:
    """One tunnel leg's sockets while the node runs: a receiver for each."""

    __slots__ = ("_blocked", "_driver", "_leg", "_receivers", "_sockets", "io")

    def __init__(self, leg: Any, sockets: TunnelSockets, driver: Driver) -> None:
        self.io: DatagramIo = make_io(leg.wire)
        self._leg = leg
        self._sockets = sockets
        self._driver = driver
        self._receivers: dict[int, _Receiver] = {}
        self._blocked: Any = None
        for number, sock in sockets.items():
            self._opened(number, sock)
        sockets.on_open = self._opened
        sockets.on_close = self._closed
        sockets.on_answer = driver.request_advance

    def start(self) -> None:
        """Receive, from now on also on sockets that are opened later."""
        for receiver in self._receivers.values():
            receiver.start()

    def stop(self) -> None:
        """Close everything."""
        self._unblock()
        self._sockets.close_all()

    def is_blocked(self) -> bool:
        """A socket is full; sending goes on when it is writable."""
        return self._blocked is not None

    def transmit(self, now: int) -> int:
        """Send what the wire has; how many datagrams the kernel took. Nothing is lost when it has no room."""
        if self._blocked is not None:
            return 0
        io = self.io
        before = io.datagrams_out
        blocked = io.transmit(now)
        sent = io.datagrams_out - before
        if blocked >= 0:
            self._wait_writable(blocked)
        if io.troubled():
            for number, (error, dest) in io.take_faults().items():
                self._sockets.fault(number, error, dest, now)
            for path, size in io.take_too_big().items():
                self._leg.too_big(*path, size)
        return sent

    def inspect(self, now: int) -> bool:
        """Take what lies in the sockets that nobody watches, if it is time. True: the node was served."""
        served = False
        for receiver in list(self._receivers.values()):
            served = receiver.inspect(now) or served
        return served

    def deadline_ms(self) -> int:
        """When `transmit` must be called though nothing happens; NEVER_MS: never."""
        return self.io.deadline_ms()

    def has_news(self) -> bool:
        """The node has to act on something that came."""
        return self.io.has_news()

    def coalesce_ms(self, now: int) -> int:
        """How long datagrams may be left in a socket."""
        return self.io.coalesce_ms(now)

    def receive(self, number: int, now: int) -> int:
        """Take one batch of datagrams of this socket in; how many."""
        return self.io.receive(number, now)

    def has_more(self) -> bool:
        """The last `receive` stopped at its bound, not because the socket was dry."""
        return self.io.more

    def _wait_writable(self, number: int) -> None:
        sock = self._sockets.get(number)
        if sock is not None:
            self._driver._inline.exit()
            self._blocked = gevent.get_hub().loop.io(sock.fd, WRITE)
            self._blocked.start(self._writable)

    def _writable(self) -> None:
        self._unblock()
        self._driver.serve()

    def _unblock(self) -> None:
        watcher, self._blocked = self._blocked, None
        if watcher is not None:
            watcher.stop()
            watcher.close()

    def _opened(self, number: int, sock: UdpSocket) -> None:
        self.io.add(number, sock)
        receiver = self._receivers[number] = _Receiver(number, sock, self, self._driver)
        receiver.start()

    def _closed(self, number: int) -> None:
        self._unblock()
        self.io.remove(number)
        self._receivers.pop(number).stop()


class _Receiver:
    """Drains one tunnel socket whenever it is readable, in the event loop's own greenlet: what is done for
    datagrams never waits, no more than what timers do. While many come it does not watch the socket, and
    looks at it from time to time."""

    __slots__ = ("_coalescing", "_driver", "_number", "_open", "_task", "_tunnel")

    def __init__(self, number: int, sock: UdpSocket, tunnel: _Tunnel, driver: Driver) -> None:
        self._number = number
        self._tunnel = tunnel
        self._driver = driver
        self._open = True
        self._coalescing = Coalescing()
        self._task = Task(_nothing_left, sock.fd, READ, self._ready)

    def start(self) -> None:
        """Begin to receive."""
        self._task.wait_io()

    def stop(self) -> None:
        """Let go of the socket; called before it is closed."""
        self._open = False
        self._task.close()

    def inspect(self, now: int) -> bool:
        """Take what lies in the socket, if nobody watches it and it is time. True: the node was served."""
        look_ms = self._coalescing.look_ms
        if look_ms > now:
            self._driver.look_at(look_ms)
        elif look_ms and self._open:
            return self._drain_safely()
        return False

    def _ready(self) -> bool:
        self._drain_safely()
        return True

    def _drain_safely(self) -> bool:
        try:
            return self._drain()
        except Exception:
            self._driver.crashed("a turn of a tunnel socket")
            return False

    def _drain(self) -> bool:
        """Take batches until the socket is dry. True: the node was served."""
        tunnel, driver = self._tunnel, self._driver
        served = False
        for _ in range(BATCHES_PER_TURN):
            now = now_ms()
            count = tunnel.receive(self._number, now) if self._open else 0
            self._settle(now, count)
            if not count:
                break
            driver.serve()  # acknowledgements leave after every batch, which keeps the peer sending
            served = True
            if not tunnel.has_more():
                break
        return served

    def _settle(self, now: int, count: int) -> None:
        """Watch the socket, or leave it alone until the next look."""
        if not self._open:
            return
        tunnel, coalescing = self._tunnel, self._coalescing
        watched = coalescing.look_ms == 0
        coalescing.taken(now, count, tunnel.coalesce_ms(now))
        look_ms = coalescing.look_ms
        if look_ms:
            self._driver.look_at(look_ms)
        if watched and look_ms:
            self._task.wait()
        elif not watched and not look_ms:
            self._task.wait_io()


def _nothing_left() -> None:
    """A turn after a `first` that does everything."""


def make_io(wire: Any) -> DatagramIo:
    """The batched I/O that fits the wire: the kcptube dialect's is plain Python with any engine."""
    compiled = engine.ENGINE == "compiled" and isinstance(wire, DatagramWire)
    io: DatagramIo = engine.module("kcpg.net.udp").UdpIo(wire) if compiled else PlainIo(wire)
    return io
