"""What the words of a command line select: which cases, which systems, how long."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.bench.systems import EXECUTABLES, SYSTEMS
from harness.bench.systems.base import GROUPS, Settings, System
from harness.bench.workloads import LINE, PLACES, RECORDED, WORKLOADS, Cell, Workload
from netem.profile import ProfileError

SECONDS, REPEATS = 3.0, 3
QUICK_SECONDS, QUICK_REPEATS = 1.0, 1

MICRO = "micro"  # Not a group of workloads: the parts of the data plane, each by itself

SELECT = ("ONLY", "WORKLOADS", "PLACES", "SYSTEMS")
CHANGE = ("TRACE", "QUICK", "SECONDS", "REPEATS", "SEED", "WITH", "SAVE", *EXECUTABLES)
WORDS = (*SELECT, *CHANGE)

MOST_REPEATS = 1000


class Usage(Exception):
    """The words on the command line make no sense; the message says which."""


@dataclass(frozen=True)
class Selection:
    """Everything that a command line selects."""

    cases: tuple[tuple[Workload, str], ...]  # Workloads and their places
    systems: tuple[System, ...]
    settings: Settings
    seconds: float = SECONDS
    repeats: int = REPEATS
    seed: str = "1"
    save: str = ""
    micro: bool = False
    trace: str = ""
    left_out: tuple[str, ...] = ()  # What would have been measured, and why it is not

    def pairs(self, workload: Workload, named: bool) -> Iterator[System]:
        """The systems for a workload; a named system is included even where it usually is not."""
        for system in self.systems:
            if workload.protocol in system.protocols and (named or workload.group in system.groups):
                yield system


def read(words: Sequence[str], environ: Mapping[str, str]) -> Selection:
    """From NAME=VALUE words; the environment may name executables, too. Raises Usage."""
    given = _given(words)
    quick = given.get("QUICK", "0") not in ("", "0")
    only = _names(given, "ONLY", (*GROUPS, MICRO))
    workloads = _names(given, "WORKLOADS", WORKLOADS)
    places = _names(given, "PLACES", PLACES)
    cases = []
    trace, left_out = given.get("TRACE", ""), []
    for name, workload in WORKLOADS.items():
        if (
            name in workloads
            if workloads
            else workload.group in only
            if only
            else workload.quick or not quick
        ):
            if name == RECORDED and not trace:
                if name in workloads:
                    raise Usage(f"WORKLOADS={name}: TRACE must name a recorded trace")
                left_out.append(f"{name}: not measured, TRACE names no recorded trace")
                continue
            if name == RECORDED:
                workload = _recorded(workload, trace)
            allowed = places or workload.places
            if quick and not places:
                allowed = workload.places[:1]
            cases += [
                (workload, place) for place in allowed if (place == LINE) == (workload.line is not None)
            ]
    micro = MICRO in only
    if not cases and not micro:
        raise Usage("these words select nothing to measure (lossy workloads need the place line)")
    systems = _names(given, "SYSTEMS", SYSTEMS)
    executables = {name: given.get(name) or environ.get(name, "") for name in EXECUTABLES}
    repeats = int(_number(given, "REPEATS", QUICK_REPEATS if quick else REPEATS))
    if not 1 <= repeats <= MOST_REPEATS:
        raise Usage(f"REPEATS must be 1 to {MOST_REPEATS}")
    save = given.get("SAVE", "")
    if "/" in save or save.startswith("."):
        raise Usage("SAVE must be a name, not a path; bench/results keeps the results")
    return Selection(
        tuple(cases),
        tuple(SYSTEMS[name] for name in systems) or tuple(SYSTEMS.values()),
        Settings({name: path for name, path in executables.items() if path}, _options(given.get("WITH", ""))),
        _number(given, "SECONDS", QUICK_SECONDS if quick else SECONDS),
        repeats,
        given.get("SEED", "1"),
        save,
        micro,
        trace,
        tuple(left_out),
    )


def _recorded(workload: Workload, trace: str) -> Workload:
    assert isinstance(workload.line, Cell)
    cell = replace(workload.line, recorded=os.path.abspath(trace))
    try:
        cell.profile()
    except ProfileError as error:
        raise Usage(f"TRACE={trace}: {error}") from None
    about = workload.about.replace(cell.text, os.path.basename(trace))
    return replace(workload, line=cell, about=about)


def _given(words: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in WORDS:
            raise Usage(f"{word!r} is not one of {', '.join(f'{name}=' for name in WORDS)}")
        given[name] = value
    return given


def _names(given: Mapping[str, str], word: str, known: Sequence[str] | Mapping[str, object]) -> list[str]:
    names = [name for name in given.get(word, "").split(",") if name]
    for name in names:
        if name not in known:
            raise Usage(f"{word}={name}: must be one of {', '.join(known)}")
    return names


def _number(given: Mapping[str, str], word: str, usual: float) -> float:
    try:
        number = float(given.get(word) or usual)
    except ValueError:
        raise Usage(f"{word} must be a number, not {given[word]!r}") from None
    if not 0 < number < float("inf"):
        raise Usage(f"{word} must be greater than 0")
    return number


def _options(text: str) -> dict[str, str]:
    options = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        if not equals:
            raise Usage(f"WITH={word!r} is not KEY=VALUE")
        options[key] = value
    return options
