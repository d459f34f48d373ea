"""What a peer with a kcptube's password may send: every layer below the seal, to listener and dialer."""

from __future__ import annotations

from kcpg.core.kcptube.cipher import Cipher
from tests.fuzz.draw import Draw, magnitude
from tests.property.test_kcptube_properties import CLIENT, FORMATS, SERVER, WALL_S, TubePair, messages_of

STEPS = 60


def run(data: bytes) -> object:
    """A tunnel that is up, or is about to be, and datagrams of the peer beside its own."""
    draw = Draw(data)
    wire_format = draw.pick(FORMATS)
    pair = TubePair("compiled" if draw.below(2) else "python", wire_format, draw.below(2))
    if draw.below(4):
        pair.up()
    peer = Cipher(wire_format.algorithm, wire_format.password, (7, 3))
    stamp = WALL_S.to_bytes(4, "little")
    for _ in range(STEPS):
        if not draw.more:
            break
        numbers = [0, 5, *(link.conv.number for link in pair.l.links)]
        body = _segments(draw, numbers) if draw.below(4) else draw.bytes(draw.below(80))
        if wire_format.has_fec:
            body = draw.near(1).to_bytes(4, "big") + bytes((draw.below(6),)) + body
        datagram = peer.seal((draw.bytes(4).ljust(4, b"\0") if draw.below(8) == 7 else stamp) + body)
        if draw.below(2):
            pair.l.receive(1, draw.pick((CLIENT, b"other")), datagram, pair.now_ms)
        else:
            pair.d.receive(1, SERVER, datagram, pair.now_ms)
        if draw.below(3) == 0 and pair.taken:
            pair.taken[-1].read(1 << 16)
        pair.step(draw.pick((0, 1, 300, 40_000)))
    drops = {**pair.l.wire.drops, **pair.d.wire.drops}
    return wire_format.has_fec, tuple(sorted(drops)), magnitude(len(pair.taken)), len(pair.l.links)


def _segments(draw: Draw, numbers: list[int]) -> bytes:
    """KCP segments with messages of the tunnel's control in them, or with anything."""
    found = b""
    for _ in range(1 + draw.below(3)):
        message = bytes((draw.below(4) << 4 | draw.below(10),)) + draw.bytes(draw.below(50))
        command = draw.pick((81, 81, 81, 82, 83, 84))
        found += messages_of(draw.pick(numbers), command, draw.near(0), message)
    return found
