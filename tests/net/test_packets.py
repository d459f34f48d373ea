"""Batches of packets on local sockets: both engines do the same, to the byte, on real sockets."""

import errno
import socket

import pytest

from kcpg.net import packets
from kcpg.net.addr import from_tuple
from tests.engines import require

# Runs that a segmented message may hold and such that it may not: equal, growing, shrinking, empty, large.
SIZES = [64] * 70 + [10, 64, 64, 63, 64, 0, 0, 5, 1200, 1200, 1200, 9, 1472, 65_507, 1]


@pytest.fixture(params=["compiled", "python"])
def engine(request, monkeypatch):
    if request.param == "compiled":
        require("kcpg.net._packets")
        from kcpg.net import _packets

        monkeypatch.setattr(packets, "_compiled", _packets)
    else:
        monkeypatch.setattr(packets, "_compiled", None)
    return request.param


@pytest.fixture(params=["127.0.0.1", "::1"])
def pair(request):
    """A bound socket and one that is connected to it; both with room for everything."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as one, socket.socket(family, socket.SOCK_DGRAM) as other:
        for sock in (one, other):
            sock.bind((request.param, 0))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            sock.setblocking(False)
        other.connect(one.getsockname())
        yield one, other


def made():
    return [bytes([i % 251]) * size for i, size in enumerate(SIZES)]


def send_all(sock, batch, place):
    at = 0
    while at < len(batch):
        sent, error, _about = packets.send(sock, batch, at, place)
        assert not error and sent > 0
        at += sent


def receive_all(sock):
    """Everything that is there, by place."""
    found = {}
    while True:
        batch, count, error = packets.receive_from(sock)
        assert not error and count == sum(map(len, batch.values())) <= packets.BATCH
        for place, some in batch.items():
            found.setdefault(place, []).extend(some)
        if count < packets.BATCH:
            return found


def test_a_connected_socket_sends_every_packet_whole_and_in_order(engine, pair):
    one, other = pair
    send_all(other, made(), packets.NOWHERE)
    assert receive_all(one) == {(from_tuple(other.getsockname()), b""): made()}


def test_a_listening_socket_answers_the_place_it_was_asked_from(engine, pair):
    one, other = pair
    send_all(one, made(), (from_tuple(other.getsockname()), b""))
    got = []
    while len(batch := packets.receive(other, 64)[0]) == 64:
        got += batch
    assert got + batch == made()
    assert packets.receive(other, 64) == ([], 0), "dry is no error"


def test_a_batch_is_bounded(engine, pair):
    one, other = pair
    assert packets.send(other, [b"x"] * 100, 0, packets.NOWHERE) == (64, 0, 0)
    assert packets.send(other, [b"x"] * 100, 90, packets.NOWHERE) == (10, 0, 0)
    assert packets.receive_from(one)[1] == 64 and packets.receive_from(one)[1] == 10


def test_sources_are_told_apart(engine, pair):
    one, other = pair
    with socket.socket(one.family, socket.SOCK_DGRAM) as third:
        third.connect(one.getsockname())
        for number in range(6):
            (other if number % 2 else third).send(bytes([number]))
        found = receive_all(one)
        assert found == {
            (from_tuple(third.getsockname()), b""): [b"\0", b"\2", b"\4"],
            (from_tuple(other.getsockname()), b""): [b"\1", b"\3", b"\5"],
        }


def test_errors_are_numbers(engine, pair):
    one, other = pair
    one.close()
    assert packets.send(other, [b"x"], 0, packets.NOWHERE) == (1, 0, 0)
    assert packets.receive(other, 64) == ([], errno.ECONNREFUSED)
    too_long = packets.send(other, [bytes(65_536)], 0, packets.NOWHERE)
    assert too_long == (0, errno.EMSGSIZE, 1)
    assert packets.is_full(errno.EAGAIN) and not packets.is_full(errno.EMSGSIZE)
