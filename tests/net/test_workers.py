"""Nodes that several processes run together: real processes on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.net import processes
from tests.net.processes import Node, until
from tests.net.test_process_chain import CLIENT, RELAY, SERVER, Start, _refused, _tried, pattern, write
from tests.net.test_process_chain import start as start

TWO = "workers=2\n"


class Nat:
    """A UDP forwarder to one port, by a source port that `rebind` changes."""

    def __init__(self, port: int) -> None:
        self._there = ("127.0.0.1", port)
        self._inside = _bound()
        self._outside = _bound()
        self.port: int = self._inside.getsockname()[1]
        self._client: Any = None
        self._wake, self._woken = socket.socketpair()
        self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def rebind(self) -> None:
        """From now on everything comes from another port, and nothing comes back by the old one."""
        old, self._outside = self._outside, _bound()
        self._wake.send(b"x")
        old.close()

    def close(self) -> None:
        """End it."""
        self._over = True
        self._wake.send(b"x")
        self._thread.join()
        for sock in (self._inside, self._outside, self._wake, self._woken):
            sock.close()

    def _run(self) -> None:
        while not self._over:
            outside = self._outside
            with contextlib.suppress(OSError, ValueError):
                ready, _, _ = select.select([self._inside, outside, self._woken], [], [])
                if self._woken in ready:
                    self._woken.recv(100)
                if self._inside in ready:
                    data, self._client = self._inside.recvfrom(65536)
                    self._outside.sendto(data, self._there)
                if outside in ready and self._client is not None:
                    self._inside.sendto(outside.recv(65536), self._client)


def _bound() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(0.05)
    return sock


@pytest.fixture
def target() -> Iterator[int]:
    with processes.echo() as port:
        yield port


def report(state: Path, *files: Path) -> list[dict[str, Any]]:
    """The nodes of the process that runs these files."""
    answer = processes.call(state, "status", "--json", *files)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    (process,) = json.loads(answer.stdout)
    return list(process.get("nodes", []))


def rows(state: Path, file: Path) -> list[dict[str, Any]]:
    """The workers of the node of this file."""
    return list(report(state, file)[0]["workers"])


def handed_over(state: Path, file: Path) -> int:
    return sum(int(row["handed_over"]) for row in rows(state, file))


def runs(pid: int) -> bool:
    """Whether there is such a process, and not only its entry."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def connect(port: int) -> socket.socket:
    """A connection that has carried something."""
    connection = socket.create_connection(("127.0.0.1", port), processes.PATIENCE_S)
    says(connection, b"hello")
    return connection


def says(connection: socket.socket, data: bytes) -> None:
    """An echo through the tunnel."""
    connection.sendall(data)
    back = b""
    while len(back) < len(data):
        part = connection.recv(65536)
        assert part, "the flow has ended"
        back += part
    assert back == data


def test_a_chain_in_which_every_node_has_two_workers(tmp_path: Path, start: Start, target: int) -> None:
    state = tmp_path / "state"
    listen, middle, last = processes.free_ports(3)
    relay = RELAY.replace("mode=relay\n", "mode=relay\n" + TWO)
    files = [
        write(tmp_path, "server.conf", SERVER + TWO, listen=last, target=target, algorithm="AES-OCB"),
        write(tmp_path, "relay.conf", relay, listen=middle, ports=last),
        write(tmp_path, "client.conf", CLIENT + TWO, listen=listen, ports=middle),
    ]
    nodes = []
    for file in files:  # each is there before somebody calls it: repeated calls would be answered twice
        nodes.append(start(file))
        assert "2 workers" in nodes[-1].ready().says("kcpg: ready")
    for size in range(100_000, 100_024):
        assert processes.exchange(listen, pattern(size)) == pattern(size)
    assert processes.ask_packet(listen, pattern(3000)) == pattern(3000)
    for file in files:
        (found,) = report(state, file)
        assert [row["link_count"] > 0 for row in found["workers"]] == [True, True], file
        assert found["flows"]["opened"] == 25, "one node, whoever carried what"
    (server,) = report(state, files[0])
    assert server["ingress"]["link_count"] == 2 == len(server["ingress"]["links"])
    assert {link["worker"] for link in server["ingress"]["links"]} == {0, 1}, "each has one"
    page = processes.call(state, "status", files[0]).stdout
    assert re.search(r"worker 0: pid \d+, up", page) and re.search(r"worker 1: pid \d+, up", page)
    pids = [row["pid"] for file in files for row in rows(state, file)]
    assert all(runs(pid) for pid in pids)
    for node in reversed(nodes):
        node.signal(signal.SIGTERM)
        assert node.wait() == 0
    assert not any(runs(pid) for pid in pids)
    assert "rror" not in "".join(node.output for node in nodes)


