"""The sets of cases: for continuous integration, the default, and the full set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from harness.case import Plan
from harness.scenarios import SCENARIOS

# Each kind of scenario once. Speed is shown but not judged: the machine is shared.
CI = (
    Plan("bulk", "server", "lossy1", seconds=2),
    Plan("latency", "relay", "lossy5", seconds=3, baselines=False),
    Plan("game", "server", "lossy5", seconds=3, baselines=False),
    Plan("dns", "relay", "lossy5", count=200, baselines=False),
    Plan("half-close", "relays", "lossy1"),
    Plan("server-first", "relay", "lossy1"),
    Plan("slow-reader", "relay", "lan"),
    Plan("short", "relay", "lossy1", count=150, baselines=False),
    Plan("curl", "relay", "lossy1"),
    Plan("ssh", "relay", "lossy1"),
    Plan("eavesdropper", "server", "lossy1"),
    Plan("on-path-attacker", "server", "lossy1"),
    Plan("malicious-peer", "server", "lossy1"),
    Plan("nat-rebinding", "server", "lossy1"),
    Plan("failover", "server", "lossy1"),
    Plan("small-mtu", "server", "lossy1"),
    Plan("jumbo", "server", "lossy1"),
    Plan("ipv6-middle", "relays", "lossy1"),
)

# A house, a telephone, a long fibre, a satellite; and loss alone, in three kinds.
SPEED_PROFILES = ("wifi", "mobile", "transcontinental", "satellite", "lossy1", "lossy5", "bursty")

MANY_PROFILES = (
    *(
        "lan",
        "dsl",
        "wifi",
        "wifi-bad",
        "mobile",
        "3g",
        "leo",
        "satellite",
        "transcontinental",
        "transpacific",
    ),
    *("lossy1", "lossy5", "lossy10", "bursty", "throttled", "reorder", "duplicate", "corrupt", "bufferbloat"),
    *("blackhole", "port-throttle", "trace", "policer"),
    *("rate-steps", "rtt-steps", "rtt-swing", "shared-cubic", "shared-bbr"),
)

# Seconds of a bulk measurement each way, 3 for others: every controller needs some round trips to start.
BULK_S = {"satellite": 6.0}

# The same for lines that change: until the change, and for as long after it.
CHANGING_S = {
    "trace": 20.0,
    "rate-steps": 25.0,
    "rtt-steps": 25.0,
    "rtt-swing": 10.0,
    "policer": 12.0,
    "shared-cubic": 12.0,
    "shared-bbr": 12.0,
}

LATENCY_S = 6.0  # 600 requests: six of them are above the 99th percentile

DEFAULT = (
    *(Plan("bulk", "server", profile, seconds=BULK_S.get(profile, 3.0)) for profile in SPEED_PROFILES),
    Plan("bulk", "relay", "transcontinental", seconds=3),
    *(
        Plan("latency", "server", profile, seconds=LATENCY_S)
        for profile in ("wifi", "mobile", "satellite", "lossy5")
    ),
    Plan("parallel", "server", "lossy1", seconds=3, baselines=False),
    Plan("game", "server", "lossy5", seconds=4),
    Plan("dns", "relay", "lossy5", baselines=False),
    *(
        Plan(scenario.name, scenario.modes[0], scenario.profile, seconds=3, baselines=False)
        for scenario in SCENARIOS.values()
        if scenario.name not in {"bulk", "latency", "parallel", "game", "dns"}
    ),
)


DIALECTS = ("native", "kcptube", "kcptun")  # Wire protocols, the usual one first


def plan(scenario: str, mode: str, profile: str, dialect: str = "native", baselines: bool = True) -> Plan:
    """A case with the time that it needs; bulk over a line that changes needs more, and gets it once."""
    made = Plan(scenario, mode, profile, dialect=dialect, baselines=baselines)
    longer = scenario == "bulk" and mode == "server" and profile in CHANGING_S
    return replace(made, seconds=CHANGING_S[profile]) if longer else made


def full() -> Iterator[Plan]:
    """Everything: each scenario with each chain and dialect, and measurements with many profiles."""
    for scenario in SCENARIOS.values():
        measures = scenario.name in {"bulk", "latency", "game"}
        for mode in scenario.modes:
            for profile in MANY_PROFILES if measures else (scenario.profile,):
                baselines = measures or scenario.name == "short"
                yield plan(scenario.name, mode, profile, baselines=baselines)
    for dialect in DIALECTS[1:]:
        for scenario in SCENARIOS.values():
            for mode in scenario.modes if dialect in scenario.dialects else ():
                yield Plan(scenario.name, mode, scenario.profile, baselines=False, dialect=dialect)
