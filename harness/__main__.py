"""`python -m harness demo`, `bench`, `linkcheck` or `clean`, run from the repository."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from harness import bench, demo, linkcheck, netns

COMMANDS = {"demo": demo.main, "bench": bench.main, "linkcheck": linkcheck.main, "clean": netns.main}


def main(words: Sequence[str]) -> int:
    """Hand the words to the command; returns the exit code of the process."""
    if not words or words[0] not in COMMANDS:
        print(f"usage: python -m harness {{{','.join(COMMANDS)}}} [--help]", file=sys.stderr)
        return 2
    return COMMANDS[words[0]](words[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
