"""The link box between two namespaces is what its profile says, and can be led while it runs."""

from __future__ import annotations

import hashlib
import random
import re
import socket
import struct
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from scapy.utils import RawPcapNgReader, RawPcapReader

from harness import capacity, linkcheck
from harness.backends import choose
from harness.netns import Lab
from harness.process import Failed
from harness.topologies.chains import chain
from harness.topology import Topology
from netem import profile
from netem.cross import Cross
from netem.profile import Chance, Impair, Police, Profile
from netem.timeline import Step, Swing
from netem.trace import Radio
from tests.net.emulation import lab

__all__ = ["lab"]

MS = 10**6
RADIO = Radio(8_000_000, 0.5, 2000 * MS, 0, 10**10, 3000 * MS, 5)
QUICK = linkcheck.Effort(500 * MS, MS // 2, {"10": 1.0, "50": 1.0, "90": 5.0}, 0.1)


def symmetric(impair: Impair) -> Profile:
    return Profile("test", "made for a test", ("chosen",), impair, impair)


def link_of(lab: Lab, impair: Impair, **options: bool) -> Topology:
    return chain(lab, symmetric(impair), 0, backend="box", **options)


def packets(topology: Topology, count: int, payload: bytes = b"x" * 100) -> list[int]:
    """Send numbered packets from client to server over IPv4; the numbers that arrive, in order."""
    cable = topology.links[0]
    with (
        topology.server.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        topology.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind((cable.far.v4, 0))
        receiver.settimeout(0.3)  # far beyond every delay here
        sender.connect(receiver.getsockname())
        for number in range(count):
            sender.send(struct.pack("!I", number) + payload)
        arrived = []
        while True:
            try:
                arrived.append(struct.unpack("!I", receiver.recv(2048)[:4])[0])
            except TimeoutError:
                return arrived


@pytest.mark.parametrize(
    "impair",
    [
        Impair(delay_ns=10 * MS, loss=Chance(0.05)),
        Impair(delay_ns=50 * MS, jitter_ns=5 * MS, distribution="normal", duplicate=Chance(0.02)),
        Impair(delay_ns=5 * MS, rate_bps=10**7, limit=100),
        Impair(delay_ns=5 * MS, trace=RADIO, limit_bytes=10**6),
        Impair(delay_ns=5 * MS, rate_bps=10**7, steps=(Step(MS * 900, 10**6, 9 * MS),), limit_bytes=10**6),
        Impair(delay_ns=5 * MS, swing=Swing(20 * MS, 1000 * MS)),
        Impair(delay_ns=5 * MS, police=Police(5 * 10**6, 50_000)),
        Impair(rate_bps=10**7, limit_bytes=10**5, cross=Cross(1, 1, 30 * MS)),
    ],
    ids=["loss", "jitter", "rate", "trace", "steps", "swing", "police", "cross"],
)
def test_a_link_is_what_its_profile_says(lab: Lab, impair: Impair) -> None:
    """Delay, loss, copies and rate, both directions, IPv4 and IPv6."""
    with link_of(lab, impair) as topology:
        topology.assert_no_bypass()
        print(linkcheck.ensure(topology.links[0], QUICK).text())


def test_a_link_that_is_not_is_found_out(lab: Lab) -> None:
    with link_of(lab, Impair(delay_ns=10 * MS, loss=Chance(0.2))) as topology:
        cable = topology.links[0]
        cable.profile = symmetric(Impair(delay_ns=14 * MS))
        cable.restart = lambda seed=None, at_ns=0: None  # type: ignore[method-assign]
        with pytest.raises(Failed, match=r"! up lost(.|\n)*! up delay p50"):
            linkcheck.ensure(cable, replace(QUICK, window_ns=100 * MS))


@pytest.mark.parametrize(
    ("told", "is_", "problem"),
    [
        (Impair(trace=RADIO, limit_bytes=10**6), {"trace": replace(RADIO, seed=6)}, "rate"),
        (Impair(delay_ns=5 * MS, steps=(Step(900 * MS, delay_ns=9 * MS),)), {"steps": ()}, "from 0.733 s on"),
        (Impair(police=Police(5 * 10**6, 50_000)), {"police": None}, "rate that is not dropped"),
        (Impair(rate_bps=10**7, limit_bytes=10**5, cross=Cross(1, 0, 30 * MS)), {"cross": None}, "delay p50"),
    ],
    ids=["trace", "steps", "police", "cross"],
)
def test_a_line_that_does_not_change_as_it_says_is_found_out(
    lab: Lab, told: Impair, is_: dict[str, object], problem: str
) -> None:
    with link_of(lab, replace(told, **is_)) as topology:  # type: ignore[arg-type]
        cable = topology.links[0]
        cable.profile = symmetric(told)
        with pytest.raises(Failed, match=f"! up .*{problem}"):
            linkcheck.ensure(cable, QUICK)


def test_a_seed_repeats_what_is_lost(lab: Lab) -> None:
    with link_of(lab, Impair(delay_ns=MS, loss=Chance(0.3), droplist=(0, 7))) as topology:
        first = packets(topology, 200)
        topology.links[0].restart()
        again = packets(topology, 200)
        topology.links[0].restart("another")
        other = packets(topology, 200)
    assert first == again != other
    assert 0 not in first and 7 not in first and 80 < len(first) < 180


def test_a_stream_arrives_whole_through_loss_reordering_and_corruption(lab: Lab) -> None:
    """Super-packets of the stack are cut and checksummed before the link sees them."""
    impair = Impair(delay_ns=MS, jitter_ns=MS // 2, loss=Chance(0.002), corrupt=Chance(0.002), limit=10_000)
    data = random.Random(1).randbytes(5_000_000)
    with link_of(lab, impair) as topology:
        cable = topology.links[0]
        for family, address in ((socket.AF_INET, cable.far.v4), (socket.AF_INET6, cable.far.v6)):
            with (
                topology.server.socket(family, socket.SOCK_STREAM) as listener,
                topology.client.socket(family, socket.SOCK_STREAM) as sender,
            ):
                listener.bind((address, 0))
                listener.listen()
                sender.settimeout(60)
                sender.connect(listener.getsockname())
                writing = threading.Thread(target=_send_all, args=(sender, data))
                writing.start()
                receiver, _ = listener.accept()
                with receiver:
                    found = hashlib.sha256()
                    while block := receiver.recv(65536):
                        found.update(block)
                writing.join()
            assert found.digest() == hashlib.sha256(data).digest()
        facts = cable.facts()["up"]
        # Frames are as a wire would have them: none is longer than the MTU and its header.
        assert facts["bytes"] / facts["frames"] < 1514 and facts["frames"] > 2 * len(data) / 1514
        assert facts["corrupted"] > 0 and facts["drops"]["loss"] > 0


def _send_all(sender: socket.socket, data: bytes) -> None:
    sender.sendall(data)
    sender.shutdown(socket.SHUT_WR)


def test_a_link_is_led_while_it_runs(lab: Lab) -> None:
    with link_of(lab, Impair(delay_ns=MS)) as topology:
        cable = topology.links[0]
        assert packets(topology, 20) == list(range(20))
        cable.cut()
        cable.cut()
        assert packets(topology, 20) == []
        cable.mend()
        assert packets(topology, 20) == list(range(20))
        cable.change(symmetric(Impair(droplist=(2, 3))))
        assert packets(topology, 5) == [0, 1, 4]
        facts = cable.facts()["up"]
        assert facts["drops"]["loss"] == 20 and facts["drops"]["droplist"] == 2 and facts["frames"] == 65


def test_frames_to_groups_do_not_shift_the_pattern(lab: Lab) -> None:
    with link_of(lab, Impair(droplist=(0,))) as topology:
        cable = topology.links[0]
        with topology.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sender.sendto(b"to all", ("10.77.1.255", 9))
        assert packets(topology, 3) == [1, 2]
        assert cable.facts()["up"]["groups"] >= 1 and cable.facts()["up"]["frames"] == 3


def test_captures_of_both_sides(lab: Lab) -> None:
    with link_of(lab, Impair(delay_ns=MS, droplist=(1,)), capture=True) as topology:
        packets(topology, 4, b"a mark")
        cable = topology.links[0]
        cable.facts()  # what is captured so far is written
        sent, arrived = (_marked(path) for path in cable.captures)
    assert (len(sent), len(arrived)) == (4, 3)
    assert {sent[number] for number in (0, 2, 3)} == set(arrived)


def _marked(path: Path) -> list[bytes]:
    reader = RawPcapReader(str(path))
    assert not isinstance(reader, RawPcapNgReader)
    with reader:
        return [data for data, _ in reader if data.endswith(b"a mark")]


def test_the_capacity_of_the_box_is_told(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether it is enough depends on the machine: it must not decide about a test."""
    monkeypatch.setattr(capacity, "DELAYS_MS", (10,))
    monkeypatch.setattr(capacity, "LEAST_MBIT_S", 0.0)
    monkeypatch.setattr(capacity, "LEAST_PACKETS_S", 1e12)
    assert capacity.main(["--seconds", "1"]) == 1, "no machine does that"
    said = capsys.readouterr().out
    for line in (r"TCP: [1-9][\d,]* Mbit/s", r"small packets: [1-9][\d,]* a second", r"delay of 10 ms: "):
        assert re.search(line, said), said


def test_the_backend_is_chosen_by_what_a_profile_needs() -> None:
    assert choose(profile.load("blackhole"), "auto") == "box"
    assert choose(profile.load("lossy5"), "box") == "box"
    with pytest.raises(Failed, match=r"needs the link box: outage"):
        choose(profile.load("blackhole"), "netem")
    with pytest.raises(Failed, match="NETEM_BACKEND must be one of"):
        choose(profile.load("lossy5"), "nothing")
