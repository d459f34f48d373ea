"""What a test needs and this machine lacks: said in one form by whoever skips, summed up after the last test.

    pytest.skip(needs("valgrind"))                      # make tools provides it
    pytest.skip(needs("root", "run as root"))           # something else does
    pytest.skip("this machine has no IPv6")             # nothing does

The last lines of `make test` then say what was not run, and what would change that:

    42 tests were not run:
      40 need dnsmasq, nft: make tools
       2 this machine has no IPv6
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

import pytest

_NEEDS = re.compile(r"needs (?P<what>.+?): (?P<command>.+)")


def needs(what: str, command: str = "make tools") -> str:
    """The reason for a skip: what is missing, several things with commas, and what provides it."""
    return f"needs {what}: {command}"


def not_run(reasons: Iterable[str]) -> Iterator[str]:
    """Lines about skipped tests, one for each thing to do, those that would run most tests first."""
    counted: Counter[str] = Counter()
    missing: dict[str, set[str]] = {}
    for reason in reasons:
        found = _NEEDS.fullmatch(reason)
        cause = found["command"] if found else reason
        counted[cause] += 1
        if found:
            missing.setdefault(cause, set()).update(found["what"].split(", "))
    total = counted.total()
    if total:
        yield "one test was not run:" if total == 1 else f"{total} tests were not run:"
    width = len(str(total))
    for cause, count in counted.most_common():
        verb = "needs" if count == 1 else "need"
        text = f"{verb} {', '.join(sorted(missing[cause]))}: {cause}" if cause in missing else cause
        yield f"  {count:>{width}} {text}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Runs where the results come together: with xdist in the process that started the others."""
    reasons = [
        str(report.longrepr[2]).removeprefix("Skipped: ")
        for report in terminalreporter.getreports("skipped")
        if isinstance(report.longrepr, tuple | list)
    ]
    for line in not_run(reasons):
        terminalreporter.write_line(line)
