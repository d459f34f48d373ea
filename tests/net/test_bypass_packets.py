"""A few UDP packets go straight between a socket and a conversation; everything else goes the long way."""

import os
import socket

import pytest

from kcpg.core.native.wire.conv import READABLE
from kcpg.net import addr
from tests.engines import require
from tests.net.sockets import until
from tests.net.test_bypass_tcp import Tunnel

FEW = 8


def packet_socket():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


def received(sock):
    try:
        return sock.recv(65536)
    except BlockingIOError:
        return None


class PacketPair(Tunnel):
    """Two conversations; packets are for `app`, through `local`."""

    def __init__(self):
        super().__init__()
        from kcpg.net import _bypass

        self.module = _bypass
        self.here, self.there = self.convs
        self.app, self.local = packet_socket(), packet_socket()
        self.app.connect(self.local.getsockname())

    def close(self):
        super().close()
        self.app.close()
        self.local.close()

    def place(self, sock, local=b""):
        return addr.from_tuple(sock.getsockname()), local

    def leave(self, place):
        """Packets for the far conversation leave by the local socket from now on."""
        self.way_out = self.module.PacketBypass(self.there, self.local.fileno(), place, False)
        self.way_out.open()

    def way_in(self, datagrams=False):
        """What reads the local socket into the near conversation."""
        return self.module.PacketBypass(self.here, self.local.fileno(), b"", datagrams)


@pytest.fixture
def ends():
    require("kcpg.net._bypass")
    made = PacketPair()
    yield made
    made.close()


def waiting(sock):
    try:
        return sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return None


def wait_for_packet(sock):
    """On loopback a packet is there when it was sent; this holds wherever that is not so."""
    until(lambda: waiting(sock) is not None, "a packet is there")


@pytest.mark.parametrize("local", [b"", bytes([127, 0, 0, 1])], ids=["any", "asked"])
@pytest.mark.parametrize("datagrams", [False, True])
def test_few_packets_leave_by_the_bypass_before_anybody_is_told(ends, datagrams, local):
    place = b"".join(ends.place(ends.app, local))
    ends.leave(place)
    for packets in ([b"one"], [b"two", b"three", b""], [os.urandom(1200)]):
        ends.here.send_packets(packets, datagrams)
        assert ends.deliver() == []
        got = [received(ends.app) for _ in packets]
        assert sorted(got) == sorted(packets)  # an empty one travels reliably, behind the others
    assert ends.there.bypassed == 5 and ends.there.events == 0
    assert received(ends.app) is None


def test_a_connected_socket_needs_no_place(ends):
    ends.local.connect(ends.app.getsockname())
    ends.leave(b"")
    ends.here.send_packets([b"one"], False)
    assert ends.deliver() == [] and received(ends.app) == b"one"


def test_many_packets_are_left_to_who_sends_batches(ends):
    ends.leave(b"".join(ends.place(ends.app)))
    packets = [b"%d" % number for number in range(FEW + 1)]
    ends.here.send_packets(packets, False)
    assert ends.deliver() == [ends.there] and ends.there.take_events() == READABLE
    assert ends.there.recv_packets(100) == packets and ends.there.bypassed == 0


@pytest.mark.parametrize("datagrams", [False, True])
def test_a_packet_that_the_kernel_refuses_is_left_to_who_tells_errors(ends, datagrams):
    nowhere = addr.from_tuple(("127.0.0.1", 0))
    ends.leave(nowhere)
    ends.here.send_packets([b"one", b"two"], datagrams)
    assert ends.deliver() == [ends.there] and ends.there.take_events() == READABLE
    assert sorted(ends.there.recv_packets(10)) == [b"one", b"two"] and ends.there.bypassed == 0


def test_a_bypass_that_was_closed_is_not_used(ends):
    ends.leave(b"".join(ends.place(ends.app)))
    ends.way_out.close()
    ends.here.send_packets([b"one"], False)
    assert ends.deliver() == [ends.there] and received(ends.app) is None


@pytest.mark.parametrize("datagrams", [False, True])
def test_packets_of_a_connected_socket_go_into_the_conversation(ends, datagrams):
    way = ends.way_in(datagrams)
    packets = [b"one", b"", os.urandom(3000)]
    for packet in packets:
        ends.app.send(packet)
        wait_for_packet(ends.local)
        assert way.read_packets() is None
    assert way.read == 3
    ends.deliver()
    assert sorted(ends.there.recv_packets(10)) == sorted(packets)


def test_what_the_conversation_has_no_room_for_is_given_back(ends):
    large, way = bytes(60_000), ends.way_in()
    assert 0 < ends.here.send_packets([large] * 6, False) < 6, "its queue is full of them"
    ends.app.send(large)
    wait_for_packet(ends.local)
    assert way.read_packets() == [large]
    assert way.read == 0


def test_a_full_call_and_an_empty_one_leave_the_rest_to_the_turn(ends):
    way = ends.way_in()
    assert way.read_packets() == []
    for number in range(FEW + 1):
        ends.app.send(b"%d" % number)
    wait_for_packet(ends.local)
    assert way.read_packets() == []
    assert way.read == FEW and ends.local.recv(100) == b"%d" % FEW


def test_a_closed_conversation_takes_nothing(ends):
    ends.app.send(b"one")
    wait_for_packet(ends.local)
    way, place = ends.way_in(), ends.place(ends.app)
    ends.here.link_wire.close(1)
    assert way.read_packets() == []
    assert ends.module.read_packets_from(ends.local.fileno(), {place: way}) == {place: [b"one"]}


def test_packets_of_known_places_go_in_and_those_of_others_come_back(ends):
    stranger = packet_socket()
    known = {ends.place(ends.app): ends.way_in()}
    ends.app.send(b"known")
    stranger.sendto(b"unknown", ends.local.getsockname())
    ends.app.send(b"also known")
    wait_for_packet(ends.local)
    left = ends.module.read_packets_from(ends.local.fileno(), known)
    assert left == {ends.place(stranger): [b"unknown"]}
    ends.app.send(b"alone")
    wait_for_packet(ends.local)
    assert ends.module.read_packets_from(ends.local.fileno(), known) is None
    ends.deliver()
    assert ends.there.recv_packets(10) == [b"known", b"also known", b"alone"]
    assert ends.module.read_packets_from(ends.local.fileno(), known) == {}
    stranger.close()
