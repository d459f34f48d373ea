"""Timers, against a table that is searched through; and things that are asked for their deadlines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kcpg.core.timers import STALE_ENTRIES, AskedTimers, Timers

STEPS = st.tuples(
    st.sampled_from(["set", "wake_by", "forget", "take"]), st.integers(0, 9), st.integers(0, 50)
)


@given(st.lists(STEPS, max_size=200))
def test_timers_are_those_of_a_plain_table(steps: list[tuple[str, int, int]]) -> None:
    timers: Timers[int] = Timers()
    table: dict[int, tuple[int, int]] = {}  # the deadline, and the step that set it
    for step, (kind, item, due_ms) in enumerate(steps):
        had_ms = table[item][0] if item in table else None
        if kind == "forget":
            timers.forget(item)
            table.pop(item, None)
        elif kind == "take":
            due = sorted((at, item) for item, at in table.items() if at[0] <= due_ms)
            assert timers.take_due(due_ms) == [item for _, item in due], (
                "earliest first, then as they were set"
            )
            table = {item: at for item, at in table.items() if at[0] > due_ms}
        elif kind == "set":
            timers.set(item, due_ms)
            if had_ms != due_ms:
                table[item] = (due_ms, step)
        else:
            timers.wake_by(item, due_ms)
            if had_ms is None or due_ms < had_ms:
                table[item] = (due_ms, step)
        first = min(table.values(), default=None)
        assert timers.first() == (None if first is None else first[0]) and len(timers) == len(table)


def test_no_deadline_takes_one_away_or_changes_nothing() -> None:
    timers: Timers[str] = Timers()
    timers.set("flow", 5)
    timers.wake_by("flow", None)
    assert timers.first() == 5
    timers.set("flow", None)
    assert timers.first() is None and not timers.take_due(100)


def test_what_is_moved_again_and_again_takes_no_more_room() -> None:
    timers: Timers[str] = Timers()
    for due_ms in range(100 * STALE_ENTRIES, 0, -1):
        timers.wake_by("flow", due_ms)
    assert len(timers._heap) <= STALE_ENTRIES + 2
    assert timers.take_due(1) == ["flow"]


def test_a_thing_is_asked_for_its_deadline_after_it_was_touched() -> None:
    deadlines: dict[str, int | None] = {"one": 7, "other": 9}
    timers = AskedTimers(deadlines.__getitem__)
    assert timers.first() is None
    timers.touch("one")
    timers.touch("other")
    assert timers.first() == 7
    deadlines["other"] = 3
    assert timers.first() == 7, "nobody said that it changed"
    timers.touch("other")
    assert timers.take_due(7) == ["other", "one"] and timers.first() is None


def test_what_was_touched_and_is_over_is_not_asked() -> None:
    timers = AskedTimers({"other": 4}.__getitem__)  # raises for anything else
    timers.touch("one")
    timers.touch("other")
    timers.forget("one")
    assert timers.first() == 4
