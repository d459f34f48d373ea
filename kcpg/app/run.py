"""From a node's configuration to a node that runs: keys, legs, sockets, driver, log."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent
import gevent.socket

from kcpg.app import legs, status_report
from kcpg.app.config.model import LegConfig, LegKind, NodeConfig
from kcpg.app.logs import NodeLog
from kcpg.app.messages import Reporter
from kcpg.app.observed import ObservedDialer, ObservedListener
from kcpg.app.public import Program, PublicAddress
from kcpg.core.flow import Flow, Kind, Open, Reset, ResetCode
from kcpg.core.native.env import Env, Event
from kcpg.core.native.keys import RootKeys
from kcpg.core.node import Node, NodeSettings
from kcpg.errors import StartError
from kcpg.net import clock
from kcpg.net.addr import AF_INET, AF_INET6, source_key
from kcpg.net.driver import Driver
from kcpg.net.local import LocalDialer, LocalListener
from kcpg.net.ports import TunnelPorts
from kcpg.net.resolve import Resolver
from kcpg.net.stun import StunClient
from kcpg.net.txtpeer import TxtPeer

Secret = tuple[bytes, bytes | None]
"""Password and key of a leg; one of them counts."""

KeyRing = Mapping[Secret, RootKeys]
"""The derived keys of every secret that some leg uses."""


def derive_keys(configs: Iterable[NodeConfig]) -> KeyRing:
    """Derive every secret once, in the thread pool: scrypt takes 0.1 s and 32 MiB each, traffic goes on
    meanwhile."""
    tunnels = [
        leg for config in configs for leg in (config.ingress, config.egress) if leg.kind is LegKind.TUNNEL
    ]
    secrets = list(dict.fromkeys(_secret(leg) for leg in tunnels))
    made = [gevent.get_hub().threadpool.apply(_derive, (secret,)) for secret in secrets]
    return dict(zip(secrets, made, strict=True))


class RunningNode:
    """One node of the process, from its configuration to its end."""

    def __init__(self, config: NodeConfig, keys: KeyRing, form: str) -> None:
        """`keys` has the secrets of both legs; `form` is that of the log lines."""
        self.config = config
        self.keys = keys
        self.closed = False
        self.started_s = time.monotonic()
        file = config.log_path / f"{config.role.value}_output.log" if config.log_path else None
        self.log = NodeLog(config.name, config.log_level, file, form)
        self._reporter = Reporter(self.log, time.monotonic)
        self._resolver = Resolver()
        self.ports: dict[Any, TunnelPorts] = {}
        self._peer: TxtPeer | None = None
        self._public: PublicAddress | None = None
        self._stun: list[StunClient] = []
        self.node: Node | None = None
        self.driver: Driver | None = None

    def start(self) -> None:
        """Open every port and begin. Raises StartError with nothing left open."""
        try:
            node = Node(
                self._ingress(self.config.ingress),
                self._egress(self.config.egress),
                self._settings(),
                self._reporter.flow,
            )
            driver = Driver(node, self.ports, self._reporter.notice)
            if self._peer is not None:
                self._peer.start()
            driver.start()
            for client in self._stun:
                client.start()
        except OSError as error:
            self._give_up()
            raise StartError(
                f"{self.config.role.value} {self.config.name}: {error.strerror or error}"
            ) from error
        except StartError:
            self._give_up()
            raise
        self.node, self.driver = node, driver
        self._warn_of_weakness()

    def describe(self) -> str:
        """`client office *:59000 -> 192.0.2.1:3000-3010 (AES-GCM)`, for the ready line."""
        ingress, egress = self.config.ingress, self.config.egress
        ciphers = [leg.algorithm for leg in (ingress, egress) if leg.kind is LegKind.TUNNEL]
        route = f"{legs.where(ingress)} -> {legs.where(egress)}"
        return f"{self.config.role.value} {self.config.name} {route} ({', '.join(ciphers)})"

    @property
    def tcp_flows(self) -> int:
        """TCP flows being carried."""
        node = self.node
        return sum(splice.kind is Kind.TCP for splice in node.splices) if node is not None else 0

    @property
    def public_addresses(self) -> list[bytes]:
        """What STUN says of the listening tunnel socket, packed; empty while nothing is known."""
        return [address for client in self._stun for address in client.public]

    def stop_accepting(self) -> None:
        """Refuse new flows; those there are go on."""
        if self.node is None:
            return
        ingress = self.node.ingress
        ingress.on_flow = _refuse
        if isinstance(ingress, LocalListener):
            for port in ingress.tcp_ports:
                port.close()

    def keep_house(self, now_s: float, summary: bool) -> None:
        """Write counts of repeated lines; with `summary` also the status file in `log_path`, if there is
        one."""
        self.log.tick(now_s)
        if summary and self.config.log_path is not None:
            self._write_status(self.config.log_path)

    def close(self, reason: str) -> None:
        """Abort the flows that are left, tell the peers, close everything. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self._stop_asking()
        if self.driver is not None:
            self.driver.stop(reason)
        self.log.close()

    # -- legs
    # ----------------------------------------------------------------------------------------------------

    def _ingress(self, config: LegConfig) -> LocalListener | ObservedListener:
        if config.kind is LegKind.LOCAL:
            settings = legs.local_listen(config, self.config.max_flows, self._lookup)
            return LocalListener(settings, self._reporter.notice)
        ports = self._tunnel_ports(config)
        leg = ObservedListener(
            legs.tunnel_listen(config, self.config.max_flows),
            self._root(config),
            make_env(ports, self._reporter.event),
        )
        self.ports[leg] = ports
        for host in legs.hosts(config, self._lookup):
            for port in config.ports:
                ports.listen(host, port)
        self._ask_for_address(config, ports)
        return leg

    def _egress(self, config: LegConfig) -> LocalDialer | ObservedDialer:
        if config.kind is LegKind.LOCAL:
            return LocalDialer(legs.local_dial(config), self._resolver, self._reporter.notice)
        ports = self._tunnel_ports(config)
        env = make_env(ports, self._reporter.event)
        if config.dnstxt:
            self._peer = TxtPeer(config.dnstxt, ports, changed=self._say, report=self._reporter.notice)
            env = replace(env, resolve=self._peer.resolve)
        leg = ObservedDialer(
            legs.tunnel_dial(config, self.config.max_flows),
            self._root(config),
            env,
        )
        self.ports[leg] = ports
        return leg

    def _tunnel_ports(self, config: LegConfig) -> TunnelPorts:
        return TunnelPorts(
            self._resolver,
            ipv4_only=config.ipv4_only,
            ipv6_only=config.ipv6_only,
            report=self._reporter.notice,
        )

    def _root(self, config: LegConfig) -> RootKeys:
        return self.keys[_secret(config)]

    def _say(self, text: str) -> None:
        self.log.say(logging.INFO, text)

    def _settings(self) -> NodeSettings:
        idle_s = max(self.config.ingress.udp_timeout_s, self.config.egress.udp_timeout_s)
        return NodeSettings(udp_timeout_ms=idle_s * 1000, max_flows=self.config.max_flows)

    def _lookup(self, name: str) -> list[str]:
        """The addresses of a name to listen on."""
        try:
            return [str(row[4][0]) for row in gevent.socket.getaddrinfo(name, None)]
        except OSError as error:
            raise StartError(f"cannot listen on {name}: {error.strerror}", "check listen_on") from error

    def _ask_for_address(self, config: LegConfig, ports: TunnelPorts) -> None:
        """Find out the public address of a listening leg, if it is configured to."""
        if not config.stun_server:
            return
        paths = {AF_INET: ("update_ipv4", config.update_ipv4), AF_INET6: ("update_ipv6", config.update_ipv6)}
        programs = {family: Program(*words) for family, words in paths.items() if words[1]}
        self._public = PublicAddress(self.log, self.config.log_path, programs)
        host, port = legs.stun_place(config)
        found, report = self._public.changed, self._reporter.notice
        # A name to listen on may have several addresses; one socket of a family speaks for all of them.
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

    def _warn_of_weakness(self) -> None:
        for leg in (self.config.ingress, self.config.egress):
            if leg.kind is LegKind.TUNNEL and leg.algorithm in ("none", "XOR"):
                place = f"[{leg.section}] " if leg.section else ""
                text = f"{place}encryption_algorithm={leg.algorithm}: anybody can read and change the traffic"
                self.log.say(logging.WARNING, text)

    def _write_status(self, directory: Path) -> None:
        from kcpg.app.metrics import snapshot

        page = "\n".join(status_report.node_lines(snapshot(self)))
        stamp = time.strftime("[%Y-%m-%d %H:%M:%S %z] ", time.localtime())
        file = directory / f"{self.config.file.name}_status.log"
        file.write_text(f"{stamp}Summary of {self.config.file}\n{page}\n", encoding="utf-8")


def make_env(ports: TunnelPorts, report: Callable[[Event], None]) -> Env:
    """The world of one tunnel leg: the system's entropy, clock and name service, and these sockets."""
    return Env(
        entropy=os.urandom,
        rng=random.Random(),
        wall_s=clock.wall_s,
        open_socket=ports.open,
        close_socket=ports.close,
        report=report,
        resolve=ports.resolve,
        source_key=source_key,
    )


def _secret(leg: LegConfig) -> Secret:
    return leg.password, leg.key


def _derive(secret: Secret) -> RootKeys:
    password, key = secret
    if key is not None:
        return RootKeys.from_key(key)
    return RootKeys.from_password(password)


def _refuse(flow: Flow, _open: Open, _now_ms: int) -> None:
    flow.reset(Reset(ResetCode.SHUTDOWN, "this node is shutting down"))
