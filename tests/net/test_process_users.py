"""Users of a relay that is a user of the server: real processes, made with `kcpg keygen` and `kcpg user`."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.net import processes
from tests.net.processes import Node
from tests.net.test_process_chain import Start, pattern, start

__all__ = ["start"]  # the fixture

SERVER = """mode=server
listen_on=127.0.0.1
listen_port={port}
destination_address=127.0.0.1
destination_port={target}
private_key_file=server.key
users=users.server
"""

RELAY = """mode=relay
{more}
[listener]
listen_on=127.0.0.1
listen_port={port}
private_key_file=relay.key
users=users.relay
[forwarder]
destination_address=127.0.0.1
destination_port={ahead}
server_key={server_key}
private_key_file=forwarder.key
"""


class Tunnel:
    """A server with one user, the relay, and the relay with three."""

    def __init__(self, directory: Path, start: Start, target: int, more: str = "") -> None:
        self.directory, self.start, self.state = directory, start, directory / "state"
        last, middle, *self.locals = processes.free_ports(5)
        self.server, self.relay = directory / "server.conf", directory / "relay.conf"
        server_key = self.pair("server")
        self.pair("relay")
        self.server.write_text(SERVER.format(port=last, target=target))
        forwarder = self.pair("forwarder")
        self.user("add", "relay", f"public_key={forwarder}", "--config", self.server)
        self.relay.write_text(RELAY.format(port=middle, ahead=last, server_key=server_key, more=more))
        self.texts = {name: self.added(name, port) for name, port in zip("abc", self.locals, strict=True)}
        self.nodes = {"server": start(self.server), "relay": start(self.relay)}
        for node in self.nodes.values():
            node.ready()

    def pair(self, name: str) -> str:
        """A key pair in a file; the public key."""
        done = processes.call(self.state, "keygen", "--pair", self.directory / f"{name}.key")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def user(self, *words: object) -> str:
        """`kcpg user …`, which must succeed; what it says."""
        done = processes.call(self.state, "user", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def added(self, name: str, port: int) -> str:
        words = ("add", name, "--server", "127.0.0.1", "--listen", port, "--config", self.relay)
        return self.file_in(self.user(*words))

    def used(self) -> dict[str, int]:
        """Bytes of each of the relay's users, by `kcpg user usage`."""
        rows = json.loads(self.user("usage", "--json", "--config", self.relay))
        return {row["user"]: row["rx_bytes"] + row["tx_bytes"] for row in rows}

    def file_in(self, said: str) -> str:
        """The user's file that `kcpg user` printed."""
        return said[said.index("# For the machine") : said.index("\n\n# The same in one line")]

    def client(self, name: str, text: str = "") -> Node:
        """Start a user's client."""
        file = self.directory / f"{name}{len(self.nodes)}.conf"
        file.write_text(text or self.texts[name])
        node = self.nodes[file.name] = self.start(file).ready()
        return node


@pytest.fixture
def target() -> Iterator[int]:
    with processes.echo() as port:
        yield port


def pour(port: int) -> tuple[socket.socket, threading.Event]:
    """A connection that sends and receives until it ends; the event is set then."""
    app, over = socket.create_connection(("127.0.0.1", port), processes.PATIENCE_S), threading.Event()

    def run() -> None:
        try:
            while True:
                app.sendall(b"x" * 20_000)
                if not app.recv(65_536):
                    break
        except OSError:
            pass
        over.set()

    threading.Thread(target=run, daemon=True).start()
    return app, over


@pytest.mark.parametrize("more", ["", "workers=2"])
def test_three_users_through_a_relay(tmp_path: Path, start: Start, target: int, more: str) -> None:
    tunnel = Tunnel(tmp_path, start, target, more)
    first, second, third = (tunnel.client(name) for name in "abc")
    for port in tunnel.locals:
        assert processes.exchange(port, pattern(200_000)) == pattern(200_000)
    for name in "abc":
        tunnel.nodes["relay"].says(f"link up of user {name}")
    tunnel.nodes["server"].says("link up of user relay")
    processes.until(lambda: min(tunnel.used().values()) > 400_000, "the account of all three")

    # One is removed under load: his connection ends, his log says why; the others notice nothing.
    (ended, over), (_, goes_on) = pour(tunnel.locals[1]), pour(tunnel.locals[0])
    said = tunnel.user("remove", "b", "--config", tunnel.relay)
    assert "reread the configuration: removed: b" in said
    assert "user b was removed here" in second.says("the peer closed the link")
    assert over.wait(processes.PATIENCE_S)
    ended.close()
    assert "does it know this user" in second.says("no answer from")
    assert not goes_on.is_set()
    assert processes.exchange(tunnel.locals[2], pattern(200_000)) == pattern(200_000)

    # One gets another key: what he had is good for nothing, his new file is.
    text = tunnel.file_in(tunnel.user("rotate", "c", "--listen", tunnel.locals[2], "--config", tunnel.relay))
    assert "user c has another key now" in third.says("the peer closed the link")
    third.stop()
    tunnel.client("c", text)
    assert processes.exchange(tunnel.locals[2], pattern(200_000)) == pattern(200_000)

    # The removed one comes back with another key, without a restart of anything else.
    second.stop()
    tunnel.client("b", tunnel.added("b", tunnel.locals[1]))
    assert processes.exchange(tunnel.locals[1], pattern(200_000)) == pattern(200_000)
    assert not goes_on.is_set() and "closed the link" not in first.output
    for node in tunnel.nodes.values():
        assert "Traceback" not in node.output, node.output


def test_a_file_of_users_with_a_mistake_changes_nothing(tmp_path: Path, start: Start, target: int) -> None:
    tunnel = Tunnel(tmp_path, start, target)
    tunnel.client("a")
    assert processes.exchange(tunnel.locals[0], pattern(1000)) == pattern(1000)
    file = tmp_path / "users.relay"
    file.write_text(file.read_text() + "[d]\npublic_key=oops\n")
    done = processes.call(tunnel.state, "daemon", "reload", tunnel.relay)
    assert done.returncode == 1 and "kept the old configuration" in done.stderr
    assert processes.exchange(tunnel.locals[0], pattern(1000)) == pattern(1000)


def test_the_invitation_makes_the_same_client(tmp_path: Path, start: Start, target: int) -> None:
    tunnel = Tunnel(tmp_path, start, target)
    said = tunnel.user("rotate", "a", "--listen", tunnel.locals[0], "--config", tunnel.relay)
    line = said[said.index("kcpg://") : said.index("'\n", said.index("kcpg://"))]
    done = processes.call(tunnel.state, "init", line, "--directory", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a" / "client.conf").read_text().strip() == tunnel.file_in(said).strip()
    trial = processes.call(tunnel.state, "--try", tmp_path / "a" / "client.conf")
    assert trial.returncode == 0 and "ok, handshake" in trial.stdout, trial.stdout + trial.stderr
