"""Command-line entry: `python -m kcpg` and the `kcpg` command.

The standard library is made cooperative here, before anything else is imported, and nowhere else: importing
kcpg as a library never patches the program that imports it. Patching creates no event loop, so a daemon may
still fork.
"""

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402  (patching comes first)

from kcpg.app.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
