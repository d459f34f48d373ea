"""Connections as descriptors: the compiled functions and their plain twins say and do the same."""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from kcpg.net import addr, sock
from kcpg.net.clock import NEVER_MS, now_ms
from tests.engines import require
from tests.needs import needs
from tests.net.sockets import fds, until


@pytest.fixture(params=["compiled", "plain"])
def calls(request: pytest.FixtureRequest) -> Any:
    if request.param == "plain":
        return sock
    require("kcpg.net._sock")
    from kcpg.net import _sock

    return _sock


@pytest.fixture(params=["127.0.0.1", "::1"])
def listening(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family) as made:
        made.bind((request.param, 0))
        made.listen()
        made.setblocking(False)
        yield made


def connected(calls: Any, listening: socket.socket) -> tuple[int, int]:
    """Both ends of a connection: whoever connected, and whoever accepted."""
    where = addr.from_tuple(listening.getsockname())
    near, error = calls.connect(where, True)
    assert near >= 0 and error in (0, *sock.PENDING)
    until(lambda: calls.again(near, where) in (0, errno.EISCONN), "connected")
    far, source = calls.accept(listening.fileno())
    assert far >= 0
    with socket.socket(fileno=os.dup(near)) as seen:
        assert source == addr.from_tuple(seen.getsockname())
    return near, far


def test_connections_are_made_and_end(calls: Any, listening: socket.socket) -> None:
    until(lambda: True, "the event loop has its own descriptors")
    before = fds()
    near, far = connected(calls, listening)
    for fd in (near, far):
        assert not os.get_blocking(fd) and not os.get_inheritable(fd)
    with socket.socket(fileno=os.dup(near)) as seen:
        assert seen.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert seen.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    os.write(near, b"last words")
    calls.shutdown(near)
    with pytest.raises(OSError, match=os.strerror(errno.EPIPE)):
        os.write(near, b"more")
    got = b""
    while not got.endswith(b"words"):
        got += os.read(far, 100)
    assert os.read(far, 100) == b""
    os.write(far, b"and back")
    assert os.read(near, 100) == b"and back"
    calls.close(near)
    calls.close(far)
    assert fds() == before


def test_urgent_data_stays_in_its_place(calls: Any, listening: socket.socket) -> None:
    sock.tune(listening)
    for sender, reader in (connected(calls, listening), connected(calls, listening)[::-1]):
        with socket.socket(fileno=sender) as app:
            app.send(b"abc")
            app.send(b"!", socket.MSG_OOB)
            app.send(b"def")
        got = b""
        while data := os.read(reader, 100):
            got += data
        assert got == b"abc!def"
        calls.close(reader)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_socket_that_meets_itself_was_refused(calls: Any, host: str, kind: int) -> None:
    """As one that the kernel gives the very port of a target that is down."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as alone:
        alone.bind((host, 0))
        assert calls.again(alone.fileno(), addr.from_tuple(alone.getsockname())) == errno.ECONNREFUSED


MEETING = """
import socket, sys
from kcpg import engine
from kcpg.net import addr, sock
calls = engine.module("kcpg.net.sock") if sys.argv[1] == "compiled" else sock
target = addr.pack("127.0.0.1", 50001)
for attempt in range(50):
    fd, error = calls.connect(target, True)
    assert fd == -1 and error == 111, (attempt, fd, error)
    fd, error = calls.connect(target, False)
    assert error == 0 and socket.socket(fileno=fd).getsockname()[1] != 50001
with socket.create_server(("127.0.0.1", 50001)):
    pass  # nothing keeps the target from its port
"""


def test_a_target_that_is_down_is_never_ourselves(calls: Any) -> None:
    """The kernel has four ports to choose from, and the target's is one of them."""
    entry = 'ip link set lo up && echo 50000 50003 >/proc/sys/net/ipv4/ip_local_port_range && exec "$@"'
    which = "plain" if calls is sock else "compiled"
    command = ["unshare", "-n", "sh", "-c", entry, "sh", sys.executable, "-c", MEETING, which]
    made = subprocess.run(["unshare", "-n", "ip", "link", "set", "lo", "up"], capture_output=True)
    if made.returncode:
        pytest.skip(needs("root, iproute2", "run as root"))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_abort_is_a_reset(calls: Any, listening: socket.socket) -> None:
    near, far = connected(calls, listening)
    calls.abort(far)
    with pytest.raises(ConnectionResetError):
        os.read(near, 100)
    calls.shutdown(near)  # of what is gone already: no error
    calls.close(near)


def test_nobody_there(calls: Any, listening: socket.socket) -> None:
    assert calls.accept(listening.fileno()) == (-errno.EAGAIN, b"")
    where = addr.from_tuple(listening.getsockname())
    listening.close()
    before = fds()
    assert calls.connect(where, True) == (-1, errno.ECONNREFUSED)
    assert fds() == before, "an attempt that failed keeps nothing"


def test_packets_have_a_socket_of_their_own(calls: Any, listening: socket.socket) -> None:
    fd, error = calls.connect(addr.from_tuple(listening.getsockname()), False)
    assert error == 0
    with socket.socket(fileno=fd) as made:
        assert made.type == socket.SOCK_DGRAM and made.getpeername()[:2] == listening.getsockname()[:2]


def test_without_descriptors(calls: Any, listening: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    where = addr.from_tuple(listening.getsockname())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    fillers = [os.dup(0) for _ in range(highest + 1 - fds())]  # every number below is taken
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(fillers, default=highest) + 1, hard))
        taken = []
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            pass
        assert calls.connect(where, True) == (-1, errno.EMFILE)
        assert calls.accept(listening.fileno()) in [(-errno.EMFILE, b""), (-errno.EAGAIN, b"")]
        for fd in taken:
            os.close(fd)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in fillers:
            os.close(fd)


def test_the_compiled_engine_takes_the_compiled_functions() -> None:
    require("kcpg.net._sock")
    from kcpg import engine
    from kcpg.net import _sock

    assert engine.module("kcpg.net.sock") is (_sock if engine.ENGINE == "compiled" else sock)


def test_a_timer_is_readable_from_its_time_on(calls: Any) -> None:
    fd = calls.timer()
    assert not os.get_blocking(fd) and not os.get_inheritable(fd)
    assert select.select([fd], [], [], 0)[0] == []
    due_ms = now_ms() + 20
    calls.set_timer(fd, due_ms)
    assert select.select([fd], [], [], 5)[0] == [fd]
    assert now_ms() >= due_ms
    calls.set_timer(fd, NEVER_MS)
    assert select.select([fd], [], [], 0.02)[0] == []
    for over in (0, -1, now_ms()):
        calls.set_timer(fd, over)
        assert select.select([fd], [], [], 5)[0] == [fd]
    calls.close(fd)


def test_a_timer_that_cannot_be_had_is_an_error_of_the_system(calls: Any) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(OSError) as caught:
            calls.timer()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.errno == errno.EMFILE
