"""Packets leave at the opportunities of a trace as in mahimahi; generated traces are as they were told."""

from __future__ import annotations

from array import array
from collections import deque
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netem import profile, trace
from netem.impair import Direction
from netem.profile import Impair, ProfileError
from netem.trace import MS, OPPORTUNITY_BYTES, Radio, TraceFile
from netem.write import to_toml
from tests.traces import RECORDED, recorded

FULL = OPPORTUNITY_BYTES + trace.FRAME_EXTRA_BYTES  # A frame that takes a whole opportunity

RADIO = Radio(8_000_000, 0.5, 2 * 10**9, 400 * MS, 10 * 10**9, 60 * 10**9, 1)


def file(tmp_path: Path, lines: list[int]) -> TraceFile:
    path = tmp_path / f"{hash(tuple(lines))}.trace"
    path.write_text("".join(f"{line}\n" for line in lines))
    return TraceFile(str(path))


def mahimahi(lines: list[int], packets: list[tuple[int, int]]) -> list[int]:
    """The millisecond at which each packet (millisecond, bytes) is through, by mahimahi's own loop: for each
    opportunity, whoever waits uses up its bytes; a packet that comes in its millisecond comes too late.
    """
    waiting: deque[list[int]] = deque()  # (number, bytes left)
    through, coming = [0] * len(packets), 0
    base = place = 0
    while coming < len(packets) or waiting:
        at_ms = base + lines[place]
        while coming < len(packets) and packets[coming][0] < at_ms:
            waiting.append([coming, packets[coming][1]])
            coming += 1
        left = OPPORTUNITY_BYTES
        while waiting and left:
            used = min(left, waiting[0][1])
            waiting[0][1] -= used
            left -= used
            if not waiting[0][1]:
                through[waiting.popleft()[0]] = at_ms
        place += 1
        if place == len(lines):
            base, place = at_ms, 0
    return through


gaps = st.lists(st.integers(0, 30), min_size=1, max_size=30)
packets_ = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 4000)), max_size=60)


@given(gaps, st.integers(1, 30), packets_)
@settings(max_examples=150)
def test_every_packet_leaves_when_it_leaves_mahimahi(
    tmp_path_factory: pytest.TempPathFactory,
    opened: list[int],
    last: int,
    given_packets: list[tuple[int, int]],
) -> None:
    lines = list(accumulate([*opened, last]))
    packets = [
        (at_ms, size)
        for at_ms, (_, size) in zip(accumulate(gap for gap, _ in given_packets), given_packets, strict=True)
    ]
    line = Impair(trace=file(tmp_path_factory.getbasetemp(), lines), limit_bytes=10**9)
    direction = Direction(line, "mahimahi", 7 * MS)
    found = [direction.offer((7 + at) * MS, size + trace.FRAME_EXTRA_BYTES)[0].due_ns for at, size in packets]
    assert found == [(7 + at_ms) * MS for at_ms in mahimahi(lines, packets)]


