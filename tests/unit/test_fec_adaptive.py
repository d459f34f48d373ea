"""How much redundancy: plans from a loss rate and run length, and what is measured from a replay window."""

from __future__ import annotations

import random

import pytest

from kcpg.core.fec.adaptive import REORDER_SPAN, Adaptive
from kcpg.core.fec.plan import MAX_PARITY, OFF, TARGET_LOSS, Plan, independent_loss, plan_fixed, plan_for
from kcpg.core.seal.replay import WINDOW
from tests.engines import twin


def test_no_loss_no_redundancy() -> None:
    assert plan_for(0.0, 1.0, 64) == OFF == plan_for(TARGET_LOSS, 4.0, 64)
    assert plan_fixed(10, 0) == OFF == plan_fixed(0, 3)
    assert str(OFF) == "off"


def test_small_groups_have_more() -> None:
    plan = plan_for(0.12, 1.0, 20)
    assert plan.parity[1] == 3, "0.12^3 is above a thousandth, 0.12^4 below"
    assert plan.parity[1] / 1 > plan.parity[5] / 5 > plan.parity[20] / 20
    assert str(plan).startswith("2:3,")


@pytest.mark.parametrize("loss", [0.002, 0.011, 0.03, 0.09])
def test_independent_loss_by_the_closed_form(loss: float) -> None:
    plan = plan_for(loss, 1.0, 40)
    for k in range(1, 41):
        assert independent_loss(k, plan.parity[k], loss) <= TARGET_LOSS * 1.000001, k
        fewer = plan.parity[k] - 1
        if plan.parity[k] > plan.parity[k - 1]:
            assert independent_loss(k, fewer, loss) > TARGET_LOSS, k


def test_runs_of_losses_by_experiment() -> None:
    """2 % lost in runs of 4: the share that stays lost is below the target, and near it."""
    seed = "runs of four"
    print(f"seed {seed!r}")
    rng, k, loss, burst = random.Random(seed), 32, 0.02, 4.0
    parity = plan_for(loss, burst, k).parity[k]
    fail, bad, lost_for_good, groups = loss / (1 - loss) / burst, False, 0, 12_000
    for _ in range(groups):
        lost = []
        for index in range(k + parity):
            bad = rng.random() >= 1 / burst if bad else rng.random() < fail
            if bad:
                lost.append(index)
        if len(lost) > parity:
            lost_for_good += sum(index < k for index in lost)
    assert TARGET_LOSS / 4 < lost_for_good / (groups * k) < TARGET_LOSS * 1.5


def test_longer_runs_need_more() -> None:
    needed = [plan_for(0.02, burst, 64).parity[64] for burst in (1.0, 2.0, 4.0, 8.0)]
    assert needed == sorted(set(needed))


def test_limits() -> None:
    plan = plan_for(0.5, 8.0, 64)
    assert plan.parity[1:5] == (3, 4, 4, 4) and plan.parity[-1] == MAX_PARITY
    assert plan_for(0.5, 8.0, 250).parity[-1] == 5, "255 shards in all"


@pytest.mark.parametrize(("data", "parity"), [(1, 1), (10, 3), (20, 4), (1, 254), (254, 1), (127, 128)])
def test_a_configured_plan(data: int, parity: int) -> None:
    plan = plan_fixed(data, parity)
    assert plan.parity[data] == parity
    assert all(plan.parity[k] >= 1 for k in range(1, data + 1))


def test_a_configured_plan_protects_small_groups_as_well() -> None:
    assert str(plan_fixed(20, 4)) == "4:2,11:3,20:4"


@pytest.mark.skipif(not __debug__, reason="python -O: a programmer's mistake is not looked for")
def test_a_plan_is_checked() -> None:
    for data, parity in ((2, (0, 1)), (1, (1, 1)), (2, (0, 2, 1)), (200, (0,) * 200 + (56,))):
        with pytest.raises(ValueError):
            Plan(data, parity)


