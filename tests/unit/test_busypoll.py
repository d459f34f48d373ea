"""When a node polls for the next event, and when it leaves the processor to others."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from kcpg.net.busypoll import AdaptiveBusyPoll

# As busypoll.py has them; a compiled module does not show its constants.
SPIN_US, NEAR_US, PAYS_US = 100, 90, 40
WAITS, TRIAL_WAITS, PAUSE_WAITS, REST_WAITS = 64, 256, 2048, 8192


def spend(poll: AdaptiveBusyPoll, us: int, times: int) -> int:
    """How many of so many waits of this length were spent awake, at least at first."""
    awake = 0
    for _ in range(times):
        awake += poll.spin_us > 0
        poll.observe(us)
    return awake


def test_a_new_node_and_one_with_pauses_sleep() -> None:
    poll = AdaptiveBusyPoll()
    assert poll.spin_us == 0
    assert spend(poll, NEAR_US + 10, 100_000) == 0


def test_quick_answers_are_waited_for_awake_and_for_as_long_as_they_are_quick() -> None:
    poll = AdaptiveBusyPoll()
    spend(poll, PAYS_US - 10, 10 * WAITS)
    assert poll.spin_us == SPIN_US
    assert spend(poll, PAYS_US - 10, 100_000) == 100_000
    spend(poll, 10_000, WAITS)
    assert poll.spin_us == 0


def test_a_long_wait_now_and_then_changes_nothing() -> None:
    poll = AdaptiveBusyPoll()
    spend(poll, 20, 10 * WAITS)
    for _ in range(1000):
        assert spend(poll, 20, 20) == 20
        poll.observe(1_000_000)
    assert poll.spin_us == SPIN_US


def test_what_does_not_pay_is_tried_seldom() -> None:
    """The peer sleeps, or the way is longer than falling asleep takes."""
    poll = AdaptiveBusyPoll()
    times = 100 * (TRIAL_WAITS + PAUSE_WAITS)
    awake = spend(poll, (PAYS_US + NEAR_US) // 2, times)
    assert 0 < awake <= 101 * TRIAL_WAITS


def test_two_that_try_at_different_times_meet() -> None:
    """Each waits for the other, 20 us if both are awake, and 30 more for each that has to be woken."""
    for seed in range(20):
        random.seed(seed)
        near, far = AdaptiveBusyPoll(), AdaptiveBusyPoll()
        spend(far, NEAR_US - 1, random.randrange(TRIAL_WAITS + PAUSE_WAITS))
        for _ in range(200 * PAUSE_WAITS):
            wait = 20 + 30 * (near.spin_us == 0) + 30 * (far.spin_us == 0)
            near.observe(wait)
            far.observe(wait)
        assert near.spin_us and far.spin_us, f"seed {seed}"


def test_a_node_that_was_preempted_rests() -> None:
    poll = AdaptiveBusyPoll()
    spend(poll, 10, 10 * WAITS)
    poll.preempted()
    assert spend(poll, 10, REST_WAITS) == 0
    assert poll.spin_us == SPIN_US


@given(st.lists(st.integers(0, 10**12), max_size=400))
def test_the_average_stays_within_what_a_wait_counts(waits: list[int]) -> None:
    """However long some waits were, that many short ones are enough."""
    poll = AdaptiveBusyPoll()
    for us in waits:
        poll.observe(us)
    spend(poll, 0, 2 * PAUSE_WAITS + TRIAL_WAITS + WAITS * 8)
    assert poll.spin_us == SPIN_US
