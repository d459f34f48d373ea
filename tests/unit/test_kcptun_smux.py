"""smux frames, byte by byte and in pieces."""

from __future__ import annotations

import pytest

from kcpg.core.kcptun import smux, snappy
from tests.engines import twin

SYN = bytes.fromhex("0100000003000000")


def test_frames_byte_by_byte() -> None:
    assert smux.frame(1, smux.SYN, 3) == SYN
    assert smux.frame(2, smux.PSH, 0x01020304, b"ab").hex() == "020202000403020" + "16162"
    assert smux.update(5, 2**32 + 7, 262144).hex() == "0204080005000000" + "0700000000000400"


@pytest.mark.parametrize("version", smux.VERSIONS)
@pytest.mark.parametrize("step", [1, 7, 5000])
def test_frames_come_in_any_pieces(engine: str, version: int, step: int) -> None:
    frames = [(smux.SYN, 3, b""), (smux.PSH, 3, b"x" * 3000), (smux.NOP, 0, b""), (smux.FIN, 3, b"")]
    if version == 2:
        frames.insert(2, (smux.UPD, 3, bytes(8)))
    stream = b"".join(smux.frame(version, *each) for each in frames)
    parser = twin(engine, "Parser")(0)
    found = [each for at in range(0, len(stream), step) for each in parser.feed(stream[at : at + step])]
    pushed = [body for command, number, body in found if command == smux.PSH and number == 3]
    assert b"".join(pushed) == b"x" * 3000 and max(map(len, pushed)) <= step
    assert [each for each in found if each[0] != smux.PSH] == [each for each in frames if each[0] != smux.PSH]
    assert parser.held == 0 and parser.version == version


def test_data_of_one_stream_comes_together(engine: str) -> None:
    stream = smux.frames(1, 3, bytes(range(100)), 30) + smux.frames(1, 5, b"other", 99)
    stream += smux.frame(1, smux.PSH, 5) + smux.frame(1, smux.FIN, 5) + smux.frames(1, 5, b"late", 1)
    assert twin(engine, "Parser")(0).feed(stream) == [
        (smux.PSH, 3, bytes(range(100))),
        (smux.PSH, 5, b"other"),
        (smux.FIN, 5, b""),
        (smux.PSH, 5, b"late"),
    ]


@pytest.mark.parametrize(
    ("version", "data"),
    [
        (0, b"\x03\x00\x00\x00\x03\x00\x00\x00"),
        (0, snappy.IDENTIFIER),
        (1, smux.frame(2, smux.SYN, 3)),
        (2, smux.frame(1, smux.NOP, 0)),
        (1, smux.frame(1, smux.UPD, 3, bytes(8))),
        (2, smux.frame(2, smux.UPD, 3, bytes(7))),
        (2, smux.frame(2, 5, 3)),
        (1, smux.frame(1, smux.SYN, 3, b"x")),
    ],
)
def test_frames_that_are_none(engine: str, version: int, data: bytes) -> None:
    with pytest.raises(smux.Malformed):
        twin(engine, "Parser")(version).feed(data)
