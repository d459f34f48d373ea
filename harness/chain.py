"""A chain of kcpg nodes on loopback: client, any number of relays, server, each a process of its own."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness.process import ROOT, Failed, Program

LOOPBACK = "127.0.0.1"

# Search range for free ports: below those that the kernel assigns to outgoing sockets (from 32768 up).
FIRST_FREE, LAST_FREE = 20000, 32000


@dataclass(frozen=True)
class Hop:
    """One link of the chain, between two neighbours."""

    ports: tuple[int, ...]
    algorithm: str = "AES-GCM"
    password: str = "a password only this hop knows"
    # Further keys of both sides' configuration, for example {"kcp": "regular1"}.
    options: Mapping[str, str] = field(default_factory=dict)

    def listening(self) -> str:
        """The configuration lines of the listening side."""
        return self._lines({"listen_on": LOOPBACK, "listen_port": port_list(self.ports)})

    def dialling(self) -> str:
        """The configuration lines of the dialling side."""
        return self._lines({"destination_address": LOOPBACK, "destination_port": port_list(self.ports)})

    def _lines(self, where: Mapping[str, str]) -> str:
        secrets = {"encryption_password": self.password, "encryption_algorithm": self.algorithm}
        return "".join(f"{key}={value}\n" for key, value in {**self.options, **where, **secrets}.items())


@dataclass(frozen=True)
class Node:
    """A running node: its role, its configuration file and its process."""

    role: str
    config: Path
    program: Program


@dataclass(frozen=True)
class Chain:
    """A running chain. Applications talk to `entry`; their traffic comes out at `target`."""

    entry: tuple[str, int]
    target: tuple[str, int]
    hops: tuple[Hop, ...]
    nodes: tuple[Node, ...]  # From the client to the server
    environ: Mapping[str, str]

    def status(self, node: Node) -> dict[str, Any]:
        """The report of `kcpg status --json` about a node; empty if there is none."""
        return ask_status([*kcpg_command(), "status", "--json", str(node.config)], self.environ)


def ask_status(command: Sequence[str], environ: Mapping[str, str]) -> dict[str, Any]:
    """Run `kcpg status --json CONFIG` and read its answer; empty if there is none."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        return {}
    if isinstance(answer, list):
        answer = answer[0] if answer else {}
    return answer if isinstance(answer, dict) else {}


@contextmanager
def running(
    directory: Path, entry: tuple[str, int], target: tuple[str, int], hops: Sequence[Hop]
) -> Iterator[Chain]:
    """Write the configurations into `directory`, start the nodes (the server first), end them at the end.

    Raises Failed if a node does not start.
    """
    # Keeps their locks and status sockets apart from those of nodes that this user really runs.
    environ = {"KCPG_STATE_DIR": str(directory / "state")}
    configs = write_configs(directory, entry, target, hops)
    with ExitStack() as stack:
        nodes: list[Node] = []
        try:
            for config in reversed(configs):
                program = Program(
                    config.stem,
                    [*kcpg_command(), str(config)],
                    directory / f"{config.stem}.log",
                    environ,
                )
                stack.enter_context(program)
                nodes.insert(0, Node(config.stem.rstrip("0123456789"), config, program))
            for node in reversed(nodes):  # they start in parallel; a dialler retries until its peer is there
                node.program.wait_for(r"^kcpg: ready")
            yield Chain(entry, target, tuple(hops), tuple(nodes), environ)
        finally:
            # All at once: without an application there is nothing to drain, and they need not wait for each
            # other.
            for node in nodes:
                node.program.ask_to_end()


def write_configs(
    directory: Path, entry: tuple[str, int], target: tuple[str, int], hops: Sequence[Hop]
) -> list[Path]:
    """One configuration file per node, from the client to the server."""
    texts = {"client": f"mode=client\nlisten_on={entry[0]}\nlisten_port={entry[1]}\n{hops[0].dialling()}"}
    for number, (inner, outer) in enumerate(pairwise(hops), 1):
        name = "relay" if len(hops) == 2 else f"relay{number}"
        texts[name] = f"mode=relay\n[listener]\n{inner.listening()}[forwarder]\n{outer.dialling()}"
    destination = f"destination_address={target[0]}\ndestination_port={target[1]}\n"
    texts["server"] = f"mode=server\n{hops[-1].listening()}{destination}"
    paths = []
    for name, text in texts.items():
        path = directory / f"{name}.conf"
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)  # it holds a password
        paths.append(path)
    return paths


def kcpg_command() -> list[str]:
    """The command that starts kcpg from this repository, with the interpreter of the harness."""
    return [sys.executable, "-m", "kcpg"]


def port_list(ports: Sequence[int]) -> str:
    """Ports as a configuration writes them: `3000`, or `3000-3010` for a contiguous range."""
    if len(ports) == 1:
        return str(ports[0])
    if list(ports) == list(range(ports[0], ports[0] + len(ports))):
        return f"{ports[0]}-{ports[-1]}"
    return ",".join(map(str, ports))


class Ports:
    """Hands out free ports on loopback, each only once."""

    def __init__(self, prefer: bool = True) -> None:
        """`prefer` False: ignore preferred ports."""
        self._prefer = prefer
        self._taken: set[int] = set()

    def range(self, count: int, preferred: int | None = None) -> tuple[int, ...]:
        """`count` consecutive ports free for TCP and UDP on IPv4 and IPv6; from `preferred` on if those are
        free.

        Raises Failed if there are none.
        """
        # Shuffled, because another harness may search between this check and the node's own bind.
        starts = list(range(FIRST_FREE, LAST_FREE, count))
        random.shuffle(starts)
        if preferred is not None and self._prefer:
            starts.insert(0, preferred)
        for first in starts:
            wanted = tuple(range(first, first + count))
            if self._taken.isdisjoint(wanted) and all(map(is_free, wanted)):
                self._taken.update(wanted)
                return wanted
        raise Failed(f"no {count} consecutive ports are free between {FIRST_FREE} and {LAST_FREE}")

    def one(self, preferred: int | None = None) -> int:
        """One free port."""
        return self.range(1, preferred)[0]


def is_free(port: int) -> bool:
    """Whether TCP and UDP sockets can bind to this port on loopback, in every available family."""
    for host, family in ((LOOPBACK, socket.AF_INET), ("::1", socket.AF_INET6)):
        if host == "::1" and not has_ipv6():
            continue
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(family, kind) as probe:
                if kind == socket.SOCK_STREAM:  # like a listener: old connections in TIME_WAIT do not matter
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((host, port))
                except OSError:
                    return False
    return True


def has_ipv6() -> bool:
    """Whether ::1 works on this machine."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def address_text(address: tuple[str, int]) -> str:
    """`127.0.0.1:80`, `[::1]:80`."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
