"""Reads captures with scapy: what would an eavesdropper learn?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import Ether
from scapy.utils import RawPcapReader

MOST_FRAMES = 20_000  # Frames of a capture to dissect: scapy does some 6,000 a second

# The part of a datagram that could be constant: CID, packet number and type (docs/protocol.md).
HEAD_BYTES = 9


@dataclass(frozen=True, slots=True)
class Datagram:
    """A captured UDP datagram, or another IP packet (ports 0)."""

    source: str
    source_port: int
    target: str
    target_port: int
    payload: bytes
    ip_bytes: int  # Length of the IP packet
    fragment: bool


def read(path: Path, most: int = MOST_FRAMES) -> list[Datagram]:
    """The IP packets of a capture, in order; other frames are left out."""
    found = []
    with RawPcapReader(str(path)) as reader:
        for number, (data, _) in enumerate(reader):
            if number == most:
                break
            datagram = _dissect(Ether(data))
            if datagram is not None:
                found.append(datagram)
    return found


def holds(path: Path, marker: bytes) -> bool:
    """Whether the capture contains these bytes."""
    return marker in path.read_bytes()


def fragments(datagrams: Sequence[Datagram]) -> int:
    """The number of IP fragments."""
    return sum(each.fragment for each in datagrams)


def largest(datagrams: Sequence[Datagram]) -> int:
    """The longest IP packet in bytes."""
    return max((each.ip_bytes for each in datagrams), default=0)


def foreign(datagrams: Sequence[Datagram], ports: Collection[int]) -> list[str]:
    """All traffic that is not UDP from or to these ports.

    The kernel's own multicast does not count: it reports an interface's multicast groups at any time
    (RFC 3810), and only kcpg's UDP can leak what the tunnel carries.
    """
    odd = {
        f"{each.source}:{each.source_port} > {each.target}:{each.target_port}"
        for each in datagrams
        if not {each.source_port, each.target_port} & set(ports) and not _neighbourly(each)
    }
    return sorted(odd)


def _neighbourly(each: Datagram) -> bool:
    return not each.source_port and not each.target_port and ip_address(each.target).is_multicast


def to(datagrams: Sequence[Datagram], addresses: Collection[str]) -> int:
    """How many have one of these addresses as their target."""
    return sum(each.target in addresses for each in datagrams)


def most_constant(datagrams: Sequence[Datagram]) -> tuple[int, float]:
    """(position, share) of the byte near the beginning that is the most constant.

    The share is that of its most frequent value: near 1/256 in random bytes.
    """
    payloads = [each.payload for each in datagrams if len(each.payload) >= HEAD_BYTES]
    shares = [
        Counter(payload[at] for payload in payloads).most_common(1)[0][1] / len(payloads)
        for at in range(HEAD_BYTES)
        if payloads
    ]
    worst = max(shares, default=1.0)
    return (shares.index(worst) if shares else -1), worst


def _dissect(frame: Ether) -> Datagram | None:
    if IP in frame:
        ip = frame[IP]
        fragment, length = bool(ip.flags.MF or ip.frag), int(ip.len)
    elif IPv6 in frame:
        ip = frame[IPv6]
        fragment, length = IPv6ExtHdrFragment in frame, int(ip.plen) + 40
    else:
        return None
    source_port, target_port, payload = 0, 0, b""
    if UDP in frame and not fragment:
        udp = frame[UDP]
        source_port, target_port = int(udp.sport), int(udp.dport)
        payload = bytes(udp.payload)[: max(int(udp.len) - 8, 0)]
    return Datagram(str(ip.src), source_port, str(ip.dst), target_port, payload, length, fragment)
