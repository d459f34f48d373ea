"""TCP sockets straight into and out of a conversation's segments (compiled engine)."""

import errno
import importlib
import os
import socket

import pytest

from kcpg.core.kcp.kcp import KcpParams
from kcpg.core.native.wire.conv import WRITABLE
from kcpg.core.native.wire.events import READY
from kcpg.net.bypass import NO_ROOM
from tests.engines import require, twin
from tests.wires import taken

PARAMS = KcpParams()


class BypassPair:
    """Two conversations joined in memory, each with a TCP socket whose other end the test holds."""

    def __init__(self, pool_bytes=1 << 22):
        wire = twin("compiled", "Wire")
        self.a = wire(mask_rx=bytes(32), mask_tx=bytes(32), max_datagram=1500, pool_bytes=pool_bytes)
        self.b = wire(mask_rx=bytes(32), mask_tx=bytes(32), max_datagram=1500)
        self.convs = []
        for one, (mine, theirs) in ((self.a, (1, 2)), (self.b, (2, 1))):
            link_wire = one.link_wire(None)
            link_wire.install_rx(mine, "AES-GCM", bytes(32), bytes(12))
            link_wire.install_tx(theirs, "AES-GCM", bytes(32), bytes(12))
            link_wire.set_path(1, b"x")
            self.convs.append(link_wire.open(1, PARAMS))
        self.near, self.near_app = pair()
        self.far, self.far_app = pair()
        self.bypasses = [
            bypass_class()(conv, sock.fileno())
            for conv, sock in zip(self.convs, (self.near, self.far), strict=True)
        ]
        self.now = 1000

    def read(self):
        """From the near socket into the near conversation."""
        return self.bypasses[0].read()

    def write(self):
        """From the far conversation to the far socket."""
        return self.bypasses[1].write()

    def exchange(self):
        for _ in range(4):
            for source, sink in ((self.a, self.b), (self.b, self.a)):
                for sock, where, datagram in source.transmit(self.now):
                    sink.receive(sock, where, datagram, self.now)
            self.now += 1

    def close(self):
        for sock in (self.near, self.near_app, self.far, self.far_app):
            sock.close()


def bypass_class():
    require("kcpg.net._bypass")
    return importlib.import_module("kcpg.net._bypass").TcpBypass


def pair():
    with socket.create_server(("127.0.0.1", 0)) as server:
        app = socket.create_connection(server.getsockname())
        mine, _ = server.accept()
    mine.setblocking(False)
    app.setblocking(False)
    return mine, app


@pytest.fixture
def ends():
    made = BypassPair()
    yield made
    made.close()


def test_bytes_pass_unchanged_in_pieces_of_any_size(ends):
    data = os.urandom(700_000)
    sent, got = 0, bytearray()
    while len(got) < len(data):
        if sent < len(data):
            try:
                sent += ends.near_app.send(data[sent : sent + 7777])
            except BlockingIOError:
                pass
        count = ends.read()
        assert count > 0 or count in (-errno.EAGAIN, NO_ROOM)
        ends.exchange()
        assert ends.write() >= 0
        try:
            got += ends.far_app.recv(5000)
        except BlockingIOError:
            pass
    assert got == data


def test_end_of_file_is_zero(ends):
    ends.near_app.sendall(b"last words")
    ends.near_app.shutdown(socket.SHUT_WR)
    assert ends.read() == 10
    assert ends.read() == 0


def test_no_room_is_told_and_writable_follows(ends):
    conv, payload = ends.convs[0], bytes(1 << 20)
    total = 0
    while True:
        try:
            ends.near_app.send(payload)
        except BlockingIOError:
            pass
        count = ends.read()
        if count < 0:
            break
        total += count
    assert count == NO_ROOM
    assert conv.room == 0
    assert total <= 256 * 1376
    conv.take_events()
    ends.a.take_events()
    ends.exchange()
    assert (conv,) in taken(ends.a, READY)
    assert conv.take_events() & 2


def test_a_full_socket_keeps_the_rest(ends):
    conv = ends.convs[0]
    want = 0
    while True:
        want += conv.write(bytes(range(256)) * 40)
        ends.exchange()
        count = ends.write()
        if count == -errno.EAGAIN:
            break
    got = bytearray()
    while len(got) < want:
        try:
            got += ends.far_app.recv(1 << 20)
        except BlockingIOError:
            pass
        ends.write()
        ends.exchange()
    assert got == (bytes(range(256)) * (want // 256 + 1))[:want]


def test_nothing_to_write_and_the_end_stay_apart(ends):
    assert ends.write() == 0
    ends.convs[0].write(b"abc")
    ends.convs[0].send(b"")
    ends.exchange()
    assert ends.write() == 3
    assert ends.write() == 0
    assert ends.convs[1].at_end


def test_a_reset_socket_is_an_errno_both_ways(ends):
    for sock in (ends.near_app, ends.far_app):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        sock.close()
    assert ends.read() == -errno.ECONNRESET
    ends.convs[0].write(b"abc")
    ends.exchange()
    assert ends.write() in (-errno.ECONNRESET, -errno.EPIPE)


def test_without_memory_for_segments():
    """Other conversations hold every segment of the leg: WRITABLE tells when they let go."""
    ends = BypassPair(pool_bytes=1 << 16)
    link_wire = ends.convs[0].link_wire
    number = 2
    while link_wire.open(number, PARAMS).write(bytes(50_000)):
        number += 1
    ends.near_app.sendall(bytes(50_000))
    assert ends.read() == NO_ROOM
    assert taken(link_wire.wire, READY) == [] and not ends.convs[0].take_events()
    for held in range(2, number + 1):
        link_wire.close(held)
    assert taken(link_wire.wire, READY) == [(ends.convs[0],)] and ends.convs[0].take_events() == WRITABLE
    assert ends.read() > 0
    ends.close()


def test_a_closed_conversation_takes_and_gives_nothing(ends):
    ends.near_app.sendall(b"x")
    conv = ends.convs[0]
    conv.link_wire.close(1)
    assert ends.read() == NO_ROOM
    assert ends.bypasses[0].write() == 0
