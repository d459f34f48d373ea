"""Changes inputs, from a seed: what AFL calls havoc, and splices."""

from __future__ import annotations

import random
from collections.abc import Sequence

MOST_BYTES = 4096

_EDGES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutated(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """A changed copy; `others`: inputs to take pieces from."""
    changed = bytearray(data)
    for _ in range(1 << rng.randrange(5)):
        _change(changed, others, rng)
    return bytes(changed[:MOST_BYTES])


def _change(data: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    span = rng.choice((1, 1, 2, 4, 8, 32, 128))
    match rng.randrange(9):
        case 0 if at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        case 1 if at < len(data):
            data[at] = rng.randrange(256)
        case 2 if at < len(data):
            data[at] = (data[at] + rng.randint(-8, 8)) % 256
        case 3:
            size = rng.choice((1, 2, 4))
            edge = rng.choice(_EDGES) % (1 << 8 * size)
            data[at : at + size] = edge.to_bytes(size, rng.choice(("little", "big")))
        case 4:
            del data[at : at + span]
        case 5:
            data[at:at] = rng.randbytes(span)
        case 6:
            source = rng.randrange(len(data) + 1)
            data[at:at] = data[source : source + span]
        case 7:
            other = rng.choice(others)
            source = rng.randrange(len(other) + 1)
            data[at : at + span] = other[source : source + span]
        case _:
            other = rng.choice(others)
            data[at:] = other[rng.randrange(len(other) + 1) :]
