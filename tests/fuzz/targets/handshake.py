"""Datagrams before there is a link, of strangers and peers with the password: both roles, tampered with."""

from __future__ import annotations

from dataclasses import replace

from kcpg.core.native.handshake.handshake import InitRequest
from kcpg.core.native.handshake.outcomes import Accepted, Reply
from kcpg.core.native.handshake.params import LinkParams, Verdict
from tests.fuzz.draw import Draw
from tests.handshakes import HandshakePair

PARAMS = (
    LinkParams(),
    LinkParams(algorithm="xchacha20"),
    LinkParams(datagram_bytes=548),
    LinkParams(datagram_bytes=65507),
)


def run(data: bytes) -> object:
    """A listener and a dialer of one seed; the input changes what goes between them."""
    draw = Draw(data)
    pair = HandshakePair(1, offer=draw.pick(PARAMS), mine=draw.pick(PARAMS))
    return talk(pair, draw)


def talk(pair: HandshakePair, draw: Draw) -> object:
    """Four INITs and what becomes of them."""
    told: set[str] = set()
    for _ in range(4):
        pair.load = bool(draw.below(2))
        init = _tampered(pair.init(), draw)
        got = pair.to_listener(init, draw.pick((b"here", b"there")))
        told.add(type(got).__name__)
        answer = b""
        if isinstance(got, InitRequest):
            # A listener is any holder of the password, and may answer what it likes.
            params = replace(draw.pick(PARAMS), algorithm=got.params.algorithm)
            if draw.below(4) == 0:
                answer = got.refuse(params, Verdict(False, "why")) or b""
            elif (done := got.accept(params, Verdict(True, "why"), 1 + draw.number())) is not None:
                answer = done[0]
        elif isinstance(got, Reply):
            answer = got.datagram
        assert len(answer) <= len(init), "an answer is never longer than what asked for it"
        if len(answer) > 8:
            found = pair.to_dialer(_tampered(answer, draw))
            told.add(type(found).__name__)
            if isinstance(found, Accepted):
                assert found.params.algorithm == pair.offer.algorithm
                assert found.params.datagram_bytes <= pair.offer.datagram_bytes
        pair.now_ms += draw.number(2)
        pair.wall_s += draw.number()
    return frozenset(told), tuple(sorted({*pair.listener.drops, *pair.dialer.drops}))


def _tampered(datagram: bytes, draw: Draw) -> bytes:
    """Mostly as it is; a stranger can do the rest."""
    match draw.below(6):
        case 1:
            at = draw.number(2) % len(datagram)
            return datagram[:at] + bytes((datagram[at] ^ (1 << draw.below(8)),)) + datagram[at + 1 :]
        case 2:
            return datagram[: 25 + draw.number(2) % max(len(datagram) - 25, 1)]
        case 3:
            return datagram + draw.bytes(draw.below(20))
    return datagram
