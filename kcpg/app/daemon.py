"""The background process: `kcpg daemon start|ensure|restart`.

It works without a terminal, a PATH, a HOME or open standard files, because cron calls it like that. The lock
of its configuration set decides whether it runs (`kcpg.app.lock`). It forks before gevent's event loop
exists: an event loop shared by two processes would lose events.
"""

from __future__ import annotations

import contextlib
import json
import os
import posix
import select
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

from kcpg.app import instances, logs
from kcpg.app.config.explain import load_or_explain, read
from kcpg.app.config.explain import log as log_problems
from kcpg.app.descriptors import MAX_DESCRIPTORS, in_use
from kcpg.app.lock import PidLock
from kcpg.app.logoptions import LogOptions
from kcpg.app.paths import Instance, instance, running_pid
from kcpg.errors import EXIT_FAILURE, EXIT_OK, KcpgError, StartError

# How long the new process may take to be ready. Key derivation takes 0.1 s per password; a name server may
# take 10 s.
START_LIMIT_S = 60.0


def start(paths: list[Path], options: LogOptions, drain_s: float, quiet: bool) -> int:
    """Start a daemon for these files and directories, none of which runs. `quiet`: print errors only."""
    absolute = [Path(os.path.abspath(path)) for path in paths]
    where = instance(absolute, os.environ)
    lock = PidLock(where.pid, where.name)
    if not lock.acquire():
        if not quiet:
            pid = running_pid(where)
            print(f"kcpg: already running, pid {pid}" if pid else "kcpg: already running or just starting")
        return EXIT_OK
    try:
        instances.forget(where)
        files = instances.expand(absolute)
        load_or_explain(files, warnings=not quiet)
        instances.note(where, files)
        file = Path(os.path.abspath(options.file)) if options.file else where.log
        chosen = LogOptions(options.form, file, options.rotate_bytes, options.rotate_keep)
        pid, line, warning = _detached(
            lock, lambda ready: _serve(absolute, chosen, drain_s, where, lock, ready)
        )
    finally:
        lock.abandon()
    if not quiet:
        print(f"kcpg: started, pid {pid}, log {chosen.file}\n{line}")
        if warning:
            print(f"kcpg: {warning}", file=sys.stderr)
    return EXIT_OK


def _detached(lock: PidLock, work: Callable[[Callable[[str], None]], int]) -> tuple[int, str, str]:
    """Run `work` in a process that outlives this one; returns its pid, its ready line and what to warn of
    (may be empty), once it is ready.

    Raises the error that `work` raised before it was ready. There are two forks: the middle process leaves
    the terminal's session and exits, so that the daemon is no session leader and can never acquire a terminal
    (daemon(7)).
    """
    from_child, to_parent = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    # gevent has replaced os.fork by a function that creates an event loop; this is the system call.
    middle = posix.fork()
    if middle == 0:
        _become_daemon(lock, _Starter(to_parent), work)
    os.close(to_parent)
    os.waitpid(middle, 0)
    try:
        return _first_words(from_child)
    finally:
        os.close(from_child)


class _Starter:
    """The daemon's end of a pipe to the starting command. Its only message: ready, or why not."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def ready(self, line: str) -> None:
        """The daemon is ready; `line` is its ready line."""
        logs.process_log().info("%s", line.removeprefix("kcpg: "))
        from kcpg import engine  # it creates an event loop, so not before the fork

        warning = engine.SLOW if engine.is_slow() else ""
        self.tell(pid=os.getpid(), line=line, warning=warning)

    def tell(self, **message: object) -> None:
        """Send the message. Does nothing when called again, or when the reader has gone."""
        if self.fd >= 0:
            with contextlib.suppress(OSError):
                os.write(self.fd, json.dumps(message).encode())
            os.close(self.fd)
            self.fd = -1


def _become_daemon(
    lock: PidLock, starter: _Starter, work: Callable[[Callable[[str], None]], int]
) -> NoReturn:
    """The child's side of `_detached`; never returns to the parent's code."""
    code = EXIT_FAILURE
    try:
        os.setsid()
        if posix.fork():
            os._exit(EXIT_OK)
        _let_go(lock.filenos() | {starter.fd})
        lock.write_pid()
        code = work(starter.ready)
    except KcpgError as error:
        starter.tell(error=error.message, hint=error.hint, code=error.exit_code)
        logs.process_log().error("%s", error)
        code = error.exit_code
    except BaseException as error:
        starter.tell(error=f"{type(error).__name__}: {error}", code=EXIT_FAILURE)
        logs.process_log().exception("an unexpected error ended the process")
    finally:
        lock.release()
        os._exit(code)


def _let_go(keep: set[int]) -> None:
    """Close everything of the caller's: cron or ssh would wait as long as the daemon holds their pipe open.

    The working directory stays, so that relative paths in a configuration keep their meaning at a reload.
    """
    os.umask(0o077)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    try:
        numbers: Iterable[int] = in_use()
    except OSError:
        numbers = range(min(os.sysconf("SC_OPEN_MAX"), MAX_DESCRIPTORS))
    for fd in numbers:
        if fd > 2 and fd not in keep:
            with contextlib.suppress(OSError):
                os.close(fd)


def _serve(
    paths: list[Path],
    options: LogOptions,
    drain_s: float,
    where: Instance,
    lock: PidLock,
    ready: Callable[[str], None],
) -> int:
    from kcpg.app.service import Service

    logs.set_up(options)
    loaded = read(instances.expand(paths))
    log_problems(loaded.problems)
    return Service(paths, loaded.nodes, options, drain_s, where, lock.sock).run(ready)


def _first_words(pipe: int) -> tuple[int, str, str]:
    if not select.select([pipe], [], [], START_LIMIT_S)[0]:
        raise StartError(f"the daemon is not ready after {START_LIMIT_S:.0f} s", "see its log")
    data = os.read(pipe, 65536)
    if not data:
        raise StartError("the daemon exited while starting", "see its log")
    message = json.loads(data)
    if "error" in message:
        error = StartError(message["error"], message.get("hint", ""))
        error.exit_code = message["code"]
        raise error
    return int(message["pid"]), str(message["line"]), str(message["warning"])
