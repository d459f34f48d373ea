"""What is fuzzed, by name. A target takes an input and tells what it did in few words: what is new shows."""

from __future__ import annotations

from tests.fuzz.targets import fec, handshake, kcp, kcptube, pairs, parsers, wire

TARGETS = {
    "parsers": parsers.run,
    "handshake": handshake.run,
    "pairs": pairs.run,
    "wire": wire.run,
    "kcp": kcp.run,
    "fec": fec.run,
    "kcptube": kcptube.run,
}
