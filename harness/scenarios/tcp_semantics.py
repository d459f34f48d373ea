"""TCP as applications know it, which must behave the same behind any number of relays.

client ==== server        client ==== relay ==== server        and with two relays
"""

from __future__ import annotations

import shutil

from harness.case import Case, Skipped
from harness.scenarios.base import Scenario
from harness.workloads import ssh

MEGABYTE = 1_000_000

# Most bytes that each node may hold while nobody reads: two windows of 2048 segments (2 x 2.9 MB), and the
# kernel's buffers of the local sockets.
HELD_PER_NODE_BYTES = 8 * MEGABYTE


class HalfClose(Scenario):
    """One direction ends before the other."""

    name = "half-close"
    description = "the user half-closes first, then the target; the other direction goes on"
    workload = "half-close"
    modes = ("relay", "server", "relays")

    def drive(self, case: Case) -> None:
        """The workload checks everything."""
        case.work("kcpg", self.workload, size_bytes=300_000)


class ServerFirst(Scenario):
    """As in mail and SSH, the target greets."""

    name = "server-first"
    description = "the target speaks first; the user says nothing until then"
    workload = "server-first"
    modes = ("relay", "server", "relays")

    def drive(self, case: Case) -> None:
        """Ten connections, or the share that the plan asks for; the workload checks everything."""
        case.work("kcpg", self.workload, count=max(10 * case.plan.count // 1000, 1))


class SlowReader(Scenario):
    """A slow reader stops the sender, so memory is bounded."""

    name = "slow-reader"
    description = (
        "64 MB to a user who stops reading for a while: the target stops, no node grows, nothing is lost"
    )
    workload = "slow-reader"
    modes = ("relay", "server", "relays")
    profile = "lan"
    limit_s = 120.0

    def drive(self, case: Case) -> None:
        """Request much more than the nodes may hold."""
        report = case.work("kcpg", self.workload, size_bytes=64 * MEGABYTE, pause_s=4.0)
        held, most = report.get("held_bytes", 0), HELD_PER_NODE_BYTES * len(case.chain.nodes)
        case.expect("the sender stopped", bool(report.get("settled")), report.get("marks"))
        case.expect(
            "the bytes in flight are bounded", 0 < held <= most, f"{held / 1e6:.1f} of {most / 1e6:.0f} MB"
        )
        for node in case.chain.nodes:
            peak = node.program.peak_rss_bytes()
            case.outcome.facts[f"memory of the {node.label}, MB"] = round(peak / 1e6)


class ShortConnections(Scenario):
    """Connections like a browser's."""

    name = "short"
    description = "2,000 short connections, 50 at a time; each side closes half of them"
    workload = "short"
    modes = ("relay", "server", "relays")
    limit_s = 120.0

    def drive(self, case: Case) -> None:
        """All of them, or the share that the plan asks for."""
        count = 2000 * case.plan.count // 1000
        report = case.work("kcpg", self.workload, count=count, flows=50, size_bytes=2000)
        case.expect("all of them worked", report.get("done") == count, f"{report.get('done')} of {count}")
        if case.plan.baselines:
            self.baselines(case, "", self.workload, count=count, flows=50, size_bytes=2000)


class Curl(Scenario):
    """A real program that fetches a file."""

    name = "curl"
    description = "a file over HTTP, fetched by curl, compared by its hash"
    workload = "http"
    modes = ("relay", "server", "relays")
    limit_s = 90.0

    def drive(self, case: Case) -> None:
        """Fetch 5 MB; with more, CUBIC would take minutes over a lossy line."""
        if shutil.which("curl") is None:
            raise Skipped("curl is not installed")
        report = case.work("kcpg", self.workload, size_bytes=5 * MEGABYTE)
        case.expect("the file is whole", report.get("bytes") == 5 * MEGABYTE, report.get("bytes"))


class Iperf(Scenario):
    """A real program that measures."""

    name = "iperf3"
    description = "iperf3 both ways: its control connection and its data at the same time"
    workload = "iperf"
    modes = ("server", "relay", "relays")

    def drive(self, case: Case) -> None:
        """One run each way with four flows."""
        if shutil.which("iperf3") is None:
            raise Skipped("iperf3 is not installed")
        for way in ("up", "down"):
            task = {"way": way, "seconds": max(round(case.plan.seconds), 1), "flows": 4}
            report = case.work(f"kcpg {way}", self.workload, **task)
            case.expect(f"{way}: iperf3 received something", report.get("bytes", 0) > 0, report.get("bytes"))


class Ssh(Scenario):
    """A real program that many people tunnel."""

    name = "ssh"
    description = "an SSH session with typing and a pipe, and scp both ways: OpenSSH's own sshd, ssh and scp"
    workload = "ssh"
    modes = ("relay", "server", "relays")
    limit_s = 90.0

    def drive(self, case: Case) -> None:
        """The workload checks every line and byte."""
        absent = ssh.missing()
        if absent:
            raise Skipped(f"not installed: {', '.join(absent)}")
        directory = case.directory / "ssh"
        ssh.prepare(directory)
        report = case.work("kcpg", self.workload, directory=str(directory), count=20, size_bytes=MEGABYTE)
        answered = report.get("times_ms", {}).get("count", 0)
        case.expect("every line was answered", answered == 20, f"{answered} of 20")


SCENARIOS = (HalfClose(), ServerFirst(), SlowReader(), ShortConnections(), Curl(), Iperf(), Ssh())
