"""The base of all systems: the commands of the programs between an entry and a target."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

Address = tuple[str, int]

NEAR, FAR = "near", "far"  # The user's side, and the target's

BULK, LATENCY, SHORT, IDLE, UDP, LOSSY = "bulk", "latency", "short", "idle", "udp", "lossy"
PACED, MOBILE = "paced", "mobile"
GROUPS = (
    BULK,
    LATENCY,
    SHORT,
    IDLE,
    UDP,
    LOSSY,
    PACED,
    MOBILE,
)  # Kinds of workloads; a system says which it supports


@dataclass(frozen=True)
class Wiring:
    """The addresses, from the view of their side, and the free ports of one place."""

    directory: Path  # For configuration files
    entry: Address  # On the near side: users talk to it
    target: Address  # On the far side, beside the target
    reach: Address  # The target, from the near side without a system
    server: str  # Address of the far side, from the near side
    ports: tuple[int, ...]  # Free on the far side: for tunnels


@dataclass(frozen=True)
class Part:
    """One program of a system."""

    name: str
    side: str
    words: tuple[str, ...]
    # Pattern of its ready line; "": it is ready once it has opened `sockets`.
    ready: str = ""
    sockets: tuple[tuple[str, int], ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """The user's settings for all systems."""

    # Paths by the name of the option: KCPTUBE, KCPTUN_CLIENT…
    executables: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)  # Further configuration of every kcpg node


class System:
    """One system under comparison: a path from the entry to the target."""

    name = ""
    about = ""
    protocols = frozenset({"tcp", "udp"})
    groups = frozenset(GROUPS)
    peer = False  # A third-party tunnel: its failure is a result, and does not fail the run
    congestion = ""  # TCP's congestion control of the users and the target
    copies = False  # The users and the target copy what they send and receive

    def missing(self, settings: Settings) -> str:
        """Why it cannot run here; "" if it can."""
        return ""

    def entry(self, wiring: Wiring) -> Address:
        """The address that users connect to."""
        return wiring.entry

    def parts(self, wiring: Wiring, settings: Settings) -> list[Part]:
        """Its programs, from the near side to the far side; writes the configuration files they need."""
        return []

    def unsupported(self, words: str) -> str:
        """A program's message that it lacks a feature, if it did not start for that; otherwise ""."""
        return ""


def found(settings: Settings, option: str, usual: str = "") -> str:
    """The executable that an option names, or the one in PATH; "" if there is none."""
    return shutil.which(settings.executables.get(option, "") or usual) or ""


def not_there(settings: Settings, option: str, usual: str = "") -> str:
    """The reason for an empty `found`."""
    named = settings.executables.get(option, "")
    if found(settings, option, usual):
        return ""
    if named:
        return f"{option}={named} is not an executable"
    return f"not installed ({usual})" if usual else f"{option}=path"


def private(path: Path, text: str) -> str:
    """Write a file that holds a password; returns its path as a word."""
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return str(path)
