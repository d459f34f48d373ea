"""Checks that a link behaves as its profile says, before anything is measured on it.

It sends probes over the cable in both directions, and compares delay (median and spread), loss and copies
with the profile's own model, for the same packets at the same times under many other seeds. A train of full
frames gives the rate. The cable must have counted all frames: otherwise they went another way. A line that
changes in time is measured around each of its changes.

A figure that is wrong while the machine stood still (harness/stalls.py) says nothing about the link: it is
measured again, a few times at most, and the report tells why. A figure that is wrong without that is wrong.

    python -m harness.linkcheck [PROFILE …]     checks profiles on a cable of its own
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness import probes
from harness.backends import BACKENDS
from harness.link import Link
from harness.netns import Lab
from harness.probes import Flight, Gun
from harness.process import Failed
from harness.stalls import Watch
from harness.topologies.chains import chain
from netem import profile as profiles
from netem import trace as traces
from netem.impair import Direction
from netem.profile import Impair, Police, PortThrottle, Profile, ProfileError


@dataclass(frozen=True, slots=True)
class Effort:
    """How thoroughly to check: how long to send probes, the gap between two, and what the machine may add."""

    window_ns: int
    gap_ns: int
    delay_slack_ms: Mapping[str, float]  # By percentile
    rate_slack: float  # a share; where the machine stood still for as much of the time, it disturbed us


# 4,000 probes each way, so that the error of 1 % loss is about a quarter of it.
NORMAL = Effort(1_600_000_000, 400_000, {"10": 1.0, "50": 1.0, "90": 2.0}, 0.05)

# For a slow machine, such as a guest kernel where a system call takes 30 us.
GENTLE = Effort(3_000_000_000, 2_000_000, {"10": 1.0, "50": 1.0, "90": 4.0}, 0.1)

PROBE_BYTES = 32

# A probe may take this fraction of a slow link's time: the check measures the delay, not its own queue.
LIGHT_LOAD = 4

SEEDS = 20  # The model runs with this many seeds
DEVIATIONS = 5  # This many standard deviations of their results are still chance

# Loss and copies: the granularity of a window, and a packet or two lost to the machine itself.
LOSS_SLACK = 0.002

# What every backend carries on two cores. Faster profiles are only checked against this.
SURE_BPS = 300_000_000

TRAIN_FRAMES, TRAIN_BYTES = 200, 1200

# Between two packets of a port: 50 Mbit/s, more than any throttle lets through and less than any line.
PORT_GAP_NS = 200_000

# Of a policer, after its burst: at 50 Mbit/s sent, 100 of 10 Mbit/s pass.
POLICED_FRAMES = 500

# When flows beside are looked at: long after their beginning.
CROSS_SETTLED_NS = 4_000_000_000

# Measurements in all while the machine disturbs each of them. One that nothing disturbed is the last.
ATTEMPTS = 5

WAIT_NS = 150_000_000  # Patience beyond the longest delay


@dataclass(slots=True)
class Found:
    """One direction of a link: what was measured and what was expected, as text."""

    way: str
    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    when: str = ""  # Which part of the line's timeline is being compared, in words
    median_ms: float = 0.0  # Of the first
    span: tuple[int, int] = (0, 0)  # When the figures that are being compared were measured
    spans: list[tuple[int, int]] = field(default_factory=list)  # The same for each problem

    def wrong(self, line: str) -> None:
        """Note a problem of what is being compared."""
        self.problems.append(line)
        self.spans.append(self.span)

    def compare(self, what: str, measured: float, expected: float, slack: float, unit: str) -> None:
        """Record a figure; it is a problem if it is off by more than the slack."""
        line = f"{self.way} {what}{self.when}: {measured:.4g} {unit}, expected {expected:.4g} ± {slack:.2g}"
        self.lines.append(line)
        if abs(measured - expected) > slack:
            self.wrong(line)


@dataclass(slots=True)
class Report:
    """The result of a check; without problems, the link is what its profile says."""

    profile: str
    backend: str
    directions: list[Found]
    # What the machine did to each measurement that was made again, or that was the last one allowed.
    disturbed: list[str]

    @property
    def problems(self) -> list[str]:
        return [problem for found in self.directions for problem in found.problems]

    def text(self) -> str:
        """The report as several lines of text."""
        verdict = "does NOT match its profile" if self.problems else "matches its profile"
        head = f"{self.profile} ({self.backend}) {verdict}"
        lines = [line for found in self.directions for line in found.lines]
        marked = [f"  {'!' if line in self.problems else ' '} {line}" for line in lines]
        return "\n".join([head, *marked, *(f"    disturbed: {line}" for line in self.disturbed)])


def check(link: Link, effort: Effort = NORMAL) -> Report:
    """Measure a link and compare. Resets its counters and its seed afterwards.

    Raises Failed for a link without a profile, but not for a wrong link: see `Report.problems`.
    """
    if link.profile is None:
        raise Failed("a cable without a profile cannot be checked")
    disturbed: list[str] = []
    with Watch() as watch:
        while True:
            report = Report(link.profile.name, link.backend, _attempt(link, link.profile, effort), disturbed)
            if not report.problems or not _disturbed(report, watch, effort.rate_slack):
                break
            if len(disturbed) == ATTEMPTS:
                break
    link.restart()
    return report


def _disturbed(report: Report, watch: Watch, least: float) -> bool:
    """Whether the machine stood still while each problem was measured; if so, the report says how long."""
    spans = [span for found in report.directions for span in found.spans]
    away = [watch.away_ns(*span) / max(span[1] - span[0], 1) for span in spans]
    if min(away) < least:
        return False
    shares = ", ".join(f"{share:.1%}" for share in sorted(set(away)))
    report.disturbed.append(
        f"measurement {len(report.disturbed) + 1}: the machine stood still for {shares} of the time, "
        f"in which this went wrong: {'; '.join(report.problems)}"
    )
    return True


def ensure(link: Link, effort: Effort = NORMAL) -> Report:
    """Like `check`, but raises Failed if the link does not match its profile."""
    report = check(link, effort)
    if report.problems:
        raise Failed(f"a run on this link would mean nothing:\n{report.text()}")
    return report


def _attempt(link: Link, profile: Profile, effort: Effort) -> list[Found]:
    impairs = {"up": profile.up, "down": profile.down}
    found = {way: Found(way) for way in impairs}
    for at_ns in sorted({at_ns for impair in impairs.values() for at_ns in _moments(impair, effort)}):
        _delays(link, impairs, found, at_ns, effort)
    for number, (way, impair) in enumerate(impairs.items()):
        shoot = Shooting(link, number, impair, found[way], effort)
        for at_ns in _rate_moments(impair):
            shoot.rate(at_ns)
        if impair.port is not None:
            shoot.port(impair.port)
        if impair.police is not None:
            shoot.police(impair.police)
    return list(found.values())


def _moments(impair: Impair, effort: Effort) -> set[int]:
    """When, since the line's beginning, delays are measured: there, and around every change.

    A change comes after a third of the window, so that no percentile is just where it makes the delays jump.
    """
    changes = {step.at_ns for step in impair.steps}
    if impair.steps_every_ns:
        changes.add(impair.steps_every_ns)
    if impair.outage is not None:
        changes.add(impair.outage.on_ns)
    if impair.swing is not None:
        changes.add(impair.swing.period_ns // 2)
    if impair.trace is not None:
        changes.add(traces.length_ns(impair.trace))
    if impair.cross is not None:
        changes.add(CROSS_SETTLED_NS)
    return {0, *(max(change - effort.window_ns // 3, 0) for change in changes)}


def _rate_moments(impair: Impair) -> list[int]:
    """When rates are measured: at each of them."""
    if impair.cross is not None or not impair.mean_bps:
        return []  # beside others a train has no rate of its own; the delays show what they leave
    return [0, *(step.at_ns for step in impair.steps if step.rate_bps is not None)]


def _delays(
    link: Link, impairs: Mapping[str, Impair], found: Mapping[str, Found], at_ns: int, effort: Effort
) -> None:
    """Send light probes both ways, from `at_ns` of the line's timeline on, and compare what arrives."""
    with probes.guns(link) as (up, down):
        overhead = up.overhead_bytes()
        gap_ns = max(_gap_ns(impair, overhead, effort) for impair in impairs.values())
        count = max(effort.window_ns // gap_ns, 1)
        planned = Flight(
            [at_ns + number * gap_ns for number in range(count)], [overhead + PROBE_BYTES] * count
        )
        wait_ns = max(_wait_ns(impair, planned, 0) for impair in impairs.values())
        link.restart(at_ns=at_ns)
        probes.spaced([up, down], count, gap_ns, PROBE_BYTES, wait_ns)
        flights = {"up": up.flight, "down": down.flight}
    facts = link.facts()
    for way, impair in impairs.items():
        found[way].when = f" from {at_ns / 1e9:.3g} s on" if at_ns else ""
        found[way].span = _span(flights[way])
        _compare(found[way], flights[way], impair, _epoch_ns(facts[way], flights[way]), effort)
        counted, sent = facts[way]["frames"], len(flights[way].sent_ns)
        found[way].lines.append(f"{way} frames counted on the cable: {counted} of {sent}")
        if counted < sent:
            found[way].wrong(found[way].lines[-1])
        found[way].when = ""


def _gap_ns(impair: Impair, overhead_bytes: int, effort: Effort) -> int:
    rates = [impair.mean_bps, *(step.rate_bps for step in impair.steps if step.rate_bps is not None)]
    if not min(rates):
        return effort.gap_ns
    frame_ns = (overhead_bytes + PROBE_BYTES + impair.packetoverhead) * 8 * 10**9 // min(rates)
    return max(effort.gap_ns, LIGHT_LOAD * frame_ns)


def _wait_ns(impair: Impair, planned: Flight, epoch_ns: int) -> int:
    """How long after the last probe to wait for those that are still under way, and some more."""
    dues = [max(dues, default=0) for dues in _model(impair, planned, "wait", epoch_ns).arrived_ns]
    tail_ns = 4 * impair.jitter_ns  # where jitter's tables end
    return max(max(dues) - planned.sent_ns[-1], 0) + tail_ns + WAIT_NS


def _epoch_ns(facts: Mapping[str, Any], flight: Flight) -> int:
    """When the line's timeline began, by the clock of the probes. netem has none, and does not say."""
    epoch_ns: int | None = facts.get("epoch_ns")
    return flight.sent_ns[0] if epoch_ns is None else epoch_ns + _ahead_ns()


def _ahead_ns() -> int:
    """How much the probes' clock is ahead of the monotonic one."""
    return time.time_ns() - time.monotonic_ns()


def _compare(found: Found, flight: Flight, impair: Impair, epoch_ns: int, effort: Effort) -> None:
    modelled = [_model(impair, flight, f"{found.way}:{number}", epoch_ns) for number in range(SEEDS)]
    # A flipped bit is mostly found by a checksum, and then is a loss; in an address it may pass.
    hurt = impair.corrupt.fraction
    for what, measured, others, slack in (
        ("lost", flight.lost, [each.lost for each in modelled], LOSS_SLACK + hurt),
        ("twice", flight.duplicated, [each.duplicated for each in modelled], LOSS_SLACK),
    ):
        mean, chance = _spread(others)
        found.compare(what, measured * 100, mean * 100, (slack + chance) * 100, "%")
    delays = flight.delays_ms()
    found.median_ms = found.median_ms or _at(delays, 0.5)
    if not delays:
        found.wrong(f"{found.way} nothing arrived")
        return
    for percentile, slack in effort.delay_slack_ms.items():
        share = int(percentile) / 100
        mean, chance = _spread([_at(each.delays_ms(), share) for each in modelled])
        found.compare(f"delay p{percentile}", _at(delays, share), mean, slack + chance, "ms")


def _span(flight: Flight) -> tuple[int, int]:
    """From the first probe sent to the last one sent or arrived, by the monotonic clock."""
    last_ns = max(flight.sent_ns[-1], *(max(arrivals, default=0) for arrivals in flight.arrived_ns))
    ahead_ns = _ahead_ns()
    return flight.sent_ns[0] - ahead_ns, last_ns - ahead_ns


def _model(impair: Impair, flight: Flight, seed: str, epoch_ns: int) -> Flight:
    """What the profile would do to these probes with another seed."""
    direction = Direction(impair, seed, epoch_ns)
    modelled = Flight(flight.sent_ns, flight.frame_bytes)
    for sent_ns, size in zip(flight.sent_ns, flight.frame_bytes, strict=True):
        departures = direction.offer(sent_ns, size)
        modelled.arrived_ns.append([due_ns for due_ns, bit in departures if bit is None])
    return modelled


def _spread(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and the deviation that is still chance."""
    return statistics.fmean(values), DEVIATIONS * statistics.stdev(values)


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


class Shooting:
    """Measurements of rates with full frames, in one direction: up (`number` 0) or down (1)."""

    def __init__(self, link: Link, number: int, impair: Impair, found: Found, effort: Effort) -> None:
        self._link, self._number, self._impair = link, number, impair
        self._found, self._effort = found, effort

    def rate(self, at_ns: int) -> None:
        """Check the rate by a train that fits the queue.

        The model gives the expected rate: jitter leaves gaps between packets, which cost a part of it.
        """
        impair = self._impair
        with probes.guns(self._link) as both:
            gun = both[self._number]
            frame_bytes = gun.overhead_bytes() + TRAIN_BYTES + impair.packetoverhead
            room = impair.limit_bytes // frame_bytes if impair.limit_bytes else impair.limit
            frames = max(min(TRAIN_FRAMES, room * 3 // 4), 2)
            wait_ns = _wait_ns(impair, Flight([at_ns] * frames, [frame_bytes] * frames), 0)
            self._link.restart(at_ns=at_ns)
            probes.train(gun, frames, TRAIN_BYTES, wait_ns)
        self._compare(f"rate from {at_ns / 1e9:.3g} s on" if at_ns else "rate", gun.flight, 0)

    def port(self, throttle: PortThrottle) -> None:
        """Check one port's rate, with packets that use up its burst and fill its queue."""
        with probes.guns(self._link, families=1) as both:
            gun = both[self._number]
            frame_bytes = gun.overhead_bytes() + TRAIN_BYTES
            # The bucket refills a little meanwhile; the packets that overflow the queue are lost, as they
            # should be.
            frames = throttle.burst_bytes * 6 // 5 // frame_bytes + 2 * throttle.limit
            self._spaced(gun, frames)
        self._compare("rate of one port", gun.flight, frames - throttle.limit)

    def police(self, police: Police) -> None:
        """Check what a policer lets through once the burst is used up."""
        with probes.guns(self._link, families=1) as both:
            gun = both[self._number]
            used_up = police.burst_bytes * 6 // 5 // (gun.overhead_bytes() + TRAIN_BYTES)
            self._spaced(gun, 2 * used_up + POLICED_FRAMES)
        self._compare("rate that is not dropped", gun.flight, 2 * used_up)

    def _spaced(self, gun: Gun, frames: int) -> None:
        """Full frames, faster than any bucket fills and slower than the line."""
        impair, frame_bytes = self._impair, gun.overhead_bytes() + TRAIN_BYTES
        line_ns = frame_bytes * 8 * 10**9 // impair.mean_bps if impair.mean_bps else 0
        gap_ns = max(PORT_GAP_NS, line_ns * 5 // 4)
        planned = Flight([number * gap_ns for number in range(frames)], [frame_bytes] * frames)
        self._link.restart()
        probes.spaced([gun], frames, gap_ns, TRAIN_BYTES, _wait_ns(impair, planned, 0))

    def _compare(self, what: str, flight: Flight, first: int) -> None:
        """The rate of a train from packet `first` on."""
        found = self._found
        found.span = _span(flight)
        epoch_ns = _epoch_ns(self._link.facts()[found.way], flight)
        modelled = [
            _model(self._impair, flight, f"{found.way}:{what}:{each}", epoch_ns) for each in range(SEEDS)
        ]
        measured = probes.dispersion_bps(flight, first)
        mean, chance = _spread([probes.dispersion_bps(each, first) for each in modelled])
        slack = self._effort.rate_slack * mean + chance
        line = (
            f"{found.way} {what}: {measured / 1e6:.4g} Mbit/s, expected {mean / 1e6:.4g} ± {slack / 1e6:.2g}"
        )
        found.lines.append(line)
        if not min(mean - slack, SURE_BPS) <= measured <= mean + slack:
            found.wrong(line)


def main(words: Sequence[str]) -> int:
    """Check links with these profiles; returns 1 if one does not match."""
    parser = argparse.ArgumentParser(prog="python -m harness.linkcheck", description=main.__doc__)
    parser.add_argument("profiles", nargs="*", help="names of profiles (default: all)")
    parser.add_argument("--backend", choices=BACKENDS, help="overrides NETEM_BACKEND")
    parser.add_argument("--trace", metavar="FILE", help="a recorded trace instead of their rates")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--gentle", action="store_true", help="for a slow machine")
    parser.add_argument("--show", action="store_true", help="print every command")
    options = parser.parse_args(words)
    wrong = 0
    try:
        wanted = [profiles.load(name) for name in options.profiles or profiles.known_profiles()]
        if options.trace:
            wanted = [profiles.traced(profile, options.trace) for profile in wanted]
        for profile in wanted:
            with (
                Lab(print if options.show else None) as lab,
                chain(lab, profile, 0, seed=options.seed, backend=options.backend) as topology,
            ):
                topology.assert_no_bypass()
                report = check(topology.links[0], GENTLE if options.gentle else NORMAL)
            print(report.text(), flush=True)
            wrong += bool(report.problems)
    except (ProfileError, Failed) as error:
        print(f"linkcheck: {error}", file=sys.stderr)
        return 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
