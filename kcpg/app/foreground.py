"""`kcpg CONFIG…` in the terminal that it was called from: run, check, try, explain."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from kcpg.app import instances, logs
from kcpg.app.config.explain import load_or_explain, read, show, summary
from kcpg.app.lock import PidLock
from kcpg.app.logoptions import LogOptions
from kcpg.app.output import Stream
from kcpg.app.paths import Instance, instance, running_pid
from kcpg.errors import EXIT_OK, EXIT_USAGE, KcpgError, UsageError


def run(paths: list[Path], options: LogOptions, drain_s: float) -> int:
    """Run the nodes of these files until SIGTERM or Ctrl-C. Raises KcpgError if they cannot start."""
    from kcpg.app.service import Service

    nodes = load_or_explain(instances.expand(paths))
    logs.set_up(options)
    where, lock = _claim(paths)
    try:
        name = lock.sock if lock is not None else None
        return Service(paths, nodes, options, drain_s, where, name).run(_announce)
    finally:
        if lock is not None:
            lock.release()


def check(paths: list[Path]) -> int:
    """Print what is wrong with these files. The last line is kcptube's: its users' scripts look for it."""
    loaded = read(instances.expand(paths))
    show(loaded.problems)
    print(summary(loaded.problems))
    print(f"Error Found in Configuration File(s): {'No' if loaded.ok else 'Yes'}")
    return EXIT_OK if loaded.ok else EXIT_USAGE


def trial(paths: list[Path]) -> int:
    """Test the tunnel to every destination of these files; 0 if all answer."""
    from kcpg.app.trial import try_all

    nodes = load_or_explain(instances.expand(paths))
    logs.set_up(LogOptions())
    return try_all(nodes, _print_now)


def speedtest(paths: list[Path], seconds: float, machine: bool) -> int:
    """Measure the tunnels of these files; 0 if all could be measured."""
    from kcpg.app import speedtest as test

    nodes = load_or_explain(instances.expand(paths))
    logs.set_up(LogOptions())
    return test.run(nodes, seconds, _print_now, machine)


def help_config(keys: list[str]) -> int:
    """Print the meaning of the configuration keys: all of them, or those named."""
    from kcpg.app.config.help import describe_all, describe_key, nearest_key

    if not keys:
        print(describe_all())
        return EXIT_OK
    for key in keys:
        text = describe_key(key)
        if text is None:
            hint = nearest_key(key) or "see kcpg help config"
            raise UsageError(f"there is no configuration key {key!r}", hint)
        print(text)
    return EXIT_OK


def _claim(paths: list[Path]) -> tuple[Instance | None, PidLock | None]:
    """Lock the configuration set, so that `daemon ensure` and `status` see this process too.

    Run without it if another process has the lock: the same file may run in another network namespace. Only
    the status socket is missing then.
    """
    try:
        where = instance(paths, os.environ)
        lock = PidLock(where.pid, where.name)
        if lock.acquire():
            instances.forget(where)
            instances.note(where, instances.expand(paths))
            lock.write_pid()
            return where, lock
        pid = running_pid(where)
        logs.process_log().warning(
            "pid %s runs the same files, so this process offers no status report", pid or "?"
        )
    except (KcpgError, OSError) as error:
        logs.process_log().warning("no status report: %s", error)
    return None, None


def _announce(line: str) -> None:
    """Print a line that nobody may be waiting for; the nodes run without it."""
    try:
        Stream(sys.stdout).put(line)
    except OSError as error:
        logs.process_log().warning("cannot write to standard output: %s", error.strerror)


def _print_now(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
