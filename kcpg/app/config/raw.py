"""A file that was read but not yet checked: values by section, each with its line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from kcpg.app.config.addresses import Addresses, Ports
from kcpg.app.config.model import Mapping, Role, UserConfig
from kcpg.app.config.report import Report

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Setting:
    """One value and its line."""

    value: object = field(repr=False)  # None: the line says «default»
    line: int


@dataclass(slots=True)
class Options:
    """The values of one section. A key with a bad value counts as given, so that it is reported only once."""

    settings: dict[str, Setting] = field(default_factory=dict)
    # Keys with a value that could not be read, and the line.
    bad: dict[str, int] = field(default_factory=dict)

    def given(self, name: str) -> bool:
        """True if a line has this key, with a good or a bad value."""
        return name in self.settings or name in self.bad

    def line(self, name: str) -> int:
        """Line of the value in force; 0 if there is none."""
        setting = self.settings.get(name)
        return setting.line if setting is not None else self.bad.get(name, 0)

    def get(self, name: str, kind: type[T]) -> T | None:
        """The value; None if it is missing, bad, or says «default»."""
        setting = self.settings.get(name)
        if setting is None or setting.value is None:
            return None
        assert isinstance(setting.value, kind), name
        return setting.value

    def flag(self, name: str) -> bool:
        """A yes-or-no value; no if missing."""
        return self.get(name, bool) is True

    def ports(self, name: str) -> Ports:
        """A port list; empty if missing."""
        return self.get(name, Ports) or Ports(custom=False, numbers=())

    def addresses(self, name: str) -> Addresses:
        """An address list; empty if missing."""
        return self.get(name, Addresses) or Addresses(custom=False, names=())

    def put(self, name: str, value: object, line: int) -> int:
        """Keep a value and return the line of the one it replaces, or 0. `{}` and a list add up to both."""
        old = self.settings.get(name)
        self.bad.pop(name, None)
        if old is not None:
            joined = _join(old.value, value)
            if joined is not None:
                self.settings[name] = Setting(joined, line)
                return 0
        self.settings[name] = Setting(value, line)
        return old.line if old is not None else 0

    def put_bad(self, name: str, line: int) -> None:
        """Remember that this key has a value that could not be read."""
        if name not in self.settings:
            self.bad[name] = line


def _join(old: object, new: object) -> object | None:
    """`{}` and an ordinary list in two lines mean both (kcptube keeps the flag and the list apart)."""
    if isinstance(old, Ports) and isinstance(new, Ports) and old.custom != new.custom:
        return Ports(custom=True, numbers=old.numbers or new.numbers)
    if isinstance(old, Addresses) and isinstance(new, Addresses) and old.custom != new.custom:
        return Addresses(custom=True, names=old.names or new.names)
    return None


@dataclass(frozen=True, slots=True)
class MappingLine:
    """A mapping of one port and one protocol."""

    mapping: Mapping
    line: int


@dataclass(slots=True)
class RawFile:
    """Everything one file says."""

    name: str
    base: Path  # Directory that paths of secrets are relative to
    readable_by_others: bool = False  # Every user of the machine may read the file
    role: Role | None = None
    # Client, server: the whole file. Relay: the lines outside the sections.
    outside: Options = field(default_factory=Options)
    listener: Options | None = None
    forwarder: Options | None = None
    custom_line: int = 0  # Line of the first [custom_input…]; 0 if there is none
    mapping_lines: int = 0  # Mapping lines in their sections, good ones and bad ones
    # By address, port and protocol («tcp», «udp»).
    mappings: dict[tuple[str, int, str], MappingLine] = field(default_factory=dict)
    # Contents of password files, by the path as written.
    passwords: dict[str, bytes] = field(default_factory=dict, repr=False)
    # Contents of files of private keys and of users, by the path as written; reports about the latter.
    private_keys: dict[str, bytes] = field(default_factory=dict, repr=False)
    users: dict[str, tuple[UserConfig, ...]] = field(default_factory=dict, repr=False)
    reports: list[Report] = field(default_factory=list)