def test_a_full_frame_takes_an_opportunity_and_the_queue_is_counted_in_bytes(tmp_path: Path) -> None:
    line = Impair(delay_ns=5 * MS, trace=file(tmp_path, [10, 20]), limit_bytes=3 * FULL)
    direction = Direction(line, "queue")
    dues = [direction.offer(0, FULL) for _ in range(4)]
    assert [due[0].due_ns // MS for due in dues[:3]] == [10, 20, 30] and dues[3] == []
    assert direction.drops["limit"] == 1
    # When it gets there, at 16 ms, one has left.
    assert direction.offer(11 * MS, FULL)[0].due_ns == 40 * MS


def test_a_change_lets_what_waits_go_first(tmp_path: Path) -> None:
    line = Impair(trace=file(tmp_path, [10]), limit_bytes=10**6)
    direction = Direction(line, "change")
    assert [direction.offer(0, FULL)[0].due_ns // MS for _ in range(3)] == [10, 20, 30]
    direction.change(replace(line, trace=file(tmp_path, [1])), 5 * MS)
    assert direction.offer(6 * MS, FULL)[0].due_ns == 31 * MS


def test_a_generated_trace_is_that_of_its_seed() -> None:
    first = trace.opportunities(RADIO)
    assert first == trace.opportunities(replace(RADIO, seed=1)) and first != trace.opportunities(
        replace(RADIO, seed=2)
    )
    assert first[-1] == 60_000 and first == trace.parse(map(str, first))


def test_generated_traces_have_the_mean_the_walk_and_the_outages_they_were_told() -> None:
    seeds = range(40)
    steady = [trace.mean_bps(replace(RADIO, seed=seed, outage_ns=0)) for seed in seeds]
    # A minute holds some 15 independent values of the walk: a deviation is 0.53 / sqrt(15 * 40) of the mean.
    assert fmean(steady) == pytest.approx(8e6, rel=0.11)
    flat = trace.mean_bps(replace(RADIO, spread=0.0, outage_ns=0))
    assert flat == pytest.approx(8e6, rel=0.025)  # 40,000 opportunities: five deviations of a Poisson process
    still = [_share_without(trace.opportunities(replace(RADIO, seed=seed, spread=0.0))) for seed in seeds]
    assert fmean(still) == pytest.approx(0.4 / 10.4, abs=0.012)
    walking = [_by_second(trace.opportunities(replace(RADIO, seed=seed, outage_ns=0))) for seed in seeds]
    assert all(max(each) > 2 * min(each) for each in walking)


def _by_second(found: array[int]) -> list[int]:
    counts = [0] * (found[-1] // 1000)
    for at_ms in found:
        counts[min(at_ms // 1000, len(counts) - 1)] += 1
    return counts


def _share_without(found: array[int]) -> float:
    """The share of time in gaps of 20 ms and more: at 664 a second a Poisson process has none by chance."""
    gaps_ms = [after - before for before, after in zip([0, *found], found, strict=False)]
    return sum(gap for gap in gaps_ms if gap >= 20) / found[-1]


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("1\ntwo\n", "line 2: 'two' is not a millisecond"),
        ("5\n4\n", "line 2: 4 comes after 5"),
        ("", "must come after millisecond 0"),
        ("0\n0\n", "must come after millisecond 0"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, lines: str, problem: str) -> None:
    (tmp_path / "x").write_text(lines)
    with pytest.raises(ProfileError, match=problem):
        profile.parse(TEXT.format('trace = { file = "x" }'), "t.toml", tmp_path)


TEXT = 'name = "t"\nsummary = "t"\nsources = ["t"]\n[netem]\n{}\n'


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ('trace = { file = "nowhere" }', r"\.trace\.file: .*nowhere"),
        ('trace = { file = "nowhere", mean = "1mbit" }', r"\.trace\.mean: unknown key"),
        ("trace = { seed = 1 }", r"\.trace\.mean: missing"),
        ('trace = { mean = "0bit" }', r"\.trace\.mean: too small"),
        ('trace = { mean = "1mbit", memory = "0s" }', r"\.trace\.memory: too small"),
        ('trace = { mean = "1mbit" }\nrate = "1mbit"', "leave rate out"),
        ('limit = "1mb"', "there is none"),
        ('rate = "1mbit"\nlimit = "0b"', "at least 1"),
    ],
)
def test_mistakes_in_a_profile(tmp_path: Path, table: str, problem: str) -> None:
    with pytest.raises(ProfileError, match=problem):
        profile.parse(TEXT.format(table), "t.toml", tmp_path)


def test_a_profile_finds_its_file_and_is_written_with_it(tmp_path: Path) -> None:
    (tmp_path / "cell.down").write_text("1\n2\n")
    loaded = profile.parse(TEXT.format('trace = { file = "cell.down" }\nlimit = "4kb"'), "t.toml", tmp_path)
    assert loaded.down.trace == TraceFile(str(tmp_path / "cell.down")) and loaded.down.limit_bytes == 4096
    assert loaded.down.mean_bps == OPPORTUNITY_BYTES * 8 * 1000
    assert profile.parse(to_toml(loaded)) == loaded


def test_the_command_writes_mahimahi_s_form(capsys: pytest.CaptureFixture[str]) -> None:
    assert trace.main(["2mbit", "7", "--length", "10s"]) == 0
    written = trace.parse(capsys.readouterr().out.splitlines())
    radio = Radio(2_000_000, 0.5, 2 * 10**9, 0, 20 * 10**9, 10 * 10**9, 7)
    assert written == trace.opportunities(radio)
    with pytest.raises(SystemExit):
        trace.main(["2mbit", "7", "--memory", "0s"])


@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_trace_is_mahimahi_s(name: str, way: str) -> None:
    """Full frames, faster than it carries them, over the end of the trace and beyond."""
    line = TraceFile(f"{recorded(name)}.{way}")
    lines = list(trace.opportunities(line))
    gap_ms = max(lines[-1] // len(lines), 1)
    packets = [(at_ms, 1504) for at_ms in range(0, lines[-1] * 5 // 4, gap_ms)]
    direction = Direction(Impair(trace=line, limit_bytes=10**9), name)
    found = [direction.offer(at_ms * MS, FULL)[0].due_ns for at_ms, _ in packets]
    assert found == [at_ms * MS for at_ms in mahimahi(lines, packets)]
    assert 10**5 < trace.mean_bps(line) < 10**8
