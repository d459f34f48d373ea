"""What the link box carries on this machine: `python -m harness capacity`.

It measures TCP by iperf3, small packets from one sender at full speed, and the error of delays from 10 to
300 ms. A busy machine shows less.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import time
from collections.abc import Sequence

from harness import linkcheck, netns
from harness.netns import Lab
from harness.process import Failed, Program
from harness.topologies.chains import chain
from harness.topology import Topology
from netem.profile import Impair, Profile

# With less, fast cases would measure the box: the fastest profile describes a gigabit network.
LEAST_MBIT_S = 300.0
LEAST_PACKETS_S = 50_000.0
MOST_ERROR_MS = 1.0

SECONDS = 4.0
PACKET_BYTES = 64
DELAYS_MS = (10, 30, 100, 300)

ROOM = 200_000  # Packets that a line may hold here: more than arrive during a delay


def main(words: Sequence[str]) -> int:
    """Measure; returns 0 if the machine is fast enough, else 1."""
    parser = argparse.ArgumentParser(prog="python -m harness capacity", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each measurement")
    options = parser.parse_args(words)
    try:
        netns.require_root()
        with Lab() as lab, _line(lab, 10) as topology:
            found = [
                _told("TCP", _tcp_mbit_s(lab, topology, options.seconds), LEAST_MBIT_S, "Mbit/s"),
                _told("small packets", _packets_s(topology, options.seconds), LEAST_PACKETS_S, "a second"),
            ]
        found += [_delay(delay_ms) for delay_ms in DELAYS_MS]
    except Failed as error:
        print(f"capacity: {error}", file=sys.stderr)
        return 1
    return 0 if all(found) else 1


def _line(lab: Lab, delay_ms: int) -> Topology:
    impair = Impair(delay_ns=delay_ms * 10**6, limit=ROOM)
    profile = Profile(f"{delay_ms} ms", "made to be measured", ("chosen",), impair, impair)
    return chain(lab, profile, 0, backend="box")


def _tcp_mbit_s(lab: Lab, topology: Topology, seconds: float) -> float:
    words = ["iperf3", "--server", "--forceflush"]
    with Program("iperf3", topology.server.command(words), lab.directory / "iperf3.log") as server:
        server.wait_for("(?i)listening")
        words = ["iperf3", "--client", topology.links[0].far.v4, "--json", "--time", f"{seconds:.0f}"]
        report = json.loads(topology.client.run([*words, "--congestion", "cubic"]))
    return float(report["end"]["sum_received"]["bits_per_second"]) / 1e6


def _packets_s(topology: Topology, seconds: float) -> float:
    """The packets that the box has passed on, by its own count; the receiver need not read them."""
    link = topology.links[0]
    link.restart()
    with (
        topology.server.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        topology.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind((link.far.v4, 0))
        sender.connect(receiver.getsockname())
        packet = bytes(PACKET_BYTES)
        began_s = time.monotonic()
        while time.monotonic() - began_s < seconds:
            for _ in range(100):
                sender.send(packet)
        took_s = time.monotonic() - began_s
        time.sleep(0.1)  # ten times the line's delay
        return float(link.facts()["up"]["sent"]) / took_s


def _delay(delay_ms: int) -> bool:
    with Lab() as lab, _line(lab, delay_ms) as topology:
        report = linkcheck.check(topology.links[0])
        if report.problems:
            print(report.text())
        worst_ms = max(abs(found.median_ms - delay_ms) for found in report.directions)
    print(f"delay of {delay_ms} ms: the median is off by {worst_ms:.2f} ms; the limit is {MOST_ERROR_MS:g}")
    return worst_ms < MOST_ERROR_MS and not report.problems


def _told(what: str, found: float, wanted: float, unit: str) -> bool:
    print(f"{what}: {found:,.0f} {unit}, the minimum is {wanted:,.0f}", flush=True)
    return found >= wanted


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
