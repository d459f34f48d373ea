"""What a system is: the programs between an entry and a target, as words, without starting anything."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

Address = tuple[str, int]

NEAR, FAR = "near", "far"  # The user's side, and the target's

BULK, LATENCY, SHORT, IDLE, UDP, LOSSY = "bulk", "latency", "short", "idle", "udp", "lossy"
GROUPS = (BULK, LATENCY, SHORT, IDLE, UDP, LOSSY)  # Kinds of workloads; a system says which it is for


@dataclass(frozen=True)
class Wiring:
    """Where everything is in one place: addresses as their side sees them, ports that are free."""

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
    # A pattern of the line it writes when it is ready; "": it is when it has the sockets of `sockets`.
    ready: str = ""
    sockets: tuple[tuple[str, int], ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """What the user of the bench has chosen for all systems."""

    # Paths by the name of the option: KCPTUBE, KCPTUN_CLIENT…
    executables: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)  # Further configuration of every kcpg node


class System:
    """A way from the entry to the target. One of these for each thing that is compared."""

    name = ""
    about = ""
    protocols = frozenset({"tcp", "udp"})
    groups = frozenset(GROUPS)
    peer = False  # Somebody else's tunnel: its failure is a result, and not one of the run
    congestion = ""  # TCP's congestion control of the users and the target
    copies = False  # Both copy what they send and receive

    def missing(self, settings: Settings) -> str:
        """Why it cannot run here; "" when it can."""
        return ""

    def entry(self, wiring: Wiring) -> Address:
        """Where users talk to it."""
        return wiring.entry

    def parts(self, wiring: Wiring, settings: Settings) -> list[Part]:
        """Its programs, from the near side to the far side; writes the configuration files they need."""
        return []

    def unsupported(self, words: str) -> str:
        """What a program that did not start said about not having this; "" when it failed otherwise."""
        return ""


def found(settings: Settings, option: str, usual: str = "") -> str:
    """The executable that an option names, or the one in the path; "" when there is none."""
    return shutil.which(settings.executables.get(option, "") or usual) or ""


def not_there(settings: Settings, option: str, usual: str = "") -> str:
    """The reason that goes with an empty `found`."""
    named = settings.executables.get(option, "")
    if found(settings, option, usual):
        return ""
    if named:
        return f"{option}={named} is no executable"
    return f"not installed ({usual})" if usual else f"{option}=path"


def private(path: Path, text: str) -> str:
    """Write a file that holds a password; returns its path as a word."""
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return str(path)
