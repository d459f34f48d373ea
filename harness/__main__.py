"""`python -m harness demo`, `bench`, `linkcheck`, `e2e`, `run` or `clean`, run from the repository."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = {
    "demo": "harness.demo",
    "bench": "harness.bench.command",
    "linkcheck": "harness.linkcheck",
    "e2e": "harness.e2e",
    "run": "harness.e2e",
    "clean": "harness.netns",
}
"""The module of each command; only that one is imported, since each needs other packages."""


def main(words: Sequence[str]) -> int:
    """Hand the words to the command; returns the exit code of the process."""
    if not words or words[0] not in COMMANDS:
        print(f"usage: python -m harness {{{','.join(COMMANDS)}}} [--help]", file=sys.stderr)
        return 2
    return int(import_module(COMMANDS[words[0]]).main(words[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
