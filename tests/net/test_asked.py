"""Sockets that listen on every address answer from the one that was asked."""

import os
import socket

import pytest

from kcpg.net import addr, udp
from tests.net.sockets import UdpEcho, udp_client
from tests.net.test_forwarder import Forwarder, free_port
from tests.net.test_udp_io import ONE_CONV, PARAMS, UdpPair, classes

__all__ = ["classes"]


class Server(UdpPair):
    """`a` dials `host`, which is one of the addresses that `b` listens on."""

    def __init__(self, classes, host, **options):
        bind = "::1" if ":" in host else "127.0.0.1"
        super().__init__(classes, bind)
        self.b.socket.close()
        self.b.socket = udp.open_udp("", free_port(socket.SOCK_DGRAM), **options)
        self.b.io.add(1, self.b.socket)
        self.asked = addr.pack(host, self.b.socket.port)
        self.a.link_wire.set_path(1, self.asked)

    def step(self):
        """As the base class, and `b` follows `a`."""
        for end in (self.a, self.b):
            while end.io.receive(1, self.now):
                if end is self.b:
                    end.link_wire.set_path(*end.link_wire.source)
            end.io.transmit(self.now)
        self.now += 1


HOSTS = [("127.0.0.1", {}), ("127.0.0.2", {}), ("127.0.0.2", {"ipv4_only": True}), ("::1", {})]


@pytest.mark.parametrize(("host", "options"), HOSTS)
def test_a_tunnel_answers_from_the_address_that_was_asked(classes, host, options):
    pair = Server(classes, host, **options)
    pair.carry(os.urandom(200_000))
    assert pair.a.link_wire.source == (1, pair.asked)
    local = addr.local(pair.b.link_wire.source[1])
    assert local.endswith(socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host))
    back = pair.b.link_wire.open(9, PARAMS)
    pair.a.link_wire.accept = lambda conv: pair.a.link_wire.open(conv, PARAMS)
    data, sent, got = os.urandom(300_000), 0, b""
    while len(got) < len(data):
        sent += back.write(data[sent : sent + 65536])
        pair.step()
        got += pair.a.link_wire.convs[9].read(1 << 20) if 9 in pair.a.link_wire.convs else b""
    assert got == data and pair.a.link_wire.source == (1, pair.asked)
    assert not pair.b.io.errors
    pair.close()


def test_a_peer_that_asks_another_address_is_on_another_path(classes):
    pair = Server(classes, "127.0.0.2")
    pair.carry(b"x" * 5000)
    before = pair.b.link_wire.path
    pair.asked = addr.pack("127.0.0.3", pair.b.socket.port)
    pair.a.link_wire.set_path(1, pair.asked)
    pair.out.write(b"y")
    for _ in range(500):
        pair.step()
    assert pair.b.link_wire.path != before and addr.remote(pair.b.link_wire.path[1]) == addr.remote(before[1])
    assert pair.a.link_wire.source == (1, pair.asked)
    pair.close()


@pytest.mark.parametrize(
    ("host", "elsewhere", "options"),
    [
        ("127.0.0.1", "::ffff:192.0.2.1", {}),
        ("127.0.0.1", "192.0.2.1", {"ipv4_only": True}),
        ("::1", "2001:db8::1", {}),
    ],
)
def test_a_tunnel_goes_on_when_the_machine_loses_the_address(classes, host, elsewhere, options):
    """From another one then; and segmentation offload is not blamed for it."""
    pair = Server(classes, host, **options)
    pair.carry(b"x" * 5000)
    source = addr.remote(pair.b.link_wire.source[1])
    family = addr.family(source)
    back = pair.b.link_wire.open(9, PARAMS)
    pair.a.link_wire.accept = lambda conv: pair.a.link_wire.open(conv, PARAMS)
    pair.b.link_wire.set_path(1, source + socket.inet_pton(family, elsewhere))
    back.write(bytes(100_000))
    received = pair.a.link_wire.rx_datagrams
    pair.b.io.transmit(pair.now)
    while pair.a.io.receive(1, pair.now):
        pass
    assert pair.a.link_wire.rx_datagrams > received
    assert set(pair.b.io.errors) == {"source_gone"} and pair.b.socket.gso
    assert ONE_CONV in pair.b.link_wire.convs
    pair.close()


def test_only_a_socket_that_listens_everywhere_is_told():
    told = []
    for host, port in (
        ("", free_port(socket.SOCK_DGRAM)),
        ("", 0),
        ("127.0.0.1", free_port(socket.SOCK_DGRAM)),
    ):
        sock = udp.open_udp(host, port)
        told.append(sock.tells)
        sock.close()
    assert told == [True, False, False], "whoever dials leaves its source to the routes"


@pytest.mark.parametrize("options", [{}, {"ipv4_only": True}], ids=["dual-stack", "ipv4"])
def test_a_packet_is_answered_from_the_address_it_went_to(options):
    with UdpEcho() as target, Forwarder(target.target, "", **options) as forwarder, udp_client() as client:
        for host in ("127.0.0.2", "127.0.0.3", "127.0.0.2"):
            where = (host, forwarder.udp[1])
            client.sendto(host.encode(), where)
            assert client.recvfrom(100) == (host.encode(), where)
        assert len(forwarder.listener.udp_ports[0].flows) == 2, "one for each address that is asked"


def test_an_ipv6_packet_too():
    with UdpEcho("::1") as target, Forwarder(target.target, "") as forwarder, udp_client("::1") as client:
        client.sendto(b"six", ("::1", forwarder.udp[1]))
        assert client.recvfrom(100)[0] == b"six"
        ((_, local),) = forwarder.listener.udp_ports[0].flows
        assert local == socket.inet_pton(socket.AF_INET6, "::1")


def test_an_address_that_the_machine_lost_is_not_insisted_on():
    """The answer leaves from another one: better than none."""
    with UdpEcho() as target, Forwarder(target.target, "") as forwarder, udp_client() as client:
        client.sendto(b"x", ("127.0.0.1", forwarder.udp[1]))
        client.recvfrom(100)
        port = forwarder.listener.udp_ports[0]
        ((where, _),) = port.flows
        elsewhere = socket.inet_pton(socket.AF_INET6, "::ffff:192.0.2.1")
        assert port.send([b"answer"], (where, elsewhere)) == 1
        assert client.recvfrom(100)[0] == b"answer"
        assert not forwarder.notices
