"""How bandwidth is divided."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kcpg.core.native.shaper import divide

INF = float("inf")


def test_who_wants_less_leaves_the_rest() -> None:
    assert divide(10, [INF, INF]) == [5, 5]
    assert divide(10, [1, INF, INF]) == [1, 4.5, 4.5]
    assert divide(10, [INF, 2, 3]) == [5, 2, 3]
    assert divide(10, [1, 2]) == [1, 2]
    assert divide(10, []) == []


@given(st.floats(0, 1e12), st.lists(st.one_of(st.floats(0, 1e12), st.just(INF)), max_size=20))
def test_nobody_gets_more_than_he_wants_or_less_than_another_who_wants_as_much(
    capacity: float, wants: list[float]
) -> None:
    parts = divide(capacity, wants)
    assert sum(parts) <= capacity * (1 + 1e-9)
    for part, want in zip(parts, wants, strict=True):
        assert 0 <= part <= want
        if part < want:
            assert all(part >= other * (1 - 1e-9) - 1e-6 for other in parts)
            assert sum(parts) >= capacity * (1 - 1e-9) - 1e-6
