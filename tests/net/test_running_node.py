"""Nodes made of configurations, in this process: their reports, files, keys and ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import gevent
import gevent.socket
import pytest

from kcpg.app import metrics, reload, status_report
from kcpg.app.config import load_text
from kcpg.app.config.explain import read
from kcpg.app.run import RunningNode, derive_keys, make_env, start_error
from kcpg.core.env import Event, EventKind
from kcpg.errors import StartError
from kcpg.net import Notice, addr
from kcpg.net.clock import now_ms
from kcpg.net.resolve import Resolver
from kcpg.net.tunnelsockets import TunnelSockets
from tests.net import processes
from tests.net.test_process_chain import CLIENT, SERVER

FLOWS = 5  # Enough to tell one descriptor a flow from two


@pytest.fixture
def listen() -> int:
    """A free port for the client's applications."""
    return processes.free_ports(1)[0]


@pytest.fixture
def nodes(tmp_path: Path, listen: int) -> Iterator[list[RunningNode]]:
    """A client and a server that write files to `tmp_path`; their target echoes one packet's worth."""
    yield from running_nodes(tmp_path, listen, "text")


def running_nodes(tmp_path: Path, listen: int, form: str, more: str = "") -> Iterator[list[RunningNode]]:
    """`form`: of log lines; `more`: for their configurations."""
    (tunnel,) = processes.free_ports(1)
    target = gevent.socket.socket()
    target.bind(("127.0.0.1", 0))
    target.listen()
    serving = gevent.spawn(_echo, target)
    text = {
        "client.conf": CLIENT.format(listen=listen, ports=tunnel, password="secret", algorithm="none"),
        "server.conf": SERVER.format(
            listen=tunnel, target=target.getsockname()[1], password="secret", algorithm="none"
        ),
    }
    configs = []
    for name, lines in text.items():
        loaded = load_text(name, f"{lines}\nlog_path={tmp_path}\n{more}")
        assert loaded.ok, loaded.problems
        configs += loaded.nodes
    keys = derive_keys(configs)
    assert len(keys) == 1, "one password is derived once"
    running = [RunningNode(config, keys, form) for config in configs]
    for node in running:
        node.start()
    yield running
    for node in running:
        node.close("end of the test")
    serving.kill()
    target.close()


def _echo(listener: gevent.socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        connection.sendall(connection.recv(1000))
        connection.close()


def carry(port: int) -> None:
    with gevent.Timeout(processes.PATIENCE_S), gevent.socket.create_connection(("127.0.0.1", port)) as app:
        app.sendall(b"hello")
        assert app.recv(100) == b"hello"
        assert app.recv(100) == b""


def test_reports_say_what_was_carried(nodes: list[RunningNode], listen: int) -> None:
    carry(listen)
    client, server = (metrics.snapshot(node) for node in nodes)
    assert client["flows"]["opened"] == server["flows"]["opened"] == 1
    (link,) = client["egress"]["links"]
    assert link["state"] == "up" and link["counters"]["flows_opened"] == 1 and link["rx_bytes"] > 0
    assert len(b"hello") < link["payload_bytes"] < 100, "the flow's opening included"
    assert link["wire_per_payload"] == round(link["tx_bytes"] / link["payload_bytes"], 3) > 1
    assert server["ingress"]["link_count"] == 1
    page = "\n".join(status_report.node_lines(client))
    assert "1 since start" in page and link["peer"] in page


def test_a_link_without_congestion_control_believes_nothing(nodes: list[RunningNode], listen: int) -> None:
    carry(listen)
    (link,) = metrics.snapshot(nodes[0])["egress"]["links"]
    assert link["congestion"] is None and not any("path" in line for line in status_report.link_lines(link))


def test_a_flow_says_what_it_cost(nodes: list[RunningNode], listen: int) -> None:
    with gevent.Timeout(processes.PATIENCE_S), gevent.socket.create_connection(("127.0.0.1", listen)) as app:
        app.sendall(b"hello")
        app.recv(100)
        (flow,) = metrics.snapshot(nodes[0])["flow_list"]
        assert flow["payload_bytes"] > len(b"hello") and flow["segments_sent"] >= 1
        assert flow["segments_resent"] == 0


def test_files_in_log_path(nodes: list[RunningNode], listen: int, tmp_path: Path) -> None:
    carry(listen)
    for node in nodes:
        node.keep_house(0.0, summary=True)
        node.close("done")
    names = {"client_output.log", "server_output.log", "client.conf_status.log", "server.conf_status.log"}
    assert set(os.listdir(tmp_path)) == names
    said = (tmp_path / "client_output.log").read_text()
    assert "link up" in said and "flows carried 1" in said and "anyone can read" in said
    assert "Summary of client.conf" in (tmp_path / "client.conf_status.log").read_text()
    assert not any("secret" in (tmp_path / name).read_text() for name in names)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a file that is full")
def test_a_full_disk_keeps_no_node_from_being_reloaded(tmp_path: Path) -> None:
    full = os.stat("/dev/full")
    os.mknod(tmp_path / "server_output.log", full.st_mode, full.st_rdev)
    file = tmp_path / "server.conf"
    text = SERVER.format(listen=processes.free_ports(1)[0], target=9, password="secret", algorithm="none")
    file.write_text(f"{text}\nlog_path={tmp_path}\n")
    configs = read([file]).nodes
    node = RunningNode(configs[0], derive_keys(configs), "text")
    node.start()
    try:
        file.write_text(f"{text}\nlog_path={tmp_path}\nlog_level=debug\n")
        applied = reload.apply([file], [node], "text")
        (after,) = applied.nodes
        assert node.closed and not after.closed and after.config.log_level == "debug"
        after.close("done")
    finally:
        node.close("done")


def test_a_node_that_cannot_start_leaves_nothing_open(nodes: list[RunningNode], listen: int) -> None:
    twin = RunningNode(nodes[0].config, nodes[0].keys, "text")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StartError, match=f"TCP 127.0.0.1:{listen}.*in use"):
        twin.start()
    # One less: the file of its own log was open before.
    assert len(os.listdir("/proc/self/fd")) == before - 1
    assert twin.closed
    carry(listen)


