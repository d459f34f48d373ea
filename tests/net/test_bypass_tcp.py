"""Little data goes to its TCP socket as soon as it is received; everything else stays an event."""

import socket

import pytest

from kcpg.core.native.wire.events import READY
from kcpg.net import udp
from tests.engines import require
from tests.net.sockets import until
from tests.net.test_bypass_segments import BypassPair
from tests.wires import taken

READABLE = 1


class Tunnel(BypassPair):
    """The far conversation receives through a real UDP socket."""

    def __init__(self):
        super().__init__()
        from kcpg.net._udp import UdpIo

        self.conv = self.convs[1]
        self.bypass = self.bypasses[1]
        self.sock = udp.open_udp("127.0.0.1", 0)
        self.io = UdpIo(self.b)
        self.io.add(1, self.sock)
        self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def deliver(self):
        """Send what the near side has, receive it at the far side; the conversations that became ready."""
        sent = 0
        for _, _, datagram in self.a.transmit(self.now):
            self.sender.sendto(datagram, ("127.0.0.1", self.sock.port))
            sent += 1
        got = 0

        def all_here():
            nonlocal got
            got += self.io.receive(1, self.now)
            return got == sent

        until(all_here, "the datagrams arrive")
        return [conv for (conv,) in taken(self.b, READY)]

    def app_got(self):
        try:
            return self.far_app.recv(1 << 20)
        except BlockingIOError:
            return b""

    def close(self):
        super().close()
        self.sock.close()
        self.sender.close()


@pytest.fixture
def ends():
    require("kcpg.net._udp")
    made = Tunnel()
    yield made
    made.close()


def test_little_data_is_at_the_application_before_anybody_is_told(ends):
    ends.bypass.open()
    for word in (b"one", b"two"):
        ends.convs[0].write(word)
        assert ends.deliver() == []
        assert ends.app_got() == word
    assert ends.conv.unread == 0 and ends.conv.events == 0
    assert ends.conv.bypassed == 6


def test_without_a_bypass_it_is_an_event(ends):
    ends.convs[0].write(b"one")
    assert ends.deliver() == [ends.conv] and ends.conv.take_events() == READABLE
    assert ends.app_got() == b""


def test_a_bypass_that_was_closed_is_not_used(ends):
    ends.bypass.open()
    ends.bypass.close()
    ends.convs[0].write(b"one")
    assert ends.deliver() == [ends.conv]
    assert ends.app_got() == b""


def test_much_data_is_left_to_the_flow(ends):
    """More than 32 segments."""
    ends.bypass.open()
    ends.convs[0].write(bytes(60_000))
    assert ends.deliver() == [ends.conv]
    assert ends.conv.bypassed == 0


def test_the_end_of_the_stream_is_left_to_the_flow(ends):
    ends.bypass.open()
    ends.convs[0].write(b"last")
    ends.convs[0].send(b"")
    assert ends.deliver() == [ends.conv] and ends.conv.take_events() == READABLE
    assert ends.app_got() == b"last" and ends.conv.at_end


def test_a_socket_that_takes_nothing_keeps_it_for_the_flow(ends):
    ends.bypass.open()
    filled = 0
    try:
        while True:
            filled += ends.far.send(bytes(1 << 16))
    except BlockingIOError:
        pass
    ends.convs[0].write(b"late")
    assert ends.deliver() == [ends.conv]
    assert ends.conv.read(100) == b"late"


def test_an_error_is_left_to_the_flow(ends):
    ends.bypass.open()
    ends.far.shutdown(socket.SHUT_WR)
    ends.convs[0].write(b"one")
    assert ends.deliver() == [ends.conv] and ends.conv.unread == 1


def test_a_closed_conversation_gets_no_bypass(ends):
    ends.conv.link_wire.close(1)
    ends.bypass.open()
    ends.convs[0].write(b"one")
    ends.deliver()
    assert ends.app_got() == b""
