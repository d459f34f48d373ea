"""Real processes that speak kcptube's protocol: chains, what they say of it, and that they give back what
they took."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.net import processes
from tests.net.processes import Node

TUBE = "dialect=kcptube\nkcp=fast3\nencryption_password=a secret\nencryption_algorithm={}\n"
NATIVE = "kcp=auto\nencryption_password=another\nencryption_algorithm=AES-GCM\n"
PLACES = "listen_port={}\ndestination_address=127.0.0.1\ndestination_port={}\n"
CLIENT = f"mode=client\nlisten_on=127.0.0.1\n{PLACES}"
RELAY = (
    "mode=relay\n[listener]\nlisten_port={}\n{}"
    "[forwarder]\ndestination_address=127.0.0.1\ndestination_port={}\n{}"
)
SERVER = f"mode=server\n{PLACES}"
BYTES = 1_000_000


class Tube:
    """A client, a relay if wanted, and a server before an echoing target."""

    def __init__(self, directory: Path, *, algorithm: str, mux: int, relay: str = "", more: str = "") -> None:
        self.state = directory / "state"
        self.echo = processes.Echo()
        self.entry, middle, last = processes.free_ports(3)
        tube = TUBE.format(algorithm) + more
        dials, listens = tube, tube
        paths = f"mux_tunnels={mux}\n" if mux else ""
        texts = {}
        if relay == "kcptube native":
            listens = NATIVE
            texts["relay"] = RELAY.format(middle, tube, last, NATIVE)
        elif relay == "native kcptube":
            dials, paths = NATIVE, ""
            texts["relay"] = RELAY.format(
                middle, NATIVE, last, tube + (f"mux_tunnels={mux}\n" if mux else "")
            )
        texts["server"] = SERVER.format(last, self.echo.port) + listens
        texts["client"] = CLIENT.format(self.entry, middle if relay else last) + dials + paths
        self.nodes: dict[str, Node] = {}
        for name in sorted(texts, reverse=True):
            self.files = directory / f"{name}.conf"
            self.files.write_text(texts[name])
            self.nodes[name] = Node(self.state, self.files).ready()

    def exchange(self, size: int) -> None:
        data = random.Random(size).randbytes(size)
        assert processes.exchange(self.entry, data) == data

    def descriptors(self) -> list[int]:
        """Open ones of each process."""
        return [len(processes.descriptors(node.process.pid)) for node in self.nodes.values()]

    def close(self) -> None:
        for node in self.nodes.values():
            node.stop()
        self.echo.close()


@pytest.fixture
def tubes() -> Iterator[list[Tube]]:
    """Those of a test, closed at its end."""
    made: list[Tube] = []
    yield made
    for tube in made:
        tube.close()


@pytest.mark.parametrize("mux", [0, 2])
@pytest.mark.parametrize(
    ("algorithm", "relay", "more"),
    [
        ("AES-GCM", "", ""),
        ("xchacha20", "", "fec=5:2\n"),
        ("AES-OCB", "kcptube native", ""),
        ("chacha20", "native kcptube", ""),
    ],
)
def test_bytes_and_packets(
    tmp_path: Path, tubes: list[Tube], algorithm: str, relay: str, more: str, mux: int
) -> None:
    tube = Tube(tmp_path, algorithm=algorithm, mux=mux, relay=relay, more=more)
    tubes.append(tube)
    with ThreadPoolExecutor(4) as several:
        list(several.map(tube.exchange, [1, 50_000, BYTES, BYTES + 1]))
    for size in (0, 1, 1400, 20_000):
        packet = bytes(size)
        assert processes.ask_packet(tube.entry, packet) == packet


def test_what_is_said_of_it(tmp_path: Path, tubes: list[Tube]) -> None:
    tube = Tube(tmp_path, algorithm="AES-GCM", mux=1)
    tubes.append(tube)
    for node in tube.nodes.values():
        assert "for compatibility only" in node.says("dialect=kcptube")
    tube.exchange(BYTES)
    client = tmp_path / "client.conf"
    (link,) = _node(tube, client)["egress"]["links"]
    assert link["carries"] == "mux" and link["state"] == "up" and link["payload_bytes"] > BYTES
    assert "datagrams of 1440 B" in processes.call(tube.state, "status", client).stdout
    tried = processes.call(tube.state, "--try", client)
    assert tried.returncode == 0 and "kcptube's protocol, AES-GCM" in tried.stdout, tried.stdout


def test_a_try_recognises_a_kcptube(tmp_path: Path, tubes: list[Tube]) -> None:
    tube = Tube(tmp_path, algorithm="AES-GCM", mux=1)
    tubes.append(tube)
    native = tmp_path / "native.conf"
    native.write_text((tmp_path / "client.conf").read_text().replace("dialect=kcptube", "dialect=native"))
    tried = processes.call(tube.state, "--try", native)
    assert tried.returncode == 1
    assert "a kcptube answers there with this password: write dialect=kcptube" in tried.stdout, tried.stdout


def test_a_try_with_another_password_fails(tmp_path: Path, tubes: list[Tube]) -> None:
    tube = Tube(tmp_path, algorithm="AES-GCM", mux=1)
    tubes.append(tube)
    client = tmp_path / "wrong.conf"
    client.write_text((tmp_path / "client.conf").read_text().replace("a secret", "no secret"))
    tried = processes.call(tube.state, "--try", client)
    assert tried.returncode == 1 and "0 of 1 destinations answered" in tried.stdout


@pytest.mark.parametrize("mux", [0, 1])
def test_descriptors_are_given_back(tmp_path: Path, tubes: list[Tube], mux: int) -> None:
    tube = Tube(tmp_path, algorithm="AES-GCM", mux=mux)
    tubes.append(tube)
    if mux:  # the link that stays may come after the process is ready
        tube.exchange(1000)
        processes.until(lambda: _flows(tube, tmp_path) == 0, "the first flow is over")
    before = tube.descriptors()
    with ThreadPoolExecutor(40) as several:
        list(several.map(tube.exchange, [10_000] * 80))
    with socket.create_connection(("127.0.0.1", tube.entry)) as sock:
        sock.sendall(b"and one that is reset")
        assert sock.recv(3) == b"and"
    processes.until(
        lambda: all(now <= then for now, then in zip(tube.descriptors(), before, strict=True)),
        "the descriptors are given back",
    )
    assert _flows(tube, tmp_path) == 0


def _node(tube: Tube, config: Path) -> dict[str, Any]:
    """What the process of this configuration says of its node."""
    (process,) = json.loads(processes.call(tube.state, "status", "--json", config).stdout)
    node: dict[str, Any] = process["nodes"][0]
    return node


def _flows(tube: Tube, directory: Path) -> int:
    """Flows, and links of single flows, that both ends still know."""
    count = 0
    for name in tube.nodes:
        node = _node(tube, directory / f"{name}.conf")
        leg = node["egress" if name == "client" else "ingress"]
        count += node["flows"]["tcp"] + sum(link["carries"] != "mux" for link in leg["links"])
    return count
