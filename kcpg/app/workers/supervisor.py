"""A node that several processes run together (`workers`): starts and watches them, and acts as one node.

This process opens every listening port once per worker and keeps the sockets. A worker that dies is restarted
with the same ones; meanwhile its datagrams wait there or go to another worker. This process also steers the
ports (`kcpg.net.steer`) and writes the log. It carries no traffic itself.
"""

from __future__ import annotations

import _socket
import logging
import os
import secrets
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

import gevent

from kcpg.app import legsettings
from kcpg.app.config.model import LegConfig, LegKind, NodeConfig
from kcpg.app.health import Health, merged
from kcpg.app.metrics import Snapshot
from kcpg.app.run import KeyRing, RunningNode, lookup, node_log, start_error, write_status
from kcpg.app.workers.context import worker_config
from kcpg.app.workers.handle import Setup, WorkerHandle
from kcpg.app.workers.merge import merge
from kcpg.errors import StartError
from kcpg.net import unix
from kcpg.net.handover import Tally, make_pair, make_tally
from kcpg.net.local import kinds, open_listening
from kcpg.net.steer import Steering, open_shared
from kcpg.net.udp import open_udp

# How long a worker may take to answer: less than `status.ANSWER_LIMIT_S`.
ANSWER_LIMIT_S = 2.0

CLOSE_LIMIT_S = 5.0  # How long a worker may take to notify its peers and end, before it is killed

# Pause between two updates of a port's program: the largest takes 2 ms to build (measured), and until then
# datagrams are handed over.
STEER_EVERY_S = 0.02


class AnyNode(Protocol):
    """What `service` and `reload` need of a node, whether this process or workers run it."""

    config: NodeConfig
    keys: KeyRing
    closed: bool

    def start(self) -> None: ...

    @property
    def tcp_flows(self) -> int: ...

    def snapshot(self) -> Snapshot: ...

    def health(self) -> Health: ...

    def stop_accepting(self, drain_s: float) -> None: ...

    def set_users(self, config: NodeConfig) -> None: ...

    def keep_house(self, now_s: float, summary: bool) -> None: ...

    def close(self, reason: str) -> None: ...


def make_node(config: NodeConfig, keys: KeyRing, form: str) -> AnyNode:
    """A node that is not started yet: in this process, or with workers."""
    return WorkerPool(config, keys, form) if config.workers > 1 else RunningNode(config, keys, form)


