"""The public address of a tunnel socket, found out among its datagrams."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from kcpg.core import stun
from kcpg.core.native.wire.events import STRANGER
from kcpg.net import Notice, addr
from kcpg.net.clock import now_ms
from kcpg.net.driver import make_io
from kcpg.net.resolve import Resolver
from kcpg.net.stun import StunClient, Timing
from kcpg.net.udp import UdpSocket, open_udp
from tests.engines import twin
from tests.net import processes
from tests.net.sockets import until
from tests.net.stunserver import StunServer, honest, respond, run_coturn
from tests.unit.test_stun import attribute, message
from tests.wires import taken

# The same proportions as the real ones, a hundred times as fast.
QUICK = Timing(
    first_wait_s=0.005, last_wait_s=0.08, keep_s=0.05, keep_spread_s=0.01, retry_s=0.02, most_retry_s=0.05
)
V4 = bytes((192, 0, 2, 7))


class Rig:
    """A tunnel socket that receives as in a node, and a StunClient on it."""

    def __init__(self, engine: str, host: str = "127.0.0.1", **options: bool) -> None:
        wire = twin(engine, "Wire")
        self.wire = wire(mask_rx=bytes(32), mask_tx=bytes(32), max_datagram=1500)
        self.io = make_io(self.wire)
        self.sock: UdpSocket = open_udp(host, 0, **options)
        self.io.add(1, self.sock)
        self.found: list[str] = []
        self.notices: list[Notice] = []
        self.client: StunClient | None = None
        self._job = gevent.spawn(self._receive)

    def ask(
        self, host: str, port: int, lookup: Callable[..., Any] | None = None, timing: Timing = QUICK
    ) -> StunClient:
        self.client = StunClient(
            host, port, self.sock, Resolver(lookup),
            found=lambda public: self.found.append(addr.text(public)), report=self.notices.append,
            timing=timing,
        )  # fmt: skip
        self.client.start()
        return self.client

    @property
    def source(self) -> tuple[str, int]:
        """Where its requests come from."""
        return "127.0.0.1", self.sock.port

    def _receive(self) -> None:
        while True:
            self.io.receive(1, now_ms())
            gevent.sleep(0.001)

    def close(self) -> None:
        if self.client is not None:
            self.client.stop()
        self._job.kill()
        self.sock.close()


@pytest.fixture
def rig(engine: str) -> Iterator[Rig]:
    made = Rig(engine)
    yield made
    made.close()


def own(rig: Rig) -> str:
    return f"127.0.0.1:{rig.sock.port}"


def test_the_address_is_found_once_and_the_server_asked_again(rig: Rig) -> None:
    with StunServer() as server:
        rig.ask(server.host, server.port)
        # A busy machine may repeat a request; what counts is the transactions.
        until(lambda: len(set(server.asked)) >= 4, "the way is kept open")
        assert rig.found == [own(rig)]
        assert set(server.sources) == {("127.0.0.1", rig.sock.port)}, "asked through the tunnel's own socket"
        assert rig.client is not None and [addr.text(a) for a in rig.client.public] == [own(rig)]
    assert not rig.wire.drops and not rig.wire.has_events, "the wire never saw an answer"


def test_each_change_is_told_once(rig: Rig) -> None:
    ports = iter((1, 1, 2, 2, 2, 1))
    told: dict[bytes, int] = {}

    def answers(transaction: bytes, _ip: bytes, _port: int) -> list[bytes]:
        if transaction not in told:
            told[transaction] = next(ports, 9)
        return [respond(transaction, V4, told[transaction])]

    with StunServer(answers=answers) as server:
        rig.ask(server.host, server.port)
        until(lambda: len(told) >= 8, "eight rounds")
        until(lambda: len(rig.found) >= 4, "four addresses")
    assert rig.found == ["192.0.2.7:1", "192.0.2.7:2", "192.0.2.7:1", "192.0.2.7:9"]


def test_lost_requests_are_repeated_as_they_are(rig: Rig) -> None:
    with StunServer() as server:
        server.answers = lambda t, ip, port: honest(t, ip, port) if len(server.asked) >= 4 else []
        rig.ask(server.host, server.port)
        until(lambda: rig.found, "the fourth request is answered")
        assert len(set(server.asked[:4])) == 1


def test_only_the_server_is_believed_and_only_while_asked(rig: Rig) -> None:
    """A neighbour that knows the transaction id, and a server that goes on talking, are strangers."""
    forged = 0
    with StunServer() as other, StunServer() as server:

        def answers(transaction: bytes, ip: bytes, port: int) -> list[bytes]:
            nonlocal forged
            forged += 1
            other.sock.sendto(respond(transaction, V4, 666), ("127.0.0.1", rig.sock.port))
            return [
                respond(bytes(12), V4, 667),
                respond(transaction, V4, 7),
                respond(transaction, V4, 668),
            ]

        server.answers = answers
        rig.ask(server.host, server.port, timing=Timing(keep_s=60))
        until(lambda: rig.found, "an answer")
        strangers: list[Any] = []
        until(lambda: strangers.extend(taken(rig.wire, STRANGER)) or len(strangers) == 3, "three strangers")
        assert rig.sock.stun is None
        assert rig.found == ["192.0.2.7:7"] and forged == 1


def test_what_is_not_taken_goes_to_the_wire(engine: str) -> None:
    """Whole, in its order, and counted as what it is there."""
    rig = Rig(engine)
    offered: list[bytes] = []

    def refuse(_source: bytes, datagram: bytes) -> bool:
        offered.append(datagram)
        return False

    rig.sock.stun = refuse
    like_stun = b"\x01\x01\x00\x00" + stun.COOKIE + bytes(range(40))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for datagram in (like_stun, like_stun[:24], b"\x00" * 48, b"\x00" * 3):
            peer.sendto(datagram, ("127.0.0.1", rig.sock.port))
    strangers: list[Any] = []
    until(lambda: strangers.extend(taken(rig.wire, STRANGER)) or len(strangers) == 2, "two strangers")
    until(lambda: rig.wire.drops.get("short") == 2, "two short ones")
    assert offered[:2] == [like_stun, like_stun[:24]]
    assert strangers[0][3] == like_stun[8:]
    rig.close()


def test_joined_datagrams_are_offered_one_by_one(engine: str) -> None:
    """What the kernel joins (GRO) or an attacker repeats: each is looked at, one is taken."""
    rig = Rig(engine)
    offered: list[bytes] = []

    def take(_source: bytes, datagram: bytes) -> bool:
        offered.append(datagram)
        return len(offered) == 1

    rig.sock.stun = take
    one = message(attribute(0x0020, bytes(8)))
    with open_udp_plain() as peer:
        peer.setsockopt(17, 103, len(one))  # UDP_SEGMENT: sent as one, and joined again on loopback
        peer.sendto(one * 3, ("127.0.0.1", rig.sock.port))
    until(lambda: len(offered) == 3, "three of them")
    assert offered == [one] * 3
    until(lambda: len(taken(rig.wire, STRANGER)) == 2, "the wire got the other two")
    rig.close()


def open_udp_plain() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def test_a_refusal_is_told_and_the_server_asked_again(rig: Rig) -> None:
    error = attribute(0x0009, b"\x00\x00\x05\x00")  # 28 bytes in all: less than any datagram of ours
    with StunServer() as server:
        server.answers = lambda t, ip, port: [message(error, kind=0x0111, transaction=t)]
        rig.ask(server.host, server.port)
        until(lambda: rig.notices, "a notice")
        assert f"127.0.0.1:{server.port} refuses: 500" in rig.notices[0].text
        server.answers = honest
        until(lambda: rig.found == [own(rig)], "it recovers")


def test_no_answer_is_told_and_the_name_looked_up_again(rig: Rig) -> None:
    with StunServer("127.0.0.2") as server, open_udp_plain() as silent:
        silent.bind(("127.0.0.3", server.port))
        hosts = ["127.0.0.3"]
        asked = []

        def lookup(host: str, *_: object) -> list[tuple[object, ...]]:
            asked.append(host)
            return [(socket.AF_INET, 1, 6, "", (hosts[0], 0))]

        rig.ask("stun.example", server.port, lookup)
        until(lambda: rig.notices, "a notice", 10)
        assert f"no answer from 127.0.0.3:{server.port}" in rig.notices[0].text
        hosts[0] = "127.0.0.2"
        until(lambda: rig.found, "the new address of the server is used", 10)
        assert len(asked) >= 2


def test_every_address_of_the_server_has_its_turn(rig: Rig) -> None:
    with StunServer("127.0.0.2") as server, open_udp_plain() as silent:
        silent.bind(("127.0.0.3", server.port))
        rows = [(socket.AF_INET, 1, 6, "", (host, 0)) for host in ("127.0.0.3", "127.0.0.2")]
        rig.ask("stun.example", server.port, lambda *_: rows)
        until(lambda: len(server.asked) >= 3, "the second address is used and kept", 10)
        assert len(rig.notices) == 1


def test_a_name_that_fails_is_told_and_asked_again(rig: Rig) -> None:
    good = False

    def lookup(*_: object) -> list[tuple[object, ...]]:
        if not good:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, 1, 6, "", ("127.0.0.1", 0))]

    with StunServer() as server:
        rig.ask("stun.example", server.port, lookup)
        until(lambda: rig.notices, "a notice")
        assert "stun.example" in rig.notices[0].text and "not known" in rig.notices[0].text
        good = True
        until(lambda: rig.found, "it recovers")


@pytest.fixture
def ipv6() -> None:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")


@pytest.mark.usefixtures("ipv6")
def test_both_families_of_one_socket(engine: str) -> None:
    rig = Rig(engine, "")
    rows = [(socket.AF_INET, 1, 6, "", ("127.0.0.1", 0)), (socket.AF_INET6, 1, 6, "", ("::1", 0, 0, 0))]

    def lookup(_host: str, _port: object, family: int, *_: object) -> list[tuple[object, ...]]:
        return [row for row in rows if row[0] == family]

    with StunServer() as four, StunServer("::1", port=four.port):
        rig.ask("stun.example", four.port, lookup)
        until(lambda: len(rig.found) == 2, "both")
        assert set(rig.found) == {f"127.0.0.1:{rig.sock.port}", f"[::1]:{rig.sock.port}"}
    rig.close()


@pytest.mark.usefixtures("ipv6")
def test_a_server_of_a_family_that_the_socket_lacks(rig: Rig) -> None:
    rig.ask("::1", 3478)
    assert "family" in rig.notices[0].text


def test_after_stop_nothing_is_asked_or_taken(rig: Rig, engine: str) -> None:
    with StunServer(answers=lambda *_: []) as server:
        client = rig.ask(server.host, server.port)
        until(lambda: server.asked and rig.sock.stun is not None, "a request")
        client.stop()
        client.stop()
        assert rig.sock.stun is None
        with open_udp_plain() as barrier:
            barrier.sendto(stun.request(b"before------"), (server.host, server.port))
            until(lambda: b"before------" in server.asked, "everything sent until now has arrived")
        asked = len(server.asked)
        # Another one starts now and repeats its request: the one that was stopped would have done so before.
        other = Rig(engine)
        other.ask(server.host, server.port)
        until(lambda: server.sources.count(other.source) >= 3, "another asked again")
        other.close()
        assert rig.source not in server.sources[asked:]


# -- a server that others wrote


HOSTS = ("127.0.0.1", *(("::1",) if os.path.exists("/proc/net/if_inet6") else ()))


@pytest.fixture
def coturn(tmp_path: Path) -> Iterator[int]:
    """The port of Debian's coturn on 127.0.0.1 and ::1."""
    (port,) = processes.free_ports(1)
    with open_udp_plain() as probe, run_coturn(tmp_path, HOSTS, port, probe):
        yield port


def test_coturn_tells_the_address(engine: str, coturn: int) -> None:
    for host in HOSTS:
        rig = Rig(engine, host)
        rig.ask(host, coturn)
        until(lambda rig=rig: rig.found, "an answer of coturn")
        want = addr.text(addr.pack(host, rig.sock.port))
        assert rig.found == [want]
        rig.close()
