"""Frames in pieces: cut, joined in any order, and bounded whatever comes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kcpg.core.native.wire.pieces import MOST_OPEN, MOST_PIECES, PIECE_HEADER_BYTES, Pieces, cut


@settings(deadline=None)
@given(frame=st.binary(min_size=1, max_size=3000), room=st.integers(231, 1447), seed=st.integers(0, 99))
def test_pieces_fit_and_join_in_any_order(frame: bytes, room: int, seed: int) -> None:
    pieces = cut(frame, 7, room)
    assert max(map(len, pieces)) <= room
    random.Random(seed).shuffle(pieces)
    received = Pieces(9000)
    for piece in pieces[:-1]:
        assert received.add(piece) is None
        assert len(pieces) > 2 or received.add(piece) is None, "a piece that came twice changes nothing"
    assert received.add(pieces[-1]) == frame


def test_frames_under_way_at_once_do_not_mix() -> None:
    received, frames = Pieces(9000), [bytes([n]) * 1500 for n in range(20)]
    cuts = [cut(frame, number, 800) for number, frame in enumerate(frames)]
    assert [received.add(first) for first, _ in cuts] == [None] * 20
    assert [received.add(second) for _, second in cuts] == frames


def test_incomplete_frames_give_way_to_later_ones() -> None:
    received = Pieces(9000)
    cuts = [cut(bytes(1500), number, 800) for number in range(MOST_OPEN + 1)]
    for first, _ in cuts:
        received.add(first)
    assert received.add(cuts[0][1]) is None, "this one was given up"
    assert received.add(cuts[-1][1]) == bytes(1500)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        bytes(PIECE_HEADER_BYTES),
        b"\0\0\0\1" + bytes((0, 0)) + b"x",
        b"\0\0\0\1" + bytes((2, 2)) + b"x",
        b"\0\0\0\1" + bytes((0, MOST_PIECES + 1)) + b"x",
    ],
)
def test_what_cannot_be_a_piece_is_told(payload: bytes) -> None:
    assert Pieces(9000).add(payload) == b""


def test_a_frame_longer_than_any_is_refused() -> None:
    received = Pieces(1000)
    head = b"\0\0\0\1"
    assert received.add(head + bytes((0, 3)) + bytes(700)) is None
    assert received.add(head + bytes((1, 3)) + bytes(700)) == b""


def test_counts_that_contradict_each_other_are_refused() -> None:
    received = Pieces(1000)
    head = b"\0\0\0\1"
    assert received.add(head + bytes((5, 6)) + b"x") is None
    assert received.add(head + bytes((0, 2)) + b"x") == b""


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=60))
def test_garbage_is_harmless(payloads: list[bytes]) -> None:
    received = Pieces(100)
    for payload in payloads:
        joined = received.add(payload)
        assert joined is None or len(joined) <= 100
