"""The impairments do what netem does.

Arithmetic is checked exactly, chance within five standard deviations.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netem import profile
from netem.impair import Departure, Direction, table
from netem.profile import Chance, FourState, GilbertElliott, Impair, Outage, Police, PortThrottle, Reorder
from netem.timeline import Step, Swing

MS = 10**6
fractions = st.floats(0, 0.5)
rates, delays = st.sampled_from([None, 10**5, 10**7]), st.none() | st.integers(0, 100 * MS)
impairs = st.builds(
    Impair,
    delay_ns=st.integers(0, 100 * MS),
    jitter_ns=st.integers(0, 20 * MS),
    correlation=fractions,
    distribution=st.sampled_from(profile.DISTRIBUTIONS),
    loss=st.one_of(
        st.builds(Chance, fractions, fractions),
        st.builds(GilbertElliott, fractions, fractions, fractions, fractions),
        st.builds(FourState, fractions, fractions, fractions, fractions, fractions),
    ),
    duplicate=st.builds(Chance, fractions, fractions),
    corrupt=st.builds(Chance, fractions, fractions),
    reorder=st.builds(Reorder, fractions, fractions, st.integers(1, 5)),
    rate_bps=st.sampled_from([0, 10**5, 10**7]),
    limit=st.integers(1, 50),
    port=st.none() | st.builds(PortThrottle, st.just(10**6), st.just(3000), st.integers(1, 20)),
    droplist=st.lists(st.integers(0, 60), max_size=5).map(tuple),
    outage=st.none() | st.builds(Outage, st.integers(1, 50 * MS), st.integers(0, 50 * MS)),
    steps=st.just(())
    | st.builds(lambda at, rate, delay: (Step(at, rate, delay),), st.integers(1, 99 * MS), rates, delays),
    steps_every_ns=st.sampled_from([0, 100 * MS]),
    swing=st.none() | st.builds(Swing, st.integers(0, 20 * MS), st.integers(1, 80 * MS)),
    police=st.none() | st.builds(Police, st.sampled_from([10**5, 10**7]), st.integers(1514, 9000)),
    limit_bytes=st.sampled_from([0, 0, 5000]),
)
arrivals = st.lists(st.tuples(st.integers(0, 10 * MS), st.integers(1, 1500)), max_size=80)


def play(impair: Impair, seed: str, packets: list[tuple[int, int]]) -> list[list[Departure]]:
    direction = Direction(impair, seed)
    now_ns, out = 0, []
    for gap_ns, length in packets:
        now_ns += gap_ns
        out.append(direction.offer(now_ns, length))
    return out


@given(impairs, arrivals)
@settings(max_examples=40)
def test_laws_that_hold_for_everything(impair: Impair, packets: list[tuple[int, int]]) -> None:
    direction = Direction(impair, "laws")
    now_ns = copies = 0
    for gap_ns, length in packets:
        now_ns += gap_ns
        departures = direction.offer(now_ns, length)
        assert len(departures) <= 2 and (direction.queued <= impair.limit or impair.limit_bytes)
        for due_ns, flipped in departures:
            assert due_ns >= now_ns
            assert flipped is None or 0 <= flipped < 8 * length
        copies += len(departures)
    assert copies + sum(direction.drops.values()) - direction.duplicated == len(packets)
    assert play(impair, "same", packets) == play(impair, "same", packets)


@given(arrivals, st.integers(10**5, 10**8))
@settings(max_examples=40)
def test_rate_is_a_line_of_packets(packets: list[tuple[int, int]], rate_bps: int) -> None:
    """With a rate jitter never reorders, and no interval carries more than the rate."""
    out = play(Impair(rate_bps=rate_bps, delay_ns=MS, jitter_ns=MS, limit=10**6), "rate", packets)
    dues = [departures[0].due_ns for departures in out]
    for (before, after), (_, length) in zip(pairwise(dues), packets[1:], strict=True):
        assert after - before >= length * 8 * 10**9 // rate_bps


def test_limit_counts_what_waits() -> None:
    """netem's figure: 5 ms, 10 Mbit/s, limit 100, offered 16 Mbit/s of 1000-byte frames."""
    direction = Direction(Impair(delay_ns=5 * MS, rate_bps=10**7, limit=100), "limit")
    dues = [direction.offer(index * MS // 2, 1000) for index in range(3000)]
    delivered = [(index, due[0].due_ns) for index, due in enumerate(dues) if due]
    assert len(delivered) == pytest.approx(3000 * 10 / 16 + 100, abs=10)
    waits_ms = [(due_ns - index * MS // 2) / MS for index, due_ns in delivered[-500:]]
    # A frame is let in when one of the 100 has left: it waits for 99 to 100 of 0.8 ms each.
    assert all(79 <= wait <= 81 for wait in waits_ms)


N = 20_000


def within(found: int, expected: float, n: int = N) -> bool:
    return abs(found - expected * n) <= 5 * sqrt(n * expected * (1 - expected)) + 1


def offer_many(impair: Impair, n: int = N, every_ns: int = MS) -> tuple[Direction, list[list[Departure]]]:
    direction = Direction(replace(impair, limit=10**6), "many")
    return direction, [direction.offer(index * every_ns, 1000) for index in range(n)]


@pytest.mark.parametrize("name", ["lossy1", "lossy5", "lossy10", "satellite", "mobile"])
def test_random_loss(name: str) -> None:
    impair = profile.load(name).up
    expected = profile.theory(impair).loss
    assert expected is not None
    direction, _ = offer_many(impair)
    assert within(direction.drops["loss"], expected)


@pytest.mark.parametrize(
    "loss", [GilbertElliott(0.02, 0.30), GilbertElliott(0.005, 0.25), FourState(0.02, 0.3, 0.05, 0.5, 0.01)]
)
def test_bursty_loss(loss: GilbertElliott | FourState) -> None:
    """Losses in bursts vary more in number than independent ones: hence the wider bound."""
    expected = profile.theory(Impair(loss=loss)).loss
    assert expected is not None
    direction, out = offer_many(Impair(loss=loss))
    assert abs(direction.drops["loss"] / N - expected) < 0.15 * expected
    if isinstance(loss, GilbertElliott):
        bursts = sum(not out[index] and bool(out[index - 1]) for index in range(1, N))
        assert direction.drops["loss"] / bursts == pytest.approx(1 / loss.r, rel=0.15)


def test_duplicates_and_corruption() -> None:
    direction, out = offer_many(Impair(duplicate=Chance(0.01), corrupt=Chance(0.02)))
    assert within(direction.duplicated, 0.01) and within(direction.corrupted, 0.02, N + direction.duplicated)
    assert sum(map(len, out)) == N + direction.duplicated


def test_reorder_leaves_at_once() -> None:
    direction, out = offer_many(Impair(delay_ns=20 * MS, reorder=Reorder(0.25)))
    delays = [departures[0].due_ns - index * MS for index, departures in enumerate(out)]
    assert (
        set(delays) == {0, 20 * MS}
        and within(delays.count(0), 0.25)
        and direction.reordered == delays.count(0)
    )


def test_reorder_with_a_gap() -> None:
    _, out = offer_many(Impair(delay_ns=20 * MS, reorder=Reorder(1.0, gap=5)), n=100)
    assert [departures[0].due_ns == index * MS for index, departures in enumerate(out)] == [False] * 4 + (
        ([True] + [False] * 4) * 19
    ) + [True]


@pytest.mark.parametrize("distribution", profile.DISTRIBUTIONS)
def test_jitter_has_the_distribution(distribution: str) -> None:
    impair = Impair(delay_ns=200 * MS, jitter_ns=10 * MS, distribution=distribution)
    _, out = offer_many(impair)
    delays = [(departures[0].due_ns - index * MS) / MS for index, departures in enumerate(out)]
    mean = sum(delays) / N
    deviation = sqrt(sum((delay - mean) ** 2 for delay in delays) / N)
    # The tables end at four deviations, which costs a pareto's long tail a part of its mean and of its width.
    widths = {"uniform": 10 / sqrt(3), "normal": 10.0, "pareto": 8.5, "paretonormal": 8.7}
    assert mean == pytest.approx(200, abs=0.5)
    assert deviation == pytest.approx(widths[distribution], rel=0.05)
    assert min(delays) >= 160 and max(delays) <= 240


def test_an_impairment_leaves_the_others_pattern_alone() -> None:
    plain = Impair(loss=Chance(0.05))
    busy = replace(plain, corrupt=Chance(0.1), jitter_ns=MS, delay_ns=MS, reorder=Reorder(0.1))
    patterns = [[bool(departures) for departures in offer_many(impair, 3000)[1]] for impair in (plain, busy)]
    assert patterns[0] == patterns[1]
    corrupting = Impair(corrupt=Chance(0.1), duplicate=Chance(0.5))
    flips = [
        [departures[-1].flipped_bit for departures in offer_many(impair, 3000)[1]]
        for impair in (corrupting, replace(corrupting, duplicate=Chance()))
    ]
    assert flips[0] == flips[1]


def test_droplist_and_outage() -> None:
    direction = Direction(Impair(droplist=(1, 3), outage=Outage(10 * MS, 5 * MS)), "timeline")
    passed = [index for index in range(30) if direction.offer(index * MS, 100)]
    assert passed == [0, 2, *range(4, 10), *range(15, 25)]
    assert {reason: count for reason, count in direction.drops.items() if count} == {
        "outage": 10,
        "droplist": 2,
    }


def test_a_throttled_port_has_its_burst_then_its_rate() -> None:
    """20 frames of 1000 bytes fit the burst; then one every 8 ms at 1 Mbit/s, and 5 of them may wait."""
    throttle = PortThrottle(rate_bps=10**6, burst_bytes=20_000, limit=5)
    direction = Direction(Impair(delay_ns=MS, port=throttle), "ports")
    dues = [direction.offer(0, 1000, port=1) for _ in range(30)]
    assert [due[0].due_ns for due in dues[:20]] == [MS] * 20
    waits_ms = [(due[0].due_ns - MS) // MS for due in dues[20:] if due]
    assert waits_ms == [8, 16, 24, 32, 40] and direction.drops["port"] == 5
    assert direction.offer(0, 1000, port=2)[0].due_ns == MS, "another port has its own bucket"
    refilled = direction.offer(10**9, 1000, port=1)
    assert refilled[0].due_ns == 10**9 + MS, "time fills the bucket again"


def test_a_change_keeps_what_waits() -> None:
    """As `tc qdisc change` does: the queue and the line stay, the new numbers are for the next packets."""
    direction = Direction(Impair(rate_bps=10**6, limit=3), "change")
    assert [direction.offer(0, 1000)[0].due_ns // MS for _ in range(3)] == [8, 16, 24]
    direction.change(Impair(rate_bps=10**7, limit=4), now_ns=0)
    assert direction.offer(0, 1000)[0].due_ns == 24 * MS + 800_000
    assert direction.offer(0, 1000) == [] and direction.drops["limit"] == 1


def test_tables_are_those_of_tc() -> None:
    """Three points of each .dist file of iproute2. Its normal one is itself drawn, and a little uneven."""
    points = {
        "normal": (-32768, 0, 28858),
        "pareto": (-5461, -2622, 32767),
        "paretonormal": (-12305, -1966, 31789),
    }
    for distribution, (first, middle, last) in points.items():
        entries = table(distribution)
        assert len(entries) == 4096 and list(entries) == sorted(entries)
        assert entries[0] == pytest.approx(first, abs=20)
        assert entries[2048] == pytest.approx(middle, abs=2)
        assert entries[-1] == pytest.approx(last, rel=0.02)
