"""`kcpg speedtest` with real processes on loopback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.net import processes
from tests.net.processes import Node

KEY = "encryption_password=a long enough secret"

CLIENT = f"""
mode=client
kcp=auto
listen_on=127.0.0.1
listen_port={{listen}}
destination_address=127.0.0.1
destination_port={{port}}
{KEY}
"""

RELAY = f"""
mode=relay
[listener]
kcp=auto
listen_on=127.0.0.1
listen_port={{listen}}
{KEY}
[forwarder]
kcp=auto
destination_address=127.0.0.1
destination_port={{port}}
{KEY}
"""

SERVER = f"""
mode=server
kcp=auto
listen_on=127.0.0.1
listen_port={{listen}}
destination_address=127.0.0.1
destination_port=9
{KEY}
{{more}}
"""


def write(directory: Path, name: str, text: str, **values: object) -> Path:
    file = directory / name
    file.write_text(text.format(**values), "utf-8")
    file.chmod(0o600)
    return file


@pytest.mark.parametrize("workers", [1, 2])
def test_a_chain_is_measured_to_the_next_node_and_to_the_end(tmp_path: Path, workers: int) -> None:
    listen, middle, last = processes.free_ports(3)
    server = write(tmp_path, "server.conf", SERVER, listen=last, more=f"workers={workers}")
    relay = write(tmp_path, "relay.conf", RELAY, listen=middle, port=last)
    client = write(tmp_path, "client.conf", CLIENT, listen=listen, port=middle)
    nodes = [Node(tmp_path / "state", server), Node(tmp_path / "state", relay)]
    try:
        for node in nodes:
            node.ready()
        done = processes.call(tmp_path / "state", "speedtest", "--json", "--seconds", "0.5", client)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert [way["answered_by"] for way in found["ways"]] == ["relay", "server"]
        for way in found["ways"]:
            for name in ("download", "upload"):
                assert way[name]["bytes"] > 100_000 and way[name]["bps"] > 0, found
                assert way[name]["queue_ms"] is not None
        assert found["failure"] is None and found["peer"] == f"127.0.0.1:{middle}"
        assert found["datagram_bytes"] >= 1200 and "the tunnel carries" in found["verdict"][0]
        done = processes.call(tmp_path / "state", "speedtest", "--seconds", "0.5", relay)
        assert done.returncode == 0 and "to the next node, the server" in done.stdout, done.stdout
        assert "to the end" not in done.stdout and "\r" not in done.stderr
    finally:
        for node in nodes:
            node.stop()


def test_an_operator_can_switch_it_off(tmp_path: Path) -> None:
    listen, last = processes.free_ports(2)
    server = write(tmp_path, "server.conf", SERVER, listen=last, more="speedtest=no")
    client = write(tmp_path, "client.conf", CLIENT, listen=listen, port=last)
    node = Node(tmp_path / "state", server)
    try:
        node.ready()
        done = processes.call(tmp_path / "state", "speedtest", "--seconds", "0.5", client)
    finally:
        node.stop()
    assert done.returncode == 1
    assert (
        "failed: the next node says: speed tests are switched off at this node (speedtest=no)" in done.stdout
    )


def test_what_cannot_be_measured_is_said(tmp_path: Path) -> None:
    listen, last = processes.free_ports(2)
    server = write(tmp_path, "server.conf", SERVER, listen=last, more="")
    done = processes.call(tmp_path / "state", "speedtest", server)
    assert done.returncode == 2 and "nothing to test" in done.stderr
    foreign = CLIENT.replace("kcp=auto", "dialect=kcptube\nencryption_algorithm=AES-GCM")
    tube = write(tmp_path, "tube.conf", foreign, listen=listen, port=last)
    done = processes.call(tmp_path / "state", "speedtest", tube)
    assert done.returncode == 2 and "dialect=kcptube has no speed test" in done.stderr
    client = write(tmp_path, "client.conf", CLIENT, listen=listen, port=last)
    done = processes.call(tmp_path / "state", "speedtest", client)
    assert done.returncode == 1 and "kcpg --try" in done.stdout
