"""An attacker on the path, who records, changes and forges datagrams, and sends them to both nodes.

scapy builds them with correct checksums, so that they reach the nodes' sockets: a datagram that the kernel
drops proves nothing about kcpg.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from harness.eavesdropper import Datagram
from harness.link import End, Link

COPIES = 80  # Datagrams of each attack on each node, except for the flood

FLOOD = 600  # Datagrams of the garbage flood on each node; scapy builds 2,400 a second

MOST_BYTES = 1472  # A frame of 1500 bytes without the headers of IPv4 and UDP

STRANGER_LAST_BYTE = 77


@dataclass(frozen=True)
class Attack:
    """Datagrams for one node."""

    name: str
    toward: str  # server or client
    payloads: Sequence[bytes]
    stranger: bool = False  # They come from an unknown address


@dataclass(frozen=True)
class Line:
    """The flow that the attacker watches: both addresses and ports of the tunnel."""

    client: tuple[str, int]
    server: tuple[str, int]
    up: tuple[bytes, ...]  # Payloads that went from the client to the server, oldest first
    down: tuple[bytes, ...]


def watched(datagrams: Sequence[Datagram], client: str, server: str) -> Line:
    """What the attacker learns from a capture. Raises ValueError if no traffic passed both ways."""
    up = [each for each in datagrams if each.source == client and each.target == server and each.payload]
    down = [each for each in datagrams if each.source == server and each.target == client and each.payload]
    if not up or not down:
        raise ValueError("nothing to attack: the capture lacks datagrams in both directions")
    return Line(
        (client, up[-1].source_port),
        (server, up[-1].target_port),
        tuple(each.payload for each in up),
        tuple(each.payload for each in down),
    )


def stranger(address: str) -> str:
    """An unused address of the same network."""
    return f"{address.rpartition('.')[0]}.{STRANGER_LAST_BYTE}"


def attacks(line: Line, seed: str) -> Iterator[Attack]:
    """All attacks, each on both nodes."""
    rng = random.Random(f"on-path attacker:{seed}")
    for toward, own, other in (("server", line.up, line.down), ("client", line.down, line.up)):
        recent = own[-COPIES:]
        yield Attack("replay", toward, recent)
        yield Attack("replay of the oldest", toward, own[:COPIES])
        yield Attack("reflection", toward, other[-COPIES:])
        yield Attack("flipped bits", toward, [_flipped(each, rng) for each in recent])
        yield Attack("truncation", toward, [each[: rng.randrange(len(each))] for each in recent])
        yield Attack("lengthening", toward, [_lengthened(each, rng) for each in recent])
        yield Attack("garbage flood", toward, [_garbage(rng) for _ in range(FLOOD)])
        yield Attack("recorded, from another address", toward, recent, stranger=True)
        yield Attack(
            "garbage, from another address", toward, [_garbage(rng) for _ in range(COPIES)], stranger=True
        )
    first = line.up[0]
    forged = [_flipped(first, rng) for _ in range(COPIES)] + [
        rng.randbytes(len(first)) for _ in range(COPIES)
    ]
    yield Attack("forged handshakes", "server", forged)
    yield Attack("forged handshakes, from another address", "server", forged, stranger=True)


def send(link: Link, line: Line, attack: Attack) -> int:
    """Send an attack over the cable, from the end opposite its victim; returns the number of datagrams."""
    from_end, to_end = (link.near, link.far) if attack.toward == "server" else (link.far, link.near)
    source, target = (line.client, line.server) if attack.toward == "server" else (line.server, line.client)
    address = stranger(source[0]) if attack.stranger else source[0]
    head = Ether(src=from_end.mac, dst=to_end.mac) / IP(src=address, dst=target[0])
    with from_end.namespace.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((from_end.device, 0))
        for payload in attack.payloads:
            raw.send(bytes(head / UDP(sport=source[1], dport=target[1]) / Raw(payload)))
    return len(attack.payloads)


def make_reachable(end: End, other: End, address: str) -> None:
    """Let an answer from `end` to an unused address reach the cable, where a capture shows it."""
    end.namespace.ip(f"neigh replace {address} lladdr {other.mac} dev {end.device} nud permanent")


def _flipped(payload: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(payload))
    return payload[:at] + bytes([payload[at] ^ (1 << rng.randrange(8))]) + payload[at + 1 :]


def _lengthened(payload: bytes, rng: random.Random) -> bytes:
    return (payload + rng.randbytes(rng.randrange(1, 40)))[:MOST_BYTES]


def _garbage(rng: random.Random) -> bytes:
    return rng.randbytes(rng.choice((0, 1, 8, 31, 32, 33, 64, 200, 1200, 1440, MOST_BYTES)))
