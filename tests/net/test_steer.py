"""The kernel steers packets to the sockets of a shared port as `kcpg.net.steer` says; on loopback."""

from __future__ import annotations

import _socket
import errno
import random
import socket
import struct
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest

from kcpg.core.stun import COOKIE
from kcpg.net import addr, steer
from kcpg.net.local import Bind, LocalListenSettings, open_listening
from kcpg.net.steer import MAX_EXCEPTIONS, Steering, open_shared
from kcpg.net.udp import open_udp
from tests.net.processes import free_ports, until

COUNT = 3
SEED = 0xC0FFEE11
DATAGRAM = bytes(40)


@pytest.fixture
def port() -> Iterator[list[_socket.socket]]:
    """The sockets of one UDP port of all addresses."""
    (number,) = free_ports(1)
    socks = open_shared(lambda shared: open_udp("", number, shared=shared).sock, COUNT)
    yield socks
    for sock in socks:
        sock.close()


def sender(ip: str = "127.0.0.1") -> socket.socket:
    """A socket with an address that does not change."""
    sock = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((ip, 0))
    return sock


def address(sock: socket.socket) -> bytes:
    return addr.from_tuple(sock.getsockname())


def taken(socks: list[_socket.socket]) -> list[int]:
    """Which sockets have a datagram; takes one from each."""
    found = []
    for index, sock in enumerate(socks):
        try:
            sock.recv(2000)
            found.append(index)
        except BlockingIOError:
            pass
    return found


def reached(socks: list[_socket.socket], sock: socket.socket, data: bytes = DATAGRAM) -> int:
    """The number of the socket that gets what `sock` sends."""
    sock.sendto(data, (sock.getsockname()[0], socks[0].getsockname()[1]))
    (index,) = taken(socks)
    return index


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
def test_it_goes_by_the_sender(port: list[_socket.socket], ip: str) -> None:
    Steering(port[0], COUNT, SEED, stun=False).attach({})
    found = []
    for _ in range(60):
        with closing(sender(ip)) as one:
            found.append(reached(port, one))
            assert found[-1] == steer.key(address(one), SEED) % COUNT == reached(port, one)
    assert set(found) == set(range(COUNT)), "all have their share"


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
def test_exceptions(port: list[_socket.socket], ip: str) -> None:
    steering = Steering(port[1], COUNT, SEED, stun=False)
    senders = [sender(ip) for _ in range(40)]
    rng = random.Random(7)
    wanted = [rng.randrange(COUNT) for _ in senders]
    for at in rng.sample(range(2000, 60000), MAX_EXCEPTIONS - len(senders)):
        steering.assign(addr.pack("192.0.2.7", at), rng.randrange(COUNT))
    for one, worker in zip(senders, wanted, strict=True):
        steering.assign(address(one), worker)
    assert steering.stale
    steering.attach({})
    assert not steering.stale
    assert [reached(port, one) for one in senders] == wanted
    steering.assign(address(senders[0]), wanted[0])
    assert not steering.stale, "nothing new"
    for one in senders:
        one.close()


def test_an_address_of_a_dual_stack_socket_is_the_same_sender() -> None:
    """Also with the local address behind it that a socket on all addresses gives."""
    plain = addr.pack("192.0.2.7", 9000)
    mapped = addr.for_family(plain, addr.AF_INET6)
    assert mapped is not None
    assert steer.key(plain, SEED) == steer.key(mapped, SEED) == steer.key(mapped + bytes(16), SEED)
    assert steer.key(plain, SEED) != steer.key(plain, SEED + 1)


def test_the_oldest_exceptions_give_way() -> None:
    code = partial(steer.program, 2, SEED, stun=True, stand_ins={})
    pairs = {n * 4_000_003 % (1 << 32): n % 2 for n in range(MAX_EXCEPTIONS)}
    assert len(code(exceptions=pairs)) < 4096
    steering = Steering(socket.socket(), 2, SEED, stun=False)  # never attached
    for n in range(3 * MAX_EXCEPTIONS):
        steering.assign(addr.pack("192.0.2.7", n), 1)
    assert len(steering._exceptions) == MAX_EXCEPTIONS
    assert steer.key(addr.pack("192.0.2.7", 3 * MAX_EXCEPTIONS - 1), SEED) in steering._exceptions


