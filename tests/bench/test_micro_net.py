"""What touches the kernel, and the floor: the least that a datagram costs on this machine.

The path is everything between two flows' buffers: KCP, seal, send, receive, open, KCP, acknowledgements. Its
floor is the same number of bytes copied once on each side, sealed and opened in long pieces, and sent and
received with as few system calls as the kernel allows.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import select
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from gevent.event import Event

from kcpg.net import udp
from tests.bench.test_micro_core import DATAGRAM_BYTES, per
from tests.engines import twin
from tests.net.test_driver import Rig
from tests.net.test_udp_io import UdpPair

BLOCK_BYTES = 1 << 18
TRAIN = 44
"""Datagrams of a send by UDP segmentation: together below 64 KiB."""
LONG_BYTES = 1 << 15
UDP_SEGMENT = 103
LIBC = ctypes.CDLL(None, use_errno=True)


class Vector(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


class Header(ctypes.Structure):
    """struct mmsghdr: sendmmsg(2), recvmmsg(2)."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_size", ctypes.c_uint),
        ("vectors", ctypes.POINTER(Vector)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_long),  # an int, and the end of the struct msghdr inside
        ("size", ctypes.c_uint),
    )


class Messages:
    """A train in one buffer, a message for each datagram."""

    def __init__(self, train: bytes) -> None:
        self.buffer = ctypes.create_string_buffer(train, len(train))
        base = ctypes.addressof(self.buffer)
        starts = range(base, base + len(train), DATAGRAM_BYTES)
        self._vectors = (Vector * TRAIN)(*(Vector(start, DATAGRAM_BYTES) for start in starts))
        one = ctypes.sizeof(Vector)
        pieces = [Vector.from_buffer(self._vectors, at * one) for at in range(TRAIN)]
        self.headers = (Header * TRAIN)(
            *(Header(vectors=ctypes.pointer(piece), vector_count=1) for piece in pieces)
        )


@pytest.fixture(params=["offload", "single"])
def pair(request: Any, engine: str) -> Iterator[UdpPair]:
    """Two wires joined by sockets, with and without the kernel's segmentation."""
    io = importlib.import_module("kcpg.net._udp" if engine == "compiled" else "kcpg.net.udp")
    made = UdpPair((twin(engine, "Wire"), io.UdpIo))
    if request.param == "single":
        for end in (made.a, made.b):
            end.socket.gso = False
            end.io.add(1, end.socket)
            end.socket.sock.setsockopt(udp.SOL_UDP, udp.UDP_GRO, 0)
    yield made
    made.close()


def test_path(benchmark: Any, pair: UdpPair) -> None:
    data = os.urandom(BLOCK_BYTES)
    assert pair.carry(data) == data
    before = pair.a.io.datagrams_out
    pair.carry(data)
    per(benchmark, "datagram", pair.a.io.datagrams_out - before, DATAGRAM_BYTES)
    assert benchmark(pair.carry, data) == data
    assert not pair.a.io.errors and not pair.b.io.errors


def test_floor_copy(benchmark: Any) -> None:
    source, sink = os.urandom(LONG_BYTES), bytearray(LONG_BYTES)
    per(benchmark, "datagram", LONG_BYTES / DATAGRAM_BYTES / 2, DATAGRAM_BYTES)  # once on each side

    def copy() -> None:
        sink[:] = source

    benchmark(copy)
    assert sink == source


def test_floor_aead(benchmark: Any, engine: str) -> None:
    sealer = twin(engine, "Sealer")("AES-GCM", bytes(32), bytes(12))
    plain = os.urandom(LONG_BYTES)
    per(benchmark, "datagram", LONG_BYTES / DATAGRAM_BYTES, DATAGRAM_BYTES)

    def both() -> Any:
        return sealer.open(1, b"", sealer.seal(1, b"", plain))

    assert benchmark(both) == plain


@pytest.mark.parametrize("offload", [True, False], ids=["offload", "single"])
def test_floor_calls(benchmark: Any, offload: bool) -> None:
    """A train with one call on each side: cut and joined by the kernel, or datagram by datagram."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as near,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far,
    ):
        far.bind(("127.0.0.1", 0))
        near.connect(far.getsockname())
        far.settimeout(10)
        train, buffer = os.urandom(DATAGRAM_BYTES * TRAIN), bytearray(1 << 16)
        per(benchmark, "datagram", TRAIN, DATAGRAM_BYTES)
        if offload:
            near.setsockopt(udp.SOL_UDP, UDP_SEGMENT, DATAGRAM_BYTES)
            far.setsockopt(udp.SOL_UDP, udp.UDP_GRO, 1)

            def there() -> int:
                near.send(train)
                return far.recv_into(buffer)
        else:
            outgoing, incoming = Messages(train), Messages(bytes(len(train)))

            def there() -> int:
                assert LIBC.sendmmsg(near.fileno(), outgoing.headers, TRAIN, 0) == TRAIN
                return int(LIBC.recvmmsg(far.fileno(), incoming.headers, TRAIN, 0, None)) * DATAGRAM_BYTES

        assert benchmark(there) == len(train)
        assert (buffer[: len(train)] if offload else incoming.buffer.raw[: len(train)]) == train


def test_floor_wake_up(benchmark: Any) -> None:
    """The same without a node: a datagram is sent, the event call finds it, the receive call takes it."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as near,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far,
        select.epoll() as events,
    ):
        far.bind(("127.0.0.1", 0))
        near.connect(far.getsockname())
        events.register(far, select.EPOLLIN)
        per(benchmark, "wake-up", 1)

        def wake() -> bytes:
            near.send(b"x")
            assert events.poll(10)
            return far.recv(100)

        assert benchmark(wake) == b"x"


def test_driver_wake_up(benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A datagram that finds a node asleep: event loop, receive call, a turn of the node."""
    rig = Rig(monkeypatch)
    rig.driver.start()
    per(benchmark, "wake-up", 1)
    awake = Event()

    def advanced() -> None:
        if rig.leg.wire.got:
            awake.set()

    rig.node.on_advance = advanced

    def wake() -> None:
        rig.peer.sock.sendto(b"x", rig.here)
        assert awake.wait(10)
        awake.clear()
        rig.leg.wire.got.clear()
        rig.node.advanced.clear()

    try:
        benchmark(wake)
        assert not rig.keys()
    finally:
        rig.driver.stop()
        rig.peer.close()
