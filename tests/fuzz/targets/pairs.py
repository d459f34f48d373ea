"""The handshake of key pairs: users that are known, were, or never will be, and what somebody with the keys
of the envelope puts in place of the first message."""

from __future__ import annotations

from kcpg.core.native.handshake.keys import RootKeys
from tests.fuzz.draw import Draw
from tests.fuzz.targets.handshake import PARAMS, talk
from tests.handshakes import ALICE, BOB, LISTENER_KEYS, MALLORY, WALL_S, HandshakePair

USERS = tuple(RootKeys.from_pair(pair) for pair in (ALICE, BOB, MALLORY))

MOST_BYTES = 300  # Of a first message: what the shortest INIT has room for


def run(data: bytes) -> object:
    """Bob has a minute left, Mallory never was a user."""
    draw = Draw(data)

    def admits(public: bytes, wall_s: int) -> bool:
        return public == ALICE.own.public or (public == BOB.own.public and wall_s < WALL_S + 60)

    pair = HandshakePair(
        1,
        offer=draw.pick(PARAMS),
        mine=draw.pick(PARAMS),
        keys=LISTENER_KEYS,
        dialer_keys=draw.pick(USERS),
        admits=admits,
    )
    message = pair.dialer._message
    match draw.below(4):
        case 1:
            at = draw.number(2) % len(message)
            pair.dialer._message = message[:at] + draw.bytes(draw.below(60)) + message[at:]
        case 2:
            pair.dialer._message = message[: draw.number(2) % len(message)] + draw.bytes(draw.below(200))
        case 3:
            pair.dialer._message = pair.another(keys=draw.pick(USERS))._message
    pair.dialer._message = pair.dialer._message[:MOST_BYTES]
    return talk(pair, draw)
