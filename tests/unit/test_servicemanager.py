"""What a service manager is told, by this module and by a real process (sd_notify(3))."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kcpg.app.servicemanager import ServiceManager
from tests.net import processes
from tests.net.test_process_chain import SERVER, write


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket on which a service manager listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(processes.PATIENCE_S)
        yield sock


def test_each_word(manager: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "3000000", "HOME": "/"}
    told = ServiceManager(environ)
    assert environ == {"HOME": "/"}, "children do not speak for us"
    assert told.listens and told.watchdog_s == 3.0
    told.ready("1 node\nof it")
    assert manager.recv(4096) == b"READY=1\nSTATUS=1 node of it"
    told.reloading()
    first, second = manager.recv(4096).split(b"\n")
    assert first == b"RELOADING=1" and second.startswith(b"MONOTONIC_USEC=")
    told.status("more")
    told.status("more")
    told.alive()
    told.stopping()
    assert [manager.recv(4096).split(b"\n")[0] for _ in range(3)] == [
        b"STATUS=more",
        b"WATCHDOG=1",
        b"STOPPING=1",
    ]


def test_an_abstract_socket(tmp_path: Path) -> None:
    name = f"kcpg-test-{os.getpid()}-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        ServiceManager({"NOTIFY_SOCKET": f"@{name}"}).alive()
        assert sock.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": "/nonexistent/notify"}])
def test_nobody_who_listens_costs_nothing(environ: dict[str, str]) -> None:
    told = ServiceManager(environ)
    told.ready("x")
    told.alive()
    assert told.watchdog_s == 0


def test_a_watchdog_of_another_process_is_not_ours() -> None:
    assert ServiceManager({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}).watchdog_s == 0
    assert ServiceManager({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())}).watchdog_s == 1.0


def test_a_process_tells_its_life(manager: socket.socket, tmp_path: Path) -> None:
    (port,) = processes.free_ports(1)
    file = write(tmp_path, "server.conf", SERVER, listen=port, target=9)
    node = processes.Node(
        tmp_path / "state", file, NOTIFY_SOCKET=manager.getsockname(), WATCHDOG_USEC="300000"
    ).ready()
    try:
        heard: list[str] = []

        def hear(word: str) -> str:
            while True:
                heard.append(manager.recv(4096).decode())
                if heard[-1].startswith(word):
                    return heard[-1]

        assert hear("READY=1") == "READY=1\nSTATUS=1 node, 0 TCP flows"
        for _ in range(3):
            hear("WATCHDOG=1")
        file.write_text(file.read_text() + "max_flosw=1\n")
        node.signal(signal.SIGHUP)
        hear("RELOADING=1\nMONOTONIC_USEC=")
        assert "STATUS=kept the old configuration: 1 error" in hear("READY=1")
        node.signal(signal.SIGTERM)
        hear("STOPPING=1")
        assert node.wait() == 0
    finally:
        node.stop()
