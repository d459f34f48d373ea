"""One worker of a node, from the view of the process that started it, and the first message between them."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import gevent
import gevent.event
import gevent.socket

from kcpg.app.config.model import NodeConfig
from kcpg.app.metrics import Snapshot
from kcpg.app.run import KeyRing
from kcpg.app.wording import exit_words
from kcpg.app.workers.channel import Channel, Message, pack, send_fds
from kcpg.errors import StartError

# First word of a worker's command line; the second is the descriptor of its channel.
WORKER = "--worker"

START_LIMIT_S = 30.0  # How long a worker may take to be ready: usually a second, longer on a busy machine.

GONE_LIMIT_S = 5.0  # A worker that still exists this long after it has closed its end is killed

# Pause before a worker is started again; it doubles up to the maximum, and is reset once a worker has lived
# that long.
RESTART_FIRST_S = 0.2
RESTART_MOST_S = 30.0


@dataclass(frozen=True, slots=True)
class Setup:
    """The first message to a worker; the descriptors that it announces follow."""

    config: NodeConfig  # The worker's own, with its share of the limits
    keys: KeyRing
    form: str  # Format of log lines
    index: int
    others: tuple[int, ...]  # Numbers of the other workers
    # Number of listening sockets. The descriptors: the tally, the listening sockets, the end of a pair to
    # read handed-over datagrams from, and for each of `others` an end to write to.
    ports: int
    cookie_secret: bytes


class Supervisor(Protocol):
    """The process that starts the workers, as a handle sees it."""

    def setup(self, index: int) -> tuple[Setup, list[int]]:
        """A worker's first message, and its descriptors."""

    def worker_started(self) -> None:
        """A worker has begun to serve."""

    def worker_lost(self, worker: int, text: str) -> bool:
        """A worker has gone; `text` says which, and how. Returns whether to restart it."""

    def steer(self, number: int, addr: bytes, worker: int) -> None:
        """Bring what this sender sends to the port of this number (from 1 up) to `worker`."""


class WorkerHandle:
    """A worker process, and its successors when it dies."""

    def __init__(self, supervisor: Supervisor, index: int) -> None:
        self.index = index
        self.is_up = False
        self._supervisor = supervisor
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._started = gevent.event.AsyncResult()
        self._asked: dict[int, gevent.event.AsyncResult] = {}
        self._last_ask = 0
        self._starts = 0
        self._begun_s = 0.0
        self._pause_s = RESTART_FIRST_S
        self._ending = False
        self._failure = ""
        self._restart: gevent.Greenlet | None = None

    def begin(self) -> None:
        """Start the process. Raises StartError if that fails."""
        self._begun_s, self._failure = time.monotonic(), ""
        setup, fds = self._supervisor.setup(self.index)
        ours, theirs = gevent.socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "kcpg", WORKER, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a terminal's signals are for this process only
            )
            self._starts += 1
            theirs.close()
            ours.sendall(pack((setup,)))
            send_fds(ours, fds)
        except OSError as error:
            ours.close()
            theirs.close()
            raise StartError(f"cannot start a worker: {error.strerror or error}") from error
        self._channel = Channel(ours, self._took, self._gone)

    def wait_started(self) -> None:
        """Wait until the worker serves for the first time. Raises StartError with its reason if it does
        not."""
        try:
            problem = self._started.get(timeout=START_LIMIT_S)
        except gevent.Timeout:
            problem = (f"worker {self.index} is not ready after {START_LIMIT_S:.0f} s", "")
        if problem is not None:
            raise StartError(*problem)

    def ask(self, what: object) -> gevent.event.AsyncResult:
        """Ask the worker; the result becomes its answer, or None if it dies first."""
        self._last_ask += 1
        result = self._asked[self._last_ask] = gevent.event.AsyncResult()
        self.post("ask", self._last_ask, what)
        return result

    def post(self, *message: object) -> None:
        """Send it a message, if it runs."""
        if self._channel is not None:
            self._channel.post(*message)

    def tell_to_end(self, reason: str) -> None:
        """Have it notify its peers and end."""
        self._ending = True
        if self._restart is not None:
            self._restart.kill(block=False)
        self.post("close", reason)

    def wait_ended(self, until_s: float) -> None:
        """Wait for its end, and kill it at `until_s`."""
        process = self._process
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(until_s - time.monotonic(), 0))
            if process.poll() is None:
                process.kill()
                process.wait()
        if self._channel is not None:
            self._channel.close()

    def row(self, found: Snapshot | None) -> dict[str, Any]:
        """Its row in the status. `found`: its own snapshot."""
        found = found or {}
        flows = found.get("flows", {})
        tunnels = [leg for leg in (found.get("ingress"), found.get("egress")) if leg]
        return {
            "worker": self.index,
            "pid": self._process.pid if self._process is not None else 0,
            "up": self.is_up,
            "starts": self._starts,
            "uptime_s": found.get("uptime_s", 0.0),
            "flows": {"tcp": flows.get("tcp", 0), "udp": flows.get("udp", 0)},
            "link_count": sum(leg.get("link_count", 0) for leg in tunnels),
            "handed_over": sum(leg.get("counters", {}).get("handed_over", 0) for leg in tunnels),
        }

    def _took(self, message: Message) -> None:
        match message:
            case ("started",):
                self.is_up = True
                self._started.set(None)
                self._supervisor.worker_started()
            case ("failed", text, hint):
                self._failure = f"does not start: {text}"
                if not self._started.ready():
                    self._started.set((text, hint))
            case ("answer", number, value):
                if (result := self._asked.pop(number, None)) is not None:
                    result.set(value)
            case ("steer", number, addr):
                self._supervisor.steer(number, addr, self.index)
            case ("log", name, level, created, text, more):
                self._log(name, level, created, text, more)

    def _log(self, name: str, level: int, created: float, text: str, more: Mapping[str, Any]) -> None:
        """Write a log line of the worker. `more`: the fields that `NodeLog` adds to a record."""
        logger = logging.getLogger(name)
        extra = {**more, "fields": {**more["fields"], "worker": self.index}}
        words = (f"worker {self.index}: {text}",)
        record = logger.makeRecord(name, level, "", 0, "%s", words, None, extra=extra)
        record.created = created
        logger.handle(record)

    def _gone(self) -> None:
        """The process has closed its end, so it has ended or is about to."""
        self.is_up = False
        assert self._channel is not None and self._process is not None
        self._channel.close()
        self._channel = None
        for result in self._asked.values():
            result.set(None)
        self._asked.clear()
        if self._ending:
            return
        try:
            code = self._process.wait(GONE_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        how = self._failure or exit_words(code)
        if not self._started.ready():
            self._started.set((f"worker {self.index} {how}", "see the log"))
        if time.monotonic() - self._begun_s > RESTART_MOST_S:
            self._pause_s = RESTART_FIRST_S
        self._lost(f"worker {self.index} (pid {self._process.pid}) {how}; its links are lost")

    def _lost(self, text: str) -> None:
        if not self._supervisor.worker_lost(self.index, f"{text}; restarting it in {self._pause_s:.1f} s"):
            return
        self._restart = gevent.spawn_later(self._pause_s, self._again)
        self._pause_s = min(self._pause_s * 2, RESTART_MOST_S)

    def _again(self) -> None:
        try:
            self.begin()
        except StartError as error:
            self._lost(f"worker {self.index}: {error}")
