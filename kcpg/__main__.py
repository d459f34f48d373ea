"""Command-line entry: `python -m kcpg` and the `kcpg` command.

Here and nowhere else, before any other import, gevent patches the standard library: a program that imports
kcpg as a library stays unpatched. Patching creates no event loop, so a daemon can still fork.
"""

import sys

from kcpg import built

if "--version" not in sys.argv and (_problem := built.stale()) is not None:
    sys.exit(f"kcpg: {_problem}")  # before anything of it is imported

from gevent import monkey

monkey.patch_all()

from kcpg.app.cli import main  # noqa: E402  (patching comes first)
from kcpg.app.privileges import forbid_dumps  # noqa: E402

forbid_dumps()  # before any secret is read

if __name__ == "__main__":
    sys.exit(main())
