"""Real processes on loopback: several paths, and mappings of UDP, ranges, IPv6 and names through a relay."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.net import processes
from tests.net.test_process_chain import CLIENT, RELAY, SERVER, Start, start, write

__all__ = ["start"]

MAPPING_CLIENT = """
mode=client
listen_port={{}}
destination_port={ports}
destination_address=127.0.0.1
encryption_password=qwerty1234
encryption_algorithm=AES-GCM
[custom_input_udp]
127.0.0.1:{first}-{last} -> 127.0.0.1:{target}-{target_last}
[::1]:{six} -> [::1]:{target_six}
[custom_input]
127.0.0.1:{named} -> localhost:{target_name}
127.0.0.1:{bad} -> 127.0.0.1:{forbidden}
"""
MAPPING_SERVER = """
mode=server
listen_port={listen}
destination_port={{}}
encryption_password=qwerty1234
encryption_algorithm=AES-OCB
{allow}
"""


def links(state: Path, role: str) -> list[dict[str, Any]]:
    """The tunnel links by which a node of this role dials, as `kcpg status --json` has them."""
    reports = json.loads(processes.call(state, "status", "--json").stdout)
    found = _nodes(reports)
    return [link for node in found if node["role"] == role for link in node["egress"].get("links", [])]


def _nodes(report: Any) -> list[dict[str, Any]]:
    """Every node, however deep it stands."""
    if isinstance(report, dict):
        if "role" in report and "egress" in report:
            return [report]
        report = list(report.values())
    return [node for each in report for node in _nodes(each)] if isinstance(report, list) else []


@pytest.mark.parametrize(("paths", "flows"), [(0, 12), (3, 9)])
def test_flows_leave_by_ports_of_their_own(tmp_path: Path, start: Start, paths: int, flows: int) -> None:
    """Through a relay whose forwarder does the same; and the ports are given back."""
    listen, middle, last = processes.free_ports(3)
    key = f"\nmux_tunnels={paths}\n"
    with processes.echo() as target:
        start(write(tmp_path, "s.conf", SERVER, listen=last, target=target, algorithm="AES-OCB")).ready()
        start(write(tmp_path, "r.conf", RELAY + key, listen=middle, ports=last)).ready()
        start(write(tmp_path, "c.conf", CLIENT + key, listen=listen, ports=middle)).ready()
        state, used = tmp_path / "state", paths or flows
        with contextlib.ExitStack() as open:
            for number in range(flows):
                sock = open.enter_context(socket.create_connection(("127.0.0.1", listen), 10))
                sock.sendall(b"%03d" % number)
                assert sock.recv(3) == b"%03d" % number
            for role in ("client", "relay"):
                busy = [link for link in links(state, role) if link["flows"]]
                assert sum(link["flows"] for link in busy) == flows
                assert len({link["local_port"] for link in busy}) == used
        processes.until(lambda: not any(link["flows"] for link in links(state, "client")), "all flows end")
        assert processes.ask_packet(listen, b"a packet") == b"a packet"


class Packets:
    """UDP targets that say which one they are."""

    def __init__(self, host: str, ports: list[int]) -> None:
        self.socks = []
        for port in ports:
            sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((host, port))
            self.socks.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                packet, source = sock.recvfrom(2048)
                sock.sendto(b"%d %s" % (sock.getsockname()[1], packet), source)


@contextlib.contextmanager
def packets(host: str, ports: list[int]) -> Iterator[None]:
    """Such targets for a while."""
    served = Packets(host, ports)
    try:
        yield
    finally:
        for sock in served.socks:
            sock.close()


def row(count: int) -> int:
    """The first of so many free UDP ports in a row."""
    while True:
        ports = processes.free_ports(count)
        if ports[-1] - ports[0] == count - 1:
            return ports[0]


def ask(host: str, port: int, packet: bytes) -> bytes:
    """As processes.ask_packet, to any host."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1.0)
        for _ in range(int(processes.PATIENCE_S)):
            sock.sendto(packet, (host, port))
            with contextlib.suppress(TimeoutError):
                return sock.recv(2048)
    raise AssertionError("no answer to a packet")


@pytest.mark.parametrize("limited", [True, False])
def test_mappings_of_packets_through_a_relay(tmp_path: Path, start: Start, limited: bool) -> None:
    """A range to a range, IPv6 in brackets, a name; and what the server does not allow."""
    middle, last, six, named, bad, target_six = processes.free_ports(6)
    first, target = row(3), row(3)
    allow = f"allow_targets=127.0.0.0/8:{target}-{target + 2},[::1]:{target_six},localhost:1-65535"
    with (
        processes.echo() as target_name,
        processes.echo() as forbidden,
        packets("127.0.0.1", list(range(target, target + 3))),
        packets("::1", [target_six]),
    ):
        server = write(tmp_path, "s.conf", MAPPING_SERVER, listen=last, allow=allow if limited else "")
        relay = write(tmp_path, "r.conf", RELAY, listen=middle, ports=last)
        places = {"first": first, "last": first + 2, "target": target, "target_last": target + 2}
        client = write(
            tmp_path, "c.conf", MAPPING_CLIENT, ports=middle, six=six, target_six=target_six, named=named,
            target_name=target_name, bad=bad, forbidden=forbidden, **places,
        )  # fmt: skip
        last_node = start(server).ready()
        start(relay).ready()
        start(client).ready()
        for number in range(3):
            assert ask("127.0.0.1", first + number, b"x") == b"%d x" % (target + number)
        assert ask("::1", six, b"x") == b"%d x" % target_six
        assert processes.ask_packet(named, b"by name") == b"by name"
        assert processes.exchange(named, b"by name, too") == b"by name, too"
        warnings = [line for line in last_node.lines if "may connect to anything" in line]
        assert len(warnings) == (0 if limited else 1)
        if limited:
            with contextlib.suppress(ConnectionError):
                assert processes.exchange(bad, b"x") == b""
            last_node.says("is not among the allowed targets")
        else:
            assert processes.exchange(bad, b"x") == b"x"
