"""What a line could carry, what waited before it and what a node believed of it, ready to be drawn."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("scapy")

from harness import course
from netem import profile
from netem.profile import Impair, Outage
from netem.timeline import Step
from netem.trace import OPPORTUNITY_BYTES, Radio, opportunities

MS = 10**6


def test_the_capacity_of_a_trace_is_that_of_its_opportunities_again_and_again() -> None:
    radio = Radio(4_000_000, 0.4, 10**9, 200 * MS, 2 * 10**9, 3_050 * MS, 7)
    found = course.capacity(Impair(trace=radio), 62)
    assert sum(found) * 1e6 / 10 == pytest.approx(
        OPPORTUNITY_BYTES * 8 * sum(at < 6200 - lap for lap in (0, 3050, 6100) for at in opportunities(radio))
    )
    assert min(found) == 0.0 and len(found) == 62


def test_the_capacity_follows_steps_and_outages() -> None:
    steps = (Step(300 * MS, 10**6), Step(500 * MS, 2 * 10**6))
    line = Impair(rate_bps=4 * 10**6, steps=steps, steps_every_ns=700 * MS)
    assert course.capacity(line, 9) == [4, 4, 4, 1, 1, 2, 2, 4, 4]
    line = Impair(rate_bps=4 * 10**6, outage=Outage(200 * MS, 100 * MS))
    assert course.capacity(line, 6) == [4, 4, 0, 4, 4, 0]


def test_lines_that_change_are_drawn_and_others_not() -> None:
    drawn = {name for name in profile.known_profiles() if course.is_drawn(profile.load(name))}
    steps, shared = {"rate-steps", "rtt-steps", "rtt-swing"}, {"shared-cubic", "shared-bbr"}
    assert drawn == {"trace", "blackhole", *steps, *shared}
    assert not course.is_drawn(None)


def test_a_node_s_beliefs_are_found_in_its_log() -> None:
    line = {"kind": "link_congestion", "leg": "egress", "monotonic_s": 7.5, "delivery_bps": 10**6}
    log = "\n".join(
        ["kcpg: ready", json.dumps(line), json.dumps(line | {"leg": "ingress"}), json.dumps(line)[:50]]
    )
    assert course.beliefs(log, "egress") == [line]


def test_they_are_drawn_each_way() -> None:
    pictures = pytest.importorskip("harness.pictures", reason="make e2e installs it")
    one = {
        "since_s": 0.3,
        "seconds": 1.0,
        "capacity": [5.0, 4.0, 0.0],
        "queue": [[0.4, 0.0], [0.5, 900.0]],
        "base": [[0.4, 40.0], [0.5, 41.0]],
    }
    courses = {
        "kcpg up": {**one, "way": "up", "believed": [[0.4, 4.5, 50, 40], [0.5, 4.4, 60, 40]]},
        "direct bbr up": {**one, "way": "up", "believed": []},
    }
    report = {"mbit_s": 4.0, "bins": [50_000] * 10}
    figure = pictures.courses_of({"courses": courses, "measured": dict.fromkeys(courses, report)})
    rate, queue, delay = figure.axes
    assert [len(axes.get_lines()) for axes in (rate, queue, delay)] == [3, 2, 3]
    assert queue.get_yscale() == "symlog" and rate.get_xlim() == (0.3, 1.3)
    assert pictures.courses_of({"courses": {}, "measured": {}}) is None
    pictures.pyplot.close(figure)
