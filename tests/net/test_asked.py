"""Sockets that listen on every address answer from the one that was asked."""

import socket

import pytest

from tests.net.sockets import UdpEcho, udp_client
from tests.net.test_forwarder import Forwarder


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
        assert port.send(b"answer", (where, elsewhere))
        assert client.recvfrom(100)[0] == b"answer"
        assert not forwarder.notices
