"""The figures of single parts: read from pytest-benchmark's file, and the path beside its floor."""

from __future__ import annotations

from typing import Any

import pytest

from harness.bench import micro, selection


def entry(name: str, median_ns: float, count: float, bytes_each: int = 0) -> dict[str, Any]:
    stats = {"median": median_ns / 1e9, "iqr": median_ns / 1e10}
    return {
        "name": name,
        "stats": stats,
        "extra_info": {"unit": "datagram", "count": count, "bytes": bytes_each},
    }


def test_figures_are_for_one_unit() -> None:
    (part,) = micro.read({"benchmarks": [entry("test_seal[x]", 64_000, 64, 1400)]})
    assert part.median_ns == pytest.approx(1000) and part.spread == pytest.approx(0.05)
    assert micro.text([part]).splitlines()[1].split() == ["seal[x]", "1,000", "±5%", "datagram", "1.40"]


def test_the_floor_is_the_sum_of_its_pieces() -> None:
    named = {
        "test_floor_copy": 100,
        "test_floor_aead[compiled]": 400,
        "test_floor_calls[offload]": 500,
        "test_floor_calls[single]": 1500,
        "test_path[offload-compiled]": 2000,
        "test_path[single-compiled]": 3000,
        "test_path[offload-python]": 9000,
    }
    parts = micro.read({"benchmarks": [entry(name, ns, 1) for name, ns in named.items()]})
    lines = [line.split() for line in micro.floors(parts).splitlines()[1:]]
    assert lines == [
        ["compiled,", "offload", "100", "400", "500", "1,000", "2,000", "2.00"],
        ["compiled,", "single", "100", "400", "1,500", "2,000", "3,000", "1.50"],
    ], "python has no AEAD figure here, and hence no floor"


def test_a_wake_up_stands_beside_its_system_calls() -> None:
    parts = micro.read(
        {"benchmarks": [entry("test_driver_wake_up", 60, 1), entry("test_floor_wake_up", 15, 1)]}
    )
    assert micro.wake_ups(parts).splitlines()[1].split()[-3:] == ["15", "60", "4.00"]
    assert len(micro.wake_ups([]).splitlines()) == 1


def test_micro_is_asked_for_like_a_kind_of_workload() -> None:
    chosen = selection.read(["ONLY=micro"], {})
    assert chosen.micro and not chosen.cases
    assert selection.read(["ONLY=micro,short"], {}).cases
    assert not selection.read([], {}).micro
