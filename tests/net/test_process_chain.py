"""Real processes on loopback: application → client → relay → server → target, and what happens when something
fails."""

from __future__ import annotations

import contextlib
import os
import pty
import random
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.net import processes
from tests.net.processes import Node

Start = Callable[..., Node]

CLIENT = """
mode=client
kcp=regular1
inbound_bandwidth=500M
outbound_bandwidth=50M
listen_on=127.0.0.1
listen_port={listen}
destination_port={ports}
destination_address=127.0.0.1
encryption_password={password}
encryption_algorithm={algorithm}
"""

RELAY = """
mode=relay
[listener]
kcp=regular1
inbound_bandwidth=300M
outbound_bandwidth=300M
listen_port={listen}
encryption_password=qwerty1234
encryption_algorithm=AES-GCM
[forwarder]
kcp=regular2
inbound_bandwidth=300M
outbound_bandwidth=300MM
destination_port={ports}
destination_address=127.0.0.1
encryption_password=qwerty1234
encryption_algorithm=AES-OCB
udp_timeout=10
"""

SERVER = """
mode=server
kcp=regular2
inbound_bandwidth=1G
outbound_bandwidth=1G
listen_port={listen}
destination_port={target}
destination_address=127.0.0.1
encryption_password={password}
encryption_algorithm={algorithm}
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts kcpg with these words in the foreground; ends every process at the end of the test."""
    running: list[Node] = []

    def run(*words: object, **more: str) -> Node:
        running.append(Node(tmp_path / "state", *words, **more))
        return running[-1]

    yield run
    for node in running:
        node.stop()


def write(directory: Path, name: str, text: str, **values: object) -> Path:
    """A configuration file made of a text above."""
    given = {"password": "qwerty1234", "algorithm": "AES-GCM", **values}
    file = directory / name
    file.write_text(text.format(**given))
    return file


def pattern(size: int) -> bytes:
    """Bytes that no shift or swap maps onto themselves; the same in every run."""
    return random.Random(size).randbytes(size)


@pytest.fixture
def pair(tmp_path: Path, start: Start) -> Iterator[tuple[Node, Node, int, Path]]:
    """A client and a server in two processes, with the client's port and the server's file."""
    listen, tunnel = processes.free_ports(2)
    with processes.echo() as target:
        client = write(tmp_path, "client.conf", CLIENT, listen=listen, ports=tunnel)
        server = write(tmp_path, "server.conf", SERVER, listen=tunnel, target=target)
        yield start(client).ready(), start(server).ready(), listen, server


def test_the_chain_of_three_processes(tmp_path: Path, start: Start) -> None:
    listen, middle, last = processes.free_ports(3)
    with processes.echo() as target:
        nodes = [
            start(write(tmp_path, "server.conf", SERVER, listen=last, target=target, algorithm="AES-OCB")),
            start(write(tmp_path, "relay.conf", RELAY, listen=middle, ports=last)),
            start(write(tmp_path, "client.conf", CLIENT, listen=listen, ports=middle)),
        ]
        for node in nodes:
            node.ready()
        data = pattern(3_000_000)
        assert processes.exchange(listen, data) == data
        for size in (1, 100, 1400, 9000):
            assert processes.ask_packet(listen, pattern(size)) == pattern(size)
        report = processes.call(tmp_path / "state", "status")
        assert report.returncode == 0
        for word in ("client client", "relay relay", "server server", "AES-GCM", "AES-OCB", "1 link"):
            assert word in report.stdout, report.stdout
        for node in nodes:
            node.signal(signal.SIGTERM)
        assert [node.wait() for node in nodes] == [0, 0, 0], "\n".join(node.output for node in nodes)
        for node in nodes:
            assert "qwerty" not in node.output and "Traceback" not in node.output, node.output


def test_three_nodes_in_one_process(tmp_path: Path, start: Start) -> None:
    listen, middle, last = processes.free_ports(3)
    with processes.echo() as target:
        node = start(
            write(tmp_path, "server.conf", SERVER, listen=last, target=target, algorithm="AES-OCB"),
            write(tmp_path, "relay.conf", RELAY, listen=middle, ports=last),
            write(tmp_path, "client.conf", CLIENT, listen=listen, ports=middle),
        )
        assert "3 nodes" in node.ready().says("kcpg: ready")
        data = pattern(100_000)
        assert processes.exchange(listen, data) == data
        node.signal(signal.SIGINT)
        assert node.wait() == 0


