"""Real `python -m kcpg` processes on loopback, for tests: started, waited for by their ready line, ended by
their pid."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.needs import needs

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 30.0
"""Longest wait for anything a test waits for: a condition, never a pause of this length."""


def environment(state: Path, **more: str) -> dict[str, str]:
    """What a kcpg process of a test gets: its own state directory and this source tree, nothing of ours."""
    given = {"KCPG_STATE_DIR": str(state), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return {**given, **{k: v for k, v in os.environ.items() if k in ("PATH", "KCPG_ENGINE")}, **more}


def command(*words: object) -> list[str]:
    """The command line of kcpg under this interpreter."""
    return [sys.executable, "-m", "kcpg", *(str(word) for word in words)]


def call(state: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a kcpg command to its end."""
    return subprocess.run(
        command(*words), env=environment(state), capture_output=True, text=True, timeout=PATIENCE_S
    )


def descriptors(pid: int) -> list[str]:
    """The descriptors of a node; it lets only root look (proc(5): it is not dumpable)."""
    try:
        return os.listdir(f"/proc/{pid}/fd")
    except PermissionError:
        pytest.skip(needs("root to look into a node", "run as root"))


def until(condition: Callable[[], object], what: str) -> object:
    """The first true value of `condition`, looked at every 20 ms; fails with `what` when patience ends."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {PATIENCE_S:.0f} s: {what}")


class Node:
    """One kcpg process in the foreground, its output collected."""

    def __init__(self, state: Path, *words: object, via: Sequence[str] = (), **more: str) -> None:
        """`words`: the command line; `via`: what runs it; `more`: further variables of the environment."""
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [*via, *command(*words)], env=environment(state, **more), stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def says(self, text: str) -> str:
        """Wait until a line of output has `text` in it, and give that line."""
        try:
            line = until(lambda: self._find(text) or (self._ended() and "\0"), f"{text!r} in the output")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output}") from None
        if line == "\0":
            self._reader.join(PATIENCE_S)
            line = self._find(text)
        assert line, f"ended with {self.process.returncode} and never said {text!r}:\n{self.output}"
        return str(line)

    def ready(self) -> Node:
        """Wait for the ready line."""
        self.says("kcpg: ready")
        return self

    @property
    def output(self) -> str:
        """Everything it said."""
        return "\n".join(self.lines)

    def signal(self, number: int) -> None:
        """Send a signal to this process."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code

    def stop(self) -> None:
        """End it and close everything; for the end of a test.

        Fails if the program told of a fault of its own: it gives up that turn and goes on as if nothing were.
        """
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        assert "an error of this program" not in self.output, self.output

    def _find(self, text: str) -> str:
        return next((line for line in list(self.lines) if text in line), "")

    def _ended(self) -> bool:
        return self.process.poll() is not None


class Echo:
    """A target on 127.0.0.1: sends back what it gets, TCP to the end of the stream and UDP packet by
    packet."""

    def __init__(self) -> None:
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self.port = self._tcp.getsockname()[1]
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", self.port))
        for work in (self._accept, self._packets):
            threading.Thread(target=work, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._tcp.close()
        self._udp.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._tcp.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65536):
                connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)

    def _packets(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, source = self._udp.recvfrom(65536)
                self._udp.sendto(data, source)


@contextlib.contextmanager
def echo() -> Iterator[int]:
    """The port of an echo target."""
    target = Echo()
    try:
        yield target.port
    finally:
        target.close()


PORTS = range(10_000, 30_000)
"""Below what the kernel gives to sockets that name no port (net.ipv4.ip_local_port_range): none of those can
take one of these between its choice and its use."""

_reserved: list[socket.socket] = []
_next_port = random.Random(os.getpid()).choice(PORTS)


def free_ports(count: int, kind: int = socket.SOCK_DGRAM) -> list[int]:
    """So many different ports of 127.0.0.1 that nobody uses, for TCP and `kind`; none is given twice.

    Other test runs on this machine pass over them, too, as long as this process lives.
    """
    global _next_port
    ports: list[int] = []
    for _ in PORTS:
        port, _next_port = _next_port, PORTS[(_next_port + 1 - PORTS.start) % len(PORTS)]
        if _reserve(port) and all(_is_free(port, each) for each in {kind, socket.SOCK_STREAM}):
            ports.append(port)
        if len(ports) == count:
            return ports
    raise AssertionError(f"no {count} free ports")


def _reserve(port: int) -> bool:
    """Take the abstract name (unix(7)) that stands for this port; the kernel gives it up with the process."""
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(f"\0kcpg-test-port-{port}")
    except OSError:
        name.close()
        return False
    _reserved.append(name)
    return True


def _is_free(port: int, kind: int) -> bool:
    with socket.socket(socket.AF_INET, kind) as sock, contextlib.suppress(OSError):
        sock.bind(("127.0.0.1", port))
        return True
    return False


def exchange(port: int, data: bytes, limit_s: float = PATIENCE_S) -> bytes:
    """Send `data` over TCP, end the stream, and give everything that comes back."""
    with socket.create_connection(("127.0.0.1", port), limit_s) as connection:
        sender = threading.Thread(target=_send_and_end, args=(connection, data), daemon=True)
        sender.start()
        back = bytearray()
        while part := connection.recv(65536):
            back += part
        sender.join(limit_s)
        return bytes(back)


def ask_packet(port: int, packet: bytes) -> bytes:
    """Send one UDP packet until an answer comes, and give it. Asked again every second: UDP may lose it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1.0)
        for _ in range(int(PATIENCE_S)):
            sock.sendto(packet, ("127.0.0.1", port))
            with contextlib.suppress(TimeoutError):
                return sock.recv(65536)
    raise AssertionError("no answer to a packet")


def _send_and_end(connection: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
