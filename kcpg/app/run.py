"""From a node's configuration to a running node: keys, legs, sockets, driver, log."""

from __future__ import annotations

import _socket
import errno
import logging
import os
import random
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gevent
import gevent.socket

from kcpg.app import legsettings, legsettings_native, status_report
from kcpg.app.config.model import LegConfig, LegKind, NodeConfig
from kcpg.app.descriptors import HOW_TO_RAISE
from kcpg.app.health import Health, node_health
from kcpg.app.identity import dialer_identity
from kcpg.app.linksummary import SummarizingDialer, SummarizingListener
from kcpg.app.logs import NodeLog
from kcpg.app.memory import Memory, pool_bytes
from kcpg.app.messages import Reporter
from kcpg.app.metrics import Snapshot, snapshot
from kcpg.app.output import replace_file
from kcpg.app.public import Program, PublicAddress
from kcpg.app.rehearsal import rehearse
from kcpg.app.rootkeys import Secret, derive, secret
from kcpg.app.tracing import CongestionTracer
from kcpg.app.workers.context import WorkerContext
from kcpg.core.env import Env, Event, EventKind
from kcpg.core.flow import Flow, Kind, Open, Reset, ResetCode
from kcpg.core.native.handshake.keys import RootKeys
from kcpg.core.native.listener import TunnelListener
from kcpg.core.node import Node, NodeSettings
from kcpg.core.speedtest.answers import Answers
from kcpg.core.speedtest.messages import Answerer
from kcpg.core.workerslot import WorkerSlot
from kcpg.errors import StartError
from kcpg.net import addr, clock
from kcpg.net.addr import AF_INET, AF_INET6, site_key, source_key
from kcpg.net.driver import Driver
from kcpg.net.local import LocalDialer, LocalListener
from kcpg.net.resolve import Resolver
from kcpg.net.stun import StunClient
from kcpg.net.tunnelsockets import TunnelSockets
from kcpg.net.udp import adopt_udp

if TYPE_CHECKING:
    from kcpg.app.account import Account
    from kcpg.app.foreignlegs import ForeignDialer, ForeignListener
    from kcpg.net.txtpeer import TxtPeer

# What to do about an error of opening the ports, by errno.
_HINTS = {
    errno.EACCES: "ports below 1024 need root, or: setcap cap_net_bind_service=+ep on the Python interpreter,"
    " AmbientCapabilities=CAP_NET_BIND_SERVICE in a systemd unit",
    errno.EADDRINUSE: "another program has this port: ss -tulpn shows it; end it or take another listen_port",
    errno.EADDRNOTAVAIL: "no interface of this machine has this address: ip addr shows them; check listen_on",
    errno.EMFILE: HOW_TO_RAISE,
}

KeyRing = Mapping[Secret, RootKeys]  # The keys derived from the secrets of native legs


def derive_keys(configs: Iterable[NodeConfig]) -> KeyRing:
    """Derive the keys of each native leg's secret once, in the thread pool, while traffic goes on: scrypt
    takes 0.1 s and 32 MiB."""
    both = [leg for config in configs for leg in (config.ingress, config.egress)]
    tunnels = [leg for leg in both if leg.is_native]
    secrets = list(dict.fromkeys(secret(leg) for leg in tunnels))
    made = [gevent.get_hub().threadpool.apply(derive, (one,)) for one in secrets]
    return dict(zip(secrets, made, strict=True))