def test_wrong_password_is_said_and_the_process_goes_on(tmp_path: Path, start: Start) -> None:
    listen, tunnel = processes.free_ports(2)
    with processes.echo() as target:
        server = write(tmp_path, "server.conf", SERVER, listen=tunnel, target=target)
        client = write(tmp_path, "client.conf", CLIENT, listen=listen, ports=tunnel, password="WRONGsecret")
        start(server).ready()
        node = start(client).ready()
        line = node.says("no answer")
        assert "127.0.0.1" in line and "password" in line
        assert node.process.poll() is None
        assert "WRONGsecret" not in node.output


def test_wrong_algorithm_is_said_on_both_sides(tmp_path: Path, start: Start) -> None:
    listen, tunnel = processes.free_ports(2)
    with processes.echo() as target:
        server = start(write(tmp_path, "server.conf", SERVER, listen=tunnel, target=target)).ready()
        client = start(
            write(tmp_path, "client.conf", CLIENT, listen=listen, ports=tunnel, algorithm="AES-OCB")
        ).ready()
        for node in (client, server):
            line = node.says("encryption_algorithm")
            assert "AES-GCM" in line and "AES-OCB" in line


def test_port_in_use_ends_the_start_with_a_message(tmp_path: Path, start: Start) -> None:
    tunnel, listen = processes.free_ports(2)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as taken:
        taken.bind(("", tunnel))
        node = start(write(tmp_path, "server.conf", SERVER, listen=tunnel, target=9))
        assert node.wait() == 1
        assert f"UDP *:{tunnel}" in node.output and "in use" in node.output
        assert "Traceback" not in node.output and "kcpg: ready" not in node.output
    with socket.create_server(("127.0.0.1", listen)):
        node = start(write(tmp_path, "client.conf", CLIENT, listen=listen, ports=tunnel))
        assert node.wait() == 1
        assert f"TCP 127.0.0.1:{listen}" in node.output and "in use" in node.output


