"""Command-line entry: `python -m kcpg` and the `kcpg` command.

Here and nowhere else gevent patches the standard library, once a command is about to carry traffic: a program
that imports kcpg as a library stays unpatched, and `kcpg status` does not pay for it. Patching creates no
event loop, so a daemon can still fork.
"""

import signal
import sys

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the process at any moment, and says nothing

from kcpg.app import cli


def main() -> int:
    """Do what the command line says and return the exit code of the process."""
    return cli.main(before_tunnel=_before_tunnel)


def _before_tunnel() -> None:
    """Make the process one that carries traffic. Must come before the modules that do."""
    from kcpg import built

    if (problem := built.stale()) is not None:
        sys.exit(f"kcpg: {problem}")
    from gevent import monkey

    monkey.patch_all()
    from kcpg.app.privileges import forbid_dumps

    forbid_dumps()  # before any secret is read


if __name__ == "__main__":
    sys.exit(main())