class WorkerPool:
    """A node that workers run. Its methods are those of `RunningNode`."""

    def __init__(self, config: NodeConfig, keys: KeyRing, form: str) -> None:
        self.config = config
        self.keys = keys
        self.form = form
        self.closed = False
        self.log = node_log(config, form)
        self.cookie_secret = secrets.token_bytes(32)
        self.ports: list[list[_socket.socket]] = []
        self.pairs: list[tuple[_socket.socket, _socket.socket]] = []
        self._tally: tuple[int, Tally] | None = None
        self._steerings: list[Steering] = []
        self._workers: list[WorkerHandle] = []
        self._renewing: gevent.Greenlet | None = None
        self._renewed_s = 0.0
        self._serves = False

    def start(self) -> None:
        """Open the ports and start the workers. Raises StartError, with nothing left open."""
        count = self.config.workers
        try:
            if sys.platform != "linux":
                raise StartError(f"{self.config.name}: more than one worker requires Linux", "set workers=1")
            self.ports = _open_ports(self.config, count)
            self.pairs = [make_pair() for _ in range(count)]
            fd = make_tally()
            self._tally = fd, Tally(fd)
        except OSError as error:
            self._free()
            raise start_error(self.config, error) from error
        except StartError:
            self._free()
            raise
        seed, stun = secrets.randbits(32), bool(self.config.ingress.stun_server)
        self._steerings = [Steering(socks[0], count, seed, stun) for socks in self.ports]
        self._workers = [WorkerHandle(self, index) for index in range(count)]
        try:
            for worker in self._workers:
                worker.begin()
            for worker in self._workers:
                worker.wait_started()
        except StartError:
            self.close("another worker did not start")
            raise
        self._serves = True
        self._steer()

    @property
    def tcp_flows(self) -> int:
        """Number of TCP flows. A worker too busy to answer counts as one flow: it is not idle."""
        answers = self._ask("tcp_flows")
        found = [answers.get(worker.index, 1) for worker in self._workers if worker.is_up]
        return sum(number for number in found if isinstance(number, int))

    def health(self) -> Health:
        """The workers' together; while none answers, the node is connected to nobody."""
        found = [one for one in self._ask("health").values() if isinstance(one, dict)]
        return {**merged(found, self.config.name), "draining": not self._serves}

    def snapshot(self) -> Snapshot:
        """The workers' counters as those of one node, with a row for each worker."""
        found = {index: one for index, one in self._ask("snapshot").items() if isinstance(one, dict)}
        identity = {"name": self.config.name, "role": self.config.role.value, "file": str(self.config.file)}
        return {
            **identity,
            **merge(found),
            "workers": [one.row(found.get(one.index)) for one in self._workers],
        }

    def stop_accepting(self, drain_s: float) -> None:
        """As of `RunningNode`, in every worker."""
        self._serves = False  # so that no worker is restarted
        self._ask(("stop_accepting", drain_s))
        self._remove_paths()
        for sock in self._all_ports():
            if sock.type == _socket.SOCK_STREAM:
                sock.close()  # an open copy would go on accepting connections

    def set_users(self, config: NodeConfig) -> None:
        """As of `RunningNode`, in every worker, and in those that are started later."""
        self.config = config
        own = worker_config(config, len(self.pairs))
        for worker in self._workers:
            worker.post("set_users", own)

    def keep_house(self, now_s: float, summary: bool) -> None:
        """Write the status file if `summary`; the workers count their repeated lines themselves."""
        if summary and self.config.log_path is not None:
            write_status(self.config, self.snapshot())

    def close(self, reason: str) -> None:
        """Have the workers notify their peers, and end them. Idempotent."""
        if self.closed:
            return
        for worker in self._workers:
            worker.tell_to_end(reason)
        until_s = time.monotonic() + CLOSE_LIMIT_S
        for worker in self._workers:
            worker.wait_ended(until_s)
        self._free()

    # -- For the workers --

    def setup(self, index: int) -> tuple[Setup, list[int]]:
        """A worker's first message, and its descriptors."""
        others = tuple(other for other in range(len(self.pairs)) if other != index)
        config = worker_config(self.config, len(self.pairs))
        setup = Setup(config, dict(self.keys), self.form, index, others, len(self.ports), self.cookie_secret)
        assert self._tally is not None
        given = [socks[index] for socks in self.ports] + [self.pairs[index][0]]
        given += [self.pairs[other][1] for other in others]
        return setup, [self._tally[0], *(sock.fileno() for sock in given)]

    def worker_started(self) -> None:
        """A worker has begun to serve."""
        self._changed()

    def worker_lost(self, worker: int, text: str) -> bool:
        """A worker has gone; `text` says which, and how. Returns whether to restart it."""
        if self.closed or not self._serves or self._tally is None:
            return False
        self._tally[1].put(worker, 0)
        self.log.say(logging.ERROR, text)
        self._changed()
        return True

    def _changed(self) -> None:
        present = [worker.index for worker in self._workers if worker.is_up]
        for worker in self._workers:
            worker.post("present", present)
        for steering in self._steerings:
            steering.stale = True
        self._steer()

    def steer(self, number: int, addr: bytes, worker: int) -> None:
        """Bring what this sender sends to the port of this number (from 1 up) to `worker`."""
        self._steerings[number - 1].assign(addr, worker)
        if self._renewing is None:
            pause_s = self._renewed_s + STEER_EVERY_S - time.monotonic()
            self._renewing = gevent.spawn_later(max(pause_s, 0), self._renew)

    # -- Inside --

    def _renew(self) -> None:
        self._renewing, self._renewed_s = None, time.monotonic()
        self._steer()

    def _steer(self) -> None:
        """Update the program of every port."""
        up = [worker.index for worker in self._workers if worker.is_up]
        absent = [worker.index for worker in self._workers if not worker.is_up]
        stand_ins = {index: up[index % len(up)] for index in absent} if up else {}
        for steering in self._steerings:
            if not steering.stale or self.closed:
                continue
            try:
                steering.attach(stand_ins)
            except OSError as error:
                steering.stale = False
                text = f"the kernel cannot steer datagrams to workers ({error.strerror}): they hand them over"
                self.log.say(logging.WARNING, text, "no_steering", now_s=time.monotonic())

    def _ask(self, what: object) -> dict[int, object]:
        """The answers of the running workers, by number, without those that do not answer in time."""
        asked = {worker.index: worker.ask(what) for worker in self._workers if worker.is_up}
        gevent.wait(list(asked.values()), ANSWER_LIMIT_S)
        return {index: result.value for index, result in asked.items() if result.ready()}

    def _all_ports(self) -> list[_socket.socket]:
        return [sock for socks in self.ports for sock in socks]

    def _remove_paths(self) -> None:
        """The files of UNIX sockets end with this node. Idempotent: one that is closed has no path."""
        for socks in self.ports:
            if socks[0].family == _socket.AF_UNIX:
                unix.remove(socks[0])

    def _free(self) -> None:
        self.closed = True
        if self._renewing is not None:
            self._renewing.kill(block=False)
        self._remove_paths()
        for sock in (*self._all_ports(), *(end for pair in self.pairs for end in pair)):
            sock.close()
        if self._tally is not None:
            self._tally[1].close()
            os.close(self._tally[0])
        self.log.close()


def _open_ports(config: NodeConfig, count: int) -> list[list[_socket.socket]]:
    """The sockets of each listening port, one per worker, in the order in which a node opens them."""
    leg = config.ingress
    opens: list[Callable[[bool], _socket.socket]]
    if leg.kind is LegKind.LOCAL:
        settings = legsettings.local_listen(leg, config.max_flows, lookup, not config.egress.is_kcptun)
        opens = [
            partial(open_listening, settings, bind, kind) for bind in settings.binds for kind in kinds(bind)
        ]
    else:
        opens = [
            partial(_open_tunnel, leg, host, port)
            for host in legsettings.hosts(leg, lookup)
            for port in leg.ports
        ]
    opened: list[list[_socket.socket]] = []
    try:
        opened.extend(open_shared(open, count) for open in opens)
    except OSError:
        for sock in (sock for socks in opened for sock in socks):
            sock.close()
        raise
    return opened


def _open_tunnel(leg: LegConfig, host: str, port: int, shared: bool) -> _socket.socket:
    options = legsettings.socket_options(leg)
    return open_udp(
        host, port, ipv4_only=leg.ipv4_only, ipv6_only=leg.ipv6_only, shared=shared, options=options
    ).sock