def reported(
    adaptive: Adaptive, loss: float, burst: float, seconds: float, start: tuple[int, ...]
) -> tuple[int, ...]:
    """Ten reports a second of 100 packets each, the counters from `start` (expected, lost, bursts, ms)."""
    expected, lost, bursts, now_ms = start
    for _ in range(int(seconds * 10)):
        expected, now_ms = expected + 100, now_ms + 100
        lost = lost + round(100 * loss)
        bursts = bursts + round(100 * loss / burst)
        adaptive.report(expected & 0xFFFFFFFF, lost & 0xFFFFFFFF, bursts & 0xFFFFFFFF, now_ms)
    return expected, lost, bursts, now_ms


def test_nothing_lost_nothing_sent() -> None:
    adaptive = Adaptive()
    assert adaptive.choose(100).plan == OFF
    reported(adaptive, 0.0, 1.0, 5, (0, 0, 0, 0))
    assert adaptive.choose(100).plan == OFF


def test_loss_comes_and_goes() -> None:
    adaptive = Adaptive()
    now = reported(adaptive, 0.0, 1.0, 60, (0, 0, 0, 0))
    now = reported(adaptive, 0.1, 1.0, 2, now)
    sudden = adaptive.choose(100).plan
    assert 0.08 < adaptive.loss < 0.12 and sudden.parity[1] == 2
    now = reported(adaptive, 0.0, 1.0, 10, now)
    assert adaptive.choose(100).plan.parity[-1] < sudden.parity[-1]
    reported(adaptive, 0.0, 1.0, 120, now)
    assert adaptive.choose(100).plan == OFF


def test_counters_wrap_and_reports_get_lost() -> None:
    start = ((1 << 32) - 150, (1 << 32) - 7, (1 << 32) - 5, 0)
    all_of_them, some = Adaptive(), Adaptive()
    for adaptive in (all_of_them, some):
        adaptive.report(*(0, 0, 0), 0)
        adaptive._seen = start[:3]  # as after months
    reported(all_of_them, 0.05, 1.0, 10, start)
    some.report(850, 43, 45, 1000)
    assert all_of_them.loss == pytest.approx(0.05, rel=0.3)
    assert some.loss == pytest.approx(0.05, rel=0.3)


def test_reports_that_cannot_be_change_nothing() -> None:
    adaptive = Adaptive()
    reported(adaptive, 0.05, 1.0, 2, (0, 0, 0, 0))
    before = adaptive.loss
    for counters in ((2100, 300, 100), (2100, 101, 102), (1900, 90, 90)):
        adaptive.report(*counters, 3000)
    assert adaptive.loss == before


def test_a_short_round_trip_leaves_little_loss_to_retransmission() -> None:
    adaptive = Adaptive()
    reported(adaptive, 0.01, 1.0, 60, (0, 0, 0, 0))
    assert adaptive.choose(10).plan == OFF != adaptive.choose(50).plan
    assert [adaptive.choose(rtt).wait_ms for rtt in (10, 50, 100, 500)] == [8, 12, 25, 40]
    bursty = Adaptive()
    reported(bursty, 0.04, 4.0, 60, (0, 0, 0, 0))
    assert [bursty.choose(rtt).wait_ms for rtt in (10, 50, 500)] == [8, 25, 40]


def counted(engine: str, came: list[bool], every: int) -> tuple[int, int, int]:
    window, counter = twin(engine, "ReplayWindow")(), twin(engine, "LossCounter")()
    for pn, there in enumerate(came):
        if there:
            window.commit(pn)
        if pn % every == 0:
            counter.scan(window)
    counter.scan(window)
    return counter.expected, counter.lost, counter.bursts


def test_losses_are_counted(engine: str) -> None:
    came = [True] * 10 + [False] * 3 + [True, False, True] + [True] * REORDER_SPAN
    assert counted(engine, came, 1000) == (16, 4, 2)
    assert counted(engine, came, 1) == (16, 4, 2)


def test_nothing_is_judged_early(engine: str) -> None:
    assert counted(engine, [True] * REORDER_SPAN, 7) == (0, 0, 0)
    assert counted(engine, [], 7) == (0, 0, 0)


def test_a_counter_that_was_not_called_judges_what_it_can(engine: str) -> None:
    window, counter = twin(engine, "ReplayWindow")(), twin(engine, "LossCounter")()
    window.commit(0)
    window.commit(10 * WINDOW)
    counter.scan(window)
    judged = WINDOW - REORDER_SPAN
    assert (counter.expected, counter.lost, counter.bursts) == (judged, judged, 1)
