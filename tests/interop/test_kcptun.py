"""With Debian's kcptun (20210922), at either end: the real peer of `dialect=kcptun`.

Its defaults are those of all versions until 2024: smux 1 unless asked, a half-close that cuts everything off.
"""

from __future__ import annotations

import json
import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.needs import needs
from tests.net import processes

PROGRAMS = {name: shutil.which(f"kcptun-{name}") for name in ("client", "server")}
pytestmark = [
    pytest.mark.skipif(not all(PROGRAMS.values()), reason=needs("kcptun-client, kcptun-server")),
    pytest.mark.timeout(120),
]
KEY = "a key of both ends"
PATIENCE_S = 20.0

# Every value of each column meets every value of each other one (pairwise), ciphers apart.
CASES = [
    # crypt, datashard:parityshard of kcptun, and of kcpg where that dials, compression, smux
    ("aes", (10, 3), (10, 3), True, 1),
    ("aes-128", (0, 0), (0, 0), False, 1),
    ("aes-192", (5, 2), (10, 3), False, 2),
    ("salsa20", (0, 0), (3, 1), True, 2),
    ("sm4", (10, 3), (0, 0), True, 2),
    ("blowfish", (3, 3), (2, 1), False, 1),
    ("cast5", (10, 3), (5, 2), True, 1),
    ("3des", (0, 0), (0, 0), True, 2),
    ("xor", (10, 3), (10, 3), False, 2),
    ("none", (2, 1), (0, 0), False, 1),
]


class BadPath:
    """Forwards datagrams to a port and back, by a socket for each source, losing and reordering some."""

    def __init__(self, port: int, loses: float, seed: str) -> None:
        self._rng = random.Random(seed)
        self._loses = loses
        self._target = ("127.0.0.1", port)
        self._front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._front.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._front.bind(("127.0.0.1", 0))
        self.port = self._front.getsockname()[1]
        self._backs: dict[tuple[str, int], socket.socket] = {}
        self.lost = 0
        threading.Thread(target=self._up, daemon=True).start()

    def _up(self) -> None:
        held: bytes | None = None
        with suppress(OSError):
            while True:
                data, source = self._front.recvfrom(65536)
                back = self._backs.get(source)
                if back is None:
                    back = self._backs[source] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                    back.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
                    back.connect(self._target)
                    threading.Thread(target=self._down, args=(back, source), daemon=True).start()
                held = self._pass(held, data, back.send)

    def _down(self, back: socket.socket, source: tuple[str, int]) -> None:
        held: bytes | None = None
        while True:
            try:
                data = back.recv(65536)
            except ConnectionRefusedError:
                continue
            except OSError:
                return
            with suppress(OSError):
                held = self._pass(held, data, lambda each: self._front.sendto(each, source))

    def _pass(self, held: bytes | None, data: bytes, send) -> bytes | None:  # type: ignore[no-untyped-def]
        """What is held back until the next one was sent."""
        with suppress(ConnectionRefusedError):
            chance = self._rng.random()
            if chance < self._loses:
                self.lost += 1
                return held
            if chance < 2 * self._loses and held is None:
                return data
            send(data)
            if held is not None:
                send(held)
        return None

    def close(self) -> None:
        self._front.close()
        for back in self._backs.values():
            back.close()


