"""Reads the tables of a profile, and collects what is wrong in all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from netem import quantity


@dataclass(slots=True)
class Reader:
    """Reads one table: returns values by key, and collects their problems, named by `where` and key."""

    where: str
    table: dict[str, Any]
    problems: list[str]
    known: set[str] = field(default_factory=set)

    def take(self, key: str, parse: quantity.Parser, default: Any) -> Any:
        self.known.add(key)
        if key not in self.table:
            return default
        try:
            return parse(self.table[key])
        except ValueError as error:
            self.problems.append(f"{self.where}.{key}: {error}")
            return default

    def need(self, key: str, parse: quantity.Parser, stand_in: Any) -> Any:
        if key not in self.table:
            self.problems.append(f"{self.where}.{key}: missing")
        return self.take(key, parse, stand_in)

    def sub(self, key: str) -> Reader | None:
        self.known.add(key)
        value = self.table.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.problems.append(f'{self.where}.{key}: is a table, for example {key} = {{ percent = "1%" }}')
            return None
        return Reader(f"{self.where}.{key}", value, self.problems)

    def finish(self) -> None:
        """Report every key that no `take` has asked for. To be called after the last one."""
        for key in self.table:
            if key not in self.known:
                self.problems.append(
                    f"{self.where}.{key}: unknown key (known: {', '.join(sorted(self.known))})"
                )
