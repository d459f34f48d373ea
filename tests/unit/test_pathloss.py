"""The ledger of losses: which are the path's own, and which the link's."""

from __future__ import annotations

import pytest

from kcpg.core.pathloss import PathLoss


def full_rounds(loss: PathLoss, lost: float, rounds: int = 3, is_empty: bool = True) -> None:
    """So many rounds of 100 transmissions at 10 Mbit/s."""
    for _ in range(rounds):
        loss.note_full(100, lost, 100, 125_000, is_empty)


def test_a_rounds_losses_are_the_paths_once_the_path_has_its_rate() -> None:
    loss = PathLoss()
    loss.note_startup(2_000_000, 40, 8, 1_000_000)
    loss.note_startup(4_000_000, 80, 60, 1_900_000)
    assert loss.share == 0
    loss.note_startup(8_000_000, 160, 100, 2_000_000)
    assert loss.share == pytest.approx(0.2)
    assert not loss.is_known()


def test_few_and_chance_raise_no_doubt() -> None:
    loss = PathLoss()
    full_rounds(loss, 20, rounds=2)
    assert not loss.is_doubtful(), "two rounds"
    loss.forget_full()
    full_rounds(loss, 2)
    assert not loss.is_doubtful(), "2 %"
    loss.forget_full()
    full_rounds(loss, 20)
    assert loss.is_doubtful()


def test_what_stops_when_less_is_sent_was_the_links_own() -> None:
    loss = PathLoss()
    full_rounds(loss, 20)
    loss.note_quiet(100, 0)
    assert loss.judge(0, True, False)
    assert loss.share == 0
    assert loss.is_policed(), "it met no queue"
    assert loss.delivered_bps() == 10_000_000


def test_what_stays_when_less_is_sent_is_the_paths() -> None:
    loss = PathLoss()
    full_rounds(loss, 20)
    loss.note_quiet(100, 19)
    assert loss.stays_high()
    assert not loss.judge(0, True, False)
    assert loss.share == pytest.approx(0.19)


def test_a_queue_that_is_never_empty_tells_nothing() -> None:
    loss = PathLoss()
    loss.note_quiet(200, 20)
    loss.judge(0, False, False)
    assert loss.share == pytest.approx(0.1)
    loss.forget_quiet()
    full_rounds(loss, 40, is_empty=False)
    assert loss.judge(0, True, True)
    assert loss.share == pytest.approx(0.05)
    assert not loss.is_policed()


def test_more_than_the_most_is_not_made_up_for() -> None:
    loss = PathLoss()
    loss.note_quiet(200, 150)
    loss.judge(0, False, False)
    assert loss.share == 0.4


def test_a_path_that_loses_less_is_believed_sooner_than_one_that_loses_more() -> None:
    loss = PathLoss()
    loss.note_quiet(400, 20)
    loss.judge(0, False, False)
    for lost, cycles in ((1, 3), (9, 20)):
        before = loss.share
        found = []
        for _ in range(cycles):
            full_rounds(loss, lost)
            loss.end_cycle()
            found.append(loss.share)
        changed = next(share for share in found if share != before)
        assert (changed < before) == (lost == 1)
    assert loss.share > 0.03


def test_nothing_heard_since_the_doubt_is_no_proof() -> None:
    loss = PathLoss()
    full_rounds(loss, 20)
    loss.forget_full()
    loss.note_quiet(100, 0)
    assert not loss.judge(0, True, False)
