"""A lane of the link box, between two pairs of sockets that keep frames apart as TAP interfaces do."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic_ns

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from netem.lane import BATCH, Lane
from netem.profile import Chance, Impair, PortThrottle
from netem.record import Recorder

MS = 10**6
FRAME = bytes.fromhex("020000000001") + b"a frame to one station"
GROUP = bytes.fromhex("ffffffffffff") + b"a frame to everybody"


class Wires:
    """What is written to `near` the lane reads; what it writes comes out of `far`."""

    def __init__(self) -> None:
        self.near, self._source = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sink, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for each in (self.near, self._source, self._sink, self.far):
            each.setblocking(False)

    def lane(self, impair: Impair, way: str = "up", recorder: Recorder | None = None) -> Lane:
        descriptors = (self._source.fileno(), self._sink.fileno(), 1518)
        return Lane(way, impair, "seed", descriptors, recorder or Recorder())

    def arrived(self) -> list[bytes]:
        frames = []
        while True:
            try:
                frames.append(self.far.recv(2000))
            except BlockingIOError:
                return frames

    def close(self) -> None:
        for each in (self.near, self._source, self._sink, self.far):
            each.close()


@pytest.fixture
def wires() -> Iterator[Wires]:
    made = Wires()
    yield made
    made.close()


def test_a_frame_is_held_for_its_time(wires: Wires) -> None:
    lane = wires.lane(Impair(delay_ns=5 * MS))
    wires.near.send(FRAME)
    lane.take()
    due_ns = lane.next_due_ns
    assert due_ns is not None and lane.facts()["held"] == 1
    lane.release(due_ns - 1)
    assert wires.arrived() == []
    lane.release(due_ns + 25_000)
    assert wires.arrived() == [FRAME] and lane.next_due_ns is None
    facts = lane.facts()
    assert (facts["frames"], facts["sent"], facts["bytes"], facts["sent_bytes"]) == (
        1,
        1,
        len(FRAME),
        len(FRAME),
    )
    assert facts["late_us"] == {"50": 30, "99": 30, "100": 30}


def test_frames_to_groups_pass_at_once_whatever_is_lost(wires: Wires) -> None:
    lane = wires.lane(Impair(delay_ns=5 * MS, loss=Chance(1.0)))
    for frame in (GROUP, FRAME, GROUP):
        wires.near.send(frame)
    lane.take()
    assert wires.arrived() == [GROUP, GROUP]
    facts = lane.facts()
    assert (facts["frames"], facts["groups"], facts["drops"]["loss"]) == (1, 2, 1)


def test_a_hurt_frame_differs_in_one_bit(wires: Wires) -> None:
    lane = wires.lane(Impair(corrupt=Chance(1.0), duplicate=Chance(1.0)))
    wires.near.send(FRAME)
    lane.take()
    lane.release(1 << 62)
    copies = wires.arrived()
    assert len(copies) == 2
    for copy in copies:
        assert sum((one ^ other).bit_count() for one, other in zip(FRAME, copy, strict=True)) == 1


def test_work_is_bounded(wires: Wires) -> None:
    """Neither reading nor writing goes on for ever: the other direction has its turn in between."""
    lane = wires.lane(Impair())

    def count(step: Callable[[], None]) -> int:
        before = lane.facts()
        step()
        after = lane.facts()
        return int(after["frames"] - before["frames"] + after["sent"] - before["sent"])

    sent = 0
    try:
        while sent < 4 * BATCH:
            wires.near.send(FRAME)
            sent += 1
    except BlockingIOError:
        pass  # the kernel keeps only so many
    lane.take()
    assert lane.facts()["frames"] == min(sent, BATCH)
    assert count(lambda: lane.release(1 << 62)) <= BATCH


@pytest.mark.parametrize("way", ["up", "down"])
def test_throttled_is_the_port_of_the_servers_side(wires: Wires, way: str) -> None:
    """Two frames with one server port share a bucket that holds one of them; a third has its own."""
    lane = wires.lane(Impair(port=PortThrottle(10**4, 1514, 1)), way)
    for client, server in ((1, 3000), (2, 3000), (1, 3001)):
        source, destination = (client, server) if way == "up" else (server, client)
        packet = Ether(dst="02:00:00:00:00:01") / IP() / UDP(sport=source, dport=destination) / bytes(1000)
        wires.near.send(bytes(packet))
    lane.take()
    lane.release(monotonic_ns())
    assert len(wires.arrived()) == 2 and lane.facts()["held"] == 1
    lane.release(lane.next_due_ns or 0)
    assert len(wires.arrived()) == 1


def test_a_sink_that_is_gone_is_counted(wires: Wires) -> None:
    lane = wires.lane(Impair())
    wires.near.send(FRAME)
    lane.take()
    wires.far.close()
    lane.release(1 << 62)
    assert lane.facts()["refused"] == 1 and lane.facts()["sent"] == 0


def test_verdicts_and_captures_are_written(wires: Wires, tmp_path: Path) -> None:
    with Recorder(tmp_path / "captures", tmp_path / "journal") as recorder:
        lane = wires.lane(Impair(delay_ns=MS, droplist=(1,)), recorder=recorder)
        for _ in range(2):
            wires.near.send(FRAME)
        lane.take()
        lane.release(lane.next_due_ns or 0)
    lines = (tmp_path / "journal").read_text(encoding="utf-8").splitlines()
    assert '"index": 0' in lines[0] and f'"copies": [{{"delay_ns": {MS}, "bit": null}}]' in lines[0]
    assert '"index": 1' in lines[1] and '"copies": []' in lines[1]
    # A capture is its header (24 bytes) and 16 bytes before each frame.
    for side, frames in (("a", 2), ("b", 1)):
        assert (tmp_path / "captures" / f"{side}.pcap").stat().st_size == 24 + frames * (16 + len(FRAME))
