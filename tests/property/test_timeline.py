"""Lines that change: each packet is carried at the rates of its time, and delayed as the line then is."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netem import profile
from netem.impair import Direction
from netem.profile import Impair, Police, ProfileError
from netem.timeline import Step, Swing

MS = 10**6
TEXT = 'name = "t"\nsummary = "t"\nsources = ["t"]\n[netem]\n{}\n'

steps_ = st.lists(st.tuples(st.integers(1, 50 * MS), st.integers(10**5, 10**8)), max_size=4)
packets_ = st.lists(st.tuples(st.integers(0, 5 * MS), st.integers(1, 1514)), min_size=1, max_size=60)


def carried(dues: list[tuple[int, int]], rate_at: list[tuple[int, int]], every_ns: int) -> list[Fraction]:
    """When packets of (arrival, bytes) are through, by walking from one change of the rate to the next."""
    free, out = Fraction(0), []
    for came_ns, size in dues:
        now, left = max(free, Fraction(came_ns)), Fraction(size * 8)
        while left:
            lap, place_ns = divmod(now, every_ns) if every_ns else (0, now)
            rate = [rate for at_ns, rate in rate_at if at_ns <= place_ns][-1]
            later = [at_ns for at_ns, _ in rate_at if at_ns > place_ns] + ([every_ns] if every_ns else [])
            most = (lap * every_ns + later[0] - now) * rate / 10**9 if later else left
            sent = min(left, most)
            now, left = now + sent * 10**9 / rate, left - sent
        free = now
        out.append(now)
    return out


@given(st.integers(10**5, 10**8), steps_, st.booleans(), packets_)
@settings(max_examples=100)
def test_a_packet_is_carried_at_the_rates_of_its_time(
    rate_bps: int, later: list[tuple[int, int]], again: bool, packets: list[tuple[int, int]]
) -> None:
    steps, at_ns = [], 0
    for gap_ns, rate in later:
        at_ns += gap_ns
        steps.append(Step(at_ns, rate))
    every_ns = at_ns + MS if again else 0
    line = Impair(rate_bps=rate_bps, steps=tuple(steps), steps_every_ns=every_ns, limit=1000)
    direction, now_ns, came, found = Direction(line, "steps"), 0, [], []
    for gap_ns, size in packets:
        now_ns += gap_ns
        came.append((now_ns, size))
        found.append(direction.offer(now_ns, size)[0].due_ns)
    rates = [(0, rate_bps), *((step.at_ns, step.rate_bps or 0) for step in steps)]
    # Each packet's time is rounded down to a nanosecond, which at a thousandth of the rate is a microsecond.
    for number, (exact, due_ns) in enumerate(zip(carried(came, rates, every_ns), found, strict=True), 1):
        assert exact - number * 1000 <= due_ns <= exact


def test_the_delay_is_that_of_the_time_when_a_packet_comes() -> None:
    line = Impair(delay_ns=10 * MS, steps=(Step(50 * MS, delay_ns=100 * MS),), steps_every_ns=80 * MS)
    direction = Direction(line, "delay", 7 * MS)
    delays = [direction.offer((7 + at) * MS, 99)[0].due_ns // MS - at - 7 for at in range(0, 170, 10)]
    assert delays == [10] * 5 + [100] * 3 + [10] * 5 + [100] * 3 + [10]


def test_a_swing_reaches_both_ends_once_in_a_period() -> None:
    direction = Direction(Impair(delay_ns=20 * MS, swing=Swing(40 * MS, 4000 * MS)), "swing")
    delays = [direction.offer(at * MS, 99)[0].due_ns - at * MS for at in range(0, 8001, 10)]
    assert delays[0] == delays[400] == delays[800] == 20 * MS and delays[200] == delays[600] == 60 * MS
    assert delays[100] == delays[300] == 40 * MS and min(delays) == 20 * MS and max(delays) == 60 * MS
    assert all(abs(after - before) < MS for before, after in pairwise(delays))


@given(packets_)
@settings(max_examples=50)
def test_a_policer_drops_what_has_no_tokens_and_delays_nothing(packets: list[tuple[int, int]]) -> None:
    rate_bps, burst = 10**6, 3000
    direction, now_ns, tokens = (
        Direction(Impair(police=Police(rate_bps, burst)), "police"),
        0,
        Fraction(burst),
    )
    for gap_ns, size in packets:
        now_ns += gap_ns
        tokens = min(tokens + Fraction(gap_ns * rate_bps, 8 * 10**9), Fraction(burst))
        passed = direction.offer(now_ns, size)
        if abs(tokens - size) > 1e-3:  # the bucket counts in nanoseconds
            assert bool(passed) == (tokens > size)
        tokens -= size if passed else 0
        assert not passed or passed[0].due_ns == now_ns


def test_a_policed_flow_gets_the_burst_and_then_the_rate() -> None:
    direction = Direction(profile.load("policer").up, "flow")
    passed = [bool(direction.offer(at * MS, 1514)) for at in range(10_000)]  # 12 Mbit/s for 10 s
    assert 1514 * sum(passed) == pytest.approx(200 * 1024 + 10e6 / 8 * 10, rel=0.01)
    assert direction.drops["police"] == passed.count(False)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ('steps = [{ at = "2s" }, { at = "1s" }]', r"steps\[2\]\.at: must be later"),
        ('steps = [{ delay = "1s" }]', r"steps\[1\]\.at: missing"),
        ("steps = [1]", "not a list of tables"),
        ('steps = [{ at = "1s", loss = "1%" }]', r"steps\[1\]\.loss: unknown key"),
        ('rate = "1mbit"\nsteps = [{ at = "1s", rate = "0bit" }]', "must be more than 0"),
        ('steps = [{ at = "1s", rate = "1mbit" }]', "add rate"),
        ('trace = { mean = "1mbit" }\nsteps = [{ at = "1s", rate = "1mbit" }]', "that of the trace"),
        ('steps = [{ at = "2s" }]\nsteps_every = "2s"', "the last step comes later"),
        ('swing = { delay = "2s", period = "0s" }', r"period: must be more than 0"),
        ('police = { rate = "1mbit", burst = "1kb" }', r"police\.burst: a full frame"),
        ('rate = "100mbit"\nsteps = [{ at = "1s", delay = "150ms" }]', r"rate x delay holds \(1239\)"),
    ],
)
def test_mistakes_in_a_profile(table: str, problem: str) -> None:
    with pytest.raises(ProfileError, match=problem):
        profile.parse(TEXT.format(table), "t.toml")
