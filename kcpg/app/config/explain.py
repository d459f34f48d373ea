"""Reads configuration files for a command, and shows or logs their problems all at once."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterable
from pathlib import Path

from kcpg.app.config import load
from kcpg.app.config.model import Loaded, NodeConfig, Problem, Severity
from kcpg.app.logs import process_log
from kcpg.app.output import Stream
from kcpg.app.wording import counted
from kcpg.errors import ConfigurationError

_LEVELS = {Severity.ERROR: logging.ERROR, Severity.WARNING: logging.WARNING, Severity.NOTE: logging.INFO}


def read(paths: list[Path]) -> Loaded:
    """The nodes and problems of these files; an unreadable file is a problem, not an exception."""
    return load(paths)


def load_or_explain(paths: list[Path], warnings: bool = True) -> tuple[NodeConfig, ...]:
    """The nodes of these files. Prints all problems to stderr; raises ConfigurationError if one is an
    error.

    Warnings wait for nobody: the nodes are to start, even if standard error is a pipe that nobody reads.
    """
    loaded = read(paths)
    if not loaded.ok:
        show(loaded.problems)
        raise ConfigurationError(summary(loaded.problems))
    if warnings:
        stderr = Stream(sys.stderr)
        with contextlib.suppress(OSError):
            for problem in loaded.problems:
                stderr.put(str(problem))
    return loaded.nodes


def show(problems: Iterable[Problem]) -> None:
    """Print problems to stderr, one line each, as far as it takes them."""
    for problem in problems:
        with contextlib.suppress(OSError):
            print(problem, file=sys.stderr)


def log(problems: Iterable[Problem]) -> None:
    """Write problems to the log, each at the level of its severity."""
    for problem in problems:
        process_log().log(_LEVELS[problem.severity], "%s", problem.unrated)


def summary(problems: Iterable[Problem]) -> str:
    """`2 errors and 1 warning in the configuration`."""
    counts = dict.fromkeys(Severity, 0)
    for problem in problems:
        counts[problem.severity] += 1
    words = [
        counted(number, severity.value)
        for severity, number in counts.items()
        if number and severity is not Severity.NOTE
    ]
    return f"{' and '.join(words) or 'no problems'} in the configuration"
