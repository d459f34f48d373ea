"""From measurements to figures, medians, ratios and tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.bench import compare, table
from harness.bench.figures import FAILED, MISSING, PASSED, Costs, Run, derive, rows, spread
from harness.process import Failed

COSTS = Costs(
    {"client": 2.0, "server": 1.0}, {"client": 10_000_000, "server": 20_000_000}, 0.5, 0.1, 2_200_000_000
)


def run(system: str, repeat: int, figures: dict[str, float], case: str = "bulk-up@loopback") -> Run:
    return Run(case, system, repeat, PASSED, "", figures, COSTS)


def three(system: str, *values: float, figure: str = "mbit_s", case: str = "bulk-up@loopback") -> list[Run]:
    return [run(system, at, {figure: value}, case) for at, value in enumerate(values, 1)]


def test_bulk_gives_goodput_cost_per_gigabyte_and_wire_bytes() -> None:
    figures = derive("bulk", "bulk-up", {"bytes": 2e9, "seconds": 4.0}, COSTS)
    assert figures["mbit_s"] == 4000
    assert figures["cpu_s_per_gb"] == 1.5
    assert (figures["cpu_s_per_gb_client"], figures["cpu_s_per_gb_server"]) == (1.0, 0.5)
    assert figures["peak_mb"] == 30 and figures["wire_per_payload"] == pytest.approx(1.1)


def test_the_lossy_group_is_bulk_or_latency() -> None:
    assert "mbit_s" in derive("lossy", "bulk-up", {"bytes": 1e9, "seconds": 1.0}, Costs())
    times = {"rtt_p50_us": 5.0, "rtt_p99_us": 6.0, "rtt_p999_us": 7.0, "requests": 100, "lost": 0}
    figures = derive("lossy", "tcp-requests", times, COSTS)
    assert (figures["p50_us"], figures["p99_us"], figures["p999_us"]) == (5, 6, 7)
    assert figures["cpu_us_each"] == pytest.approx(30_000)


def test_a_cell_gives_the_delays_and_what_the_download_got_meanwhile() -> None:
    times = {"rtt_p50_us": 5e4, "rtt_p95_us": 6e4, "rtt_p99_us": 7e4, "requests": 100, "lost": 0}
    figures = derive("mobile", "tcp-requests", times | {"beside_bytes": 1e7, "beside_seconds": 20.0}, COSTS)
    assert [figures[name] for name in ("p50_ms", "p95_ms", "p99_ms", "mbit_s")] == [50, 60, 70, 4]
    assert figures["cpu_s_per_gb"] == pytest.approx(300)
    lines = table.text(three("kcpg", 40, 50, 60, figure="p95_ms", case="mobile-lte@line")).splitlines()
    assert lines[1].split()[:2] == ["p95", "ms"] and lines[2].split()[:2] == ["kcpg", "50"]


def test_a_paced_download_is_about_its_cost() -> None:
    figures = derive("paced", "bulk-down", {"bytes": 2e9, "seconds": 4.0}, COSTS)
    assert (figures["cpu_s_per_gb"], figures["mbit_s"]) == (1.5, 4000)
    runs = three("kcpg", 6, 7, 8, figure="cpu_s_per_gb", case="paced-500@line")
    runs += three("kcptun", 60, 70, 80, figure="cpu_s_per_gb", case="paced-500@line")
    assert table.text(runs).splitlines()[3].split()[:4] == ["kcptun", "70.0", "±14%", "0.10×"]


def test_short_connections_and_packets_are_counted_by_the_second() -> None:
    measured = {"done": 2000, "failed": 0, "seconds": 0.5, "connection_p99_us": 4000.0}
    figures = derive("short", "short", measured, COSTS)
    assert (figures["per_s"], figures["p99_ms"], figures["failed"]) == (4000, 4, 0)
    measured = {"packets": 900, "sent": 1000, "lost": 100, "seconds": 0.5}
    figures = derive("udp", "packets", measured, Costs())
    assert (figures["kpps"], figures["lost_share"]) == (1.8, 0.1)
    assert "cpu_us_each" not in figures, "no program, no cost"


def test_the_spread_is_half_the_range_over_the_median() -> None:
    assert spread([9, 10, 11]) == pytest.approx(0.1)
    assert spread([5]) == 0 and spread([0, 0]) == 0


def test_a_ratio_is_taken_within_each_repetition() -> None:
    """The machine was twice as fast in the second one; the ratio does not see that."""
    direct, own = rows([*three("direct", 100, 200, 100), *three("kcpg", 50, 100, 80)], "bulk-up@loopback")
    assert own.ratio(direct, "mbit_s") == 0.5
    assert own.median("mbit_s") == 80


def test_a_repetition_that_failed_is_no_value_and_makes_the_row_failed() -> None:
    runs = [*three("kcpg", 10, 20), Run("bulk-up@loopback", "kcpg", 3, FAILED, "a byte was wrong")]
    (row,) = rows(runs, "bulk-up@loopback")
    assert (row.verdict, row.reason) == (FAILED, "a byte was wrong")
    assert row.values("mbit_s") == [10, 20]


def test_the_table_has_medians_ratios_and_reasons() -> None:
    runs = [
        *three("direct", 1000, 1000, 1000),
        *three("kcpg", 400, 500, 600),
        *three("kcptun", 40, 50, 60),
        Run("bulk-up@loopback", "kcptube", 1, MISSING, "KCPTUBE=path"),
    ]
    lines = table.text(runs).splitlines()
    assert lines[0].startswith("bulk-up@loopback: ")
    assert lines[1].split() == ["Mbit/s", "of", "direct", "kcpg", "is"]
    assert lines[2].split() == ["direct", "1,000", "±0%", "1.00", "0.50×"]
    assert lines[3].split() == ["kcpg", "500", "±20%", "0.50", "–"]
    assert lines[4].split() == ["kcptun", "50", "±20%", "0.050", "10×"]
    assert lines[5].split() == ["kcptube", "not", "given:", "KCPTUBE=path"]


def test_latency_is_told_as_what_is_added_to_direct() -> None:
    case = "tcp-requests@veth"
    runs = [run("direct", 1, {"p50_us": 20.0, "p99_us": 30.0}, case)]
    runs += [run("udp-relay", 1, {"p50_us": 60.0, "p99_us": 90.0}, case)]
    runs += [run("kcpg", 1, {"p50_us": 80.0, "p99_us": 150.0}, case)]
    heading, direct, relay, own = (line.split() for line in table.text(runs).splitlines()[1:])
    assert " ".join(heading).endswith("p50 over direct p99 over direct p50 over relay kcpg is")
    assert direct == ["direct", "20", "30", "–", "–", "–", "4.00×"]
    assert relay == ["udp-relay", "60", "90", "+40", "+60", "–", "1.33×"]
    assert own == ["kcpg", "80", "150", "+60", "+120", "+20", "–"], "and what is not the kernel's part of it"


def test_less_is_better_where_it_is() -> None:
    assert compare.meaning(1.2, 0.05, True) == "better" and compare.meaning(1.2, 0.05, False) == "worse"
    assert compare.meaning(0.8, 0.05, True) == "worse" and compare.meaning(0.8, 0.05, False) == "better"
    assert compare.meaning(1.04, 0.05, True) == "as before"


def test_a_comparison_lists_every_figure_of_both() -> None:
    text = compare.ratios([*three("old", 100, 100), *three("new", 150, 150)])
    assert text.splitlines()[1].split() == [
        "bulk-up@loopback",
        "Mbit/s",
        "100.00",
        "150.00",
        "1.500",
        "better",
    ]


def document(runs: list[Run]) -> dict[str, Any]:
    machine = {"processor": "a processor", "processors": 2, "kernel": "6.1"}
    return json.loads(
        json.dumps(
            {
                "when": "20260102T000000Z",
                "commit": "abc",
                "machine": machine,
                "runs": [one.as_json() for one in runs],
            }
        )
    )


def test_results_survive_their_file() -> None:
    runs = [*three("kcpg", 1, 2), Run("bulk-up@loopback", "kcptun", 1, FAILED, "why")]
    assert table.read(document(runs)) == runs
    with pytest.raises(Failed):
        table.read({"runs": [{"case": "x"}]})
    with pytest.raises(Failed):
        table.read({})


def test_a_document_gets_its_tables_between_its_marks(tmp_path: Path) -> None:
    runs = [*three("direct", 1000), *three("kcpg", 500)]
    path = tmp_path / "document.md"
    path.write_text("before\n<!-- bench: summary -->\nold\n<!-- bench: end -->\nafter\n")
    assert table.write_into(path, document(runs)) == ["summary"]
    first = path.read_text()
    assert first.startswith("before\n") and first.endswith("after\n") and "old" not in first
    assert "| kcpg | 500 |" in first and "a processor" in first
    assert table.write_into(path, document(runs)) == ["summary"] and path.read_text() == first
    path.write_text("<!-- bench: full -->\n")
    with pytest.raises(Failed, match="after it"):
        table.write_into(path, document(runs))
    path.write_text("nothing")
    with pytest.raises(Failed, match="no mark"):
        table.write_into(path, document(runs))


def test_a_busy_machine_is_said_to_have_been_busy() -> None:
    busy = Costs(foreign=0.6)
    runs = [Run("bulk-up@loopback", "kcpg", 1, PASSED, "", {"mbit_s": 1.0}, busy)]
    assert "trust the ratios" in table.markdown(document(runs), "full")
    assert "nothing else" in table.markdown(document(three("kcpg", 1)), "full")


def test_how_often_was_measured_is_said_for_cells_that_differ() -> None:
    runs = three("kcpg", 1, 2, 3)
    assert "medians of 3;" in table.markdown(document(runs), "full")
    runs.append(run("kcpg", 1, {"mbit_s": 4.0}, "bulk-up@veth"))
    assert "medians of 1 to 3;" in table.markdown(document(runs), "full")


def test_every_workload_has_a_table_and_a_unit() -> None:
    for name in table.WORKLOADS:
        kind = table.Case(f"{name}@loopback", ()).kind
        assert kind in table.COLUMNS and kind in table.MAIN and kind in table.UNITS
    assert all(name.partition("@")[0] in table.WORKLOADS for name in table.SUMMARY)
