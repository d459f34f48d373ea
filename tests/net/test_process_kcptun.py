"""Real processes that speak kcptun's protocol: chains, relays to the native one, what is said of it, and
that they give back what they took."""

from __future__ import annotations

import json
import os
import random
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.net import processes
from tests.net.processes import Node

TUN = "dialect=kcptun\nencryption_password=a secret\nencryption_algorithm={}\n"
NATIVE = "kcp=auto\nencryption_password=another\nencryption_algorithm=AES-GCM\n"
TUBE = "dialect=kcptube\nencryption_password=a third\nencryption_algorithm=AES-GCM\n"
PLACES = "listen_port={}\ndestination_address=127.0.0.1\ndestination_port={}\n"
CLIENT = f"mode=client\nlisten_on=127.0.0.1\n{PLACES}"
RELAY = (
    "mode=relay\n[listener]\nlisten_port={}\n{}"
    "[forwarder]\ndestination_address=127.0.0.1\ndestination_port={}\n{}"
)
SERVER = f"mode=server\n{PLACES}"
BYTES = 1_000_000


class Tunnel:
    """A client, a relay if wanted, and a server before an echoing target. `hops`: their configurations."""

    def __init__(self, directory: Path, hops: list[str], dials: str = "") -> None:
        self.directory = directory
        self.state = directory / "state"
        self.echo = processes.Echo()
        self.entry, middle, last = processes.free_ports(3)
        first = middle if len(hops) > 1 else last
        texts = {"server": SERVER.format(last, self.echo.port) + hops[-1]}
        if len(hops) > 1:
            texts["relay"] = RELAY.format(middle, hops[0], last, hops[1])
        texts["client"] = CLIENT.format(self.entry, first) + hops[0] + dials
        self.nodes: dict[str, Node] = {}
        for name, text in texts.items():
            file = directory / f"{name}.conf"
            file.write_text(text)
            self.nodes[name] = Node(self.state, file).ready()

    def exchange(self, size: int) -> None:
        data = random.Random(size).randbytes(size)
        assert processes.exchange(self.entry, data) == data

    def descriptors(self) -> list[int]:
        """Open ones of each process."""
        return [len(os.listdir(f"/proc/{node.process.pid}/fd")) for node in self.nodes.values()]

    def node(self, name: str) -> dict[str, Any]:
        """What a process says of its node."""
        config = self.directory / f"{name}.conf"
        (process,) = json.loads(processes.call(self.state, "status", "--json", config).stdout)
        node: dict[str, Any] = process["nodes"][0]
        return node

    def close(self) -> None:
        for node in self.nodes.values():
            node.stop()
        self.echo.close()


@pytest.fixture
def tunnels() -> Iterator[list[Tunnel]]:
    """Those of a test, closed at its end."""
    made: list[Tunnel] = []
    yield made
    for each in made:
        each.close()


AES, GCM = TUN.format("aes"), TUN.format("aes-128-gcm")


@pytest.mark.parametrize(
    ("hops", "dials"),
    [
        ([AES], "fec=10:3\nmux_tunnels=2\n"),
        ([GCM], "smuxver=2\nnocomp=1\n"),
        ([AES, NATIVE], ""),
        ([NATIVE, GCM], ""),
        ([GCM, TUBE], "smuxver=2\n"),
    ],
    ids=["aes fec", "gcm smux 2", "to native", "from native", "to kcptube"],
)
def test_bytes(tmp_path: Path, tunnels: list[Tunnel], hops: list[str], dials: str) -> None:
    tunnels.append(Tunnel(tmp_path, hops, dials))
    with ThreadPoolExecutor(4) as several:
        list(several.map(tunnels[0].exchange, [1, 50_000, BYTES, BYTES + 1]))


def test_what_is_said_of_it(tmp_path: Path, tunnels: list[Tunnel]) -> None:
    tunnel = Tunnel(tmp_path, [AES], "fec=3:1\nsmuxver=2\nnocomp=1\n")
    tunnels.append(tunnel)
    for node in tunnel.nodes.values():
        assert "for compatibility only" in node.says("dialect=kcptun")
    tunnel.exchange(BYTES)
    tunnel.nodes["server"].says("link up, aes, smux 2, no compression")
    for name, leg in (("client", "egress"), ("server", "ingress")):
        (link,) = tunnel.node(name)[leg]["links"]
        assert link["smux"] == 2 and not link["compresses"] and link["payload_bytes"] > BYTES
    client = tmp_path / "client.conf"
    assert "datagrams of 1350 B" in processes.call(tunnel.state, "status", client).stdout
    tried = processes.call(tunnel.state, "--try", client)
    assert tried.returncode == 0 and "kcptun's protocol, aes" in tried.stdout, tried.stdout
    wrong = tmp_path / "wrong.conf"
    wrong.write_text(client.read_text().replace("a secret", "no secret"))
    tried = processes.call(tunnel.state, "--try", wrong)
    assert tried.returncode == 1 and "0 of 1 destinations answered" in tried.stdout, tried.stdout


def test_a_client_takes_no_packets(tmp_path: Path, tunnels: list[Tunnel]) -> None:
    tunnel = Tunnel(tmp_path, [AES])
    tunnels.append(tunnel)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", tunnel.entry))  # nobody else has it


def test_a_plug_in_of_shadowsocks(tmp_path: Path, tunnels: list[Tunnel]) -> None:
    """Started without words, in the environment that SIP003 describes, at both ends."""
    echo, state = processes.Echo(), tmp_path / "state"
    entry, middle = processes.free_ports(2)
    shared = {"SS_REMOTE_HOST": "127.0.0.1", "SS_REMOTE_PORT": str(middle), "SS_LOCAL_HOST": "127.0.0.1"}
    options = "key=a secret;crypt=aes-128;datashard=5;parityshard=2"
    server = {**shared, "SS_LOCAL_PORT": str(echo.port), "SS_PLUGIN_OPTIONS": f"{options};server"}
    client = {**shared, "SS_LOCAL_PORT": str(entry), "SS_PLUGIN_OPTIONS": options}
    nodes = [Node(state, **server).ready(), Node(state, **client).ready()]
    try:
        data = random.Random(1).randbytes(BYTES)
        assert processes.exchange(entry, data) == data
    finally:
        for node in nodes:
            node.stop()
        echo.close()


def test_descriptors_are_given_back(tmp_path: Path, tunnels: list[Tunnel]) -> None:
    tunnel = Tunnel(tmp_path, [AES])
    tunnels.append(tunnel)
    tunnel.exchange(1000)
    processes.until(lambda: tunnel.node("client")["flows"]["tcp"] == 0, "the first flow is over")
    before = tunnel.descriptors()
    with ThreadPoolExecutor(40) as several:
        list(several.map(tunnel.exchange, [10_000] * 80))
    with socket.create_connection(("127.0.0.1", tunnel.entry)) as sock:
        sock.sendall(b"and one that is reset")
        assert sock.recv(3) == b"and"
    processes.until(
        lambda: all(now <= then for now, then in zip(tunnel.descriptors(), before, strict=True)),
        "the descriptors are given back",
    )
    for name in tunnel.nodes:
        assert tunnel.node(name)["flows"]["tcp"] == 0
