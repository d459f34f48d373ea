"""Chains of real processes with a foreign protocol between them, before a target that echoes."""

from __future__ import annotations

import json
import random
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.net import processes
from tests.net.processes import Node

NATIVE = "kcp=auto\nencryption_password=another\nencryption_algorithm=AES-GCM\n"
_PLACES = "listen_port={}\ndestination_address=127.0.0.1\ndestination_port={}\n"
_CLIENT = f"mode=client\nlisten_on=127.0.0.1\n{_PLACES}"
_RELAY = (
    "mode=relay\n[listener]\nlisten_port={}\n{}"
    "[forwarder]\ndestination_address=127.0.0.1\ndestination_port={}\n{}"
)
_SERVER = f"mode=server\n{_PLACES}"
BYTES = 1_000_000


class Tunnel:
    """A client, a relay if wanted, and a server. `hops`: their configurations; `dials`: what else the dialler
    of the first hop that is not native has."""

    def __init__(self, directory: Path, hops: list[str], dials: str = "") -> None:
        self.directory = directory
        self.state = directory / "state"
        self.echo = processes.Echo()
        self.entry, middle, last = processes.free_ports(3)
        foreign = next(place for place, hop in enumerate(hops) if hop != NATIVE)
        dialled = [hop + (dials if place == foreign else "") for place, hop in enumerate(hops)]
        texts = {"server": _SERVER.format(last, self.echo.port) + hops[-1]}
        if len(hops) > 1:
            texts["relay"] = _RELAY.format(middle, hops[0], last, dialled[1])
        texts["client"] = _CLIENT.format(self.entry, middle if len(hops) > 1 else last) + dialled[0]
        self.nodes: dict[str, Node] = {}
        for name, text in texts.items():
            self.config(name).write_text(text)
            self.nodes[name] = Node(self.state, self.config(name)).ready()

    def config(self, name: str) -> Path:
        """The file of a process."""
        return self.directory / f"{name}.conf"

    def exchange(self, size: int) -> None:
        data = random.Random(size).randbytes(size)
        assert processes.exchange(self.entry, data) == data

    def exchange_all(self, sizes: list[int], at_once: int = 4) -> None:
        with ThreadPoolExecutor(at_once) as several:
            list(several.map(self.exchange, sizes))

    def descriptors(self) -> list[int]:
        """Open ones of each process."""
        return [len(processes.descriptors(node.process.pid)) for node in self.nodes.values()]

    def gives_back_what_it_takes(self) -> None:
        """Many flows, one of them aborted, leave no descriptor open."""
        before = self.descriptors()
        self.exchange_all([10_000] * 80, 40)
        with socket.create_connection(("127.0.0.1", self.entry)) as sock:
            sock.sendall(b"and one that is reset")
            assert sock.recv(3) == b"and"
        processes.until(
            lambda: all(now <= then for now, then in zip(self.descriptors(), before, strict=True)),
            "the descriptors are given back",
        )

    def node(self, name: str) -> dict[str, Any]:
        """What a process says of its node."""
        said = processes.call(self.state, "status", "--json", self.config(name)).stdout
        (process,) = json.loads(said)
        node: dict[str, Any] = process["nodes"][0]
        return node

    def close(self) -> None:
        for node in self.nodes.values():
            node.stop()
        self.echo.close()
