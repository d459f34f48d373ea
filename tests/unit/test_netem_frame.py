"""What the link box reads in a frame."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether

from netem import frame


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (IP() / UDP(sport=7, dport=3000), (7, 3000)),
        (IP(options=b"\x01" * 4) / TCP(sport=7, dport=3000), (7, 3000)),
        (IPv6() / UDP(sport=7, dport=3000), (7, 3000)),
        (IPv6() / TCP(sport=7, dport=3000), (7, 3000)),
        (IP(frag=5) / UDP(sport=7, dport=3000), (0, 0)),
        (IP(proto=1) / b"ping", (0, 0)),
        (ARP(), (0, 0)),
    ],
)
def test_ports(packet: object, expected: tuple[int, int]) -> None:
    assert frame.ports(bytes(Ether() / packet)) == expected


@given(st.binary(max_size=80))
def test_any_bytes_have_some_ports(data: bytes) -> None:
    assert all(0 <= port <= 65535 for port in frame.ports(data))


@given(st.binary(min_size=1, max_size=40), st.data())
def test_one_bit_is_flipped(data: bytes, more: st.DataObject) -> None:
    bit = more.draw(st.integers(0, 8 * len(data) - 1))
    hurt = frame.flipped(data, bit)
    assert sum((one ^ other).bit_count() for one, other in zip(data, hurt, strict=True)) == 1
    assert frame.flipped(hurt, bit) == data
