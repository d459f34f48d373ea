"""A running process: its nodes, its signals, and its end.

SIGTERM and SIGINT let flows finish, notify the peers and end the process; a second one ends it at once.
SIGHUP rereads the configuration. A signal only sets a flag: the main greenlet, which sleeps until then, does
the work.
"""

from __future__ import annotations

import _socket
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import gevent
import gevent.event

from kcpg import __version__, engine
from kcpg.app import health, instances, logs, reload
from kcpg.app.config.model import NodeConfig
from kcpg.app.descriptors import allow_descriptors, shortage
from kcpg.app.logoptions import LogOptions
from kcpg.app.logs import process_log
from kcpg.app.memory import spare_collector
from kcpg.app.paths import Instance
from kcpg.app.privileges import become, identity, unreadable
from kcpg.app.run import derive_keys, describe
from kcpg.app.servicemanager import ServiceManager
from kcpg.app.status import StatusServer
from kcpg.app.terminal import Terminal
from kcpg.app.wording import counted
from kcpg.app.workers.supervisor import AnyNode, make_node
from kcpg.errors import EXIT_OK, KcpgError, StartError

if TYPE_CHECKING:
    from kcpg.app.httpserver import Application, HttpServers
    from kcpg.app.web.history import History

# Interval for checking the counts of repeated lines: a few seconds late is unnoticeable, and costs nothing.
TICK_S = 5.0

SUMMARY_S = 60.0  # Interval of status blocks in a node's `log_path` (kcptube's value)

WATCHDOG_SHARE = 3  # Signs of life in the time after which a service manager restarts the process

# Version of the status report, docs/status.md. It grows when a field goes away or changes its meaning; new
# fields may come at any time.
SCHEMA = 1

DRAIN_LOOK_S = 0.05  # Interval for checking whether the last flow has finished


