"""From nothing to traffic: `kcpg init`, both ends, a proxy, and a client without a file."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.net import processes
from tests.net.processes import Node


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Node]]:
    """Processes that end with the test."""
    running: list[Node] = []
    yield running
    for node in running:
        node.stop()


def init(state: Path, *words: object) -> str:
    done = processes.call(state, "init", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_two_files_and_traffic(tmp_path: Path, nodes: list[Node]) -> None:
    listen, tunnel = processes.free_ports(2)
    with processes.echo() as target:
        out = init(
            tmp_path, "--server", f"127.0.0.1:{tunnel}", "--target", f"127.0.0.1:{target}",
            "--listen", listen, "--directory", tmp_path / "here",
        )  # fmt: skip
        line = re.findall(r"kcpg init '(\S+/client\S+)'", out)[0]
        init(tmp_path, line, "--directory", tmp_path / "there")
        nodes.append(Node(tmp_path / "state", tmp_path / "here/server.conf").ready())
        tried = processes.call(tmp_path / "state", "--try", tmp_path / "there/client.conf")
        assert tried.returncode == 0, tried.stdout + tried.stderr
        nodes.append(Node(tmp_path / "state", tmp_path / "there/client.conf").ready())
        assert processes.exchange(listen, b"hello" * 1000) == b"hello" * 1000
        assert processes.ask_packet(listen, b"packet") == b"packet"


def test_workers_share_a_unix_socket_and_a_proxy(tmp_path: Path, nodes: list[Node]) -> None:
    proxy, tunnel = processes.free_ports(2)
    path = tmp_path / "app.sock"
    with processes.echo() as target:
        init(tmp_path, "--server", f"127.0.0.1:{tunnel}", "--target", f"127.0.0.1:{target}",
             "--directory", tmp_path)  # fmt: skip
        client, server = tmp_path / "client.conf", tmp_path / "server.conf"
        kept = [line for line in client.read_text().splitlines() if not line.startswith("listen_")]
        client.write_text("\n".join([*kept, f"listen_path={path}", f"socks_port={proxy}", "workers=2", ""]))
        nodes.append(Node(tmp_path / "state", server).ready())
        nodes.append(Node(tmp_path / "state", client).ready())
        for _ in range(8):
            with socket.socket(socket.AF_UNIX) as app:
                app.settimeout(processes.PATIENCE_S)
                app.connect(str(path))
                app.sendall(b"hello")
                assert app.recv(100) == b"hello"
            with socket.create_connection(("127.0.0.1", proxy), timeout=processes.PATIENCE_S) as app:
                app.sendall(b"\x05\x01\x00")
                assert app.recv(2) == b"\x05\x00"
        nodes[-1].process.terminate()
        nodes[-1].process.wait(processes.PATIENCE_S)
        assert not path.exists(), "its file goes with the node"


def test_a_proxy_and_a_forward_without_a_file(tmp_path: Path, nodes: list[Node]) -> None:
    forward, proxy, tunnel = processes.free_ports(3)
    with processes.echo() as target:
        out = init(tmp_path, "--server", f"127.0.0.1:{tunnel}", "--socks", "--directory", tmp_path)
        line = re.findall(r"kcpg init '(\S+/client\S+)'", out)[0]
        server = tmp_path / "server.conf"
        server.write_text(server.read_text() + "allow_targets=127.0.0.0/8\n")
        nodes.append(Node(tmp_path / "state", server).ready())
        words = ("-D", proxy, "-L", f"{forward}:127.0.0.1:{target}")
        nodes.append(Node(tmp_path / "state", *words, KCPG_INVITATION=line).ready())
        assert processes.exchange(forward, b"by the forward") == b"by the forward"
        with socket.create_connection(("127.0.0.1", proxy), timeout=processes.PATIENCE_S) as app:
            request = b"\x05\x01\x00\x05\x01\x00\x01" + socket.inet_aton("127.0.0.1")
            app.sendall(request + struct.pack(">H", target) + b"by the proxy")
            got = b""
            while len(got) < 24:
                piece = app.recv(100)
                assert piece, got
                got += piece
            assert got[2:4] == b"\x05\x00" and got[12:] == b"by the proxy"
        with socket.create_connection(("127.0.0.1", proxy), timeout=processes.PATIENCE_S) as app:
            app.sendall(b"\x05\x01\x00\x05\x03\x00\x01" + bytes(6))
            answer = b""
            while len(answer) < 12:
                answer += app.recv(100)
            (relay,) = struct.unpack(">H", answer[10:])
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as packets:
                packets.settimeout(processes.PATIENCE_S)
                head = b"\x00\x00\x00\x01" + socket.inet_aton("127.0.0.1") + struct.pack(">H", target)
                packets.sendto(head + b"packet", ("127.0.0.1", relay))
                assert packets.recv(100) == head + b"packet"
