"""What the link needs of an Ethernet frame: its ports, and a way to flip a bit."""

from __future__ import annotations

_ETHERTYPE = slice(12, 14)
_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"
_WITH_PORTS = (6, 17)  # TCP, UDP
_HEADER = 14


def ports(frame: bytes) -> tuple[int, int]:
    """(source, destination) port of TCP or UDP over IPv4 or IPv6; zeros for all else, also later
    fragments."""
    kind = frame[_ETHERTYPE]
    if kind == _IPV4 and len(frame) > _HEADER + 20:
        protocol, at = frame[_HEADER + 9], _HEADER + 4 * (frame[_HEADER] & 15)
        if (frame[_HEADER + 6] & 0x1F) or frame[_HEADER + 7]:
            return 0, 0
    elif kind == _IPV6 and len(frame) > _HEADER + 40:
        protocol, at = frame[_HEADER + 6], _HEADER + 40
    else:
        return 0, 0
    if protocol not in _WITH_PORTS or len(frame) < at + 4:
        return 0, 0
    return int.from_bytes(frame[at : at + 2], "big"), int.from_bytes(frame[at + 2 : at + 4], "big")


def flipped(frame: bytes, bit: int) -> bytes:
    """The frame with one bit flipped, counted from the lowest bit of the first byte."""
    hurt = bytearray(frame)
    hurt[bit >> 3] ^= 1 << (bit & 7)
    return bytes(hurt)
