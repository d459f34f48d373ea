"""What touches the kernel, and the floor: the least that a datagram costs on this machine.

The path is everything between two flows' buffers: KCP, seal, send, receive, open, KCP, acknowledgements. Its
floor is the same number of bytes copied once on each side, sealed and opened in long pieces, and sent and
received with as few system calls as the kernel allows.
"""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from gevent.event import Event

from kcpg.net import udp
from tests.bench.test_micro_core import DATAGRAM_BYTES, per
from tests.engines import twin
from tests.net.test_driver import Rig
from tests.net.test_udp_io import Pair

BLOCK_BYTES = 1 << 18
TRAIN = 44
"""Datagrams of a send by UDP segmentation: together below 64 KiB."""
LONG_BYTES = 1 << 15
UDP_SEGMENT = 103


@pytest.fixture(params=["offload", "single"])
def pair(request: Any, engine: str) -> Iterator[Pair]:
    """Two wires joined by sockets, with and without the kernel's segmentation."""
    io = importlib.import_module("kcpg.net._udp" if engine == "compiled" else "kcpg.net.udp")
    made = Pair((twin(engine, "Wire"), io.UdpIo))
    if request.param == "single":
        for end in (made.a, made.b):
            end.socket.gso = False
            end.io.add(1, end.socket)
            end.socket.sock.setsockopt(udp.SOL_UDP, udp.UDP_GRO, 0)
    yield made
    made.close()


def test_path(benchmark: Any, pair: Pair) -> None:
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
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as near,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far,
    ):
        far.bind(("127.0.0.1", 0))
        near.connect(far.getsockname())
        far.settimeout(10)
        count = TRAIN if offload else 1
        if offload:
            near.setsockopt(udp.SOL_UDP, UDP_SEGMENT, DATAGRAM_BYTES)
            far.setsockopt(udp.SOL_UDP, udp.UDP_GRO, 1)
        train, buffer = os.urandom(DATAGRAM_BYTES * count), bytearray(1 << 16)
        per(benchmark, "datagram", count, DATAGRAM_BYTES)

        def there() -> int:
            near.send(train)
            return far.recv_into(buffer)

        assert benchmark(there) == len(train)
        assert buffer[: len(train)] == train


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
