"""The simulated network itself: delays, blackholes, NAT, corruption measure what they were told."""

from __future__ import annotations

from typing import cast

import pytest

from netem.profile import Chance, Impair, load
from netem.trace import opportunities
from tests.line import MS
from tests.sim.network import LegSlot, SimSocket
from tests.sim.world import SimNode, World


class Probe:
    """A host that only writes down what arrives: (milliseconds, from, datagram)."""

    def __init__(self, world: World, host: str) -> None:
        self.world = world
        self.host = host
        self.got: list[tuple[int, bytes, bytes]] = []

    def arrived(self, sock: SimSocket, source: bytes, datagram: bytes) -> None:
        self.got.append((self.world.elapsed_ms, source, datagram))


def two_hosts(impair: Impair) -> tuple[World, Probe, Probe, bytes, bytes]:
    world = World("network")
    a, b = Probe(world, "a"), Probe(world, "b")
    world.network.link("a", "b", impair)
    addr_a, addr_b = (world.network.open(cast(SimNode, probe), LegSlot(), 1).addr for probe in (a, b))
    return world, a, b, addr_a, addr_b


def test_delay_is_rounded_up_to_the_core_s_clock() -> None:
    world, a, b, addr_a, addr_b = two_hosts(load("lan").up)
    world.network.send(addr_a, addr_b, b"there")
    world.pass_time(5)
    world.network.send(addr_b, addr_a, b"back")
    world.pass_time(5)
    assert b.got == [(1, addr_a, b"there")] and a.got == [(6, addr_b, b"back")]


def test_rate_includes_the_headers() -> None:
    world, _, b, addr_a, addr_b = two_hosts(Impair(rate_bps=10**6))
    for _ in range(10):
        world.network.send(addr_a, addr_b, bytes(1250 - 42))
    world.pass_time(100)
    assert [at for at, _, _ in b.got] == [10 * turn for turn in range(1, 11)]


def test_a_radio_cell_carries_what_its_trace_has() -> None:
    """Offered more than it takes: every opportunity is used, and the queue is as long as its bytes allow."""
    line = load("trace").down
    world, _, b, addr_a, addr_b = two_hosts(line)
    assert line.trace is not None
    for _ in range(3000):
        world.network.send(addr_a, addr_b, bytes(1472))
        world.network.send(addr_a, addr_b, bytes(1472))
        world.pass_time(1)
    used = [at for at in opportunities(line.trace) if 20 < at <= 3019]  # the delay is 20 ms
    assert [at for at, _, _ in b.got] == [at for at in used if at <= 3000]
    # The last one sent gets to the queue at 3019 ms, and whatever was let in until then has left or waits.
    assert world.network.counts["lost"] == 6000 - len(used) - line.limit_bytes // 1514


def test_blackhole_and_return() -> None:
    world, _, b, addr_a, addr_b = two_hosts(Impair(delay_ns=MS))
    world.network.cut("a", "b", for_ms=10)
    for number in range(4):
        world.network.send(addr_a, addr_b, bytes([number]))
        world.pass_time(5)
    assert [datagram for _, _, datagram in b.got] == [b"\2", b"\3"] and world.network.counts["cut"] == 2


def test_nat_hides_rebinds_and_refuses_strangers() -> None:
    world, a, b, addr_a, addr_b = two_hosts(Impair())
    world.network.behind_nat("a")
    world.network.send(addr_b, addr_a, b"stranger")
    world.network.send(addr_a, addr_b, b"one")
    world.pass_time(1)
    (_, outer, _), *_ = b.got
    assert outer != addr_a and not a.got
    world.network.send(addr_b, outer, b"answer")
    world.pass_time(1)
    world.network.rebind_nat("a")
    world.network.send(addr_b, outer, b"too late")
    world.network.send(addr_a, addr_b, b"two")
    world.pass_time(1)
    assert [datagram for _, _, datagram in a.got] == [b"answer"]
    assert b.got[1][1] not in (outer, addr_a)


def test_corruption_flips_one_bit_or_loses_the_frame() -> None:
    world, _, b, addr_a, addr_b = two_hosts(Impair(corrupt=Chance(1.0)))
    for _ in range(200):
        world.network.send(addr_a, addr_b, bytes(100))
    world.pass_time(1)
    assert all(sum(byte.bit_count() for byte in datagram) == 1 for _, _, datagram in b.got)
    assert 100 < len(b.got) < 180  # 42 of 142 bytes are headers


@pytest.mark.parametrize("name", ["lossy10", "duplicate"])
def test_the_same_seed_is_the_same_world(name: str) -> None:
    runs = []
    for _ in range(2):
        world, _, b, addr_a, addr_b = two_hosts(load(name).up)
        for number in range(300):
            world.network.send(addr_a, addr_b, number.to_bytes(2, "big"))
            world.pass_time(1)
        runs.append(b.got)
    assert runs[0] == runs[1] and len(runs[0]) != 300