class RunningNode:
    """One node of the process, from start to end."""

    def __init__(
        self, config: NodeConfig, keys: KeyRing, form: str, worker: WorkerContext | None = None
    ) -> None:
        """`keys` holds the secrets of both legs, `form` is the format of log lines.

        `worker`: set where several processes run the node and this is one of them.
        """
        self.config = config
        self._worker = worker
        self.keys = keys
        self.closed = self.draining = False
        self.started_s = time.monotonic()
        self.log = node_log(config, form) if worker is None else NodeLog(config.name, config.log_level)
        self._memory = Memory()
        egress = config.egress
        dialing = (egress.section or "tunnel") if egress.kind is LegKind.TUNNEL else None
        self._reporter = Reporter(self.log, time.monotonic, dialing)
        self._resolver = Resolver()
        self.ports: dict[Any, TunnelSockets] = {}
        self._peer: TxtPeer | None = None
        self._local: LocalDialer | None = None
        self._account: Account | None = None
        self._public: PublicAddress | None = None
        self._stun: list[StunClient] = []
        self._tracer = CongestionTracer(self, self.log)
        self.node: Node | None = None
        self.driver: Driver | None = None

    def start(self) -> None:
        """Open every port and begin. Raises StartError, with nothing left open."""
        for algorithm in {
            leg.algorithm for leg in (self.config.ingress, self.config.egress) if leg.is_native
        }:
            rehearse(algorithm)
        try:
            node = Node(
                self._ingress(self.config.ingress),
                self._egress(self.config.egress),
                self._settings(),
                self._reporter.flow,
                self._own_targets(),
            )
            driver = Driver(node, self.ports, self._reporter.notice)
            if self._peer is not None:
                self._peer.start()
            driver.start()
            self._take_over(node, driver)
            for client in self._stun:
                client.start()
        except OSError as error:
            self._give_up()
            raise start_error(self.config, error) from error
        except StartError:
            self._give_up()
            raise
        self.node, self.driver = node, driver
        self._tracer.start()
        if isinstance(node.ingress, TunnelListener) and node.ingress.users is not None:
            from kcpg.app.account import Account  # with a database: only for users

            self._account = Account(self.config, node.ingress, self.log, driver.request_advance)
            self._account.start()
        self._warn_of_weakness()
        self._warn_of_absent()

    def snapshot(self) -> Snapshot:
        """The node's counters."""
        return snapshot(self)

    @property
    def tcp_flows(self) -> int:
        """Number of TCP flows that the node carries."""
        node = self.node
        return sum(splice.kind is Kind.TCP for splice in node.splices) if node is not None else 0

    def health(self) -> Health:
        """Whether it should get new clients."""
        return node_health(self)

    @property
    def troubles(self) -> list[Snapshot]:
        """What has gone wrong lately, the latest last."""
        return self._reporter.troubles.snapshot()

    @property
    def public_addresses(self) -> list[bytes]:
        """The listening tunnel socket's public addresses from STUN, packed; empty until they are known."""
        return [address for client in self._stun for address in client.public]

    def stop_accepting(self, drain_s: float) -> None:
        """Send those elsewhere who have an elsewhere; existing flows go on for up to `drain_s`.

        Dialers of the native dialect are told, and may open flows until they have gone. Others are refused.
        """
        self.draining = True
        if self.node is None or self.driver is None:
            return
        ingress = self.node.ingress
        if isinstance(ingress, TunnelListener):
            ingress.drain(clock.now_ms(), int(drain_s * 1000), "the node is shutting down")
            self.driver.request_advance()
            return
        ingress.on_flow = _refuse
        if isinstance(ingress, LocalListener):
            for port in ingress.tcp_ports:
                port.close()

    def set_users(self, config: NodeConfig) -> None:
        """Take the users of a configuration that is equal otherwise."""
        self.config = config
        if self.node is None or self.driver is None or not isinstance(self.node.ingress, TunnelListener):
            return
        if self._local is not None:
            self._local.users = legsettings.users_targets(config.ingress)
        self.node.ingress.set_users(legsettings_native.users(config.ingress), clock.now_ms())
        if self._account is not None:
            self._account.set_users(config)
        self.driver.request_advance()

    def keep_house(self, now_s: float, summary: bool) -> None:
        """Write counts of repeated lines and return memory; with `summary`, also write the status file.

        Raises OSError if it cannot write that file.
        """
        self.log.tick(now_s)
        if self.node is not None:
            self._memory.inspect(self.node.counters.finished + self.node.counters.reset)
        if summary:
            write_status(self.config, self.snapshot())

    def close(self, reason: str) -> None:
        """Abort the remaining flows, notify the peers, close everything. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self._stop_asking()
        self._tracer.stop()
        if self._worker is not None:
            self._worker.hand_over.close()
        if self.driver is not None:
            self.driver.stop(reason)
        if self._account is not None:
            self._account.stop()
        self.log.close()

    # -- Legs --

    def _ingress(self, config: LegConfig) -> LocalListener | SummarizingListener | ForeignListener:
        if config.kind is LegKind.LOCAL:
            udp = not self.config.egress.is_kcptun
            settings = legsettings.local_listen(config, self.config.max_flows, lookup, udp)
            inherited = None if self._worker is None else iter(self._worker.sockets)
            return LocalListener(settings, self._reporter.notice, inherited)
        ports = self._tunnel_ports(config)
        env = replace(make_env(ports, self._reporter.event), worker=self._worker_slot())
        leg: SummarizingListener | ForeignListener
        if not config.is_native:
            from kcpg.app import foreignlegs

            leg = foreignlegs.listener(config, self.config.max_flows, env)
        else:
            leg = SummarizingListener(
                replace(
                    legsettings_native.listen_settings(config, self.config.max_flows),
                    pool_bytes=self._pool_bytes,
                ),
                self._root(config),
                env,
            )
        self.ports[leg] = ports
        if self._worker is not None:
            for sock in self._worker.sockets:
                ports.adopt(adopt_udp(sock))
        else:
            for host in legsettings.hosts(config, lookup):
                for port in config.ports:
                    ports.listen(host, port)
        if self._is_first:
            self._ask_for_address(config, ports)
        return leg

    def _worker_slot(self) -> WorkerSlot | None:
        worker = self._worker
        if worker is None:
            return None
        over = worker.hand_over
        give, count, tell_life, choose = over.give, over.count, over.tell_life, over.choose
        return WorkerSlot(worker.index, over.processes, worker.cookie_secret, give, count, tell_life, choose)

    def _take_over(self, node: Node, driver: Driver) -> None:
        """Start to receive the datagrams of our links that arrive in other processes of this node."""
        worker, leg = self._worker, node.ingress
        if worker is not None and isinstance(leg, SummarizingListener):
            mask = self._root(self.config.ingress).mask_c2s
            worker.hand_over.start(leg, mask, driver, worker.steer)

    @property
    def _is_first(self) -> bool:
        """Whether this process does what only one process of a node may do."""
        return self._worker is None or self._worker.index == 0

    def _egress(self, config: LegConfig) -> LocalDialer | SummarizingDialer | ForeignDialer:
        if config.kind is LegKind.LOCAL:
            self._local = LocalDialer(legsettings.local_dial(config), self._resolver, self._reporter.notice)
            self._local.users = legsettings.users_targets(self.config.ingress)
            return self._local
        ports = self._tunnel_ports(config)
        env = make_env(ports, self._reporter.event)
        if config.dnstxt:
            from kcpg.net.txtpeer import TxtPeer

            changed = self._say if self._is_first else _ignore
            self._peer = TxtPeer(config.dnstxt, ports, changed=changed, report=self._reporter.notice)
            env = replace(env, resolve=self._peer.resolve)
        leg: SummarizingDialer | ForeignDialer
        if not config.is_native:
            from kcpg.app import foreignlegs

            leg = foreignlegs.dialer(config, env)
        else:
            worker = self._worker.index if self._worker is not None else 0
            identity = dialer_identity(self.config.file, config.section, worker, os.environ)
            settings = legsettings_native.dial_settings(config, self.config.max_flows, identity)
            settings = replace(settings, pool_bytes=self._pool_bytes)
            leg = SummarizingDialer(settings, self._root(config), env)
        self.ports[leg] = ports
        return leg

    @property
    def _pool_bytes(self) -> int:
        """What one tunnel leg has for segments."""
        legs = (self.config.ingress, self.config.egress)
        return pool_bytes(self.config.memory_bytes, sum(leg.kind is LegKind.TUNNEL for leg in legs))

    def _tunnel_ports(self, config: LegConfig) -> TunnelSockets:
        return TunnelSockets(
            self._resolver,
            ipv4_only=config.ipv4_only,
            ipv6_only=config.ipv6_only,
            report=self._reporter.notice,
            options=legsettings.socket_options(config),
        )

    def _root(self, config: LegConfig) -> RootKeys:
        return self.keys[secret(config)]

    def _say(self, text: str) -> None:
        self.log.say(logging.INFO, text)

    def _settings(self) -> NodeSettings:
        idle_s = max(self.config.ingress.udp_timeout_s, self.config.egress.udp_timeout_s)
        return NodeSettings(
            udp_timeout_ms=idle_s * 1000,
            max_flows=self.config.max_flows,
            tells_all=self.log.hears(logging.DEBUG),
        )

    def _own_targets(self) -> Answers | None:
        """Speed tests of dialers end in this node, where its protocol has them."""
        if not self.config.ingress.is_native:
            return None
        who = Answerer.SERVER if self.config.egress.kind is LegKind.LOCAL else Answerer.RELAY
        return Answers(who, self.config.ingress.speedtest)

    def _ask_for_address(self, config: LegConfig, ports: TunnelSockets) -> None:
        """Find out the public address of a listening leg, if the configuration asks for it."""
        if not config.stun_server:
            return
        paths = {AF_INET: ("update_ipv4", config.update_ipv4), AF_INET6: ("update_ipv6", config.update_ipv6)}
        programs = {family: Program(*words) for family, words in paths.items() if words[1]}
        self._public = PublicAddress(self.log, self.config.log_path, programs)
        host, port = legsettings.stun_server(config)
        found, report = self._public.changed, self._reporter.notice
        # A name to listen on may have several addresses; one socket per family stands for all of them.
        for sock in {sock.family: sock for _, sock in ports.items()}.values():
            self._stun.append(StunClient(host, port, sock, self._resolver, found=found, report=report))

    def _stop_asking(self) -> None:
        if self._peer is not None:
            self._peer.stop()
        for client in self._stun:
            client.stop()
        if self._public is not None:
            self._public.close()

    def _give_up(self) -> None:
        self._stop_asking()
        for ports in self.ports.values():
            ports.close_all()
        self.closed = True
        self.log.close()

    def _warn_of_absent(self) -> None:
        """Say which addresses to listen on are not there yet: their sockets wait for them."""
        if self._worker is not None and not self._is_first:
            return
        leg = self.config.ingress
        for host in absent({*leg.addresses, *(mapping.listen_address for mapping in leg.mappings)}):
            text = f"listen_on: no interface of this machine has {host} now; listening there once one has it"
            self.log.say(logging.WARNING, f"{text} (ip addr shows what it has)")

    def _warn_of_weakness(self) -> None:
        for leg in (self.config.ingress, self.config.egress):
            section = f"[{leg.section}] " if leg.section else ""
            if leg.is_kcptube or leg.is_kcptun:
                from kcpg.app import foreignlegs

                what = foreignlegs.lacks(leg)
                text = f"{section}dialect={leg.dialect.value}, for compatibility only: {what}"
                self.log.say(logging.WARNING, text)
            if leg.kind is LegKind.TUNNEL and leg.algorithm in ("none", "XOR", "null"):
                text = (
                    f"{section}encryption_algorithm={leg.algorithm}: anyone can read and change the traffic"
                )
                self.log.say(logging.WARNING, text)


def describe(config: NodeConfig) -> str:
    """`client office *:59000 -> 192.0.2.1:3000-3010 (AES-GCM)`, for the ready line."""
    ingress, egress = config.ingress, config.egress
    words = [leg.algorithm for leg in (ingress, egress) if leg.kind is LegKind.TUNNEL]
    words += [f"{config.workers} workers"] if config.workers > 1 else []
    route = f"{legsettings.where(ingress)} -> {legsettings.where(egress)}"
    return f"{config.role.value} {config.name} {route} ({', '.join(words)})"


def start_error(config: NodeConfig, error: OSError) -> StartError:
    """The error of a node that cannot start, with its role and name, and what to do about it."""
    hint = _HINTS.get(error.errno or 0, "")
    return StartError(f"{config.role.value} {config.name}: {error.strerror or error}", hint)


def probe(host: str) -> None:
    """Raise OSError unless an interface of this machine has the address; a name is looked up before."""
    if not addr.is_numeric(host):
        return
    where = addr.to_tuple(addr.pack(host, 0))
    with closing(_socket.socket(addr.family(addr.pack(host, 0)), _socket.SOCK_DGRAM)) as sock:
        sock.bind(where)


def absent(hosts: Iterable[str]) -> list[str]:
    """Those of these addresses to listen on that no interface of this machine has now."""
    found = []
    for host in filter(None, hosts):
        try:
            probe(host)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                found.append(host)
    return found


def node_log(config: NodeConfig, form: str) -> NodeLog:
    """A node's log, with the file that its configuration asks for."""
    file = config.log_path / f"{config.role.value}_output.log" if config.log_path else None
    return NodeLog(config.name, config.log_level, file, form)


