"""Profiles: every file loads, mistakes are all reported at once, expectations are those of the models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from netem import profile
from netem.profile import Chance, FourState, GilbertElliott, Impair, Outage, Profile, ProfileError, Reorder
from netem.trace import TraceFile

GOOD = """
name = "x"
summary = "all of it"
sources = ["chosen"]
[netem]
delay = "25ms"
jitter = "8ms"
correlation = "25%"
distribution = "paretonormal"
loss = { model = "gemodel", p = "0.5%", r = "25%", 1-h = "90%", 1-k = "0.1%" }
duplicate = { percent = "1%", correlation = "5%" }
corrupt = { percent = "0.1%" }
reorder = { percent = "2%", correlation = "50%", gap = 5 }
rate = "20mbit"
packetoverhead = 4
limit = 200
droplist = [1, 3, 4]
[up]
rate = "750kbit"
loss = { model = "random", percent = "0.5%" }
[outage]
on = "10s"
off = "3s"
"""


@pytest.mark.parametrize("name", profile.known_profiles())
def test_every_profile_loads_and_says_where_its_numbers_come_from(name: str) -> None:
    loaded = profile.load(name)
    assert isinstance(loaded, Profile) and loaded.name == name and loaded.sources


def test_the_first_set_is_there() -> None:
    lines = "lan wifi mobile transcontinental satellite throttled"
    faults = "lossy1 lossy5 lossy10 bursty reorder duplicate blackhole"
    assert {*lines.split(), *faults.split()} <= set(profile.known_profiles())


def test_everything_is_read() -> None:
    loaded = profile.parse(GOOD)
    assert loaded.down == Impair(
        delay_ns=25_000_000,
        jitter_ns=8_000_000,
        correlation=0.25,
        distribution="paretonormal",
        loss=GilbertElliott(0.005, 0.25, 0.9, 0.001),
        duplicate=Chance(0.01, 0.05),
        corrupt=Chance(0.001, 0.0),
        reorder=Reorder(0.02, 0.5, 5),
        rate_bps=20_000_000,
        packetoverhead=4,
        limit=200,
        droplist=(1, 3, 4),
        outage=Outage(10**10, 3 * 10**9),
    )
    assert loaded.up.rate_bps == 750_000 and loaded.up.loss == Chance(0.005)
    assert loaded.up.delay_ns == loaded.down.delay_ns


def test_all_mistakes_are_reported_at_once() -> None:
    text = """
name = "x"
summary = "wrong"
sources = []
speed = 3
[netem]
delay = 25
jitter = "8 minutes"
loss = { model = "gemodel", r = "120%" }
duplicate = "1%"
reorder = { percent = "1%", gap = 0 }
distribution = "gauss"
rate = "20mb"
limit = -1
droplist = ["a"]
dealy = "3ms"
[outage]
on = "0s"
"""
    with pytest.raises(ProfileError) as caught:
        profile.parse(text, "x.toml")
    problems = "\n".join(caught.value.problems)
    for key in (
        "x.toml.sources:",
        "x.toml.speed: unknown",
        "[up].delay:",
        "[down].delay:",
        ".jitter:",
        ".loss.p: missing",
        ".loss.r:",
        ".duplicate: is a table",
        ".reorder.gap:",
        ".distribution:",
        ".rate:",
        ".limit:",
        ".droplist:",
        ".dealy: unknown",
        ".outage.off: missing",
        ".outage.on: must be more than 0",
    ):
        assert key in problems, f"{key} is not in\n{problems}"


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ('reorder = { percent = "1%" }', "reorder: requires delay"),
        ('delay = "1ms"\njitter = "2ms"', "jitter: larger than delay"),
        ('delay = "150ms"\nrate = "100mbit"', "limit: 1000 packets are fewer than rate x delay holds (1239)"),
    ],
)
def test_combinations_that_make_no_sense(table: str, problem: str) -> None:
    with pytest.raises(ProfileError, match=problem.replace("(", r"\(").replace(")", r"\)")):
        profile.parse(f'name = "x"\nsummary = "x"\nsources = ["x"]\n[netem]\n{table}\n')


def test_what_is_no_toml_and_what_is_no_profile() -> None:
    with pytest.raises(ProfileError, match=r"broken\.toml: "):
        profile.parse("name = ", "broken.toml")
    with pytest.raises(ProfileError, match=r"there are: .*lossy5"):
        profile.load("nowhere")


def test_theory() -> None:
    assert profile.theory(profile.load("bursty").up).loss == pytest.approx(0.0196, abs=0.0001)
    assert profile.theory(Impair(loss=GilbertElliott(0.02, 0.30))).loss == pytest.approx(0.0625)
    assert profile.theory(Impair(loss=Chance(0.05, 0.2))).loss is None
    assert profile.theory(Impair(loss=FourState(0.02, 0.3, 0.0, 1.0, 0.0))).loss == pytest.approx(0.0625)
    overtaking = profile.theory(Impair(delay_ns=20_000_000, reorder=Reorder(0.25)))
    assert overtaking.delay_ms == pytest.approx(15)


def test_a_recorded_trace_takes_the_place_of_the_rates(tmp_path: Path) -> None:
    for name, lines in (("cell.up", "1\n"), ("cell.down", "2\n"), ("both", "3\n"), ("lone.down", "4\n")):
        (tmp_path / name).write_text(lines)
    line = profile.load("mobile")

    def traces(path: str) -> list[str]:
        traced = profile.traced(replace(line, up=replace(line.up, limit=10**6)), str(tmp_path / path))
        assert (traced.up.rate_bps, traced.down.loss) == (0, line.down.loss)
        found = [impair.trace for impair in (traced.up, traced.down)]
        return [Path(each.path).name for each in found if isinstance(each, TraceFile)]

    assert traces("cell") == traces("cell.up") == traces("cell.down") == ["cell.up", "cell.down"]
    assert traces("both") == ["both", "both"] and traces("lone.down") == ["lone.down", "lone.down"]
    with pytest.raises(ProfileError, match="nowhere"):
        traces("nowhere")
