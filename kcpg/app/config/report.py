"""Collects problems while files are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kcpg.app.config.model import Problem, Severity


@dataclass(slots=True)
class Report:
    """The problems of one file, each once."""

    file: str
    found: dict[Problem, None] = field(default_factory=dict)
    # Lines of the file for those of its translation, where it is one in another program's form.
    lines: Mapping[int, int] = field(default_factory=dict)

    def error(self, line: int, key: str, reason: str, hint: str = "") -> None:
        """A problem that prevents the start."""
        self._add(line, key, Severity.ERROR, reason, hint)

    def warning(self, line: int, key: str, reason: str, hint: str = "") -> None:
        """A likely mistake."""
        self._add(line, key, Severity.WARNING, reason, hint)

    def note(self, line: int, key: str, reason: str, hint: str = "") -> None:
        """Something worth knowing."""
        self._add(line, key, Severity.NOTE, reason, hint)

    @property
    def failed(self) -> bool:
        """True if there is an error."""
        return any(problem.severity is Severity.ERROR for problem in self.found)

    def sorted(self) -> list[Problem]:
        """By line, in the order found within a line."""
        return sorted(self.found, key=lambda problem: problem.line)

    def _add(self, line: int, key: str, severity: Severity, reason: str, hint: str) -> None:
        line = self.lines.get(line, line)
        self.found[Problem(self.file, line, key, severity, reason, hint)] = None
