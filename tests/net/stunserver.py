"""A STUN server on loopback whose answers a test can bend."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import gevent
import gevent.socket
import pytest

from kcpg.core import stun
from kcpg.net import addr
from tests.needs import needs
from tests.net import processes
from tests.unit.test_stun import attribute, message

Answers = Callable[[bytes, bytes, int], list[bytes]]
"""From transaction id, source ip and port to what is sent back."""


def honest(transaction: bytes, ip: bytes, port: int) -> list[bytes]:
    """What a server has to say."""
    return [respond(transaction, ip, port)]


def respond(transaction: bytes, ip: bytes, port: int) -> bytes:
    """A success with this address."""
    key = stun.COOKIE + transaction
    hidden = bytes(a ^ b for a, b in zip(ip, key, strict=False))
    head = bytes((0, 1 if len(ip) == 4 else 2)) + (port ^ 0x2112).to_bytes(2, "big")
    return message(attribute(0x0020, head + hidden), transaction=transaction)


class StunServer:
    """Answers binding requests; `asked` has the transaction ids."""

    def __init__(self, host: str = "127.0.0.1", answers: Answers = honest, port: int = 0) -> None:
        self.sock = gevent.socket.socket(
            socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM
        )
        self.sock.bind((host, port))
        self.host, self.port = self.sock.getsockname()[:2]
        self.answers = answers
        self.asked: list[bytes] = []
        self.sources: list[tuple[str, int]] = []

    def __enter__(self) -> StunServer:
        self._job = gevent.spawn(self._run)
        return self

    def __exit__(self, *_: object) -> None:
        self._job.kill()
        self.sock.close()

    def _run(self) -> None:
        while True:
            request, where = self.sock.recvfrom(2000)
            transaction = request[8:20]
            assert request == stun.request(transaction)
            self.asked.append(transaction)
            self.sources.append(where[:2])
            packed = addr.from_tuple(where)
            ip = packed[4:8] if len(packed) == 16 else packed[8:24]
            for answer in self.answers(transaction, ip, addr.port(packed)):
                self.sock.sendto(answer, where)


@contextlib.contextmanager
def run_coturn(
    directory: Path, hosts: Sequence[str], port: int, probe: socket.socket, inside: Sequence[str] = ()
) -> Iterator[None]:
    """Debian's coturn as a STUN server on these addresses; skips the test where it is not installed.

    `probe` can send to the first one; `inside` is a command that runs the one behind it somewhere else.
    """
    program = shutil.which("turnserver")
    if program is None:
        # Where systemd would start it, `make tools` does not install a server.
        by_hand = Path("/run/systemd/system").exists()
        pytest.skip(needs("coturn", "apt-get install coturn") if by_hand else needs("coturn"))
    said = directory / "coturn.out"
    words = [word for host in hosts for word in ("--listening-ip", host)]
    with said.open("wb") as out:
        process = subprocess.Popen(
            [*inside, program, "-c", "/dev/null", "--stun-only", "--listening-port", str(port), *words,
             "--no-tcp", "--no-tls", "--no-dtls", "--no-cli", "--simple-log",
             "--log-file", str(directory / "coturn.log"), "--pidfile", str(directory / "coturn.pid"),
             "--userdb", str(directory / "turndb")],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=directory,
        )  # fmt: skip
    probe.settimeout(0.1)

    def answers() -> bool:
        assert process.poll() is None, said.read_text()
        with contextlib.suppress(OSError):
            probe.sendto(stun.request(bytes(stun.TRANSACTION_BYTES)), (hosts[0], port))
            return bool(probe.recv(2000))
        return False

    try:
        processes.until(answers, "coturn answers")
        yield
    finally:
        process.kill()
        process.wait()
