"""The eavesdropper and the on-path attacker of end-to-end runs see and send what they claim."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("scapy")

from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw
from scapy.utils import wrpcap

from harness import eavesdropper, on_path_attacker

CLIENT, SERVER = "10.77.1.1", "10.77.1.2"


def datagram(payload: bytes, source: str = CLIENT, target: str = SERVER, port: int = 40000) -> Packet:
    return Ether() / IP(src=source, dst=target) / UDP(sport=port, dport=3000) / Raw(payload)


def captured(tmp_path: Path, *frames: Packet) -> tuple[Path, list[eavesdropper.Datagram]]:
    path = tmp_path / "near.pcap"
    wrpcap(str(path), list(frames))
    return path, eavesdropper.read(path)


def test_a_capture_is_read_back(tmp_path: Path) -> None:
    six = Ether() / IPv6(src="fd77:1::1", dst="fd77:1::2") / UDP(sport=1, dport=3000) / Raw(b"six")
    path, seen = captured(tmp_path, datagram(b"four"), six, Ether() / ARP())
    assert [each.payload for each in seen] == [b"four", b"six"]
    assert [each.ip_bytes for each in seen] == [20 + 8 + 4, 40 + 8 + 3]
    assert eavesdropper.largest(seen) == 51 and eavesdropper.fragments(seen) == 0
    assert eavesdropper.foreign(seen, {3000}) == []
    assert eavesdropper.foreign(seen, {3001}) == [
        "10.77.1.1:40000 > 10.77.1.2:3000",
        "fd77:1::1:1 > fd77:1::2:3000",
    ]
    assert eavesdropper.holds(path, b"four") and not eavesdropper.holds(path, b"five")


def test_fragments_are_seen(tmp_path: Path) -> None:
    whole = IP(src=CLIENT, dst=SERVER) / UDP(sport=1, dport=3000) / Raw(bytes(3000))
    _, seen = captured(tmp_path, *(Ether() / piece for piece in fragment(whole, 1400)))
    assert eavesdropper.fragments(seen) == len(seen) == 3


def test_a_constant_byte_is_found(tmp_path: Path) -> None:
    frames = [datagram(bytes([number % 251, number // 251, 7]) + bytes(range(6))) for number in range(200)]
    _, seen = captured(tmp_path, *frames)
    at, share = eavesdropper.most_constant(seen)
    assert (at, share) in [(2, 1.0), (1, 1.0)]


def test_the_attacker_learns_the_flow_and_attacks_both_nodes(tmp_path: Path) -> None:
    up = [datagram(b"up" + bytes([number]) * 60) for number in range(5)]
    down = Ether() / IP(src=SERVER, dst=CLIENT) / UDP(sport=3000, dport=40000) / Raw(b"down" * 20)
    _, seen = captured(tmp_path, *up, down)
    line = on_path_attacker.watched(seen, CLIENT, SERVER)
    assert line.client == (CLIENT, 40000) and line.server == (SERVER, 3000)
    assert len(line.up) == 5 and line.down == (b"down" * 20,)
    made = list(on_path_attacker.attacks(line, "7"))
    assert {attack.toward for attack in made} == {"server", "client"}
    assert [(each.name, each.payloads) for each in on_path_attacker.attacks(line, "7")] == [
        (each.name, each.payloads) for each in made
    ], "a seed repeats it"
    by_name = {(attack.name, attack.toward): attack.payloads for attack in made}
    assert by_name["replay", "server"] == line.up[-on_path_attacker.COPIES :]
    assert by_name["reflection", "client"] == line.up
    for own, flipped in zip(line.up, by_name["flipped bits", "server"], strict=True):
        different = [a ^ b for a, b in zip(own, flipped, strict=True) if a != b]
        assert len(different) == 1 and different[0].bit_count() == 1
    assert all(len(cut) < 63 for cut in by_name["truncation", "server"])


def test_nothing_to_attack() -> None:
    with pytest.raises(ValueError, match="nothing to attack"):
        on_path_attacker.watched([], CLIENT, SERVER)


def test_what_a_kernel_says_to_its_neighbours_is_not_foreign(tmp_path: Path) -> None:
    listener = Ether() / IPv6(src="::", dst="ff02::16", nh=58) / Raw(bytes(8))
    other = Ether() / IPv6(src="fd77:1::1", dst="fd77:1::2", nh=58) / Raw(bytes(8))
    udp = Ether() / IPv6(src="fd77:1::1", dst="ff02::16") / UDP(sport=1, dport=2) / Raw(b"x")
    _, seen = captured(tmp_path, listener, other, udp)
    assert eavesdropper.foreign(seen, {3000}) == ["fd77:1::1:0 > fd77:1::2:0", "fd77:1::1:1 > ff02::16:2"]
