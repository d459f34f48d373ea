"""What many clients cost a node, and how they come back after it was away: `python -m harness load`.

By default a real server on this machine, and dialers in this process. With `--virtual` dialers and a listener
in virtual time, whose handshakes take a given time: the same on every machine, and for more clients than fit.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from harness import pictures
from harness.chain import kcpg_command
from harness.load.herd import Herd, Member, now_ms
from harness.load.storm import FAULTS, Storm
from harness.load.storm import run as storm
from harness.process import Failed, Program, resident_bytes, waited_s

LOOPBACK = "127.0.0.1"
KEY = hashlib.sha256(b"python -m harness load").digest()

CALLS_PER_S = 300  # How fast the clients come in quiet times: a third of what a core can do
PATIENCE = 20.0  # times what their handshakes take, until those that are not back count as lost
READY_S = 60.0


@dataclass
class Row:
    """What was seen of one event. Times in ms from its end on; `cpu_s`, `waited_s`, `rss_mb`: of the node.

    What a node waited for a processor is the machine's doing: others had it.
    """

    event: str
    clients: int
    back: int
    half_ms: int
    all_ms: int
    inits_median: float
    inits_most: int
    cpu_s: float
    waited_s: float
    rss_mb: float
    lost_flows: int
    refused_flows: int
    curve_ms: list[int] = field(repr=False)  # when each client was back, sorted

    def told(self) -> str:
        """As a line of the table."""
        every = self.all_ms if self.back == self.clients else "-"
        words = (
            f"{self.event:8}",
            f"{self.back:6} of {self.clients:6} back",
            f"half {self.half_ms:6} ms, all {every:>6} ms",
            f"INITs {self.inits_median:3.0f}, at most {self.inits_most:3}",
            f"CPU {self.cpu_s:6.2f} s, waited for {self.waited_s:6.2f} s",
            f"{self.rss_mb:6.1f} MB",
            f"flows lost {self.lost_flows}, refused {self.refused_flows}",
        )
        return "  ".join(words)


def main(words: Sequence[str]) -> int:
    """Run what was asked for; returns 0 if all clients were back each time."""
    parser = argparse.ArgumentParser(prog="python -m harness load", description=__doc__)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--flows", type=int, default=1, help="of each client; 0: idle clients")
    parser.add_argument("--faults", default=",".join(FAULTS), help=f"of {', '.join(FAULTS)}; default: all")
    parser.add_argument("--away", type=float, default=2.0, help="seconds that the node is away")
    parser.add_argument("--quiet", type=float, default=10.0, help="seconds without anything special")
    parser.add_argument("--virtual", action="store_true", help="in virtual time")
    parser.add_argument("--cost", type=float, default=1.0, help="of a handshake in virtual time, in ms")
    parser.add_argument("--rtt", type=int, default=50, help="round trip in virtual time, in ms")
    parser.add_argument("--one-address", action="store_true", help="all clients behind one (virtual time)")
    parser.add_argument("--seed", default="1", help="of virtual time")
    parser.add_argument("--option", action="append", default=[], help="KEY=VALUE for the server's file")
    parser.add_argument("--out", type=Path, help="directory for load.json and load.png")
    options = parser.parse_args(words)
    faults = [name for name in options.faults.split(",") if name]
    if wrong := [name for name in faults if name not in FAULTS]:
        parser.error(f"no such fault: {', '.join(wrong)}")
    rows = []
    try:
        for row in _virtual(options, faults) if options.virtual else _real(options, faults):
            print(row.told(), flush=True)
            rows.append(row)
    except Failed as error:
        print(f"load: {error}", file=sys.stderr)
        return 1
    if options.out is not None:
        _write(options.out, rows)
    return 0 if all(row.back == row.clients for row in rows) else 1


def _virtual(options: argparse.Namespace, faults: list[str]) -> Iterator[Row]:
    for fault in faults:
        found = storm(
            Storm(
                options.clients,
                fault,
                options.cost,
                options.rtt,
                int(options.away * 1000),
                options.one_address,
                options.flows == 0,
                options.seed,
            )
        )
        back, clients = found.back_ms, options.clients
        yield Row(
            fault,
            clients,
            len(back),
            back[clients // 2] if len(back) > clients // 2 else 0,
            back[-1] if back else 0,
            found.median_inits,
            max(found.inits),
            found.busy_ms / 1000,
            0.0,
            0.0,
            0,
            found.refused_flows,
            back,
        )


def _real(options: argparse.Namespace, faults: list[str]) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        port, target = _free_ports()
        command = [sys.executable, "-m", "harness.load.echo", str(target)]
        with Program("echo", command, directory / "echo.log") as echo:
            echo.wait_for("ready")
            yield from _Run(directory, options, port, target).rows(faults)


class _Run:
    """A server, and its clients."""

    def __init__(self, directory: Path, options: argparse.Namespace, port: int, target: int) -> None:
        self._directory = directory
        self._options = options
        self._config = directory / "server.conf"
        self._config.write_text(_configuration(options.option, port, target), encoding="utf-8")
        self._config.chmod(0o600)  # it holds a key
        self._starts = 0
        self._server = self._start()
        self._herd = Herd(options.clients, (LOOPBACK, port), KEY, options.flows)

    def rows(self, faults: list[str]) -> Iterator[Row]:
        """One for the clients' coming, one for a quiet time, and one for each fault."""
        try:
            yield self._come()
            yield self._quiet()
            for fault in faults:
                yield self._fault(fault)
        finally:
            self._herd.close()
            self._server.stop()

    def _start(self) -> Program:
        self._starts += 1
        environ = {"KCPG_STATE_DIR": str(self._directory / "state")}
        log = self._directory / f"server{self._starts}.log"
        program = Program("server", [*kcpg_command(), str(self._config)], log, environ)
        program.wait_for(r"^kcpg: ready", READY_S)
        return program

    def _come(self) -> Row:
        members, since_ms = self._herd.members, now_ms()
        began_s, cpu_s = time.monotonic(), self._spent()
        for number, member in enumerate(members):
            self._herd.begin(member)
            self._herd.run(max(began_s + number / CALLS_PER_S - time.monotonic(), 0.0))
        return self._watch("come", since_ms, cpu_s, members)

    def _quiet(self) -> Row:
        since_ms, cpu_s = now_ms(), self._spent()
        self._mark()
        self._herd.run(self._options.quiet)
        return self._watch("quiet", since_ms, cpu_s, [])

    def _fault(self, fault: str) -> Row:
        away_s, server = self._options.away, self._server
        self._mark()
        if fault == "outage":
            server.pause()
            self._herd.run(away_s)
            cpu_s = self._spent()
            self._mark_inits()
            server.resume()
            return self._watch(fault, now_ms(), cpu_s, self._herd.members)
        if fault == "restart":
            server.ask_to_end()
        else:
            server.kill()
        self._herd.run(away_s)
        server.stop()
        self._mark_inits()
        self._server = self._start()
        return self._watch(fault, now_ms(), self._spent(), self._herd.members)

    def _spent(self) -> tuple[float, float]:
        """What the server has worked, and waited for a processor, in s."""
        return self._server.cpu_s(), waited_s(self._server.pid)

    def _mark(self) -> None:
        for member in self._herd.members:
            member.lost_flows = member.refused_flows = 0
        self._mark_inits()

    def _mark_inits(self) -> None:
        for member in self._herd.members:
            member.began_inits = member.dialer.counters.inits_sent

    def _watch(self, event: str, since_ms: int, cpu_s: tuple[float, float], awaited: list[Member]) -> Row:
        members = self._herd.members
        left, back = set(awaited), []

        def all_back() -> bool:
            came = [member for member in left if member.is_back(since_ms)]
            back.extend([now_ms() - since_ms] * len(came))
            left.difference_update(came)
            return not left

        patience_s = 5.0 + PATIENCE * len(members) / 1000
        end_s = time.monotonic() + patience_s
        while not all_back() and time.monotonic() < end_s:
            self._herd.run(0.02)
        inits = [member.dialer.counters.inits_sent - member.began_inits for member in members]
        half = len(members) // 2
        return Row(
            event,
            len(members),
            len(back) if awaited else sum(member.is_back(0) for member in members),
            back[half] if len(back) > half else 0,
            back[-1] if back else 0,
            median(inits),
            max(inits),
            self._server.cpu_s() - cpu_s[0],
            waited_s(self._server.pid) - cpu_s[1],
            resident_bytes(self._server.pid) / 1e6,
            sum(member.lost_flows for member in members),
            sum(member.refused_flows for member in members),
            back,
        )


def _configuration(options: Sequence[str], port: int, target: int) -> str:
    lines = [
        "mode=server",
        f"listen_port={port}",
        f"listen_on={LOOPBACK}",
        f"destination_address={LOOPBACK}",
        f"destination_port={target}",
        f"encryption_key={base64.b64encode(KEY).decode()}",
        *options,
    ]
    return "\n".join(lines) + "\n"


def _free_ports() -> tuple[int, int]:
    """Two, of any protocol."""
    with socket.socket() as one, socket.socket() as other:
        for sock in (one, other):
            sock.bind((LOOPBACK, 0))
        return one.getsockname()[1], other.getsockname()[1]


def _write(out: Path, rows: list[Row]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "load.json").write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")
    curves = {row.event: row.curve_ms for row in rows if row.curve_ms}
    pictures.draw_curves(out / "load.png", curves, "ms since the node is there", "clients that are back")
