"""One speed measurement: a route through real processes, its latency, its throughput and what it costs."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness import bulk
from harness import chain as chains
from harness.process import Program, machine_busy_s
from harness.traffic import ANSWER_S, Damaged, quantile

GIGABYTE = 1e9

WARM_UP_S = 1.0
"""Sending time left out of the result: handshake, window growth and allocations are over by then."""

PING_BYTES = 64
PING_S = 1.0


@dataclass(frozen=True)
class Route:
    """What is measured; `hops` 0 is plain TCP from source to sink."""

    hops: int
    algorithm: str = "none"

    @property
    def name(self) -> str:
        """`raw TCP`, `client → server, AES-GCM`."""
        if not self.hops:
            return "raw TCP"
        return " → ".join(["client", *["relay"] * (self.hops - 1), "server"]) + f", {self.algorithm}"


@dataclass(frozen=True)
class Result:
    """One repetition. Keys of the mappings are source, client, relay, server, target."""

    route: str
    mbit_s: float
    cpu_s_per_gb: Mapping[str, float]
    cpu_share: Mapping[str, float]
    """Processors used, of one."""
    peak_rss_bytes: Mapping[str, int]
    ping_p50_us: float
    ping_p99_us: float
    foreign_load: float
    """Part (0 to 1) of the machine's processors that something else used meanwhile."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def measure(route: Route, seconds: float, directory: Path, options: Mapping[str, str]) -> Result:
    """Start everything the route needs, measure, end it. Raises harness.process.Failed or Damaged.

    `options` are further configuration keys of every node.
    """
    ports = chains.Ports()
    sink = (chains.LOOPBACK, ports.one())
    with _target(sink, directory) as (target, counter):
        if not route.hops:
            return _through(route, sink, {"target": target}, counter, seconds, directory)
        entry = (chains.LOOPBACK, ports.one())
        hops = [
            chains.Hop((ports.one(),), route.algorithm, f"measured hop {number}", options)
            for number in range(route.hops)
        ]
        with chains.running(directory, entry, sink, hops) as chain:
            programs = {node.config.stem: node.program for node in chain.nodes}
            return _through(route, entry, {**programs, "target": target}, counter, seconds, directory)


@contextmanager
def _target(address: tuple[str, int], directory: Path) -> Iterator[tuple[Program, Path]]:
    counter = bulk.new_counter(directory / "counter")
    words = [sys.executable, "-m", "harness.bulk", "target", address[0], str(address[1]), str(counter)]
    with Program("target", words, directory / "target.log") as target:
        target.wait_for("^listening")
        yield target, counter


def _through(
    route: Route,
    entry: tuple[str, int],
    programs: Mapping[str, Program],
    counter: Path,
    seconds: float,
    directory: Path,
) -> Result:
    times = ping(entry, PING_S)
    words = [sys.executable, "-m", "harness.bulk", "source", entry[0], str(entry[1])]
    with Program("source", words, directory / "source.log") as source:
        everybody = {"source": source, **programs}
        _flowing(counter, source)
        time.sleep(WARM_UP_S)
        before_s, before_busy_s = _costs(everybody), machine_busy_s()
        count, started_s = bulk.read_counter(counter), time.monotonic()
        time.sleep(seconds)
        moved, elapsed_s = bulk.read_counter(counter) - count, time.monotonic() - started_s
        after_s, busy_s = _costs(everybody), machine_busy_s() - before_busy_s
        if not moved:
            raise Damaged(f"{route.name}: nothing arrived for {seconds:.0f} s")
        cpu_s = {name: after_s[name] - before_s[name] for name in everybody}
        return Result(
            route=route.name,
            mbit_s=moved * 8 / 1e6 / elapsed_s,
            cpu_s_per_gb={name: used / (moved / GIGABYTE) for name, used in cpu_s.items()},
            cpu_share={name: used / elapsed_s for name, used in cpu_s.items()},
            peak_rss_bytes={name: program.peak_rss_bytes() for name, program in everybody.items()},
            ping_p50_us=quantile(times, 0.5) * 1e6,
            ping_p99_us=quantile(times, 0.99) * 1e6,
            foreign_load=max(0.0, busy_s - sum(cpu_s.values())) / elapsed_s / (os.cpu_count() or 1),
        )


def _flowing(counter: Path, source: Program) -> None:
    """Wait for the first bytes to arrive."""
    until_s = time.monotonic() + ANSWER_S
    while not bulk.read_counter(counter):
        if time.monotonic() > until_s or not source.running:
            raise Damaged(f"no byte arrived within {ANSWER_S:.0f} s")
        time.sleep(0.01)


def ping(entry: tuple[str, int], seconds: float) -> list[float]:
    """Round trips of PING_BYTES through one TCP connection to the echo behind `entry`, for some time."""
    message = os.urandom(PING_BYTES)
    times: list[float] = []
    with socket.create_connection(entry, timeout=ANSWER_S) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(bulk.ECHO)
        until_s = time.perf_counter() + seconds
        while (started_s := time.perf_counter()) < until_s or not times:
            sock.sendall(message)
            answer = sock.recv(PING_BYTES, socket.MSG_WAITALL)
            times.append(time.perf_counter() - started_s)
            if answer != message:
                raise Damaged("a message came back different")
    return times


def _costs(programs: Mapping[str, Program]) -> dict[str, float]:
    return {name: program.cpu_s() for name, program in programs.items()}