def test_output_that_takes_nothing_stops_neither_the_start_nor_the_traffic(tmp_path: Path) -> None:
    """Standard output on a full disk; standard error a pipe that is full and that nobody reads."""
    server = write(tmp_path, "server.conf", SERVER, listen=processes.free_ports(1)[0], target=9)
    state = tmp_path / "state"
    read, pipe = os.pipe()
    os.set_blocking(pipe, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(pipe, b"x" * 4096):
            pass
    os.set_blocking(pipe, True)
    with open("/dev/full", "w") as full, open(read, "rb"), open(pipe, "wb"):
        node = subprocess.Popen(
            processes.command(server), env=processes.environment(state), stdout=full, stderr=pipe
        )
        try:
            processes.until(
                lambda: processes.call(state, "status", server).returncode == 0, "the node to run"
            )
            node.send_signal(signal.SIGTERM)
            assert node.wait(processes.PATIENCE_S) == 0
        finally:
            node.kill()
            node.wait()


def test_a_command_whose_output_finds_no_room_says_so(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            processes.command("help", "config"), env=processes.environment(tmp_path), stdout=full,
            stderr=subprocess.PIPE, text=True, timeout=processes.PATIENCE_S,
        )  # fmt: skip
    assert done.returncode == 1
    said = "kcpg: cannot write the output: No space left on device; make room (df and df -i show it)\n"
    assert done.stderr == said


def test_wrong_configuration_ends_with_code_2(tmp_path: Path, start: Start) -> None:
    file = tmp_path / "client.conf"
    file.write_text("mode=client\nlisten_prot=1\n")
    node = start(file)
    assert node.wait() == 2
    assert f"{file}:2: error: listen_prot" in node.output and "listen_port" in node.output
    missing = start(tmp_path / "nothing.conf")
    assert missing.wait() == 2
    assert "nothing.conf" in missing.output and "Traceback" not in missing.output


def test_server_restart_needs_no_restart_of_the_client(pair, start: Start) -> None:
    client, server, listen, file = pair
    assert processes.exchange(listen, b"before") == b"before"
    server.signal(signal.SIGKILL)
    server.wait()
    start(file).ready()
    data = pattern(50_000)
    assert processes.until(lambda: _tried(listen, data), "an echo after the restart") == data
    assert client.process.poll() is None


def test_relay_restart_needs_no_restart_of_its_neighbours(tmp_path: Path, start: Start) -> None:
    listen, middle, last = processes.free_ports(3)
    with processes.echo() as target:
        relay = write(tmp_path, "relay.conf", RELAY, listen=middle, ports=last)
        start(
            write(tmp_path, "server.conf", SERVER, listen=last, target=target, algorithm="AES-OCB"),
            write(tmp_path, "client.conf", CLIENT, listen=listen, ports=middle),
        ).ready()
        for ending in (signal.SIGKILL, signal.SIGTERM, None):
            node = start(relay).ready()
            assert processes.until(lambda: _tried(listen, b"hello"), "an echo again") == b"hello"
            if ending is not None:
                node.signal(ending)
                node.wait()


def test_ipv6_on_every_leg(tmp_path: Path, start: Start) -> None:
    if not _has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    listen, tunnel = processes.free_ports(2)
    target = socket.create_server(("::1", 0), family=socket.AF_INET6)
    with target:
        there = {"listen": tunnel, "target": target.getsockname()[1]}
        files = [
            write(tmp_path, "server.conf", SERVER.replace("127.0.0.1", "::1") + "ipv6_only=1\n", **there),
            write(tmp_path, "client.conf", CLIENT.replace("127.0.0.1", "::1"), listen=listen, ports=tunnel),
        ]
        start(*files).ready()
        with socket.create_connection(("::1", listen), processes.PATIENCE_S) as application:
            application.sendall(b"hello")
            accepted, _ = target.accept()
            with accepted:
                accepted.settimeout(processes.PATIENCE_S)
                assert accepted.recv(100) == b"hello"


def test_the_plain_engine_carries_the_same(tmp_path: Path, start: Start) -> None:
    listen, tunnel = processes.free_ports(2)
    with processes.echo() as target:
        start(write(tmp_path, "server.conf", SERVER, listen=tunnel, target=target)).ready()
        client = write(tmp_path, "client.conf", CLIENT, listen=listen, ports=tunnel)
        start(client, KCPG_ENGINE="python").ready()
        data = pattern(300_000)
        assert processes.exchange(listen, data) == data
        assert processes.ask_packet(listen, pattern(5000)) == pattern(5000)


def test_many_flows_at_once_beside_one_that_nobody_reads(pair) -> None:
    _, _, listen, _ = pair
    stuck = socket.create_connection(("127.0.0.1", listen), processes.PATIENCE_S)
    with stuck, ThreadPoolExecutor(40) as pool:
        stuck.setblocking(False)
        try:
            while True:
                stuck.send(bytes(65536))
        except BlockingIOError:
            pass
        results = list(pool.map(lambda size: processes.exchange(listen, pattern(size)), range(20000, 20120)))
        assert results == [pattern(size) for size in range(20000, 20120)]


def test_client_started_before_its_server(tmp_path: Path, start: Start) -> None:
    listen, tunnel = processes.free_ports(2)
    with processes.echo() as target:
        start(write(tmp_path, "client.conf", CLIENT, listen=listen, ports=tunnel)).ready()
        connection = socket.create_connection(("127.0.0.1", listen), processes.PATIENCE_S)
        connection.sendall(b"early")
        start(write(tmp_path, "server.conf", SERVER, listen=tunnel, target=target)).ready()
        with connection:
            assert connection.recv(100) == b"early"


def test_target_that_refuses_is_said_and_told(tmp_path: Path, start: Start) -> None:
    listen, tunnel, nobody = processes.free_ports(3)
    server = start(write(tmp_path, "server.conf", SERVER, listen=tunnel, target=nobody)).ready()
    start(write(tmp_path, "client.conf", CLIENT, listen=listen, ports=tunnel)).ready()
    connection = socket.create_connection(("127.0.0.1", listen), processes.PATIENCE_S)
    with connection, pytest.raises(ConnectionResetError):
        connection.recv(1)
    line = server.says("refused")
    assert str(nobody) in line


def test_sigterm_lets_a_flow_finish(pair) -> None:
    client, server, listen, _ = pair
    with socket.create_connection(("127.0.0.1", listen), processes.PATIENCE_S) as connection:
        connection.sendall(b"one")
        assert connection.recv(100) == b"one"
        client.signal(signal.SIGTERM)
        client.says("stopping")
        processes.until(lambda: _refused(listen), "the listening port to close")
        connection.sendall(b"two")
        assert connection.recv(100) == b"two"
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    assert client.wait() == 0
    assert server.process.poll() is None


def test_second_signal_ends_at_once(pair) -> None:
    client, _, listen, _ = pair
    with socket.create_connection(("127.0.0.1", listen), processes.PATIENCE_S) as connection:
        connection.sendall(b"one")
        assert connection.recv(100) == b"one"
        client.signal(signal.SIGINT)
        client.says("stopping")
        client.signal(signal.SIGINT)
        assert client.wait() == 0


def test_sighup_applies_what_changed_and_only_that(tmp_path: Path, start: Start) -> None:
    old, new, other, tunnel = processes.free_ports(4)
    with processes.echo() as target:
        start(write(tmp_path, "server.conf", SERVER, listen=tunnel, target=target)).ready()
        edited = write(tmp_path, "edited.conf", CLIENT, listen=old, ports=tunnel)
        same = write(tmp_path, "same.conf", CLIENT, listen=other, ports=tunnel)
        node = start(edited, same).ready()
        with socket.create_connection(("127.0.0.1", other), processes.PATIENCE_S) as kept:
            kept.sendall(b"a")
            assert kept.recv(10) == b"a"
            write(tmp_path, "edited.conf", CLIENT, listen=new, ports=tunnel)
            node.signal(signal.SIGHUP)
            node.says("applied the configuration (nodes started: 1, unchanged: 1)")
            assert processes.exchange(new, b"moved") == b"moved"
            assert _refused(old)
            kept.sendall(b"b")
            assert kept.recv(10) == b"b"
            edited.write_text("mode=client\nlisten_port=0\n")
            node.signal(signal.SIGHUP)
            node.says("kept the old configuration")
            assert processes.exchange(new, b"still") == b"still"
            with socket.create_server(("127.0.0.1", old)):
                write(tmp_path, "edited.conf", CLIENT, listen=old, ports=tunnel)
                node.signal(signal.SIGHUP)
                node.says("restored the old configuration: ")
                assert processes.exchange(new, b"back again") == b"back again"
            kept.sendall(b"c")
            assert kept.recv(10) == b"c"


def test_try_says_what_answers(tmp_path: Path, start: Start) -> None:
    listen, tunnel, silent = processes.free_ports(3)
    state = tmp_path / "state"
    start(write(tmp_path, "server.conf", SERVER, listen=tunnel, target=9)).ready()
    both = f"{min(tunnel, silent)},{max(tunnel, silent)}"
    files = [
        write(tmp_path, "good.conf", CLIENT, listen=listen, ports=tunnel),
        write(tmp_path, "mixed.conf", CLIENT, listen=listen, ports=both),
        write(tmp_path, "other.conf", CLIENT, listen=listen, ports=tunnel, algorithm="AES-OCB"),
        write(tmp_path, "secret.conf", CLIENT, listen=listen, ports=tunnel),
    ]
    files[3].write_text(files[3].read_text() + "encryption_password=another one than the server has\n")
    with ThreadPoolExecutor(4) as several:  # the one that gets no answer waits for it
        good, mixed, refused, foreign = several.map(lambda file: processes.call(state, "--try", file), files)
    assert good.returncode == 0, good.stdout + good.stderr
    assert f"127.0.0.1:{tunnel}" in good.stdout and "handshake" in good.stdout and "AES-GCM" in good.stdout
    assert mixed.returncode == 1
    assert f"127.0.0.1:{silent}: failed" in mixed.stdout and "1 of 2" in mixed.stdout
    assert "nothing listens on this port" in mixed.stdout
    assert refused.returncode == 1 and "encryption_algorithm" in refused.stdout
    assert foreign.returncode == 1 and "something listens there" in foreign.stdout, foreign.stdout


def _tried(port: int, data: bytes) -> bytes:
    try:
        return processes.exchange(port, data, 5.0)
    except OSError:
        return b""


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def _refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), processes.PATIENCE_S).close()
    except ConnectionRefusedError:
        return True
    return False


def test_closing_its_terminal_ends_it(tmp_path: Path) -> None:
    (tunnel,) = processes.free_ports(1)
    file = write(tmp_path, "server.conf", SERVER, listen=tunnel, target=9)
    words = processes.command(file)
    pid, master = pty.fork()
    if pid == 0:
        os.execve(words[0], words, processes.environment(tmp_path / "state"))
    seen = b""
    while b"kcpg: ready" not in seen:
        seen += os.read(master, 1000)
    os.close(master)
    assert processes.until(lambda: os.waitpid(pid, os.WNOHANG)[0], "the process to end") == pid
