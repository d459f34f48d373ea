"""A new public address: the file, the program, the log; and nodes that use what STUN and DNS say."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import gevent
import gevent.socket
import pytest

from kcpg.app import legsettings, metrics, public, status_report
from kcpg.app.config import load_text
from kcpg.app.logs import NodeLog
from kcpg.app.public import Program, PublicAddress
from kcpg.app.run import RunningNode, derive_keys
from kcpg.app.trial import try_all
from kcpg.errors import EXIT_FAILURE, EXIT_OK
from kcpg.net import addr, dnstxt
from tests.net import processes
from tests.net.dnsserver import DnsServer
from tests.net.sockets import Server, fds, until
from tests.net.sockets import echo as echo_handler
from tests.net.stunserver import StunServer

V4 = addr.pack("192.0.2.7", 3000)
V6 = addr.pack("2001:db8::7", 3001)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def script(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def recorder(directory: Path, name: str = "update") -> tuple[str, Path]:
    """A program that appends its arguments to a file, and the file."""
    out = directory / f"{name}.out"
    return script(directory / name, f'echo "$#" "$@" >> {out}'), out


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_the_program_of_each_family_gets_its_address(said: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    gevent.sleep(0)  # the event loop opens descriptors of its own
    before = fds()
    four, six = recorder(tmp_path, "four"), recorder(tmp_path, "six")
    programs = {addr.AF_INET: Program("update_ipv4", four[0]), addr.AF_INET6: Program("update_ipv6", six[0])}
    own = PublicAddress(NodeLog("n"), None, programs)
    for change in (V4, V6, addr.with_port(V4, 3002)):
        own.changed(change)
    until(lambda: said.text.count("exited with code 0") == 3, "three runs")
    assert lines(four[1]) == ["1 192.0.2.7:3000", "1 192.0.2.7:3002"]
    assert lines(six[1]) == ["1 [2001:db8::7]:3001"]
    assert not os.path.exists(tmp_path / "ip_address.txt")
    assert fds() == before


def test_the_file_is_always_whole(tmp_path: Path) -> None:
    own = PublicAddress(NodeLog("n"), tmp_path, {})
    own.changed(V6)
    own.changed(V4)
    assert lines(tmp_path / "ip_address.txt")[1:] == [
        "External IPv4 Address: 192.0.2.7",
        "External IPv4 Port: 3000",
        "External IPv6 Address: 2001:db8::7",
        "External IPv6 Port: 3001",
    ]
    assert lines(tmp_path / "ip_address.txt")[0].startswith("Update Time: 20")
    assert os.listdir(tmp_path) == ["ip_address.txt"]


def test_a_file_that_cannot_be_written_is_said(said: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    (tmp_path / "ip_address.txt").mkdir()
    PublicAddress(NodeLog("n"), tmp_path, {}).changed(V4)
    assert "cannot write" in said.text


@pytest.mark.parametrize(
    ("body", "words"), [("exit 3", "exited with code 3"), ("kill -9 $$", "was ended by signal 9")]
)
def test_how_it_ended_is_said(said: pytest.LogCaptureFixture, tmp_path: Path, body: str, words: str) -> None:
    program = Program("update_ipv4", script(tmp_path / "p", body))
    PublicAddress(NodeLog("n"), None, {addr.AF_INET: program}).changed(V4)
    until(lambda: words in said.text, "a line about it")
    assert f"update_ipv4 {program.path} 192.0.2.7:3000: {words}" in said.text


def test_no_zombie_stays(said: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    program = Program("update_ipv4", script(tmp_path / "p", f"echo $$ > {tmp_path}/pid"))
    PublicAddress(NodeLog("n"), None, {addr.AF_INET: program}).changed(V4)
    until(lambda: "exited with code 0" in said.text, "it ends")
    assert not os.path.exists(f"/proc/{(tmp_path / 'pid').read_text().strip()}")


def test_what_cannot_be_run_is_said(said: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    own = PublicAddress(NodeLog("n"), None, {addr.AF_INET: Program("update_ipv4", str(tmp_path / "none"))})
    own.changed(V4)
    until(lambda: "cannot run " in said.text, "a line about it")


def test_what_hangs_is_ended_with_its_children(
    said: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(public, "PROGRAM_LIMIT_S", 0.3)
    monkeypatch.setattr(public, "KILL_AFTER_S", 0.2)
    pids = tmp_path / "pids"
    body = f"trap '' TERM\nsleep 600 &\necho $$ $! > {pids}.new; mv {pids}.new {pids}\nwait; wait; sleep 600"
    own = PublicAddress(
        NodeLog("n"), None, {addr.AF_INET: Program("update_ipv4", script(tmp_path / "p", body))}
    )
    own.changed(V4)
    until(lambda: "did not exit within" in said.text, "it is given up")
    for pid in pids.read_text().split():
        until(lambda pid=pid: not _runs(pid), f"process {pid} is gone")


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] not in "ZX"
    except FileNotFoundError:
        return False


def test_changes_that_wait_are_bounded_and_closing_forgets_them(tmp_path: Path) -> None:
    program, out = recorder(tmp_path)
    own = PublicAddress(NodeLog("n"), None, {addr.AF_INET: Program("update_ipv4", program)})
    for port in range(1, 100):
        own.changed(addr.with_port(V4, port))
    assert len(own._changes) == public.MAX_CHANGES and own._changes[-1] == addr.with_port(V4, 99)
    own.close()
    until(lambda: own._job is None, "nothing is left to do")
    assert lines(out) == []


# -- nodes


SERVER = """
mode=server
listen_port={listen}
destination_port={target}
destination_address=127.0.0.1
encryption_password=secret
encryption_algorithm=AES-GCM
"""
RELAY = """
mode=relay
[listener]
listen_port={listen}
encryption_password=secret
encryption_algorithm=AES-GCM
[forwarder]
destination_dnstxt=tunnel.example
encryption_password=secret
encryption_algorithm=AES-GCM
"""
CLIENT = """
mode=client
listen_on=127.0.0.1
listen_port={listen}
destination_dnstxt=tunnel.example
encryption_password=secret
encryption_algorithm=AES-GCM
"""


@pytest.mark.parametrize(
    ("server", "place"),
    [
        ("stun.example", ("stun.example", 3478)), ("stun.example:5", ("stun.example", 5)),
        ("192.0.2.1", ("192.0.2.1", 3478)), ("192.0.2.1:5", ("192.0.2.1", 5)), ("::1", ("::1", 3478)),
        ("[::1]", ("::1", 3478)), ("[::1]:5", ("::1", 5)),
    ],
)  # fmt: skip
def test_where_the_stun_server_is(server: str, place: tuple[str, int]) -> None:
    loaded = load_text("s.conf", SERVER.format(listen=1, target=2) + f"stun_server={server}\n")
    assert legsettings.stun_server(loaded.nodes[0].ingress) == place


class Nodes:
    """Nodes in this process, made of texts."""

    def __init__(self) -> None:
        self.running: list[RunningNode] = []

    def start(self, text: str) -> RunningNode:
        loaded = load_text("n.conf", text)
        assert loaded.ok, loaded.problems
        node = RunningNode(loaded.nodes[0], derive_keys(loaded.nodes), "text")
        node.start()
        self.running.append(node)
        return node


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    made = Nodes()
    yield made
    for node in made.running:
        node.close("end of the test")


def carry(port: int) -> bytes:
    with gevent.Timeout(processes.PATIENCE_S), gevent.socket.create_connection(("127.0.0.1", port)) as app:
        app.sendall(b"hello")
        return bytes(app.recv(100))


def test_a_server_asks_through_its_tunnel_socket_while_it_serves(
    nodes: Nodes, said: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, out = recorder(tmp_path, "update")
    listen, local = processes.free_ports(2)
    with Server(echo_handler) as target, StunServer() as stun, DnsServer(
        tunnel_example=[("TXT", f'"127.0.0.1:{listen}"')]
    ) as names:  # fmt: skip
        monkeypatch.setattr(dnstxt, "system_servers", lambda: [names.place])
        server = nodes.start(
            SERVER.format(listen=listen, target=target.target.port)
            + f"stun_server=127.0.0.1:{stun.port}\nlog_path={tmp_path}\nupdate_ipv4={program}\n"
        )
        nodes.start(CLIENT.format(listen=local))
        assert carry(local) == b"hello"
        until(lambda: "exited with code 0" in said.text, "the program ran")
        assert lines(out) == [f"1 127.0.0.1:{listen}"]
        assert f"External IPv4 Port: {listen}" in lines(tmp_path / "ip_address.txt")
        assert f"TXT record of tunnel.example: 127.0.0.1:{listen}" in said.text
        page = "\n".join(status_report.node_lines(metrics.snapshot(server)))
        assert f"public address 127.0.0.1:{listen} (STUN)" in page
        ingress = server.node.ingress
        assert not ingress.wire.drops and not ingress.counters.strangers


def test_a_relay_does_both_and_the_record_may_move(
    nodes: Nodes, said: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is missing at first, then malformed, then right, then moves while the server does."""
    first, second, middle, local = processes.free_ports(4)
    with Server(echo_handler) as target, StunServer() as stun, DnsServer() as names:
        monkeypatch.setattr(dnstxt, "system_servers", lambda: [names.place])
        relay = nodes.start(
            RELAY.format(listen=middle).replace(
                "[forwarder]", f"stun_server=127.0.0.1:{stun.port}\n[forwarder]"
            )
        )
        text = CLIENT.format(listen=local).replace(
            "destination_dnstxt=tunnel.example", f"destination_address=127.0.0.1\ndestination_port={middle}"
        )
        nodes.start(text)
        until(lambda: "no such name" in said.text, "the reason is said, and the node runs")
        until(lambda: relay.public_addresses, "STUN does not depend on it")
        names.zone["tunnel.example."] = [("TXT", '"nonsense"')]
        server = nodes.start(SERVER.format(listen=first, target=target.target.port))
        names.zone["tunnel.example."] = [("TXT", f'"127.0.0.1:{first}"')]
        assert carry(local) == b"hello"
        server.close("moves away")
        nodes.start(SERVER.format(listen=second, target=target.target.port))
        names.zone["tunnel.example."] = [("TXT", f'"127.0.0.1:{second}"')]
        monkeypatch.setattr("kcpg.net.txtpeer.NAME_MAX_AGE_MS", 0)
        until(
            lambda: f"TXT record of tunnel.example: 127.0.0.1:{second}" in said.text, "the move is seen", 20
        )
        assert carry(local) == b"hello"


