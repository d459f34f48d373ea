"""The words of `make bench`: what they choose, and what they must not be."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.bench import selection
from harness.bench.selection import Selection, Usage
from harness.bench.systems import SYSTEMS
from harness.bench.workloads import LINE, RECORDED, WORKLOADS, Cell
from netem.profile import Chance
from netem.trace import TraceFile


def cases(chosen: Selection) -> list[str]:
    return [f"{workload.name}@{place}" for workload, place in chosen.cases]


def test_without_words_everything_is_measured_where_it_belongs() -> None:
    chosen = selection.read([], {})
    here = {name: one for name, one in WORKLOADS.items() if name != RECORDED}
    assert cases(chosen) == [f"{name}@{place}" for name, one in here.items() for place in one.places]
    assert chosen.left_out == (f"{RECORDED}: not measured, TRACE names no recorded trace",)
    assert list(chosen.systems) == list(SYSTEMS.values())
    assert (chosen.repeats, chosen.save, chosen.settings.executables) == (selection.REPEATS, "", {})


def test_quick_is_the_few_that_say_most_once() -> None:
    chosen = selection.read(["QUICK=1"], {})
    assert 0 < len(chosen.cases) < len(WORKLOADS) and chosen.repeats == 1
    assert all(workload.quick for workload, _ in chosen.cases)


def test_lists_choose() -> None:
    chosen = selection.read(["ONLY=short,udp", "SYSTEMS=kcpg,direct", "REPEATS=7", "SECONDS=0.5"], {})
    assert cases(chosen) == ["short@loopback", "packets-64@loopback", "packets-1200@loopback"]
    assert [system.name for system in chosen.systems] == ["kcpg", "direct"]
    assert (chosen.repeats, chosen.seconds) == (7, 0.5)


def test_a_lossy_workload_is_only_on_the_line() -> None:
    assert cases(selection.read(["WORKLOADS=lossy5,short", "PLACES=veth,line"], {})) == [
        "short@veth",
        "lossy5@line",
    ]
    with pytest.raises(Usage, match="nothing to measure"):
        selection.read(["WORKLOADS=lossy5", "PLACES=loopback"], {})


def test_a_system_meets_what_it_carries_and_is_for() -> None:
    chosen = selection.read(["WORKLOADS=udp-requests,bulk-up"], {})
    udp, tcp = WORKLOADS["udp-requests"], WORKLOADS["bulk-up"]
    assert not {"kcptun", "socat"} & {system.name for system in chosen.pairs(udp, False)}
    assert "kcptun" in {system.name for system in chosen.pairs(tcp, False)}
    assert "direct-bbr" not in {system.name for system in chosen.pairs(tcp, False)}
    assert "direct-bbr" in {system.name for system in chosen.pairs(tcp, True)}, "it was asked for by name"
    assert "kcptun" not in {system.name for system in chosen.pairs(udp, True)}, "it cannot carry UDP"


def test_executables_come_from_the_words_or_the_environment() -> None:
    chosen = selection.read(
        ["KCPTUBE=/a", "WITH=kcp=fast3 mtu=1200"], {"KCPTUBE": "/b", "KCPTUN_LIBEV": "/c"}
    )
    assert chosen.settings.executables == {"KCPTUBE": "/a", "KCPTUN_LIBEV": "/c"}
    assert chosen.settings.options == {"kcp": "fast3", "mtu": "1200"}


@pytest.mark.parametrize(
    "word",
    [
        *("bulk", "NOTHING=1", "ONLY=bulks", "SYSTEMS=kcptube2", "WORKLOADS=bulk", "PLACES=moon"),
        *("REPEATS=0", "REPEATS=x", "SECONDS=-1", "SECONDS=nan", "SECONDS=inf", "WITH=fast", "SAVE=../x"),
    ],
)
def test_a_wrong_word_is_said(word: str) -> None:
    with pytest.raises(Usage):
        selection.read([word], {})


def test_every_line_is_a_profile_with_the_figures_of_its_text() -> None:
    lines = [workload.line for workload in WORKLOADS.values() if workload.line is not None]
    assert {workload.places for workload in WORKLOADS.values() if workload.line} == {(LINE,)}
    for line in lines:
        read = line.profile()
        if isinstance(line, Cell):
            assert read.up.trace and read.down.trace and line.limit_mbit_s is None
            continue
        assert read.up == read.down and isinstance(read.up.loss, Chance)
        assert read.up.rate_bps == line.rate_bps and read.up.delay_ns == line.rtt_ms * 500_000
        assert read.up.loss.fraction == pytest.approx(line.loss)
        assert f"{line.rtt_ms} ms" in line.text
    assert WORKLOADS["lossy10"].line is not None
    assert WORKLOADS["lossy10"].line.limit_mbit_s == pytest.approx(100 * 0.9 * 1448 / 1514)


def test_a_recorded_trace_is_measured_where_it_is_named(tmp_path: Path) -> None:
    for way, lines in (("up", "1\n"), ("down", "1\n2\n")):
        (tmp_path / f"cell.{way}").write_text(lines)
    chosen = selection.read(["ONLY=mobile", f"TRACE={tmp_path}/cell"], {})
    workload, place = chosen.cases[-1]
    assert (workload.name, place, chosen.left_out) == (RECORDED, LINE, ())
    assert isinstance(workload.line, Cell) and "cell.down" not in workload.about and "cell" in workload.about
    read = workload.line.profile()
    assert isinstance(read.down.trace, TraceFile) and read.down.trace.path.endswith("cell.down")
    with pytest.raises(Usage, match="TRACE must name"):
        selection.read([f"WORKLOADS={RECORDED}"], {})
    with pytest.raises(Usage, match="nowhere"):
        selection.read(["ONLY=mobile", "TRACE=nowhere"], {})
