"""One run: starts a system and its load, measures, checks that every byte was right, ends everything."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.bench import generator, processes
from harness.bench.figures import Costs
from harness.bench.generator import User
from harness.bench.places import Place
from harness.bench.ready import await_answer
from harness.bench.systems.base import FAR, IDLE, NEAR, Address, Part, Settings, System, Wiring
from harness.bench.workloads import Workload
from harness.process import POLL_S, Failed, Program, machine_busy_s

# Warm-up that a result leaves out: handshake, window growth and allocations are over by then.
WARM_UP_S = 1.0

LINE_WARM_UP_S = 2.0  # The same over an emulated line, where a system must first find the rate

READY_S = 20.0  # How long a program may take to open its sockets; ready.py then checks that it carries data

FOREVER_S = 600.0  # Duration of a bulk flow beside something else, with which it ends

SETTLE_S = 1.0  # Pause after opening and closing many flows, before memory is measured

GIVEN_BACK_S = 10.0  # How long a system may take to return the memory of closed flows


@dataclass(frozen=True)
class Moment:
    """Resources used up to one moment."""

    at_s: float
    cpu_s: Mapping[str, float]
    generators_cpu_s: float
    line_cpu_s: float
    busy_s: float
    wire_bytes: int | None
    streamed_bytes: int  # Arrived in streams, whoever uses them


class Bench:
    """A running system, with its target and counters."""

    def __init__(self, place: Place, system: System, settings: Settings, stack: ExitStack) -> None:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kcpg-bench-")))
        self.place, self.system, self.directory = place, system, directory
        self._stack = stack
        self._way = "up"  # Where the payload goes
        self.wiring: Wiring = place.wiring(directory)
        self._counters = directory / "counters"
        self._counters.write_bytes(b"")
        bound = (place.bound, self.wiring.target[1])
        words = generator.words("target", bound, self._counters, self._shared())
        self.target = stack.enter_context(
            Program("target", place.command(FAR, words), directory / "target.log")
        )
        self.target.wait_for("^listening")
        self.programs: dict[str, Program] = {}
        self.users: list[User] = []
        parts = system.parts(self.wiring, settings)
        for part in reversed(parts):
            words = place.command(part.side, part.words)
            log = directory / f"{part.name}.log"
            program = Program(part.name, words, log, part.environ)
            stack.callback(processes.end_group, program.pid)
            self.programs[part.name] = stack.enter_context(program)
        for part in reversed(parts):
            _await(self.programs[part.name], part)
        self.programs = {part.name: self.programs[part.name] for part in parts}

    def await_answer(self, protocol: str) -> None:
        """Wait until data comes back through the system. Raises Failed."""
        await_answer(self.place, self.system.entry(self.wiring), protocol, self.check)

    def use(self, program: str, options: Mapping[str, str | float]) -> User:
        """Start a user of a workload."""
        self._way = "down" if program == "bulk-down" else self._way
        entry: Address = self.system.entry(self.wiring)
        words = generator.words(program, entry, self._counters, {**self._shared(), **options})
        log = self.directory / f"user{len(self.users)}.log"
        user = self._stack.enter_context(User(self.place.command(NEAR, words), log))
        self.users.append(user)
        return user

    def now(self) -> Moment:
        """The resources that everything has used so far."""
        generators = sum(
            processes.cpu_s(pid) for pid in (self.target.pid, *(user.pid for user in self.users))
        )
        cpu_s = {name: processes.group_cpu_s(program.pid) for name, program in self.programs.items()}
        line, wire = self.place.line_cpu_s(), self.place.wire_bytes(self._way)
        streamed = generator.streamed(self._counters)
        return Moment(time.monotonic(), cpu_s, generators, line, machine_busy_s(), wire, streamed)

    def between(self, before: Moment, after: Moment) -> Costs:
        """The costs since then."""
        cpu_s = {name: after.cpu_s[name] - before.cpu_s[name] for name in after.cpu_s}
        generators = after.generators_cpu_s - before.generators_cpu_s
        line = after.line_cpu_s - before.line_cpu_s
        foreign = after.busy_s - before.busy_s - sum(cpu_s.values()) - generators - line
        share = foreign / (after.at_s - before.at_s) / (os.cpu_count() or 1)
        wire = None
        if before.wire_bytes is not None and after.wire_bytes is not None:
            wire = after.wire_bytes - before.wire_bytes
        return Costs(cpu_s, self.memory_bytes("VmHWM"), generators, max(share, 0.0), wire)

    def memory_bytes(self, what: str) -> dict[str, int]:
        """The values of each program with its children."""
        return {
            name: processes.group_memory_bytes(program.pid, what) for name, program in self.programs.items()
        }

    def check(self) -> None:
        """Raises Failed if the target got a wrong byte or a program has exited."""
        wrong = generator.damaged(self._counters)
        if wrong:
            raise Failed(f"{wrong} pieces arrived damaged at the target")
        for name, program in self.programs.items():
            if not program.running:
                raise Failed(f"{name} has exited:\n{program.output()[-600:]}")

    def _shared(self) -> dict[str, str]:
        options = {"congestion": self.system.congestion} if self.system.congestion else {}
        return options | ({"copies": "1"} if self.system.copies else {})


def measure(
    place: Place, system: System, workload: Workload, settings: Settings, seconds: float, seed: str = "1"
) -> tuple[dict[str, Any], Costs]:
    """Run once; returns the load generator's measurements, and the costs. Raises Failed or OSError.

    `seed`: of the line's losses from the moment when the system is ready.
    """
    with ExitStack() as stack:
        bench = Bench(place, system, settings, stack)
        bench.await_answer(workload.protocol)
        place.restart(seed)  # every system meets the same losses, however long its handshake took
        run = _idle if workload.group == IDLE else _timed
        found = run(bench, workload, seconds * workload.longer)
        bench.check()
        for program in bench.programs.values():
            program.ask_to_end()  # all at once: they need not wait for each other
        return found


def _timed(bench: Bench, workload: Workload, seconds: float) -> tuple[dict[str, Any], Costs]:
    if workload.beside:
        bulk = bench.use(workload.beside, {"seconds": FOREVER_S, "warm_s": LINE_WARM_UP_S})
        bulk.until("begin", LINE_WARM_UP_S)
    warm_s = LINE_WARM_UP_S if workload.line is not None else min(WARM_UP_S, seconds)
    user = bench.use(workload.program, {"seconds": seconds, "warm_s": warm_s, **workload.options})
    user.until("begin", warm_s)
    before = bench.now()
    measured = user.until("end", seconds)
    after = bench.now()
    user.until("settled")
    if workload.beside:
        measured["beside_bytes"] = after.streamed_bytes - before.streamed_bytes
        measured["beside_seconds"] = after.at_s - before.at_s
    return measured, bench.between(before, after)


def _idle(bench: Bench, workload: Workload, seconds: float) -> tuple[dict[str, Any], Costs]:
    user = bench.use(workload.program, dict(workload.options))
    user.until("ready")
    time.sleep(SETTLE_S)
    empty = bench.memory_bytes("VmRSS")
    user.tell("open")
    opened = user.until("opened")
    time.sleep(SETTLE_S)
    full = bench.memory_bytes("VmRSS")
    before = bench.now()
    time.sleep(seconds)
    after = bench.now()
    user.tell("check")
    user.until("checked")
    user.tell("close")
    user.until("settled")
    left = _given_back(bench, empty, full)
    count = workload.options["count"]
    used = bench.between(before, after)
    each = {f"kb_each_{name}": (full[name] - empty[name]) / 1e3 / count for name in full}
    measured = dict(each)
    measured["open_per_s"] = opened["done"] / opened["seconds"]
    measured["cpu_percent"] = sum(used.cpu_s.values()) / (after.at_s - before.at_s) * 100
    if full:
        measured["kb_each"] = max(each.values())
        grown = sum(full.values()) - sum(empty.values())
        measured["kept_share"] = (sum(left.values()) - sum(empty.values())) / grown if grown > 0 else 0.0
    user.tell("end")
    return measured, used


def _given_back(bench: Bench, empty: Mapping[str, int], full: Mapping[str, int]) -> dict[str, int]:
    """Memory after the flows have gone: once nine tenths are back, or when its time is up."""
    wanted = sum(empty.values()) + (sum(full.values()) - sum(empty.values())) / 10
    until_s = time.monotonic() + GIVEN_BACK_S
    while True:
        left = bench.memory_bytes("VmRSS")
        if sum(left.values()) <= wanted or time.monotonic() > until_s:
            return left
        time.sleep(POLL_S * 5)


def _await(program: Program, part: Part) -> None:
    if part.ready:
        program.wait_for(part.ready, READY_S)
    until_s = time.monotonic() + READY_S
    while not all(processes.listens(program.pid, protocol, port) for protocol, port in part.sockets):
        if not program.running or time.monotonic() > until_s:
            raise Failed(f"{part.name} does not listen:\n{program.output()[-600:]}")
        time.sleep(POLL_S)
