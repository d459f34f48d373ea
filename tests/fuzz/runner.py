"""Looks for an input that makes a target fail, in a process that may die of it."""

from __future__ import annotations

import faulthandler
import hashlib
import os
import random
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.mutate import mutated

CORPUS = Path(__file__).with_name("corpus")

HANG_S = 30.0  # An input takes milliseconds, and under the sanitizers some ten times as long

FAILED = 77  # Exit code of a process whose target raised; anything else but 0 is the death of it

_HEAD_BYTES = 4  # Before the input in the file that has the newest one: its length

Target = Callable[[bytes], object]


def corpus(name: str, directory: Path = CORPUS) -> list[bytes]:
    """The inputs of a target, in the order of their files' names; never none."""
    return [path.read_bytes() for path in sorted((directory / name).glob("*"))] or [b""]


def search(
    target: Target, inputs: list[bytes], seed: str, seconds: float, newest: Path
) -> tuple[int, list[bytes]]:
    """Run the target on the inputs and on changes of them for so long: (runs, inputs that did something new).

    `newest` holds the input that runs, for whoever finds this process dead. Raises what the target raises.
    """
    rng = random.Random(seed)
    seen: set[object] = set()
    kept, fresh = list(inputs), []
    runs, end_s = 0, time.monotonic() + seconds
    with open(newest, "w+b", buffering=0) as file:
        while runs < len(inputs) or time.monotonic() < end_s:
            known = runs < len(inputs)
            data = inputs[runs] if known else mutated(rng.choice(kept), kept, rng)
            os.pwrite(file.fileno(), len(data).to_bytes(_HEAD_BYTES, "little") + data, 0)
            faulthandler.dump_traceback_later(HANG_S, exit=True)
            told = target(data)
            runs += 1
            if told not in seen:
                seen.add(told)
                if not known:
                    kept.append(data)
                    fresh.append(data)
    faulthandler.cancel_dump_traceback_later()
    return runs, fresh


def last_input(newest: Path) -> bytes:
    """What ran when the process died."""
    found = newest.read_bytes()
    return found[_HEAD_BYTES : _HEAD_BYTES + int.from_bytes(found[:_HEAD_BYTES], "little")]


def saved(name: str, data: bytes, prefix: str, directory: Path = CORPUS) -> Path:
    """Put an input into the corpus of a target."""
    path = directory / name / f"{prefix}-{hashlib.sha256(data).hexdigest()[:12]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def child(name: str, target: Target, seed: str, seconds: float, newest: Path, keep: bool) -> int:
    """The search in a process of its own; returns its exit code."""
    try:
        runs, fresh = search(target, corpus(name), seed, seconds, newest)
    except Exception:
        traceback.print_exc()
        return FAILED
    if keep:
        for data in fresh:
            saved(name, data, "new")
    print(f"{name}: {runs} inputs, {len(fresh)} of them did something new", flush=True)
    return 0


def smaller(data: bytes, fails: Callable[[bytes], bool]) -> bytes:
    """A shorter input that fails as well: without pieces that do not matter."""
    span = max(len(data) // 2, 1)
    while span:
        at = 0
        while at < len(data):
            shorter = data[:at] + data[at + span :]
            if fails(shorter):
                data = shorter
            else:
                at += span
        span //= 2
    return data


def replay(name: str, target: Target, path: Path) -> None:
    """Run one saved input."""
    print(f"{name}: {path}: {target(path.read_bytes())}", file=sys.stderr)
