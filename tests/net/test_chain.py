"""Client, relays and server in one process, joined by real UDP sockets on loopback, with both engines."""

import os
import random
import socket

import gevent
import gevent.event
import pytest

from kcpg.core.env import Env
from kcpg.core.flow import Target
from kcpg.core.native.dial.dialer import DialSettings, TunnelDialer
from kcpg.core.native.dial.pathchoice import Destination
from kcpg.core.native.handshake.keys import RootKeys
from kcpg.core.native.handshake.params import LinkParams
from kcpg.core.native.listener import ListenSettings, TunnelListener
from kcpg.core.node import Node, NodeSettings
from kcpg.net import clock
from kcpg.net.driver import Driver
from kcpg.net.local import Bind, LocalDialer, LocalDialSettings, LocalListener, LocalListenSettings
from kcpg.net.resolve import Resolver
from kcpg.net.tunnelsockets import TunnelSockets
from tests.engines import twin
from tests.net.sockets import (
    Server,
    UdpEcho,
    abort,
    assert_reset,
    echo,
    fds,
    greenlets,
    quiet,
    read_all,
    udp_client,
    until,
)

CIPHERS = ["AES-GCM", "AES-OCB", "chacha20", "none"]
SETTINGS = NodeSettings(udp_timeout_ms=60_000)


@pytest.fixture
def wire(engine):
    """The data plane under test; the socket functions of its engine go with it."""
    return twin(engine, "Wire")


class LoopbackChain:
    """`relays` relays between a client and a server whose target is `target`; every hop has its own key and
    cipher."""

    def __init__(
        self,
        wire,
        target,
        relays=1,
        host="127.0.0.1",
        delivery="unordered",
        bits_per_s=0,
        doors=1,
        hop_every_ms=0,
    ):
        self.wire, self.target, self.host, self.delivery, self.bits_per_s = (
            wire,
            target,
            host,
            delivery,
            bits_per_s,
        )
        self.relays, self.doors, self.hop_every_ms = relays, doors, hop_every_ms
        self.dialling = []
        self.reports = []
        self.resolver = Resolver()
        self.drivers = []
        self.nodes = []

    def __enter__(self):
        egress = LocalDialer(LocalDialSettings(self.target), self.resolver, self.reports.append)
        ports = {}
        for hop in range(self.relays + 1):
            keys = RootKeys.from_key(os.urandom(32))
            params = LinkParams(
                algorithm=CIPHERS[hop % len(CIPHERS)], udp_delivery=self.delivery,
                outbound_bps=self.bits_per_s, inbound_bps=self.bits_per_s,
            )  # fmt: skip
            here = TunnelSockets(self.resolver, report=self.reports.append)
            listener = TunnelListener(
                ListenSettings(f"listen{hop}", params), keys, self._env(here), self.wire
            )
            numbers = [here.listen(self.host, 0) for _ in range(self.doors)]
            self._run(Node(listener, egress, SETTINGS), {listener: here, **ports})
            there = TunnelSockets(self.resolver, report=self.reports.append)
            destination = Destination(self.host, tuple(here.get(number).port for number in numbers))
            settings = DialSettings(f"dial{hop}", (destination,), params, hop_every_ms=self.hop_every_ms)
            egress = TunnelDialer(settings, keys, self._env(there), self.wire)
            ports = {egress: there}
            self.dialling.append((egress, there))
        self.listener = LocalListener(LocalListenSettings((Bind(self.host, 0),)), self.reports.append)
        self._run(Node(self.listener, egress, SETTINGS), ports)
        self.tcp = self.listener.tcp_ports[0].sock.getsockname()
        self.udp = self.listener.udp_ports[0].sock.getsockname()
        return self

    def _env(self, ports):
        return Env(
            entropy=os.urandom, rng=random.Random(1), wall_s=clock.wall_s, open_socket=ports.open,
            close_socket=ports.close, report=self.reports.append, resolve=ports.resolve,
        )  # fmt: skip

    def _run(self, node, ports):
        driver = Driver(node, ports, self.reports.append)
        driver.start()
        self.nodes.append(node)
        self.drivers.append(driver)

    def __exit__(self, *_):
        for driver in reversed(self.drivers):
            driver.stop()
        assert not [r for r in self.reports if getattr(r, "key", "") == "internal_error"], self.reports

    @property
    def flows(self):
        return [node.flows for node in self.nodes]

    def dial(self):
        family = socket.AF_INET6 if ":" in self.tcp[0] else socket.AF_INET
        sock = gevent.socket.socket(family, socket.SOCK_STREAM)
        sock.settimeout(10)
        sock.connect(self.tcp)
        return sock