def test_a_node_that_stops_accepting_says_so_to_applications(nodes: list[RunningNode], listen: int) -> None:
    carry(listen)
    nodes[0].stop_accepting(5.0)
    with pytest.raises(ConnectionRefusedError):
        gevent.socket.create_connection(("127.0.0.1", listen))


def test_closing_frees_every_port(nodes: list[RunningNode]) -> None:
    for node in nodes:
        node.close("first")
        node.close("twice is harmless")
    again = [RunningNode(node.config, node.keys, "text") for node in nodes]
    for node in again:
        node.start()
        node.close("done")


def test_a_flow_takes_one_descriptor_in_each_node(nodes: list[RunningNode], listen: int) -> None:
    """As docs/limits.md and packaging/kcpg@.service say."""
    with gevent.Timeout(processes.PATIENCE_S), ExitStack() as stack:
        carry(listen)  # so that the link, and all else that is opened once, is there
        while any(node.tcp_flows for node in nodes):
            gevent.sleep(0.01)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(FLOWS):
            app = stack.enter_context(gevent.socket.create_connection(("127.0.0.1", listen)))
            app.sendall(b"hello")
            assert app.recv(100) == b"hello" and app.recv(100) == b"", "the target has closed its socket"
        assert [node.tcp_flows for node in nodes] == [FLOWS] * len(nodes)
        of_the_nodes = len(os.listdir("/proc/self/fd")) - before - FLOWS
        assert of_the_nodes == len(nodes) * FLOWS


@pytest.mark.parametrize("text", [CLIENT, SERVER], ids=["client", "server"])
@pytest.mark.parametrize("host", ["192.0.2.77", "2001:db8::77"])
def test_an_address_that_is_not_there_yet_is_waited_for_and_told(
    text: str, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The node starts before the network does. 192.0.2.0/24 and 2001:db8::/32 are nobody's."""
    port = processes.free_ports(1)[0]
    lines = text.format(listen=port, ports=9, target=9, password="x", algorithm="AES-GCM")
    lines = lines.replace("listen_on=127.0.0.1\n", "") + f"listen_on={host}\n"
    configs = load_text("a.conf", lines).nodes
    node = RunningNode(configs[0], derive_keys(configs), "text")
    node.start()
    node.close("done")
    assert f"no interface of this machine has {host} now" in caplog.text


def test_what_keeps_a_port_from_being_had_comes_with_what_to_do() -> None:
    text = SERVER.format(listen=1, target=9, password="x", algorithm="AES-GCM")
    (config,) = load_text("s.conf", text).nodes
    for number, word in ((13, "setcap"), (98, "ss -tulpn"), (99, "ip addr"), (24, "ulimit -n")):
        found = start_error(config, OSError(number, "cannot listen on UDP *:1: for a reason"))
        assert "UDP *:1" in found.message and word in found.hint


def test_silence_after_nothing_could_be_sent_is_not_blamed_on_the_password() -> None:
    told: list[Event] = []
    ports = TunnelSockets(Resolver(), report=lambda _notice: None)
    env = make_env(ports, told.append)
    event = Event(EventKind.NO_ANSWER, "tunnel", b"", "no answer from a.example: is the password the same?")
    env.report(event)
    number = ports.open()
    ports.fault(number, 1, addr.pack("192.0.2.1", 9), now_ms())
    env.report(event)
    ports.close_all()
    waiting = TunnelSockets(Resolver(lambda *_: gevent.sleep(60) or []), report=lambda _notice: None)
    waiting.resolve("a.example", 1, lambda _answer: None)
    make_env(waiting, told.append).report(event)
    assert told[0] is event
    assert "nothing leaves this machine" in told[1].text
    assert "to 192.0.2.1:9 fails: Operation not permitted" in told[1].text
    assert "firewall" in told[1].text and "password" not in told[1].text
    assert "no name server has answered for a.example" in told[2].text and "password" not in told[2].text


def test_different_errors_of_sending_are_different_kinds() -> None:
    notices: list[Notice] = []
    ports = TunnelSockets(Resolver(), report=notices.append)
    number = ports.open()
    for error in (1, 12, 1):
        ports.fault(number, error, b"", now_ms())
    ports.close_all()
    assert [notice.key.rpartition("_")[2] for notice in notices] == ["EPERM", "ENOMEM", "EPERM"]
