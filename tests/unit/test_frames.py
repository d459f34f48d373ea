"""Control frames: what is written is read, with padding behind it; anything else gives None."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kcpg.core.native.wire import frames

convs = st.integers(0, (1 << 32) - 1)
codes = st.integers(0, 255)
padding = st.integers(0, 40).map(bytes)


@given(convs, codes, st.text(max_size=300), padding)
def test_reset_and_close(conv: int, code: int, text: str, zeros: bytes) -> None:
    reset = frames.read_reset(frames.pack_reset(conv, code, text) + zeros)
    close = frames.read_close(frames.pack_close(code, text) + zeros)
    assert reset is not None and close is not None
    assert (reset.conv, reset.code, reset.text) == (conv, code, close.text)
    assert close.code == code
    assert close.text.isprintable()


def test_texts_are_cut_between_characters() -> None:
    assert frames.read_text(frames.pack_text("é" * 200)) == "é" * 127
    assert frames.read_text(frames.pack_text("日本", 4)) == "日"
    assert frames.read_text(frames.pack_text("as it is")) == "as it is"


def test_texts_cannot_forge_log_lines() -> None:
    assert frames.read_text(frames.pack_text("a\nb\x1b[2Jc\u202e")) == "a?b?[2Jc?"


@given(st.binary(min_size=1, max_size=300), padding)
def test_rekey(message: bytes, zeros: bytes) -> None:
    assert frames.read_rekey(frames.pack_rekey(message) + zeros) == message


@given(convs, padding)
def test_conv(conv: int, zeros: bytes) -> None:
    assert frames.read_conv(frames.pack_conv(conv) + zeros) == conv


@given(st.binary(max_size=400))
def test_garbage_never_raises(payload: bytes) -> None:
    for read in (
        frames.read_reset,
        frames.read_close,
        frames.read_rekey,
        frames.read_conv,
        frames.read_opaque,
        frames.read_text,
    ):
        read(payload)


def test_what_is_cut_short_is_none() -> None:
    reset, close, rekey = frames.pack_reset(1, 2, "no"), frames.pack_close(2, "no"), frames.pack_rekey(b"abc")
    assert all(frames.read_reset(reset[:n]) is None for n in range(len(reset)))
    assert all(frames.read_close(close[:n]) is None for n in range(len(close) - 4))
    goaway = frames.pack_goaway(1000, 60_000, "no")
    assert all(frames.read_goaway(goaway[:n]) is None for n in range(len(goaway)))
    assert all(frames.read_rekey(rekey[:n]) is None for n in range(len(rekey)))
    assert frames.read_rekey(bytes(7)) is None
    assert all(frames.read_opaque(bytes(n)) is None for n in range(8))


def test_an_end_of_an_older_node_tells_no_spread() -> None:
    assert frames.read_close(frames.pack_close(7, "bye", 2500)) == (7, "bye", 2500)
    assert frames.read_close(b"\x07\x03bye") == (7, "bye", 0)
    assert frames.read_close(b"\x07\x03bye" + bytes(2)) == (7, "bye", 0), "padded"
    assert frames.read_goaway(frames.pack_goaway(1 << 40, 5, "bye")) == ((1 << 32) - 1, 5, "bye")


def test_the_smallest_datagram_adds_up() -> None:
    """8 of header, 1 of type, 16 of tag; a packet in DATAGRAM has its conversation in front."""
    assert 8 + 1 + frames.MIN_PAYLOAD_BYTES + 16 == frames.MIN_DATAGRAM_BYTES
    assert len(frames.pack_conv(1)) + frames.MIN_PACKET_BYTES == frames.MIN_PAYLOAD_BYTES