@pytest.mark.parametrize("relays", [0, 1, 3])
def test_bytes_both_ways_and_half_close(wire, relays):
    data = os.urandom(2_000_000)
    with Server(echo) as server, LoopbackChain(wire, server.target, relays) as chain:
        with chain.dial() as sock:
            sender = gevent.spawn(lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
            assert read_all(sock) == data
            sender.get()
        until(lambda: not any(chain.flows), "all flows are over")
        assert [node.counters.finished for node in chain.nodes] == [1] * (relays + 2)


def test_ipv6(wire):
    with (
        Server(echo, "::1") as server,
        LoopbackChain(wire, server.target, host="::1") as chain,
        chain.dial() as sock,
    ):
        sock.sendall(b"six")
        assert sock.recv(3) == b"six"


def test_source_and_destination_ports_change_under_a_flow(wire):
    """Hops through a relay with real sockets: every byte arrives, and old sockets are closed."""
    piece = os.urandom(100_000)
    with Server(echo) as server, LoopbackChain(wire, server.target, 1, doors=3, hop_every_ms=150) as chain:
        used = [set() for _ in chain.dialling]

        def look():
            if any(leg.link is None for leg, _ in chain.dialling):
                return False
            for paths, (leg, ports) in zip(used, chain.dialling, strict=True):
                sock, addr = leg.link.link_wire.path
                paths.add((ports.get(sock).port, addr))
            return all(
                len(paths) >= 4 and len({addr for _, addr in paths}) >= 2 and leg.link.counters.hops >= 4
                for paths, (leg, _) in zip(used, chain.dialling, strict=True)
            )

        with chain.dial() as sock:
            done = gevent.event.Event()

            def send():
                while not done.is_set():
                    sock.sendall(piece)
                    gevent.sleep(0.005)
                sock.shutdown(socket.SHUT_WR)

            sender = gevent.spawn(send)
            reader = gevent.spawn(read_all, sock)
            until(look, "both legs have hopped")
            done.set()
            sender.get()
            got = reader.get()
            assert got == piece * (len(got) // len(piece))
        until(lambda: not any(chain.flows), "all flows are over")
        until(lambda: all(len(list(p.items())) == 1 for _, p in chain.dialling), "old sockets are closed", 8)


def test_server_speaks_first(wire):
    with (
        Server(lambda sock: sock.sendall(b"220 ready\r\n")) as server,
        LoopbackChain(wire, server.target) as chain,
        chain.dial() as sock,
    ):
        assert read_all(sock) == b"220 ready\r\n"


def test_dial_failure_is_told_to_the_application(wire):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        target = Target(*free.getsockname())
    with LoopbackChain(wire, target) as chain:
        assert_reset(chain)
        until(lambda: not any(chain.flows), "all flows are over")


def test_resets_travel_both_ways(wire):
    seen = gevent.event.AsyncResult()

    def handle(sock):
        if sock.recv(10) == b"you reset":
            abort(sock)
            return
        sock.sendall(b"go on")
        try:
            seen.set(sock.recv(10))
        except ConnectionResetError:
            seen.set("reset")

    with Server(handle) as server, LoopbackChain(wire, server.target) as chain:
        with chain.dial() as sock, pytest.raises(ConnectionResetError):
            sock.sendall(b"you reset")
            read_all(sock)
        sock = chain.dial()
        sock.sendall(b"I reset")
        assert sock.recv(10) == b"go on"
        abort(sock)
        assert seen.get(timeout=5) == "reset"
        until(lambda: not any(chain.flows), "all flows are over")


def test_a_slow_reader_stops_the_sender(wire):
    go = gevent.event.Event()
    got = gevent.event.AsyncResult()

    def handle(sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        go.wait()
        got.set(read_all(sock))

    chunk = bytes(range(256)) * 256
    with Server(handle) as server, LoopbackChain(wire, server.target) as chain, chain.dial() as sock:
        sock.setblocking(False)
        sent = stuck = 0
        while stuck < 20:
            try:
                sent += sock._sock.send(chunk[sent % len(chunk) :])
                stuck = 0
            except BlockingIOError:
                stuck += 1
                gevent.sleep(0.01)
        # Per hop: a window in flight or unread at the far end, and the queue before it; the rest is the
        # kernel's.
        segments = 2 * (1024 + 1024 + 256)
        assert sent < segments * 1400 + (16 << 20)
        assert quiet(), "waiting for a reader must not cost turns"
        go.set()
        sock.setblocking(True)
        sock.shutdown(socket.SHUT_WR)
        data = got.get(timeout=20)
        assert len(data) == sent
        assert data == (chunk * (sent // len(chunk) + 1))[:sent]


def test_many_connections_leave_nothing_behind(wire):
    count = 100
    with Server(echo) as server, LoopbackChain(wire, server.target) as chain:

        def one(number):
            with chain.dial() as sock:
                sock.sendall(b"%06d" % number * 100)
                assert sock.recv(600)
                everyone.wait()
                if number % 3 == 0:
                    abort(sock)
                    return
                sock.shutdown(socket.SHUT_WR)
                read_all(sock)

        with chain.dial() as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
        until(lambda: not any(chain.flows), "the first flow is over")

        def of_flows():
            """Without the dialers' own: on a busy machine a link may hop, and keeps its old socket."""
            return fds() - sum(len(list(ports.items())) for _, ports in chain.dialling)

        before = of_flows(), greenlets()
        everyone = gevent.event.Event()
        jobs = [gevent.spawn(one, number) for number in range(count)]
        until(lambda: chain.flows == [count] * 3, "all flows at once", 15)
        everyone.set()
        gevent.joinall(jobs, timeout=15, raise_error=True)
        until(lambda: not any(chain.flows), "all flows are over")
        del jobs
        until(lambda: of_flows() <= before[0], "all descriptors are closed")
        until(lambda: greenlets() <= before[1], "all greenlets have ended")


@pytest.mark.parametrize("delivery", ["unordered", "ordered", "datagram"])
def test_packets_keep_their_boundaries(wire, delivery):
    with (
        UdpEcho() as server,
        LoopbackChain(wire, server.target, delivery=delivery) as chain,
        udp_client() as client,
    ):
        for size in (1, 700, 1400, 9000, 60000):
            packet = os.urandom(size)
            client.sendto(packet, chain.udp)
            assert client.recv(65535) == packet
        assert chain.flows == [1, 1, 1]


@pytest.mark.parametrize("delivery", ["unordered", "ordered", "datagram"])
@pytest.mark.parametrize("relays", [0, 1])
def test_every_packet_of_a_conversation_counts(wire, relays, delivery):
    """However it travels: an association that is used does not idle out, and the figures are true."""
    with (
        UdpEcho() as server,
        LoopbackChain(wire, server.target, relays, delivery=delivery) as chain,
        udp_client() as client,
    ):
        for number in range(50):
            client.sendto(b"number %d" % number, chain.udp)
            assert client.recv(100) == b"number %d" % number
        assert moved(chain) == [[50, 50]] * (relays + 2)
        if delivery == "datagram":  # many at once may be lost
            return
        for number in range(200):
            client.sendto(b"number %d" % number, chain.udp)
        got = {client.recv(100) for _ in range(200)}
        assert got == {b"number %d" % number for number in range(200)}
        assert moved(chain) == [[250, 250]] * (relays + 2)


@pytest.mark.parametrize("addresses", [["127.0.0.2", "127.0.0.1"], ["127.0.0.2", "127.0.0.3", "127.0.0.1"]])
@pytest.mark.parametrize("delivery", ["unordered", "datagram"])
def test_a_udp_target_is_the_address_that_answers(wire, addresses, delivery):
    """A name has several, and only the last is listened on: no packet is lost, the first ones included."""
    with UdpEcho("127.0.0.1") as server:
        chain = LoopbackChain(wire, Target("several.example", server.target.port), delivery=delivery)
        chain.resolver = Resolver(
            lambda host, port, family, kind: [(socket.AF_INET, kind, 17, "", (ip, 0)) for ip in addresses]
        )
        with chain, udp_client() as client:
            for number in range(20):
                client.sendto(b"number %d" % number, chain.udp)
                assert client.recv(100) == b"number %d" % number
            assert moved(chain) == [[20, 20]] * 3
            assert not chain.nodes[0].egress.counters


def test_a_udp_target_where_nobody_listens_is_told_and_counted(wire):
    with LoopbackChain(wire, Target("127.0.0.1", 9), relays=0) as chain, udp_client() as client:
        counters = chain.nodes[0].egress.counters
        for number in range(3):
            client.sendto(b"anybody?", chain.udp)
            until(lambda: counters["udp_refused"] > number, "the refusal is counted")  # noqa: B023
        told = {report.text for report in chain.reports if getattr(report, "key", "") == "udp_refused"}
        assert told == {"nobody listens at UDP target 127.0.0.1:9: Connection refused"}


def test_every_byte_of_a_conversation_counts(wire):
    """Few at a time go from hop to hop without a splice that sees them, many with one."""
    with Server(echo) as server, LoopbackChain(wire, server.target, 2) as chain, chain.dial() as sock:
        for _ in range(50):
            sock.sendall(b"few")
            assert sock.recv(100) == b"few"
        assert moved(chain) == [[150, 150]] * 4
        data = os.urandom(300_000)
        sender = gevent.spawn(sock.sendall, data)
        got = b""
        while len(got) < len(data):
            got += sock.recv(65536)
        sender.get()
        assert got == data
        assert moved(chain) == [[300_150, 300_150]] * 4


def moved(chain):
    """Of every splice of every node: up and down."""
    return [splice.moved for node in chain.nodes for splice in node.splices]


def test_a_configured_rate_is_kept(wire):
    """20 Mbit/s: 500 kB take at least 180 ms, whatever the machine does; a burst of 2 ms is free."""
    data = os.urandom(500_000)
    with (
        Server(echo) as server,
        LoopbackChain(wire, server.target, 0, bits_per_s=20_000_000) as chain,
        chain.dial() as sock,
    ):
        sock.sendall(b"x")
        sock.recv(1)
        began_ms = clock.now_ms()
        sender = gevent.spawn(sock.sendall, data)
        got = 0
        while got < len(data):
            got += len(sock.recv(65536))
        sender.get()
        assert clock.now_ms() - began_ms >= 180


def test_stop_tells_the_peers(wire):
    with Server(echo) as server, LoopbackChain(wire, server.target) as chain, chain.dial() as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        chain.drivers[0].stop()
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
