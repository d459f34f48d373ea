"""Snappy's framing, as kcptun uses it."""

from __future__ import annotations

import random

import cramjam
import pytest

from kcpg.core.kcptun import snappy

SYN = bytes.fromhex("0100000003000000")


def test_the_first_chunk_byte_by_byte() -> None:
    assert snappy.Writer().pack(SYN).hex() == "ff060000734e61507059010c00004439ac2f0100000003000000"


def test_a_library_reads_what_is_written_and_the_other_way_round() -> None:
    rng = random.Random("snappy")
    writer, reader = snappy.Writer(), snappy.Reader()
    texts = [SYN, b"a" * 65536, rng.randbytes(65536), rng.randbytes(10) * 700, b"x"]
    packed = [writer.pack(text) for text in texts]
    assert len(packed[1]) < 5000 and len(packed[2]) == 65536 + snappy.OVERHEAD_BYTES
    assert bytes(cramjam.snappy.decompress(b"".join(packed))) == b"".join(texts)
    framed = bytes(cramjam.snappy.compress(b"".join(texts)))
    assert reader.feed(framed) == b"".join(texts)


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_chunks_come_in_any_pieces(step: int) -> None:
    rng = random.Random(step)
    writer, reader = snappy.Writer(), snappy.Reader()
    texts = [rng.randbytes(rng.randrange(1, 300)) * rng.randrange(1, 4) for _ in range(50)]
    padding = bytes((snappy.PADDING, 200, 0, 0)) + bytes(200)
    stream = b"".join(writer.pack(text) + padding for text in texts) + snappy.IDENTIFIER
    assert b"".join(reader.feed(stream[at : at + step]) for at in range(0, len(stream), step)) == b"".join(
        texts
    )
    assert reader.held == 0


def _chunk(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + len(body).to_bytes(3, "little") + body


GOOD = snappy.Writer().pack(b"x")

WRONG = {
    "nothing before it": GOOD[len(snappy.IDENTIFIER) :],
    "padding first": _chunk(snappy.PADDING, b""),
    "another identifier": _chunk(0xFF, b"sNaPpX"),
    "checksum": GOOD[:-1] + b"y",
    "no checksum": snappy.IDENTIFIER + _chunk(snappy.PLAIN, b"123"),
    "unknown kind": snappy.IDENTIFIER + _chunk(0x42, bytes(10)),
    "too long": snappy.IDENTIFIER + b"\x01\xff\xff\xff",
    "too much in it": snappy.IDENTIFIER + _chunk(snappy.PLAIN, bytes(4) + bytes(65537)),
    "a bomb": snappy.IDENTIFIER + _chunk(snappy.COMPRESSED, bytes(4) + b"\xff\xff\xff\xff\x0f" + bytes(20)),
    "a small bomb": snappy.IDENTIFIER + _chunk(snappy.COMPRESSED, bytes(4) + b"\x81\x80\x04" + bytes(20)),
    "no block": snappy.IDENTIFIER + _chunk(snappy.COMPRESSED, bytes(4)),
    "a damaged block": snappy.IDENTIFIER + _chunk(snappy.COMPRESSED, bytes(4) + b"\x20\xff\xff\xff"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_ends_it(what: str) -> None:
    with pytest.raises(snappy.Malformed):
        snappy.Reader().feed(WRONG[what])
