"""When a node stays awake for the next event, and when it leaves the processor to others."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from kcpg.net.vigil import Vigil

# As vigil.py has them; a compiled module does not show its constants.
AWAKE_US, NEAR_US, PAYS_US = 100, 90, 40
WAITS, TRIAL_WAITS, PAUSE_WAITS, REST_WAITS = 64, 256, 2048, 8192


def spend(vigil: Vigil, us: int, times: int) -> int:
    """How many of so many waits of this length were spent awake, at least at first."""
    awake = 0
    for _ in range(times):
        awake += vigil.awake_us > 0
        vigil.waited(us)
    return awake


def test_a_new_node_and_one_with_pauses_sleep() -> None:
    vigil = Vigil()
    assert vigil.awake_us == 0
    assert spend(vigil, NEAR_US + 10, 100_000) == 0


def test_quick_answers_are_waited_for_awake_and_for_as_long_as_they_are_quick() -> None:
    vigil = Vigil()
    spend(vigil, PAYS_US - 10, 10 * WAITS)
    assert vigil.awake_us == AWAKE_US
    assert spend(vigil, PAYS_US - 10, 100_000) == 100_000
    spend(vigil, 10_000, WAITS)
    assert vigil.awake_us == 0


def test_a_long_wait_now_and_then_changes_nothing() -> None:
    vigil = Vigil()
    spend(vigil, 20, 10 * WAITS)
    for _ in range(1000):
        assert spend(vigil, 20, 20) == 20
        vigil.waited(1_000_000)
    assert vigil.awake_us == AWAKE_US


def test_what_does_not_pay_is_tried_seldom() -> None:
    """The peer sleeps, or the way is longer than falling asleep takes."""
    vigil = Vigil()
    times = 100 * (TRIAL_WAITS + PAUSE_WAITS)
    awake = spend(vigil, (PAYS_US + NEAR_US) // 2, times)
    assert 0 < awake <= 101 * TRIAL_WAITS


def test_two_that_try_at_different_times_meet() -> None:
    """Each waits for the other, 20 us if both are awake, and 30 more for each that has to be woken."""
    for seed in range(20):
        random.seed(seed)
        near, far = Vigil(), Vigil()
        spend(far, NEAR_US - 1, random.randrange(TRIAL_WAITS + PAUSE_WAITS))
        for _ in range(200 * PAUSE_WAITS):
            wait = 20 + 30 * (near.awake_us == 0) + 30 * (far.awake_us == 0)
            near.waited(wait)
            far.waited(wait)
        assert near.awake_us and far.awake_us, f"seed {seed}"


def test_who_was_robbed_of_the_processor_rests() -> None:
    vigil = Vigil()
    spend(vigil, 10, 10 * WAITS)
    vigil.robbed()
    assert spend(vigil, 10, REST_WAITS) == 0
    assert vigil.awake_us == AWAKE_US


@given(st.lists(st.integers(0, 10**12), max_size=400))
def test_the_average_stays_within_what_a_wait_counts(waits: list[int]) -> None:
    """However long some waits were, that many short ones are enough."""
    vigil = Vigil()
    for us in waits:
        vigil.waited(us)
    spend(vigil, 0, 2 * PAUSE_WAITS + TRIAL_WAITS + WAITS * 8)
    assert vigil.awake_us == AWAKE_US
