"""Does the kernel understand what netem/tc.py says? Applies every profile, reads back, compares.

python -m netem.guest.verify        needs root and a kernel with netem; touches only a namespace of its own
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import replace

from netem import profile as profiles
from netem import tc
from netem.profile import Chance, FourState, GilbertElliott, Impair, Reorder

MS = 10**6

# What no profile uses yet, so that the whole vocabulary is seen by a kernel.
FURTHER = {
    "everything": Impair(
        delay_ns=25 * MS,
        jitter_ns=8 * MS,
        correlation=0.25,
        distribution="paretonormal",
        loss=Chance(0.005, 0.1),
        duplicate=Chance(0.01, 0.05),
        corrupt=Chance(0.001, 0.02),
        reorder=Reorder(0.02, 0.5, 5),
        rate_bps=20_000_000,
        packetoverhead=4,
        limit=200,
    ),
    "gemodel with its four numbers": Impair(loss=GilbertElliott(0.005, 0.25, 0.9, 0.001)),
    "four states": Impair(loss=FourState(0.02, 0.3, 0.05, 0.5, 0.01)),
    "a correlated duplicate alone": Impair(duplicate=Chance(0.01, 0.05)),
    "a uniform jitter": Impair(delay_ns=10 * MS, jitter_ns=3 * MS),
    "nothing": Impair(),
}


def cases() -> dict[str, tuple[str, Impair]]:
    """Every direction of every profile that tc can express: name to (way, impair)."""
    found = {}
    for name in profiles.known_profiles():
        profile = profiles.load(name)
        for way, impair in (("up", profile.up), ("down", profile.down)):
            # An outage is a matter of time, which tc leaves to its caller; the rest of such a profile is its.
            rest = replace(impair, outage=None, droplist=())
            if not tc.unsupported(rest):
                found[f"{name} {way}"] = (way, rest)
    return {**found, **{name: ("up", impair) for name, impair in FURTHER.items()}}


class Bench:
    """An interface to put qdiscs on, in a namespace that ends with it."""

    def __init__(self) -> None:
        self.namespace = f"kcpg-{os.getpid()}-0"
        self.device = "near"

    def __enter__(self) -> Bench:
        tc.run(["ip", "netns", "add", self.namespace])
        tc.run(
            ["ip", "-n", self.namespace, "link", "add", self.device, "type", "veth", "peer", "name", "far"]
        )
        return self

    def __exit__(self, *exception: object) -> None:
        subprocess.run(["ip", "netns", "del", self.namespace], check=False, capture_output=True)

    def apply(self, commands: list[tc.Argv]) -> None:
        batch = "\n".join(shlex.join(words[1:]) for words in commands) + "\n"
        done = subprocess.run(
            ["tc", "-n", self.namespace, "-batch", "-"],
            input=batch,
            text=True,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise OSError(f"{done.stderr.strip()}\n{batch}")

    def wrong(self, impair: Impair) -> list[str]:
        return tc.differences(impair, *tc.read_back(self.device, self.namespace))


def verify(bench: Bench) -> list[str]:
    """Each case on a fresh interface, then each changed to the next one; says what is wrong."""
    problems = []
    all_cases = cases()
    for name, (way, impair) in all_cases.items():
        try:
            bench.apply(tc.add_commands(bench.device, impair, way))
            problems += [f"{name}: {difference}" for difference in bench.wrong(impair)]
            bench.apply(tc.clear_commands(bench.device))
        except OSError as error:
            problems.append(f"{name}: {error}")
    last: Impair | None = None
    for name, (way, impair) in all_cases.items():
        try:
            if last is None:
                bench.apply(tc.add_commands(bench.device, impair, way))
            else:
                bench.apply(tc.update_commands(bench.device, last, impair, way))
            problems += [f"changed to {name}: {difference}" for difference in bench.wrong(impair)]
        except OSError as error:
            problems.append(f"changed to {name}: {error}")
        last = impair
    return problems


def left_out() -> list[str]:
    """The profiles that need the link box, each with the reason."""
    reasons = []
    for name in profiles.known_profiles():
        profile = profiles.load(name)
        both = [replace(impair, outage=None, droplist=()) for impair in (profile.up, profile.down)]
        why = dict.fromkeys(reason for impair in both for reason in tc.unsupported(impair))
        reasons += [f"{name}: not verified here, it needs the link box: {'; '.join(why)}"] if why else []
    return reasons


def main() -> int:
    kernel = tc.probe()
    if not kernel.netem:
        print(f"netem: not verified, this kernel has none ({kernel.reason})", file=sys.stderr)
        return 1
    with Bench() as bench:
        problems = verify(bench)
    for problem in [*problems, *left_out()]:
        print(f"netem: {problem}")
    print(
        f"netem: {len(cases())} directions applied, read back and compared on Linux {os.uname().release}, "
        f"seeds {'known' if kernel.seed else 'unknown'} to it and its tc: "
        f"{f'{len(problems)} differences' if problems else 'all as asked'}"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
