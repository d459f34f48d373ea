"""Real processes that speak kcptun's protocol: chains, relays to the native one, what is said of it, and
that they give back what they took."""

from __future__ import annotations

import random
import socket
from pathlib import Path

import pytest

from tests.net import processes
from tests.net.processes import Node
from tests.net.tunnels import BYTES, NATIVE, Tunnel

TUN = "dialect=kcptun\nencryption_password=a secret\nencryption_algorithm={}\n"
TUBE = "dialect=kcptube\nencryption_password=a third\nencryption_algorithm=AES-GCM\n"
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
    tunnels[0].exchange_all([1, 50_000, BYTES, BYTES + 1])


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
    client = tunnel.config("client")
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
    tunnel.gives_back_what_it_takes()
    for name in tunnel.nodes:
        assert tunnel.node(name)["flows"]["tcp"] == 0