def test_a_client_whose_address_changes_keeps_its_flows(tmp_path: Path, start: Start, target: int) -> None:
    """Sooner or later its datagrams come to the wrong worker: they are handed over, and then steered."""
    state = tmp_path / "state"
    listen, tunnel = processes.free_ports(2)
    server = write(tmp_path, "server.conf", SERVER + TWO, listen=tunnel, target=target)
    start(server).ready()
    nat = Nat(tunnel)
    start(write(tmp_path, "client.conf", CLIENT, listen=listen, ports=nat.port)).ready()
    with contextlib.closing(nat), connect(listen) as connection:
        before = handed_over(state, server)

        def moved_to_the_other() -> bool:
            nat.rebind()
            says(connection, pattern(20_000))
            return handed_over(state, server) > before

        until(moved_to_the_other, "datagrams to be handed over")

        def steered() -> bool:
            count = handed_over(state, server)
            says(connection, pattern(20_000))
            return handed_over(state, server) == count

        until(steered, "the kernel to steer the new address")
        (found,) = report(state, server)
        assert found["ingress"]["link_count"] == 1 and found["flows"]["opened"] == 1
        assert found["ingress"]["links"][0]["counters"]["resumes"] == 0, "nobody noticed"


def test_a_worker_that_dies_takes_only_its_own_links(tmp_path: Path, start: Start, target: int) -> None:
    state = tmp_path / "state"
    one, other, tunnel = processes.free_ports(3)
    server = write(tmp_path, "server.conf", SERVER + TWO, listen=tunnel, target=target)
    node = start(server).ready()
    for name, port in (("one", one), ("other", other)):
        start(write(tmp_path, f"{name}.conf", CLIENT, listen=port, ports=tunnel)).ready()
        assert processes.exchange(port, b"hello") == b"hello"
    before = rows(state, server)
    assert [row["link_count"] for row in before] == [1, 1]
    with connect(one) as first, connect(other) as second:
        flows = {"one": first, "other": second}
        os.kill(before[1]["pid"], signal.SIGKILL)
        node.says(f"worker 1 (pid {before[1]['pid']}) was ended by signal 9; its links are lost")
        until(lambda: rows(state, server)[1]["up"], "the worker to be started again")
        after = rows(state, server)
        assert after[0]["pid"] == before[0]["pid"] and after[1]["pid"] != before[1]["pid"]
        assert (after[0]["starts"], after[1]["starts"]) == (1, 2)
        alive = [name for name, flow in flows.items() if _survives(flow)]
        assert len(alive) == 1, "the link of the worker that lives is as it was"
        (found,) = report(state, server)
        assert sum(link["counters"]["resumes"] for link in found["ingress"]["links"]) == 0
    for port in (one, other):
        assert until(lambda p=port: _tried(p, b"again"), "an echo again") == b"again"
    node.signal(signal.SIGTERM)
    assert node.wait() == 0


def _survives(flow: socket.socket) -> bool:
    try:
        says(flow, b"still there?")
    except (OSError, AssertionError):
        return False
    return True


