"""With a real kcptube, if one is named: `KCPTUBE=path python -m pytest tests/interop/test_kcptube.py`.

Its program needs time and luck at its start: a mux client may take 30 s, and a client without mux works only
if the same process has a server too.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.needs import needs
from tests.net import processes

KCPTUBE = os.environ.get("KCPTUBE", "")
pytestmark = [
    pytest.mark.skipif(not KCPTUBE, reason=needs("a real kcptube", "make test KCPTUBE=/path/to/kcptube")),
    pytest.mark.timeout(180),
]
PATIENCE_S = 50.0
BYTES = 2_000_000

SHARED = "kcp=regular3\nencryption_password=a secret\nencryption_algorithm={}\n"
PLACES = "listen_on=127.0.0.1\nlisten_port={}\ndestination_address=127.0.0.1\ndestination_port={}\n"
CLIENT, SERVER = f"mode=client\n{PLACES}", f"mode=server\n{PLACES}"


class MixedTunnel:
    """A client and a server, one of them a kcptube, and an echoing target."""

    def __init__(self, directory: Path, theirs: str, algorithm: str, tunnels: int) -> None:
        self.entry, tunnel, idle = processes.free_ports(3)
        self.echo = processes.Echo()
        mux = f"mux_tunnels={tunnels}\n" if tunnels else ""
        shared = SHARED.format(algorithm)
        texts = {
            "server": SERVER.format(tunnel, self.echo.port) + shared,
            "client": CLIENT.format(self.entry, tunnel) + shared + mux,
        }
        self.ours: list[processes.Node] = []
        self.theirs: subprocess.Popen[bytes] | None = None
        for name, text in texts.items():
            path = directory / f"{name}.conf"
            if name != theirs:
                path.write_text(f"{text}dialect=kcptube\n")
                self.ours.append(processes.Node(directory / "state", path).ready())
                continue
            path.write_text(text)
            beside = directory / "beside.conf"
            beside.write_text(SERVER.format(idle, 9) + shared)
            words = [KCPTUBE, path, *([beside] if name == "client" and not tunnels else [])]
            self.theirs = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def close(self) -> None:
        if self.theirs is not None:
            self.theirs.terminate()
            self.theirs.wait(10)
        for node in self.ours:
            node.stop()
        self.echo.close()

    def connect(self) -> socket.socket:
        """A flow that carries something, as soon as there is one."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            with suppress(OSError):
                sock = socket.create_connection(("127.0.0.1", self.entry), 15)
                sock.sendall(b"x")
                if sock.recv(1) == b"x":
                    return sock
                sock.close()
            time.sleep(0.5)
        raise AssertionError("no flow came through")


def exchange(sock: socket.socket, data: bytes) -> bytes:
    """What comes back; without an end, which would cut the answer off at a kcptube."""
    threading.Thread(target=sock.sendall, args=(data,), daemon=True).start()
    back = bytearray()
    while len(back) < len(data) and (part := sock.recv(65536)):
        back += part
    return bytes(back)


@pytest.fixture(params=["client", "server"])
def theirs(request: pytest.FixtureRequest) -> Iterator[str]:
    """Which end is a kcptube."""
    yield str(request.param)


@pytest.mark.parametrize("tunnels", [0, 1])
@pytest.mark.parametrize("algorithm", ["AES-GCM", "AES-OCB", "chacha20", "xchacha20", "XOR", "none"])
def test_bytes_and_packets(tmp_path: Path, theirs: str, algorithm: str, tunnels: int) -> None:
    chain = MixedTunnel(tmp_path, theirs, algorithm, tunnels)
    try:
        with chain.connect() as sock:
            sent = os.urandom(BYTES)
            assert exchange(sock, sent) == sent
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as packets:
            packets.settimeout(15)
            packets.connect(("127.0.0.1", chain.entry))
            for size in (1, 100, 1400, 2000):
                packets.send(bytes(size))
                assert packets.recv(65536) == bytes(size)
    finally:
        chain.close()
