"""Command-line entry: `python -m kcpg` and the `kcpg` command.

The standard library is made cooperative here, before anything else is imported, and nowhere else: importing
kcpg as a library never patches the program that imports it. Patching creates no event loop, so a daemon may
still fork.
"""

import sys

from kcpg import built

if "--version" not in sys.argv and (_problem := built.stale()) is not None:
    sys.exit(f"kcpg: {_problem}")  # before anything of it is imported

from gevent import monkey

monkey.patch_all()

from kcpg.app.cli import main  # noqa: E402  (patching comes first)

if __name__ == "__main__":
    sys.exit(main())
