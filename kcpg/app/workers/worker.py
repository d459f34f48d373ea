"""A process that `kcpg.app.workers.supervisor` started: runs its part of one node, and obeys only that
process.

It ignores signals to the whole group (Ctrl-C, a service manager's SIGTERM): its supervisor gets them too,
lets flows finish, and tells the workers when to end. A worker ends when its supervisor has gone.
"""

from __future__ import annotations

import _socket
import logging
import signal
import time

import gevent
import gevent.event
import gevent.socket

from kcpg.app.descriptors import allow_descriptors, shortage
from kcpg.app.logs import process_log
from kcpg.app.memory import spare_collector
from kcpg.app.privileges import become, identity
from kcpg.app.run import RunningNode
from kcpg.app.workers.channel import Channel, Message, receive, receive_fds
from kcpg.app.workers.context import WorkerContext
from kcpg.app.workers.handle import Setup
from kcpg.errors import EXIT_FAILURE, EXIT_OK, StartError
from kcpg.net.handover import HandOver, Tally

TICK_S = 5.0  # Interval for checking the counts of repeated log lines, as in `service`

FLUSH_S = 1.0  # How long the last log lines may take


def run(fd: int) -> int:
    """Serve until the process at the other end of descriptor `fd` tells this one to end; returns the exit
    code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sock = gevent.socket.socket(fileno=fd)
    (setup,) = receive(sock)
    assert isinstance(setup, Setup)
    tally, *fds = receive_fds(sock, 1 + setup.ports + 1 + len(setup.others))
    allow_descriptors()
    return _Worker(sock, setup, [_socket.socket(fileno=one) for one in fds], Tally(tally)).run()


class _Worker:
    def __init__(
        self, sock: gevent.socket.socket, setup: Setup, sockets: list[_socket.socket], tally: Tally
    ) -> None:
        self._end = gevent.event.Event()
        self._reason = "the supervising process has gone"
        self._channel = Channel(sock, self._took, self._end.set)
        _log_through(self._channel)
        for one in sockets:
            one.setblocking(False)
        read, *write = sockets[setup.ports :]
        others = dict(zip(setup.others, write, strict=True))
        self._hand_over = HandOver(setup.index, read, others, tally)
        context = WorkerContext(
            index=setup.index,
            sockets=tuple(sockets[: setup.ports]),
            cookie_secret=setup.cookie_secret,
            hand_over=self._hand_over,
            steer=lambda number, addr: self._channel.post("steer", number, addr),
        )
        self._node = RunningNode(setup.config, setup.keys, setup.form, context)

    def run(self) -> int:
        try:
            self._node.start()
            self._give_up_rights()
        except StartError as error:
            self._channel.post("failed", error.message, error.hint)
            self._channel.flush(FLUSH_S)
            return EXIT_FAILURE
        if text := shortage(self._node.config.max_flows):
            self._node.log.say(logging.WARNING, text)
        spare_collector()
        self._channel.post("started")
        while not self._end.wait(TICK_S):
            self._node.keep_house(time.monotonic(), summary=False)
        self._node.close(self._reason)
        self._channel.flush(FLUSH_S)
        self._channel.close()
        return EXIT_OK

    def _give_up_rights(self) -> None:
        """As the process that started it does, which keeps more."""
        config = self._node.config
        if config.user:
            become(identity(config.user, config.group), reloads=False)

    def _took(self, message: Message) -> None:
        match message:
            case ("present", present):
                self._hand_over.present = frozenset(present)
            case ("set_users", config):
                self._node.set_users(config)
            case ("close", reason):
                self._reason = reason
                self._end.set()
            case ("ask", number, what):
                self._channel.post("answer", number, self._answer(what))

    def _answer(self, what: object) -> object:
        match what:
            case ("stop_accepting", float(drain_s)):
                self._node.stop_accepting(drain_s)
            case "snapshot":
                return self._node.snapshot()
            case "health":
                return self._node.health()
        return self._node.tcp_flows


class _Handler(logging.Handler):
    """Sends log lines to the process that writes the log."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self._formatter.formatException(record.exc_info)
        more: dict[str, object] = {name: getattr(record, name, "") for name in ("node", "kind", "peer")}
        more["fields"] = getattr(record, "fields", {})
        self._channel.post("log", record.name, record.levelno, record.created, text, more)


def _log_through(channel: Channel) -> None:
    logger = process_log()
    logger.addHandler(_Handler(channel))
    logger.setLevel(logging.INFO)
    logger.propagate = False
