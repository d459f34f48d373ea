"""A profile written as text is read back as the same profile."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netem import profile
from netem.cross import Cross
from netem.profile import Chance, Impair, Outage, Police, PortThrottle, Profile, Reorder
from netem.timeline import Step, Swing
from netem.trace import Radio
from netem.write import to_toml

# In steps of a thousandth of a percent, which text keeps exactly.
fractions = st.integers(0, 100_000).map(lambda step: round(step / 100_000, 12))


@pytest.mark.parametrize("name", profile.known_profiles())
def test_every_profile(name: str) -> None:
    assert _same(profile.load(name))


@given(
    st.builds(
        Impair,
        delay_ns=st.integers(10**7, 10**9),
        jitter_ns=st.integers(0, 10**7),
        correlation=fractions,
        distribution=st.sampled_from(profile.DISTRIBUTIONS),
        loss=st.builds(Chance, fractions, fractions),
        duplicate=st.builds(Chance, fractions, fractions),
        corrupt=st.builds(Chance, fractions, fractions),
        reorder=st.just(Reorder()) | st.builds(Reorder, fractions.filter(bool), fractions, st.integers(1, 9)),
        packetoverhead=st.integers(0, 40),
        limit=st.integers(1, 10**6),
        port=st.none() | st.builds(PortThrottle, st.just(10**6), st.integers(1514, 10**7), st.just(5)),
        droplist=st.lists(st.integers(0, 1000), max_size=5).map(tuple),
        swing=st.none() | st.builds(Swing, st.integers(0, 10**9), st.integers(1, 10**10)),
        police=st.none() | st.builds(Police, st.integers(1, 10**9), st.integers(1514, 10**7)),
    ),
    st.none() | st.builds(Outage, st.integers(1, 10**10), st.integers(0, 10**10)),
)
@settings(max_examples=50)
def test_any_profile(impair: Impair, outage: Outage | None) -> None:
    way = replace(impair, outage=outage)
    radio = Radio(10**6, 0.25, 10**9, 10**8, 10**9, 10**8, 3)
    steps = (Step(1, 5, None), Step(10**9, None, 7), Step(2 * 10**9, 10**6, 9))
    for up in (replace(way, trace=radio, limit=1000, limit_bytes=10**6, cross=Cross(1, 2, 10**7)), way):
        down = replace(way, rate_bps=10**6, steps=steps, steps_every_ns=3 * 10**9, limit=10**6)
        assert _same(Profile('with "quotes"', "a summary", ("one", "two"), up, down))


def _same(given_profile: Profile) -> bool:
    read = profile.parse(to_toml(given_profile))
    assert repr(_rounded(read)) == repr(_rounded(given_profile))
    return True


def _rounded(value: object) -> object:
    """Nested dataclasses as tuples, fractions to nine digits."""
    if isinstance(value, float):
        return round(value, 9)
    if isinstance(value, tuple):
        return [_rounded(each) for each in value]
    if hasattr(value, "__dataclass_fields__"):
        return [_rounded(getattr(value, name)) for name in value.__dataclass_fields__]
    return value