class Mixed:
    """A kcptun and a kcpg, and an echoing target."""

    def __init__(
        self,
        directory: Path,
        theirs: str,
        case: tuple[object, ...] = CASES[0],
        loses: float = 0.0,
        *more: str,
    ) -> None:
        crypt, their_fec, our_fec, compresses, smux = case
        self.theirs_is = theirs
        self.echo = processes.Echo()
        self.entry, self.tunnel = processes.free_ports(2)
        self.path = BadPath(self.tunnel, loses, f"{theirs} {case}") if loses else None
        way = self.path.port if self.path is not None else self.tunnel
        data, parity = their_fec  # type: ignore[misc]
        shared = ["--key", KEY, "--crypt", crypt, "--ds", data, "--ps", parity, "--smuxver", smux, *more]
        shared += [] if compresses else ["--nocomp"]
        words = {
            "server": ["-l", f"127.0.0.1:{self.tunnel}", "-t", f"127.0.0.1:{self.echo.port}"],
            "client": ["-l", f"127.0.0.1:{self.entry}", "-r", f"127.0.0.1:{way}"],
        }
        self._words = [str(word) for word in [PROGRAMS[theirs], *words[theirs], *shared]]
        ours = {"key": KEY, "crypt": crypt}
        if theirs == "server":  # a server of ours finds the rest out
            ours |= {"localaddr": f"127.0.0.1:{self.entry}", "remoteaddr": f"127.0.0.1:{way}"}
            ours |= {"nocomp": not compresses, "smuxver": smux}
            ours |= {"datashard": our_fec[0], "parityshard": our_fec[1]}  # type: ignore[index]
        else:
            ours |= {"listen": f"127.0.0.1:{self.tunnel}", "target": f"127.0.0.1:{self.echo.port}"}
        config = directory / "ours.json"
        config.write_text(json.dumps(ours))
        self._node_words = (directory / "state", config)
        self.start_theirs()
        self.start_ours()

    def start_theirs(self) -> None:
        self.theirs = subprocess.Popen(self._words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def start_ours(self) -> None:
        self.ours = processes.Node(*self._node_words).ready()

    def stop_theirs(self) -> None:
        self.theirs.kill()
        self.theirs.wait(10)

    def connect(self) -> socket.socket:
        """A flow that carries something, as soon as there is one."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            with suppress(OSError):
                sock = socket.create_connection(("127.0.0.1", self.entry), 10)
                sock.sendall(b"x")
                if sock.recv(1) == b"x":
                    return sock
                sock.close()
        raise AssertionError(f"no flow came through\n{self.ours.output}")

    def exchange(self, size: int) -> None:
        """An end is not sent before the answer is there: an older kcptun would cut it off."""
        data = random.Random(size).randbytes(size // 2) + bytes(size - size // 2)
        with self.connect() as sock:
            threading.Thread(target=sock.sendall, args=(data,), daemon=True).start()
            back = bytearray()
            while len(back) < size and (part := sock.recv(1 << 20)):
                back += part
        assert back == data

    def close(self) -> None:
        self.stop_theirs()
        self.ours.stop()
        self.echo.close()
        if self.path is not None:
            self.path.close()


@pytest.fixture(params=["client", "server"])
def theirs(request: pytest.FixtureRequest) -> str:
    """Which end is a kcptun."""
    return str(request.param)


@pytest.fixture
def mixed() -> Iterator[list[Mixed]]:
    """Those of a test, closed at its end."""
    made: list[Mixed] = []
    yield made
    for each in made:
        each.close()


@pytest.mark.parametrize("case", CASES, ids=[str(case[0]) for case in CASES])
def test_bytes_are_exact(tmp_path: Path, mixed: list[Mixed], theirs: str, case: tuple[object, ...]) -> None:
    mixed.append(Mixed(tmp_path, theirs, case))
    with ThreadPoolExecutor(4) as several:
        list(several.map(mixed[0].exchange, [1, 50_000, 500_000, 1_000_001]))


@pytest.mark.parametrize("case", [("tea", (0, 0), (0, 0), False, 1), ("xtea", (0, 0), (0, 0), False, 1)])
def test_slow_ciphers(tmp_path: Path, mixed: list[Mixed], theirs: str, case: tuple[object, ...]) -> None:
    mixed.append(Mixed(tmp_path, theirs, case))
    mixed[0].exchange(30_000)


def test_twofish(tmp_path: Path, mixed: list[Mixed], theirs: str) -> None:
    mixed.append(Mixed(tmp_path, theirs, ("twofish", (2, 1), (2, 1), True, 1)))
    mixed[0].exchange(30_000)


@pytest.mark.parametrize("case", [CASES[0], CASES[2], CASES[6]], ids=["10:3", "5:2 smux 2", "cast5"])
def test_losses_and_reordering(
    tmp_path: Path, mixed: list[Mixed], theirs: str, case: tuple[object, ...]
) -> None:
    mixed.append(Mixed(tmp_path, theirs, case, 0.03))
    for size in (1, 300_000, 1_000_000):
        mixed[0].exchange(size)
    path = mixed[0].path
    assert path is not None and path.lost > 20


def test_ten_megabytes_and_fifty_flows(tmp_path: Path, mixed: list[Mixed], theirs: str) -> None:
    mixed.append(Mixed(tmp_path, theirs))
    mixed[0].exchange(10_000_000)
    with ThreadPoolExecutor(50) as several:
        list(several.map(mixed[0].exchange, [20_000] * 50))


def test_the_end_of_what_a_target_sends(tmp_path: Path, mixed: list[Mixed], theirs: str) -> None:
    """All of it arrives, then the end."""
    mixed.append(Mixed(tmp_path, theirs))
    with mixed[0].connect() as sock:
        sock.sendall(b"y" * 300_000)
        got = b""
        while len(got) < 300_000 and (part := sock.recv(65536)):
            got += part
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(10)
        assert got == b"y" * 300_000 and sock.recv(1) == b""


def test_an_answer_after_the_end_of_its_request(tmp_path: Path, mixed: list[Mixed]) -> None:
    """Towards an older kcptun: the end is held back while the answer comes."""
    mixed.append(Mixed(tmp_path, "server"))
    with mixed[0].connect() as sock:
        sock.sendall(b"z" * 100_000)
        sock.shutdown(socket.SHUT_WR)
        got = b""
        while part := sock.recv(65536):
            got += part
    assert got == b"z" * 100_000


def test_a_restart_of_either_end(tmp_path: Path, mixed: list[Mixed], theirs: str) -> None:
    mixed.append(Mixed(tmp_path, theirs))
    chain = mixed[0]
    chain.exchange(1000)
    old = chain.connect()
    chain.stop_theirs()
    chain.start_theirs()
    began = time.monotonic()
    chain.connect().close()
    if theirs == "server":
        assert time.monotonic() - began < PATIENCE_S
        old.settimeout(PATIENCE_S)
        with suppress(ConnectionResetError):
            assert old.recv(1) == b""
    old.close()
    chain.exchange(100_000)


def test_another_smux_version_is_told(tmp_path: Path, mixed: list[Mixed]) -> None:
    mixed.append(Mixed(tmp_path, "server", CASES[1], 0.0, "--keepalive", "1"))
    config = json.loads((tmp_path / "ours.json").read_text())
    mixed[0].ours.stop()
    (tmp_path / "ours.json").write_text(json.dumps(config | {"smuxver": 2}))
    mixed[0].start_ours()
    mixed[0].ours.says("set smuxver=1")