def test_reload_with_workers(tmp_path: Path, start: Start, target: int) -> None:
    state = tmp_path / "state"
    listen, old, new, taken = processes.free_ports(4)
    edited = write(tmp_path, "edited.conf", SERVER + TWO, listen=old, target=target)
    same = write(tmp_path, "same.conf", CLIENT + TWO, listen=listen, ports=f"{min(old, new)},{max(old, new)}")
    node = start(edited, same).ready()
    assert until(lambda: _tried(listen, b"hello"), "an echo") == b"hello"
    before = report(state, edited, same)
    descriptors = len(processes.descriptors(node.process.pid))

    def reload(says: str) -> None:
        node.lines.clear()
        node.signal(signal.SIGHUP)
        node.says(says)

    write(tmp_path, "edited.conf", SERVER + TWO, listen=new, target=target)
    reload("applied the configuration (nodes started: 1, unchanged: 1)")
    after = report(state, edited, same)
    pids = [[row["pid"] for row in one["workers"]] for one in (*before, *after)]
    assert pids[1] == pids[3] and not set(pids[0]) & set(pids[2]), "only those of the edited node are new"
    assert not any(runs(pid) for pid in pids[0])
    assert until(lambda: _tried(listen, b"moved"), "an echo") == b"moved"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs:
        theirs.bind(("0.0.0.0", taken))
        write(tmp_path, "edited.conf", SERVER + TWO, listen=taken, target=target)
        reload(f"cannot listen on UDP *:{taken}")
    assert until(lambda: _tried(listen, b"back"), "an echo") == b"back"
    write(tmp_path, "edited.conf", SERVER, listen=new, target=target)
    reload("applied the configuration (nodes started: 1, unchanged: 1)")
    assert "workers" not in report(state, edited, same)[0], "one process: this one"
    assert until(lambda: _tried(listen, b"alone"), "an echo") == b"alone"
    write(tmp_path, "edited.conf", SERVER + TWO, listen=new, target=target)
    reload("applied the configuration (nodes started: 1, unchanged: 1)")
    assert until(lambda: _tried(listen, b"and more"), "an echo") == b"and more"
    until(lambda: len(processes.descriptors(node.process.pid)) == descriptors, "every descriptor given back")


def test_stopping_lets_a_flow_finish(tmp_path: Path, start: Start, target: int) -> None:
    state = tmp_path / "state"
    listen, tunnel = processes.free_ports(2)
    start(write(tmp_path, "server.conf", SERVER + TWO, listen=tunnel, target=target)).ready()
    file = write(tmp_path, "client.conf", CLIENT + TWO, listen=listen, ports=tunnel)
    client = start(file, "--drain", 60).ready()
    pids = [row["pid"] for row in rows(state, file)]
    with connect(listen) as connection:
        client.signal(signal.SIGTERM)
        client.says("stopping: waiting up to 60 s")
        for pid in pids:  # as a service manager does, which signals every process
            os.kill(pid, signal.SIGTERM)
        until(lambda: _refused(listen), "the listening port to close")
        says(connection, b"two")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    assert client.wait() == 0
    assert not any(runs(pid) for pid in pids)


def test_workers_end_with_the_process_that_started_them(tmp_path: Path, start: Start) -> None:
    (tunnel,) = processes.free_ports(1)
    file = write(tmp_path, "server.conf", SERVER + TWO, listen=tunnel, target=9)
    node = start(file).ready()
    pids = [row["pid"] for row in rows(tmp_path / "state", file)]
    node.signal(signal.SIGKILL)
    node.process.wait(processes.PATIENCE_S)
    until(lambda: not any(runs(pid) for pid in pids), "the workers to end")
    start(file).ready()


def test_a_port_that_is_taken_ends_it_with_the_reason(tmp_path: Path, start: Start) -> None:
    (tunnel,) = processes.free_ports(1)
    first = write(tmp_path, "first.conf", SERVER + TWO, listen=tunnel, target=9)
    start(first).ready()
    node: Node = start(write(tmp_path, "second.conf", SERVER + TWO, listen=tunnel, target=9))
    assert node.wait() == 1
    assert f"cannot listen on UDP *:{tunnel}: Address already in use" in node.output


def test_the_daemon_with_workers(tmp_path: Path) -> None:
    state = tmp_path / "state"
    (tunnel,) = processes.free_ports(1)
    (tmp_path / "logs").mkdir()
    more = f"{TWO}log_path={tmp_path / 'logs'}\n"
    file = write(tmp_path, "server.conf", SERVER + more, listen=tunnel, target=9)
    try:
        assert processes.call(state, "daemon", "start", file).returncode == 0
        pids = [row["pid"] for row in rows(state, file)]
        os.kill(pids[0], signal.SIGKILL)
        log = tmp_path / "logs" / "server_output.log"
        until(lambda: "was ended by signal 9" in log.read_text(), "the log to say so")
        until(lambda: rows(state, file)[0]["starts"] == 2, "a new process")
        assert processes.call(state, "daemon", "ensure", file).returncode == 0
        assert processes.call(state, "daemon", "status", file).returncode == 0
    finally:
        stopped = processes.call(state, "daemon", "stop", file)
    assert "stopped" in stopped.stdout
    assert not any(runs(pid) for pid in pids)
