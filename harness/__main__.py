"""`python -m harness COMMAND`, run from the repository; see `COMMANDS`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

# The module of each command; only that one is imported, since commands need different packages.
COMMANDS = {
    "demo": "harness.demo",
    "bench": "harness.bench.command",
    "linkcheck": "harness.linkcheck",
    "capacity": "harness.capacity",
    "hostile": "harness.hostile",
    "load": "harness.load.command",
    "e2e": "harness.e2e",
    "run": "harness.e2e",
    "clean": "harness.netns",
}

NODES = ("gevent", "Cryptodome")
# Packages that each command needs; `make` installs them into .venv.
NEEDS = {"demo": NODES, "bench": NODES, "hostile": ("Cryptodome",), "e2e": (*NODES, "scapy", "matplotlib")}
NEEDS["load"] = (*NODES, "matplotlib")
NEEDS["run"] = NEEDS["e2e"]

ENVIRONMENT = Path(__file__).resolve().parents[1] / ".venv"


def main(words: Sequence[str]) -> int:
    """Pass the words to the command; returns the exit code of the process."""
    if not words or words[0] not in COMMANDS:
        print(f"usage: python -m harness {{{','.join(COMMANDS)}}} [--help]", file=sys.stderr)
        return 2
    missing = [package for package in NEEDS.get(words[0], ()) if find_spec(package) is None]
    if missing:
        python = ENVIRONMENT / "bin" / "python"
        if python.exists() and Path(sys.prefix) != ENVIRONMENT:
            os.execv(python, [str(python), "-m", "harness", *words])
        print(f"harness: {', '.join(missing)} not installed. Run:   make e2e ARGS=--list", file=sys.stderr)
        return 1
    return int(import_module(COMMANDS[words[0]]).main(words[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