def test_one_that_is_away_is_stood_in_for(port: list[_socket.socket]) -> None:
    steering = Steering(port[0], COUNT, SEED, stun=True)
    excepted = sender()
    steering.assign(address(excepted), 1)
    senders = [sender() for _ in range(30)]
    steering.attach({})
    before = [reached(port, one) for one in senders]
    steering.attach({1: 2})
    assert [reached(port, one) for one in senders] == [2 if index == 1 else index for index in before]
    assert reached(port, excepted) == 2
    steering.attach({0: 2, 1: 2})
    assert {reached(port, one) for one in senders} == {2} == {reached(port, senders[0], _stun())}
    steering.attach({})
    assert [reached(port, one) for one in senders] == before, "and is found again when it is back"
    for one in (*senders, excepted):
        one.close()


def _stun() -> bytes:
    return struct.pack(">HH", 0x0101, 0) + COOKIE + bytes(12)


def test_answers_of_stun_go_to_the_first(port: list[_socket.socket]) -> None:
    Steering(port[0], COUNT, SEED, stun=True).attach({})
    for _ in range(20):
        with closing(sender()) as one:
            assert reached(port, one, _stun()) == 0
            assert reached(port, one) == steer.key(address(one), SEED) % COUNT


def test_short_datagrams_and_connections_are_steered_too() -> None:
    settings = LocalListenSettings(())
    bind = Bind("127.0.0.1", free_ports(1)[0])
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        socks = open_shared(partial(open_listening, settings, bind, kind), COUNT)
        Steering(socks[0], COUNT, SEED, stun=False).attach({})
        for _ in range(12):
            with closing(socket.socket(socket.AF_INET, kind)) as one:
                one.bind(("127.0.0.1", 0))
                one.connect(("127.0.0.1", bind.port))
                worker = steer.key(address(one), SEED) % COUNT
                if kind == socket.SOCK_DGRAM:
                    one.send(b"")
                    assert taken(socks) == [worker]
                else:
                    accepted = until(partial(_accept, socks[worker]), "the connection where it belongs")
                    accepted.close()
        for sock in socks:
            sock.close()


def _accept(sock: _socket.socket) -> _socket.socket | None:
    try:
        fd, _ = sock._accept()  # type: ignore[attr-defined]
    except BlockingIOError:
        return None
    return _socket.socket(fileno=fd)


def test_a_port_of_another_program_is_taken() -> None:
    """Even of one that shares it: two nodes by mistake on one port would take each other's datagrams."""
    (number,) = free_ports(1)
    theirs = open_shared(lambda shared: open_udp("127.0.0.1", number, shared=shared).sock, 2)
    with pytest.raises(OSError, match=f"cannot listen on UDP 127.0.0.1:{number}") as caught:
        open_shared(lambda shared: open_udp("127.0.0.1", number, shared=shared).sock, 2)
    assert caught.value.errno == errno.EADDRINUSE
    for sock in theirs:
        sock.close()


def test_a_system_with_little_room_for_programs_has_fewer_exceptions(monkeypatch) -> None:
    lengths = []

    def attach(sock: object, code: list[steer.Instruction]) -> None:
        lengths.append(len(code))
        if len(code) > 500:
            raise OSError(errno.ENOMEM, "no room")

    monkeypatch.setattr(steer, "_attach", attach)
    steering = Steering(socket.socket(), 2, SEED, stun=False)
    for n in range(1000):
        steering.assign(addr.pack("192.0.2.7", n), 1)
    steering.attach({})
    assert lengths[-1] <= 500 < lengths[-2] and not steering.stale
    assert steer.key(addr.pack("192.0.2.7", 999), SEED) in steering._exceptions
    kept = len(steering._exceptions)
    steering.assign(addr.pack("192.0.2.8", 1), 1)
    assert len(steering._exceptions) == kept, "it has learnt the limit"


def test_a_system_without_programs_says_so(monkeypatch) -> None:
    def attach(sock: object, code: list[steer.Instruction]) -> None:
        raise OSError(errno.ENOPROTOOPT, "unknown option")

    monkeypatch.setattr(steer, "_attach", attach)
    with pytest.raises(OSError, match="unknown option"):
        Steering(socket.socket(), 2, SEED, stun=False).attach({})
