"""Profiles as tc commands: every word, and what is noticed when tc shows something else.

The kernel's side of it is netem/guest/verify.py, run by `make netem-guest`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from netem import profile, tc
from netem.guest import verify
from netem.profile import Chance, FourState, GilbertElliott, Impair, Outage, PortThrottle, Reorder

MS = 10**6


@pytest.mark.parametrize(
    ("impair", "words"),
    [
        (Impair(), "limit 1000"),
        (Impair(delay_ns=25 * MS, limit=200), "limit 200 delay 25000us 0us 0%"),
        (Impair(delay_ns=MS, jitter_ns=MS // 2, correlation=0.25), "limit 1000 delay 1000us 500us 25%"),
        (
            Impair(delay_ns=MS, jitter_ns=MS // 2, distribution="pareto"),
            "limit 1000 delay 1000us 500us 0% distribution pareto",
        ),
        (Impair(distribution="normal"), "limit 1000"),
        (Impair(loss=Chance(0.005, 0.1)), "limit 1000 loss random 0.5% 10%"),
        (Impair(loss=GilbertElliott(0.005, 0.25, 0.9, 0.001)), "limit 1000 loss gemodel 0.5% 25% 90% 0.1%"),
        (Impair(loss=FourState(0.02, 0.3, 0.05, 0.5, 0.01)), "limit 1000 loss state 2% 30% 5% 50% 1%"),
        (Impair(corrupt=Chance(0.001)), "limit 1000 corrupt 0.1% 0%"),
        (Impair(duplicate=Chance(0.01)), "limit 1000 duplicate 1% 0%"),
        # tc forgets a duplicate's correlation unless another one is given.
        (Impair(duplicate=Chance(0.01, 0.05)), "limit 1000 delay 0us 0us 0% duplicate 1% 5%"),
        (
            Impair(delay_ns=MS, reorder=Reorder(0.02, 0.5, 5)),
            "limit 1000 delay 1000us 0us 0% reorder 2% 50% gap 5",
        ),
        (Impair(rate_bps=384_000, packetoverhead=4), "limit 1000 rate 384000bit 4"),
    ],
)
def test_words(impair: Impair, words: str) -> None:
    assert tc.netem_words(impair) == words.split()
    assert tc.netem_words(impair, seed=7) == [*words.split(), "seed", "7"]


# Profiles that need the link box, each with a reason.
FOR_THE_BOX = {
    "trace": "trace",
    "rate-steps": "steps",
    "rtt-steps": "steps",
    "rtt-swing": "swing",
    "policer": "police",
    "shared-cubic": "cross",
    "shared-bbr": "cross",
    "blackhole": "outage",
}


def test_only_those_profiles_need_the_link_box() -> None:
    needing = {name for name in profile.known_profiles() if tc.unsupported(profile.load(name).down)}
    assert needing == set(FOR_THE_BOX)


@pytest.mark.parametrize(
    ("impair", "reason"),
    [
        (Impair(droplist=(1,)), "droplist"),
        (Impair(outage=Outage(MS, MS)), "outage"),
        (Impair(packetoverhead=4), "packetoverhead"),
        (Impair(rate_bps=10**6, limit_bytes=9000), "limit in bytes"),
        *((profile.load(name).down, key) for name, key in FOR_THE_BOX.items()),
    ],
)
def test_what_tc_cannot_say_is_refused(impair: Impair, reason: str) -> None:
    assert reason in tc.unsupported(impair)[0]
    with pytest.raises(ValueError, match=reason):
        tc.netem_words(impair)


def shown(impair: Impair) -> list[dict[str, Any]]:
    """What a kernel that does as it is told would show."""
    qdiscs: list[dict[str, Any]] = [
        {"kind": "netem", "handle": "1:", "root": True, "options": tc.expected_options(impair)}
    ]
    if impair.port is not None:
        qdiscs.append({"kind": "htb", "handle": "10:", "parent": "1:1", "options": {}})
        fifo = {"kind": "pfifo", "options": {"limit": impair.port.limit}}
        qdiscs += [fifo] * tc.PORT_CLASSES
    return qdiscs


CLASS_LINE = "class htb 10:1 root leaf 101: prio 0 rate 2Mbit ceil 2Mbit burst 1Mb cburst 1Mb \n"
CLASSES = "class netem 1:1 parent 1: leaf 10: \n" + CLASS_LINE * tc.PORT_CLASSES


@pytest.mark.parametrize("name", verify.cases())
def test_a_kernel_that_obeys_shows_no_difference(name: str) -> None:
    way, impair = verify.cases()[name]
    assert tc.differences(impair, shown(impair), CLASSES if impair.port else "") == []
    assert tc.add_commands("eth1", impair, way)[0][:5] == ["tc", "qdisc", "add", "dev", "eth1"]


def test_every_difference_is_named() -> None:
    impair = verify.FURTHER["everything"]
    for change, field in (
        (replace(impair, limit=201), "limit:"),
        (replace(impair, delay_ns=impair.delay_ns + 5000), "delay.delay:"),
        (replace(impair, jitter_ns=0), "delay.jitter:"),
        (replace(impair, loss=Chance(0.0051, 0.1)), "loss-random.loss:"),
        (replace(impair, loss=GilbertElliott(0.1, 0.5)), "loss-gemodel: not shown"),
        (replace(impair, duplicate=Chance()), "duplicate: {"),
        (replace(impair, corrupt=Chance(0.001, 0.03)), "corrupt.correlation:"),
        (replace(impair, reorder=Reorder(0.02, 0.5, 6)), "gap:"),
        (replace(impair, rate_bps=20_000_100), "rate.rate:"),
        (replace(impair, port=PortThrottle(2_000_000, 1 << 20, 100)), "port: htb is not there"),
    ):
        found = tc.differences(change, shown(impair))
        assert any(difference.startswith(field) for difference in found), (field, found)
    assert tc.differences(impair, [{"kind": "noqueue", "root": True}]) == [
        "root: expected one netem, shown are ['noqueue']"
    ]


def test_a_tick_is_no_difference() -> None:
    """250us comes back as 249us: the kernel counts in ticks of 64 ns and tc cuts."""
    impair = Impair(delay_ns=250_000, jitter_ns=50_000)
    back = shown(impair)
    back[0]["options"]["delay"] |= {"delay": 0.000249, "jitter": 4.9e-05}
    assert tc.differences(impair, back) == []


def test_throttled_ports_are_classes_below_netem() -> None:
    impair = profile.load("port-throttle").up
    commands = [" ".join(command) for command in tc.add_commands("eth1", impair, "up")]
    assert len(commands) == 3 + 2 * tc.PORT_CLASSES
    assert commands[1] == "tc qdisc add dev eth1 parent 1:1 handle 10: htb default 1"
    assert "classid 10:40 htb rate 2000000bit ceil 2000000bit burst 1048576 cburst 1048576" in commands[-3]
    assert commands[-1].endswith("flow map key proto-dst and 0x3f baseclass 10:1")
    assert tc.add_commands("eth1", impair, "down")[-1][-5] == "proto-src"
    back = shown(impair)
    assert tc.differences(impair, back, CLASSES) == []
    assert tc.differences(impair, back, CLASS_LINE) == ["port: 1 classes instead of 64"]
    slower = CLASSES.replace("rate 2Mbit", "rate 1Mbit")
    assert "(1000000.0, 2000000.0, 1048576.0)" in tc.differences(impair, back, slower)[0]


def test_a_change_in_place_only_where_nothing_has_to_go() -> None:
    """`tc qdisc change` keeps what is not named."""
    everything = verify.FURTHER["everything"]

    def in_place(old: Impair, new: Impair) -> bool:
        commands = tc.update_commands("eth1", old, new)
        assert [command[2] for command in commands[:2]] in (["change"], ["del", "add"])
        return len(commands) == 1

    assert in_place(everything, replace(everything, loss=Chance(1.0), limit=9, rate_bps=10**6))
    assert in_place(Impair(), everything)
    for field, value in (
        ("corrupt", Chance()),
        ("reorder", Reorder()),
        ("rate_bps", 0),
        ("distribution", "uniform"),
        ("jitter_ns", 0),  # its table would come back with the next jitter
        ("loss", GilbertElliott(0.1, 0.5)),
        ("port", PortThrottle(2_000_000, 1 << 20, 100)),
    ):
        other = replace(everything, **{field: value}, packetoverhead=0)
        assert not in_place(everything, other), field


def test_commands_for_a_namespace() -> None:
    assert tc.within("one", [["tc", "qdisc", "show"]]) == [["tc", "-n", "one", "qdisc", "show"]]
