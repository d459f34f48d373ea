"""The link box: an impaired link between two TAP interfaces, in user space.

       namespace A                  this process                   namespace B
    +--------------+        +-------------------------+        +--------------+
    |   eth (TAP)  |--up--->| lane up:   impair, hold |------->|  (TAP) eth   |
    |              |<-------| lane down: impair, hold |<-down--|              |
    +--------------+        +-------------------------+        +--------------+

It decides like netem (netem/impair.py), from a seed. It is a process of its own, with real-time priority
where that is allowed: inside a program under load, that program would cause delays. It waits with `select`,
the only such call with microseconds; `epoll` and everything built on it round up to milliseconds.

It prints `netem.box: ready …` once frames flow, obeys a datagram socket (`--control`, see `Box.obey`), and at
SIGTERM or SIGINT prints its counters as a line of JSON and exits.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic_ns
from typing import Any

from netem import profile as profiles
from netem import tap
from netem.lane import Lane
from netem.profile import Profile, ProfileError
from netem.record import Recorder

PRIORITY = 10  # For SCHED_FIFO: above ordinary processes, below the kernel's important threads

NICE = -10  # Where real-time priority is refused

IDLE_S = 0.2  # Longest sleep with no frames held; signals and commands end it at once

MOST_COMMAND_BYTES = 65536

_PR_SET_TIMERSLACK = 29  # prctl(2): how late a sleep may end, 50 us unless told


class Box:
    """Both lanes, and the commands that change them while they run."""

    def __init__(self, ends: tuple[str, str], profile: Profile, seed: str, recorder: Recorder) -> None:
        """`ends`: "NAMESPACE:DEVICE" of a and b; a is the client's side. Raises OSError."""
        self._profile, self._seed, self._recorder = profile, seed, recorder
        (near, near_bytes), (far, far_bytes) = (tap.attach(*end.split(":", 1)) for end in ends)
        self.lanes = (
            Lane("up", profile.up, seed, (near, far, near_bytes), recorder),
            Lane("down", profile.down, seed, (far, near, far_bytes), recorder),
        )

    def step(self, others: Sequence[int]) -> list[int]:
        """Send what is due, sleep until something is, read what came; returns the readable `others`."""
        now_ns = monotonic_ns()
        for lane in self.lanes:
            lane.release(now_ns)
        dues = [due_ns for lane in self.lanes if (due_ns := lane.next_due_ns) is not None]
        wait_s = max(min(dues) - monotonic_ns(), 0) / 1e9 if dues else IDLE_S
        readable, _, _ = select.select([*(lane.source for lane in self.lanes), *others], [], [], wait_s)
        for lane in self.lanes:
            if lane.source in readable:
                lane.take()
        return [other for other in others if other in readable]

    def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        """One command: {"do": "facts"}; {"do": "restart", "seed"?, "at_ns"?: since the timeline's beginning};
        {"do": "change", "profile": TOML text}.

        The answer has "error" if the command failed.
        """
        match command.get("do"):
            case "facts":
                self._recorder.flush()
            case "restart":
                self._seed = str(command.get("seed", self._seed))
                at_ns = int(command.get("at_ns", 0))
                for lane, impair in zip(self.lanes, (self._profile.up, self._profile.down), strict=True):
                    lane.restart(impair, self._seed, at_ns)
            case "change":
                try:
                    self._profile = profiles.parse(str(command.get("profile")))
                except ProfileError as error:
                    return {"error": str(error)}
                for lane, impair in zip(self.lanes, (self._profile.up, self._profile.down), strict=True):
                    lane.change(impair)
            case other:
                return {"error": f"unknown command {other!r}"}
        return self.facts()

    def facts(self) -> dict[str, Any]:
        """The counters so far."""
        return {
            "profile": self._profile.name,
            "seed": self._seed,
            **{lane.way: lane.facts() for lane in self.lanes},
        }


def run(box: Box, control: socket.socket | None) -> None:
    """Run until SIGTERM or SIGINT."""
    with wake_up() as ending:
        others = [ending, *([control.fileno()] if control is not None else [])]
        gc.freeze()  # nothing here makes cycles, and a collection would be a pause
        gc.disable()
        while True:
            readable = box.step(others)
            if ending in readable:
                return
            if control is not None and readable:
                answer_one(box, control)


def answer_one(box: Box, control: socket.socket) -> None:
    """Read a command and send the answer to its sender, if that still exists."""
    try:
        data, asker = control.recvfrom(MOST_COMMAND_BYTES)
    except BlockingIOError:
        return
    try:
        command = json.loads(data)
        answer = box.obey(command if isinstance(command, dict) else {})
    except ValueError as error:
        answer = {"error": f"not JSON: {error}"}
    with contextlib.suppress(OSError):
        control.sendto(json.dumps(answer).encode(), asker)


@contextlib.contextmanager
def wake_up() -> Iterator[int]:
    """A descriptor that becomes readable at SIGTERM or SIGINT; they do nothing else meanwhile."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = {number: signal.signal(number, _remember) for number in (signal.SIGTERM, signal.SIGINT)}
    previous = signal.set_wakeup_fd(writer.fileno())
    try:
        yield reader.fileno()
    finally:
        signal.set_wakeup_fd(previous)
        for number, handler in before.items():
            signal.signal(number, handler)
        reader.close()
        writer.close()


def _remember(number: int, frame: object) -> None:
    """The descriptor of `wake_up` says it; a handler is needed for the interpreter to write there."""


def hurry() -> str:
    """Request real-time priority and exact timers; returns what was granted."""
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
        return "fifo"
    except OSError:
        pass
    try:
        os.nice(NICE)
        return "nice"
    except OSError:
        return "normal"


def read_profile(text: str) -> Profile:
    """A profile by name, or from a file. Raises ProfileError or OSError."""
    path = Path(text)
    return profiles.read(path) if path.suffix else profiles.load(text)


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m netem.box", description="An impaired link between TAPs.")
    parser.add_argument("--a", required=True, metavar="NAMESPACE:DEVICE", help="the client's side")
    parser.add_argument("--b", required=True, metavar="NAMESPACE:DEVICE", help="the server's side")
    parser.add_argument("--profile", required=True, help="a name of netem/profiles, or a TOML file")
    parser.add_argument("--seed", default="1", help="repeats every decision for the same packets")
    parser.add_argument("--control", type=Path, help="path of the command socket, which the box creates")
    parser.add_argument("--journal", type=Path, help="file for a verdict per frame, JSON lines")
    parser.add_argument("--captures", type=Path, help="directory for a.pcap and b.pcap")
    options = parser.parse_args(words)
    try:
        profile = read_profile(options.profile)
    except (ProfileError, OSError) as error:
        print(f"netem.box: {error}", file=sys.stderr)
        return 2
    with contextlib.ExitStack() as stack:
        control = None
        try:
            recorder = stack.enter_context(Recorder(options.captures, options.journal))
            box = Box((options.a, options.b), profile, options.seed, recorder)
            if options.control is not None:
                control = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
                control.setblocking(False)
                control.bind(str(options.control))
        except (OSError, ValueError) as error:
            print(f"netem.box: {error}", file=sys.stderr)
            return 1
        print(f"netem.box: ready profile={profile.name} seed={options.seed} priority={hurry()}", flush=True)
        run(box, control)
        print(json.dumps(box.facts()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