class Service:
    """The nodes of one process, from start to end."""

    def __init__(
        self,
        paths: Sequence[Path],
        configs: Sequence[NodeConfig],
        options: LogOptions,
        drain_s: float,
        where: Instance | None,
        name: _socket.socket | None = None,
    ) -> None:
        """SIGHUP rereads `paths`, files and directories; `where` None: no status socket; `name`: the lock's,
        which also answers."""
        self._paths = list(paths)
        self._configs = list(configs)
        self._options = options
        self._drain_s = drain_s
        self._where = where
        self._name = name
        self._status: StatusServer | None = None
        self._http: HttpServers | None = None
        self._history: History | None = None
        self._sampling: gevent.Greenlet | None = None
        self._web_tokens: dict[str, str] = {}
        self._manager = ServiceManager(os.environ)
        self._started_s = time.time()
        self._marked = gevent.event.Event()
        self._stops = 0
        self._reload_wanted = False
        self._reload_count = 0
        self._reloaded: dict[str, object] = {"ok": True, "at": None, "text": ""}
        self.nodes: list[AnyNode] = []

    def run(self, ready: Callable[[str], None]) -> int:
        """Start, call `ready` with the ready line, serve until a signal; returns the exit code.

        Raises StartError if a node cannot start; then none of them runs.
        """
        self._obey_signals()
        allow_descriptors()
        greenlets: list[gevent.Greenlet] = []
        try:
            self._start()
            self._become_user()
            spare_collector()
            ready(self.ready_line())
            self._manager.ready(self._status_line())
            greenlets = [gevent.spawn(self._keep_house), gevent.spawn(self._show_life)]
            self._serve()
        finally:
            gevent.killall(greenlets)
            self._end()
        return EXIT_OK

    def ready_line(self) -> str:
        """`kcpg: ready, 2 nodes: client office [::]:59000 → …; server …`."""
        what = "; ".join(describe(node.config) for node in self.nodes)
        return f"kcpg: ready, {counted(len(self.nodes), 'node')}: {what}"

    def report(self) -> dict[str, object]:
        """The report for `kcpg status`."""
        return {
            "schema": SCHEMA,
            "version": __version__,
            "engine": engine.ENGINE,
            "pid": os.getpid(),
            "at_s": round(time.monotonic(), 3),
            "uptime_s": round(time.time() - self._started_s, 3),
            "drain_s": self.drain_s,
            "state_directory": str(self._where.directory) if self._where is not None else None,
            "configurations": [os.path.abspath(path) for path in self._files()],
            "reload": {"count": self._reload_count, **self._reloaded},
            "nodes": [node.snapshot() for node in self.nodes],
        }

    # -- Start --

    def _start(self) -> None:
        if engine.is_slow():
            process_log().warning("%s", engine.SLOW)
        keys = derive_keys(self._configs)
        for config in self._configs:
            node = make_node(config, keys, self._options.form)
            node.start()
            self.nodes.append(node)
        own = [config.max_flows for config in self._configs if config.workers == 1]
        if own and (text := shortage(sum(own))):
            process_log().warning("%s", text)
        self._serve_http()
        if self._where is not None:
            self._status = StatusServer(self._where.socket, self.report, self._name)
            try:
                self._status.start()
            except OSError as error:
                self._status = None
                process_log().warning("cannot offer a status report at %s: %s", self._where.socket, error)

    def _become_user(self) -> None:
        """Give root's rights up if the configuration says so: what needs them is open."""
        config = self._configs[0]
        if not config.user:
            return
        wanted = identity(config.user, config.group)
        if wanted.is_ours:
            return
        for file in logs.files():
            file.give_to(wanted.uid, wanted.gid)
        become(wanted, reloads=True)
        process_log().info("runs as %s from now on", wanted)
        legs = [leg for config in self._configs for leg in (config.ingress, config.egress)]
        if problem := unreadable([*self._files(), *(file for leg in legs for file in leg.reads)]):
            process_log().warning("%s cannot read %s: a reload will be refused", wanted, problem)
        logged = {file.directory for file in logs.files()}
        logged.update(config.log_path for config in self._configs if config.log_path is not None)
        for directory in sorted(logged):
            if not os.access(directory, os.W_OK):
                text = "%s cannot write to %s: no file is rotated or replaced there, a full one begins anew"
                process_log().warning(text, wanted, directory)

    def _obey_signals(self) -> None:
        self._terminal = Terminal()
        gevent.signal_handler(signal.SIGTERM, self._on_stop)
        gevent.signal_handler(signal.SIGINT, self._on_stop)
        gevent.signal_handler(signal.SIGHUP, self._on_hup)

    def _on_stop(self) -> None:
        self._stops += 1
        self._marked.set()

    def _on_hup(self) -> None:
        if self._terminal.is_gone():
            self._on_stop()
            return
        self._reload_wanted = True
        self._marked.set()

    def _serve_http(self) -> None:
        """Open and close what the configuration says. Raises StartError."""
        pages = {"metrics_listen": self._metrics, "web_listen": self._web, "health_listen": self._health}
        wanted = {
            (key, getattr(one, key)): make
            for key, make in sorted(pages.items())
            for one in self._configs
            if getattr(one, key)
        }
        self._web_tokens = {one.web_listen: one.web_token for one in reversed(self._configs)}
        if not wanted and self._http is None:
            return
        from kcpg.app.httpserver import HttpServers

        self._http = self._http or HttpServers()
        self._http.serve(wanted)
        if self._sampling is not None and not any(one.web_listen for one in self._configs):
            self._sampling.kill()
            self._sampling = self._history = None

    def _metrics(self, _address: str) -> Application:
        from kcpg.app import prometheus

        return prometheus.application(self.report)

    def _health(self, _address: str) -> Application:
        return health.application(lambda: [node.health() for node in self.nodes])

    def _web(self, address: str) -> Application:
        from kcpg.app.web.application import Web
        from kcpg.app.web.history import History

        if self._history is None:
            self._history = History(self.report)
            self._sampling = gevent.spawn(self._history.run)
        return Web(self._history.data, lambda: self._web_tokens.get(address, ""))

    # -- While it runs --

    def _serve(self) -> None:
        while True:
            self._marked.wait()
            self._marked.clear()
            if self._stops:
                self._manager.stopping()
                self._drain(self.nodes)
                return
            if self._reload_wanted:
                self._reload_wanted = False
                self._reload()

    def _files(self) -> list[Path]:
        """The configuration files that this process is to run now. Raises KcpgError."""
        files = instances.expand(self._paths)
        out = instances.left_out(self._where) if self._where is not None else set()
        return [file for file in files if os.path.realpath(file) not in out]

    def _status_line(self) -> str:
        """What the service manager shows of this process."""
        flows = sum(node.tcp_flows for node in self.nodes)
        return f"{counted(len(self.nodes), 'node')}, {counted(flows, 'TCP flow')}"

    def _show_life(self) -> None:
        """Tell the service manager that the event loop turns, as often as it wants to hear it."""
        while self._manager.watchdog_s:
            self._manager.alive()
            gevent.sleep(self._manager.watchdog_s / WATCHDOG_SHARE)

    def _reload(self) -> None:
        self._manager.reloading()
        try:
            ok, text = self._apply()
        except Exception as error:  # a bug must not end the nodes that run
            process_log().exception("cannot reread the configuration")
            ok, text = False, f"cannot reread the configuration: {error}"
        self._reloaded = {"ok": ok, "at": round(time.time(), 3), "text": text}
        self._reload_count += 1
        self._manager.ready(self._status_line() if ok else text)

    def _apply(self) -> tuple[bool, str]:
        """Reread the configuration: whether it runs now, and the result in words."""
        try:
            files = self._files()
        except KcpgError as error:
            process_log().error("kept the old configuration: %s", error)
            return False, f"kept the old configuration: {error}"
        wanted = set(instances.real(files))
        self._drain([node for node in self.nodes if os.path.realpath(node.config.file) not in wanted])
        done = reload.apply(files, self.nodes, self._options.form, self._configs)
        self.nodes = done.nodes
        if done.configs is not None:
            self._configs = list(done.configs)
            try:
                self._serve_http()
            except StartError as error:
                process_log().error("%s", error)
                return False, f"{done.text}, but {error}"
        if self._where is not None:
            try:
                instances.note(self._where, [node.config.file for node in self.nodes])
            except OSError as error:
                process_log().warning("cannot write %s: %s", self._where.files, error.strerror)
        return done.ok, done.text

    def _keep_house(self) -> None:
        next_summary_s = time.monotonic() + SUMMARY_S
        while True:
            gevent.sleep(TICK_S)
            if self._manager.listens and self._reloaded["ok"]:
                self._manager.status(self._status_line())
            now_s = time.monotonic()
            summary = now_s >= next_summary_s
            if summary:
                next_summary_s = now_s + SUMMARY_S
            for node in list(self.nodes):
                try:
                    node.keep_house(now_s, summary)
                except OSError as error:  # a full disk is no reason to stop carrying traffic
                    process_log().warning(
                        "cannot write the status of %s: %s", node.config.name, error.strerror
                    )

    # -- End --

    def _drain(self, nodes: Sequence[AnyNode]) -> None:
        """Have these nodes send their peers elsewhere, and wait for their TCP flows to finish, or the limit;
        if the process is to end, until a second signal, too."""
        for node in nodes:
            node.stop_accepting(self._drain_limit_s(node))
        began_s = time.monotonic()
        waiting = sum(node.tcp_flows for node in nodes)
        if waiting and self.drain_s:
            process_log().info("stopping: waiting up to %.0f s for %d TCP flows", self.drain_s, waiting)
        while self._stops < 2 and any(
            node.tcp_flows and time.monotonic() < began_s + self._drain_limit_s(node) for node in nodes
        ):
            gevent.sleep(DRAIN_LOOK_S)

    @property
    def drain_s(self) -> float:
        """How long a stop may take for flows to finish."""
        return max((self._drain_limit_s(node) for node in self.nodes), default=self._drain_s)

    def _drain_limit_s(self, node: AnyNode) -> float:
        own_s = node.config.drain_timeout_s
        return self._drain_s if own_s is None else float(own_s)

    def _end(self) -> None:
        for node in self.nodes:
            try:
                node.close("the node is shutting down")
            except Exception:  # a bug of one node must not cost the others' peers their farewell
                process_log().exception("cannot close %s", node.config.name)
        if self._status is not None:
            self._status.close()
        if self._http is not None:
            self._http.close()
        if self._sampling is not None:
            self._sampling.kill()
        if self._where is not None:
            instances.forget(self._where)
        if self.nodes:
            process_log().info("stopped")
