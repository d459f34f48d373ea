"""A few UDP packets go straight between a socket and a conversation; everything else goes the long way."""

import os
import socket

import pytest

from kcpg.core.kcp import KcpParams
from kcpg.core.native.conv import READABLE
from kcpg.net import addr, udp
from tests.engines import require, twin
from tests.net.sockets import until

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


class Ends:
    """Two conversations; the far one receives through a real socket, and `app` is who its packets are for."""

    def __init__(self):
        from kcpg.net import _packets, _udp

        self.ways = _packets
        wire = twin("compiled", "Wire")
        self.wires = [wire(mask_rx=bytes(32), mask_tx=bytes(32), max_datagram=1500) for _ in range(2)]
        self.convs = []
        for one, (mine, theirs) in zip(self.wires, ((1, 2), (2, 1)), strict=True):
            bundle = one.bundle(None)
            bundle.install_rx(mine, "AES-GCM", bytes(32), bytes(12))
            bundle.install_tx(theirs, "AES-GCM", bytes(32), bytes(12))
            bundle.set_path(1, b"x")
            self.convs.append(bundle.open(1, KcpParams()))
        self.near, self.far = self.convs
        self.tunnel = udp.open_udp("127.0.0.1", 0)
        self.io = _udp.UdpIo(self.wires[1])
        self.io.add(1, self.tunnel)
        self.sender, self.app, self.local = packet_socket(), packet_socket(), packet_socket()
        self.app.connect(self.local.getsockname())
        self.now = 1000

    def deliver(self):
        """What the near side has, received at the far side; the conversations that became ready."""
        sent = [datagram for _, _, datagram in self.wires[0].transmit(self.now)]
        for datagram in sent:
            self.sender.sendto(datagram, ("127.0.0.1", self.tunnel.port))
        got = 0

        def all_here():
            nonlocal got
            got += self.io.receive(1, self.now)
            return got == len(sent)

        until(all_here, "the datagrams arrive")
        return self.wires[1].take_ready()

    def close(self):
        self.tunnel.close()
        for sock in (self.sender, self.app, self.local):
            sock.close()

    def place(self, sock, local=b""):
        return addr.from_tuple(sock.getsockname()), local


@pytest.fixture
def ends():
    require("kcpg.net._packets")
    made = Ends()
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
def test_few_packets_leave_by_the_outlet_before_anybody_is_told(ends, datagrams, local):
    place = b"".join(ends.place(ends.app, local))
    ends.ways.set_packet_outlet(ends.far, ends.local.fileno(), place)
    for packets in ([b"one"], [b"two", b"three", b""], [os.urandom(1200)]):
        ends.near.send_packets(packets, datagrams)
        assert ends.deliver() == []
        got = [received(ends.app) for _ in packets]
        assert sorted(got) == sorted(packets)  # an empty one travels reliably, behind the others
    assert ends.far.out_past == 5 and ends.far.events == 0
    assert received(ends.app) is None


def test_a_connected_socket_needs_no_place(ends):
    ends.local.connect(ends.app.getsockname())
    ends.ways.set_packet_outlet(ends.far, ends.local.fileno(), b"")
    ends.near.send_packets([b"one"], False)
    assert ends.deliver() == [] and received(ends.app) == b"one"


def test_many_packets_are_left_to_who_sends_batches(ends):
    ends.ways.set_packet_outlet(ends.far, ends.local.fileno(), b"".join(ends.place(ends.app)))
    packets = [b"%d" % number for number in range(FEW + 1)]
    ends.near.send_packets(packets, False)
    assert ends.deliver() == [ends.far] and ends.far.take_events() == READABLE
    assert ends.far.recv_packets(100) == packets and ends.far.out_past == 0


@pytest.mark.parametrize("datagrams", [False, True])
def test_a_packet_that_the_kernel_refuses_is_left_to_who_tells_errors(ends, datagrams):
    nowhere = addr.from_tuple(("127.0.0.1", 0))
    ends.ways.set_packet_outlet(ends.far, ends.local.fileno(), nowhere)
    ends.near.send_packets([b"one", b"two"], datagrams)
    assert ends.deliver() == [ends.far] and ends.far.take_events() == READABLE
    assert sorted(ends.far.recv_packets(10)) == [b"one", b"two"] and ends.far.out_past == 0


def test_an_outlet_that_was_taken_back_is_not_used(ends):
    ends.ways.set_packet_outlet(ends.far, ends.local.fileno(), b"".join(ends.place(ends.app)))
    ends.ways.set_packet_outlet(ends.far, -1, b"")
    ends.near.send_packets([b"one"], False)
    assert ends.deliver() == [ends.far] and received(ends.app) is None


@pytest.mark.parametrize("datagrams", [False, True])
def test_packets_of_a_connected_socket_go_into_the_conversation(ends, datagrams):
    ends.ways.set_packet_inlet(ends.near, datagrams)
    packets = [b"one", b"", os.urandom(3000)]
    for packet in packets:
        ends.app.send(packet)
        wait_for_packet(ends.local)
        assert ends.ways.packets_in(ends.near, ends.local.fileno()) is None
    assert ends.near.in_past == 3
    ends.deliver()
    assert sorted(ends.far.recv_packets(10)) == sorted(packets)


def test_what_the_conversation_has_no_room_for_is_given_back(ends):
    large = bytes(60_000)
    assert 0 < ends.near.send_packets([large] * 6, False) < 6, "its queue is full of them"
    ends.app.send(large)
    wait_for_packet(ends.local)
    assert ends.ways.packets_in(ends.near, ends.local.fileno()) == [large]
    assert ends.near.in_past == 0


def test_a_full_call_and_an_empty_one_leave_the_rest_to_the_turn(ends):
    assert ends.ways.packets_in(ends.near, ends.local.fileno()) == []
    for number in range(FEW + 1):
        ends.app.send(b"%d" % number)
    wait_for_packet(ends.local)
    assert ends.ways.packets_in(ends.near, ends.local.fileno()) == []
    assert ends.near.in_past == FEW and ends.local.recv(100) == b"%d" % FEW


def test_a_closed_conversation_takes_nothing(ends):
    ends.app.send(b"one")
    wait_for_packet(ends.local)
    ends.near.bundle.close(1)
    assert ends.ways.packets_in(ends.near, ends.local.fileno()) == []
    place = ends.place(ends.app)
    assert ends.ways.packets_from(ends.local.fileno(), {place: ends.near}) == {place: [b"one"]}


def test_packets_of_known_places_go_in_and_those_of_others_come_back(ends):
    stranger = packet_socket()
    known = {ends.place(ends.app): ends.near}
    ends.app.send(b"known")
    stranger.sendto(b"unknown", ends.local.getsockname())
    ends.app.send(b"also known")
    wait_for_packet(ends.local)
    left = ends.ways.packets_from(ends.local.fileno(), known)
    assert left == {ends.place(stranger): [b"unknown"]}
    ends.app.send(b"alone")
    wait_for_packet(ends.local)
    assert ends.ways.packets_from(ends.local.fileno(), known) is None
    ends.deliver()
    assert ends.far.recv_packets(10) == [b"known", b"also known", b"alone"]
    assert ends.ways.packets_from(ends.local.fileno(), known) == {}
    stranger.close()