def write_status(config: NodeConfig, found: Snapshot) -> None:
    """Write the status file in `log_path`, if that is set. Raises OSError."""
    if config.log_path is None:
        return
    page = "\n".join(status_report.node_lines(found))
    stamp = time.strftime("[%Y-%m-%d %H:%M:%S %z] ", time.localtime())
    file = config.log_path / f"{config.file.name}_status.log"
    replace_file(file, f"{stamp}Summary of {config.file}\n{page}\n")


def lookup(name: str) -> list[str]:
    """The addresses of a name to listen on."""
    try:
        return [str(row[4][0]) for row in gevent.socket.getaddrinfo(name, None)]
    except OSError as error:
        raise StartError(f"cannot listen on {name}: {error.strerror}", "check listen_on") from error


def make_env(ports: TunnelSockets, report: Callable[[Event], None]) -> Env:
    """A tunnel leg's environment: the system's entropy, clock and name service, and these sockets."""

    def told(event: Event) -> None:
        if event.kind == EventKind.NO_ANSWER and (why := ports.why_silent()):
            whom = event.text.partition(":")[0]
            event = replace(event, text=f"{whom}, as nothing leaves this machine: {why}")
        report(event)

    return Env(
        entropy=os.urandom,
        rng=random.Random(),
        wall_s=clock.wall_s,
        open_socket=ports.open,
        close_socket=ports.close,
        report=told,
        resolve=ports.resolve,
        source_key=source_key,
        site_key=site_key,
        clock_ns=time.perf_counter_ns,
    )


def _ignore(_text: str) -> None:
    """Say nothing: another process of this node does."""


def _refuse(flow: Flow, _open: Open, _now_ms: int) -> None:
    flow.reset(Reset(ResetCode.SHUTDOWN, "this node is shutting down"))
