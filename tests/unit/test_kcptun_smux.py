"""smux frames, byte by byte and in pieces."""

from __future__ import annotations

import pytest

from kcpg.core.kcptun import smux, snappy

SYN = bytes.fromhex("0100000003000000")


def test_frames_byte_by_byte() -> None:
    assert smux.frame(1, smux.SYN, 3) == SYN
    assert smux.frame(2, smux.PSH, 0x01020304, b"ab").hex() == "020202000403020" + "16162"
    assert smux.update(5, 2**32 + 7, 262144).hex() == "0204080005000000" + "0700000000000400"


@pytest.mark.parametrize("version", smux.VERSIONS)
@pytest.mark.parametrize("step", [1, 7, 5000])
def test_frames_come_in_any_pieces(version: int, step: int) -> None:
    frames = [(smux.SYN, 3, b""), (smux.PSH, 3, b"x" * 3000), (smux.NOP, 0, b""), (smux.FIN, 3, b"")]
    if version == 2:
        frames.insert(2, (smux.UPD, 3, bytes(8)))
    stream = b"".join(smux.frame(version, *each) for each in frames)
    parser = smux.Parser(0)
    found = [each for at in range(0, len(stream), step) for each in parser.feed(stream[at : at + step])]
    assert found == frames and parser.held == 0 and parser.version == version


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
def test_frames_that_are_none(version: int, data: bytes) -> None:
    with pytest.raises(smux.Malformed):
        list(smux.Parser(version).feed(data))
