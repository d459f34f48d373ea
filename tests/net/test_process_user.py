"""A node that root starts and that is no longer root once its ports are open; what it may still do."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.needs import needs
from tests.net import processes
from tests.net.processes import Node

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason=needs("root to become another user", "run as root"))

USER, UID, GID = "nobody", 65534, 65534
BIND_ALONE = 1 << 10  # CAP_NET_BIND_SERVICE

SERVER = """\
mode=server
listen_on=127.0.0.1
listen_port={listen}
destination_address=127.0.0.1
destination_port={target}
encryption_password=unguessable-1234
encryption_algorithm=AES-GCM
user={user}
"""
CLIENT = """\
mode=client
listen_on=127.0.0.1
listen_port={listen}
destination_address=127.0.0.1
destination_port={server}
encryption_password=unguessable-1234
encryption_algorithm=AES-GCM
mux_tunnels=0
user={user}
"""

Start = Callable[[str, str], Node]


def low_ports(count: int) -> list[int]:
    """Ports below 1024 that nobody listens on."""
    found = []
    for port in range(1023, 600, -1):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            try:
                udp.bind(("127.0.0.1", port))
                tcp.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports below 1024")


def open_to_all(directory: Path) -> list[str]:
    """What runs a command so that every user can run this interpreter, which may be in root's home.

    In a mount namespace of the command's own; nothing else of the machine changes.
    """
    aside = directory / "aside"
    aside.mkdir()
    interpreter = Path(sys.executable).resolve()
    closed = next(
        (one for one in reversed(interpreter.parents) if not one.stat().st_mode & stat.S_IXOTH), None
    )
    if closed is None:
        return []
    needed = closed / interpreter.relative_to(closed).parts[0]
    script = f"""set -e
        mount --bind {shlex.quote(str(needed))} {aside}
        mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(closed))}
        mkdir {shlex.quote(str(needed))}
        mount --move {aside} {shlex.quote(str(needed))}
        exec "$@" """
    words = ["unshare", "--mount", "sh", "-c", script, "sh"]
    done = subprocess.run([*words, "true"], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"every user would need to reach {interpreter}: {done.stderr.strip()}")
    return words


@pytest.fixture
def directory() -> Iterator[Path]:
    """One that every user may enter, as pytest's own is not."""
    made = Path(tempfile.mkdtemp(prefix="kcpg-user-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def start(directory: Path) -> Iterator[Start]:
    """Starts a node by the name and text of its file."""
    via, nodes = open_to_all(directory), []

    def begin(name: str, text: str) -> Node:
        (directory / name).write_text(text)
        os.chown(directory / name, 0, GID)
        (directory / name).chmod(0o640)
        nodes.append(Node(directory / "state", directory / name, via=via))
        return nodes[-1]

    yield begin
    for node in nodes:
        node.stop()


def facts(pid: int) -> dict[str, str]:
    """/proc/PID/status (proc(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def assert_plain(pid: int, capabilities: int) -> None:
    """Nothing of root's is left but these capabilities, in no thread, and none for what it starts."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        found = facts(int(thread))
        assert found["Uid"].split() == [str(UID)] * 4 and found["Gid"].split() == [str(GID)] * 4
        assert found["Groups"].split() == [str(GID)]
        assert int(found["CapEff"], 16) & ~capabilities == int(found["CapPrm"], 16) & ~capabilities == 0
        assert int(found["CapInh"], 16) == int(found["CapAmb"], 16) == 0
    found = facts(pid)
    assert int(found["CapEff"], 16) == capabilities and int(found["CapBnd"], 16) == BIND_ALONE
    assert found["NoNewPrivs"] == "1"
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert re.search(r"Max core file size +0 +0 ", limits)
    # Of a process that is not dumpable, root owns the files in /proc, whoever runs it (proc(5)).
    assert os.stat(f"/proc/{pid}/environ").st_uid == 0


def test_a_node_that_is_no_longer_root_goes_on_reloads_and_ends(directory: Path, start: Start) -> None:
    first, second = low_ports(2)
    (local,) = processes.free_ports(1)
    logs = directory / "logs"
    logs.mkdir()
    os.chown(logs, UID, GID)
    with processes.echo() as target:
        server_text = SERVER.format(listen=first, target=target, user=USER) + f"log_path={logs}\n"
        server = start("server.conf", server_text).ready()
        client = start(
            "client.conf", CLIENT.format(listen=local, server=f"{second},{first}", user=USER)
        ).ready()
        server.says("runs as user nobody from now on")
        for node in (server, client):
            assert_plain(node.process.pid, BIND_ALONE)
        log = logs / "server_output.log"
        assert (log.stat().st_uid, stat.S_IMODE(log.stat().st_mode)) == (UID, 0o640)
        # Each flow opens a socket of its own, as each hop does.
        for number in range(3):
            assert processes.exchange(local, b"flow %d" % number) == b"flow %d" % number
        # Another port below 1024, and the log file once more.
        (directory / "server.conf").write_text(server_text.replace(str(first), str(second)))
        server.signal(signal.SIGHUP)
        server.says("applied the configuration")
        assert processes.exchange(local, b"after the reload") == b"after the reload"
        # Not as another user, or as none.
        (directory / "server.conf").write_text(server_text.replace(f"user={USER}\n", ""))
        server.signal(signal.SIGHUP)
        server.says("user and group change only with a restart of the process")
        assert processes.exchange(local, b"as before") == b"as before"
        assert_plain(server.process.pid, BIND_ALONE)
        status = processes.call(directory / "state", "status")
        assert status.returncode == 0 and status.stdout.count("running, pid") == 2, "root still finds both"
    for node in (client, server):
        node.signal(signal.SIGTERM)
        assert node.wait() == 0, node.output
        assert "Traceback" not in node.output


def test_workers_keep_nothing_of_root_and_neither_do_their_successors(start: Start) -> None:
    (listen,) = low_ports(1)
    node = start("server.conf", SERVER.format(listen=listen, target=9, user=USER) + "workers=2\n").ready()

    def workers() -> list[int]:
        children = Path(f"/proc/{node.process.pid}/task/{node.process.pid}/children").read_text()
        return sorted(int(pid) for pid in children.split())

    old = workers()
    assert len(old) == 2
    assert_plain(node.process.pid, BIND_ALONE)
    for pid in old:
        assert_plain(pid, 0)
    os.kill(old[0], signal.SIGKILL)
    node.says("restarting it")
    processes.until(lambda: len(workers()) == 2 and old[0] not in workers(), "another worker")
    (fresh,) = set(workers()) - set(old)
    processes.until(
        lambda: int(facts(fresh)["CapEff"], 16) == 0, "its exec, which takes what is not inherited"
    )
    assert facts(fresh)["Uid"].split() == [str(UID)] * 4


def test_what_the_user_may_not_do_later_is_said_at_the_start(directory: Path, start: Start) -> None:
    logs = directory / "logs"
    logs.mkdir()
    (listen,) = processes.free_ports(1)
    node = start("server.conf", SERVER.format(listen=listen, target=9, user=USER) + f"log_path={logs}\n")
    (directory / "server.conf").chmod(0o600)
    node.ready()
    node.says(f"user nobody cannot write to {logs}: no file is rotated or replaced there")
    node.says("a reload will be refused")


def test_a_program_that_the_user_cannot_run_does_not_start(directory: Path) -> None:
    (listen,) = processes.free_ports(1)
    (directory / "server.conf").write_text(SERVER.format(listen=listen, target=9, user=USER))
    closed = directory / "closed"
    closed.mkdir(mode=0o700)
    shutil.copytree(processes.ROOT / "kcpg", closed / "kcpg")
    via = [*open_to_all(directory), "env", "--chdir", str(closed)]
    node = Node(directory / "state", directory / "server.conf", via=via, PYTHONPATH=str(closed))
    try:
        assert node.wait() == 1
        assert "user nobody cannot read" in node.output and "install it elsewhere" in node.output
    finally:
        node.stop()
