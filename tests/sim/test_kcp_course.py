"""What recovery costs and how long it takes on described networks, in virtual time."""

from __future__ import annotations

import pytest

from tests.unit.kcp_course import CASES, bulk, exchanges, percentile

SEED = 5


def size_of(engine: str) -> int:
    return 6_000_000 if engine == "compiled" else 5_000_000


@pytest.mark.parametrize("case", ["lossy1 100M", "lossy5 100M", "lossy10 100M"])
def test_bulk_over_a_lossy_line(engine: str, case: str) -> None:
    """Few segments are sent in vain, and acknowledgements stay cheap."""
    result = bulk(CASES[case](engine, SEED), size_of(engine))
    lost = result.lost / (result.sent + result.again)
    print(f"seed {SEED}: {result}")
    # short as it is, its end weighs more than that of a long transfer, which stays below 8 %
    assert result.wire_per_payload <= 1 / (1 - lost) + 0.1
    assert result.ack_bytes_per_payload < 0.033
    assert result.rto + result.tail <= 4
    assert result.again <= 1.75 * result.lost + 20


@pytest.mark.parametrize("case", ["wifi 90M", "mobile 9M", "wifi-bad 18M", "reorder 50M"])
def test_jitter_and_reordering_cause_no_storm(engine: str, case: str) -> None:
    result = bulk(CASES[case](engine, SEED), 2_000_000)
    print(f"seed {SEED}: {result}")
    assert result.again <= 1.75 * result.lost + result.sent // 50


def test_a_machine_that_stands_still_resends_next_to_nothing(engine: str) -> None:
    result = bulk(CASES["loopback, stalls"](engine, SEED), 4 * size_of(engine))
    print(f"seed {SEED}: {result}")
    assert result.again <= result.sent // 200


@pytest.mark.parametrize(("case", "p99_ms"), [("lossy1 100M", 125), ("lossy5 100M", 185), ("wifi 90M", 30)])
def test_questions_and_answers(engine: str, case: str, p99_ms: int) -> None:
    course = CASES[case](engine, SEED)
    times = exchanges(course, 800)
    print(f"seed {SEED}: p50 {percentile(times, 0.5)} p99 {percentile(times, 0.99)} max {times[-1]}")
    assert percentile(times, 0.99) <= p99_ms