def test_trying_what_a_record_says(monkeypatch: pytest.MonkeyPatch, nodes: Nodes) -> None:
    listen, local = processes.free_ports(2)
    (config,) = load_text("c.conf", CLIENT.format(listen=local)).nodes
    with DnsServer() as names:
        monkeypatch.setattr(dnstxt, "system_servers", lambda: [names.place])
        lines: list[str] = []
        assert try_all([config], lines.append) == EXIT_FAILURE
        assert "no such name" in lines[-1]
        names.zone["tunnel.example."] = [("TXT", "nonsense")]
        assert try_all([config], lines.append) == EXIT_FAILURE
        assert "holds no IPv4:port" in lines[-1]
        names.zone["tunnel.example."] = [("TXT", f'"127.0.0.1:{listen}"')]
        nodes.start(SERVER.format(listen=listen, target=9))
        assert try_all([config], lines.append) == EXIT_OK
        assert f"127.0.0.1:{listen}: ok" in lines[-2]


def test_a_process_of_its_own(tmp_path: Path) -> None:
    """The command line makes the standard library cooperative: programs must run and end there as well."""
    program, out = recorder(tmp_path, "update")
    (listen,) = processes.free_ports(1)
    config = tmp_path / "server.conf"
    with StunServer() as stun:
        config.write_text(
            SERVER.format(listen=listen, target=9)
            + f"stun_server=127.0.0.1:{stun.port}\nlog_path={tmp_path}\nupdate_ipv4={program}\n"
        )
        node = processes.Node(tmp_path / "state", config)
        try:
            until(lambda: any("exited with code 0" in line for line in node.lines), node.output, 20)
            assert lines(out) == [f"1 127.0.0.1:{listen}"]
            assert f"External IPv4 Port: {listen}" in lines(tmp_path / "ip_address.txt")
        finally:
            node.stop()
