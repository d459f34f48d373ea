"""The replay window on both engines, against a set that remembers everything."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kcpg.core.seal.replay import WINDOW
from tests.engines import twin

LIMIT = 1 << 64

# Jumps that stay in a word, cross words, and leave the window; each relative to the highest number so far.
steps = st.lists(
    st.one_of(
        st.integers(-70, 70),
        st.integers(-WINDOW - 70, -WINDOW + 70),
        st.integers(-WINDOW - 70, WINDOW + 200),
        st.integers(1, 1 << 40),
    ),
    max_size=150,
)


class Model:
    """What a window must do, with all the memory in the world."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def check(self, pn: int) -> bool:
        highest = max(self.seen, default=-1)
        return pn not in self.seen and pn > highest - WINDOW and pn < LIMIT - 1


@given(start=st.sampled_from([0, 1, 63, 64, WINDOW, (1 << 32) - 5, LIMIT - 20_000]), jumps=steps)
@settings(max_examples=120)
def test_like_a_set(engine: str, start: int, jumps: list[int]) -> None:
    window, model = twin(engine, "ReplayWindow")(), Model()
    highest = start
    for jump in [0, *jumps]:
        pn = min(max(highest + jump, 0), LIMIT - 1)
        assert window.check(pn) == model.check(pn), pn
        if model.check(pn):
            window.commit(pn)
            model.seen.add(pn)
            highest = max(highest, pn)
            assert window.next == highest + 1
    for pn in list(model.seen)[-50:]:
        assert not window.check(pn)


def test_the_window_is_exactly_8192_wide(engine: str) -> None:
    for highest in range(WINDOW, WINDOW + 130):
        window = twin(engine, "ReplayWindow")()
        window.commit(highest)
        assert window.check(highest - WINDOW + 1)
        assert not window.check(highest - WINDOW)
        assert not window.check(highest)


def test_check_changes_nothing(engine: str) -> None:
    window = twin(engine, "ReplayWindow")()
    window.commit(10)
    assert all(window.check(1 << 50) for _ in range(3))
    assert window.next == 11 and window.check(9)


def test_old_bits_do_not_survive_a_turn_of_the_ring(engine: str) -> None:
    window = twin(engine, "ReplayWindow")()
    for pn in range(200):
        window.commit(pn)
    ring = 129 * 64
    window.commit(ring + 100)
    assert all(window.check(pn) for pn in range(ring + 99, ring - 100, -1))


@given(
    following=st.one_of(st.integers(0, LIMIT - 2), st.integers(0, 1 << 34)),
    offset=st.integers(-(1 << 31) + 1, (1 << 31) - 1),
)
def test_expand_finds_the_nearest(engine: str, following: int, offset: int) -> None:
    pn = following + offset
    if not 0 <= pn < LIMIT:
        return
    window = primed(engine, following)
    assert window.expand(pn & 0xFFFFFFFF) == pn


@given(following=st.integers(0, LIMIT - 2), pn32=st.integers(0, (1 << 32) - 1))
def test_expand_is_the_same_on_both_engines(following: int, pn32: int) -> None:
    expanded = {primed(engine, following).expand(pn32) for engine in ("compiled", "python")}
    (pn,) = expanded
    assert 0 <= pn < LIMIT and pn & 0xFFFFFFFF == pn32


@pytest.mark.parametrize(
    ("following", "pn32", "pn"), [(0, 0xFFFFFFFF, 0xFFFFFFFF), (LIMIT - 2, 0, LIMIT - (1 << 32))]
)
def test_expand_stays_in_range(engine: str, following: int, pn32: int, pn: int) -> None:
    assert primed(engine, following).expand(pn32) == pn


def primed(engine: str, following: int) -> Any:
    window = twin(engine, "ReplayWindow")()
    if following:
        window.commit(following - 1)
    return window
