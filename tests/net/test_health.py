"""`health_listen` of real processes."""

from __future__ import annotations

import json
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.net import processes
from tests.net.test_process_chain import CLIENT, SERVER, write


def asked(port: int) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=processes.PATIENCE_S) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def until(port: int, status: int) -> Any:
    """What is said once this is the status."""
    found: list[Any] = []

    def is_so() -> bool:
        found[:] = asked(port)
        return bool(found[0] == status)

    processes.until(is_so, f"health is {status}")
    return found[1]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_that_drains_and_a_client_without_it_want_no_clients(tmp_path: Path, workers: int) -> None:
    (tunnel, of_server), (entry, of_client) = processes.free_ports(2), processes.free_ports(2)
    with processes.echo() as target:
        client = write(tmp_path, "client.conf", CLIENT, listen=entry, ports=tunnel)
        server = write(tmp_path, "server.conf", SERVER, listen=tunnel, target=target)
        client.write_text(client.read_text() + f"health_listen=127.0.0.1:{of_client}\n")
        more = f"health_listen=127.0.0.1:{of_server}\nworkers={workers}\ndrain_timeout=60\n"
        server.write_text(server.read_text() + more)
        far = processes.Node(tmp_path / "far", server).ready()
        near = processes.Node(tmp_path / "near", client).ready()
        try:
            until(of_client, 200)
            found = until(of_server, 200)["nodes"][0]
            assert (found["links"], found["fault"]) == (1, "")
            with socket.create_connection(
                ("127.0.0.1", entry), processes.PATIENCE_S
            ) as sock:  # a flow, for which the server waits
                sock.sendall(b"hello")
                assert sock.recv(5) == b"hello"
                far.signal(signal.SIGTERM)
                found = until(of_server, 503)["nodes"][0]
                assert (found["links"], found["fault"]) == (1, "draining")
                far.signal(signal.SIGTERM)
            far.stop()
            assert until(of_client, 503)["nodes"][0]["fault"] == "no link to the next node"
        finally:
            near.stop()
            far.stop()
