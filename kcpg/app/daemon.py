"""The background process: `kcpg daemon start|stop|status|ensure`.

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
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from kcpg.app import logs, status_report
from kcpg.app.config.explain import load_or_explain, read
from kcpg.app.config.explain import log as log_problems
from kcpg.app.descriptors import MAX_DESCRIPTORS, in_use
from kcpg.app.lock import PidLock
from kcpg.app.paths import STATE_VARIABLE, Instance, all_instances, hidden_instances, instance, running_pid
from kcpg.app.status import ask
from kcpg.errors import EXIT_FAILURE, EXIT_OK, KcpgError, StartError

# How long the new process may take to be ready. Key derivation takes 0.1 s per password; a name server may
# take 10 s.
START_LIMIT_S = 60.0

STOP_MARGIN_S = 5.0  # A process that has not ended this long after its drain time is killed

POLL_S = 0.05  # Interval for checking the lock of a process that is ending; a person does not notice it


def start(paths: list[Path], options: logs.LogOptions, drain_s: float, quiet: bool) -> int:
    """Start a daemon for exactly these configuration files unless it runs. `quiet`: print errors only."""
    absolute = [Path(os.path.abspath(path)) for path in paths]
    where = instance(absolute, os.environ)
    lock = PidLock(where.pid, where.name)
    if not lock.acquire():
        if not quiet:
            pid = running_pid(where)
            print(f"kcpg: already running, pid {pid}" if pid else "kcpg: already running or just starting")
        return EXIT_OK
    try:
        load_or_explain(absolute, warnings=not quiet)
        file = Path(os.path.abspath(options.file)) if options.file else where.log
        chosen = logs.LogOptions(options.form, file, options.rotate_bytes, options.rotate_keep)
        pid, line = _detached(lock, lambda ready: _serve(absolute, chosen, drain_s, where, lock, ready))
    finally:
        lock.abandon()
    if not quiet:
        print(f"kcpg: started, pid {pid}, log {chosen.file}\n{line}")
    return EXIT_OK


def stop(paths: list[Path]) -> int:
    """Stop the process that runs these files, and wait for its end."""
    one = instance(paths, os.environ)
    pid = running_pid(one)
    if pid is None:
        print(f"kcpg: {one.name}: not running")
        return EXIT_OK
    return _stop_one(one, pid)


def status(paths: list[Path], as_json: bool = False) -> int:
    """Print which instances run and what they carry; exit code 0 if one runs."""
    if paths:
        meant = [instance(paths, os.environ)]
    else:
        meant = all_instances(os.environ) + hidden_instances(os.environ)
    running = {one: pid for one in meant if (pid := running_pid(one)) is not None}
    answers = {one: ask(one) for one in running}
    if not paths:
        running = {one: pid for one, pid in running.items() if _is_meant(one, answers[one])}
    if as_json:
        found = [answers[one] or {"pid": pid} for one, pid in running.items()]
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return EXIT_OK if running else EXIT_FAILURE
    for one, pid in running.items():
        print(status_report.text(one.name, pid, answers[one]))
    if not running:
        print(f"kcpg: {meant[0].name}: not running" if paths else "kcpg: nothing is running")
    return EXIT_OK if running else EXIT_FAILURE


def _is_meant(one: Instance, answer: Mapping[str, Any] | None) -> bool:
    """Whether «every kcpg of this user» has this one in it: all, unless a state directory was chosen."""
    if STATE_VARIABLE not in os.environ or one.pid.exists():
        return True
    return answer is not None and answer.get("state_directory") == str(one.directory)


def _stop_one(one: Instance, pid: int) -> int:
    answer = ask(one)
    drain_s = answer.get("drain_s") if answer else None
    limit_s = STOP_MARGIN_S + (float(drain_s) if isinstance(drain_s, (int, float)) else STOP_MARGIN_S)
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return EXIT_OK
    except PermissionError as error:
        raise KcpgError(f"{one.name}: pid {pid} belongs to another user") from error
    if _gone(one, pid, limit_s):
        print(f"kcpg: {one.name}: stopped")
        return EXIT_OK
    os.kill(pid, signal.SIGKILL)
    _gone(one, pid, STOP_MARGIN_S)
    print(f"kcpg: {one.name}: did not exit within {limit_s:.0f} s and was killed", file=sys.stderr)
    return EXIT_FAILURE


def _gone(one: Instance, pid: int, limit_s: float) -> bool:
    until = time.monotonic() + limit_s
    while running_pid(one) == pid:
        if time.monotonic() > until:
            return False
        time.sleep(POLL_S)
    return True


def _detached(lock: PidLock, work: Callable[[Callable[[str], None]], int]) -> tuple[int, str]:
    """Run `work` in a process that outlives this one; returns its pid and its ready line once it is ready.

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
        self.tell(pid=os.getpid(), line=line)

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
    options: logs.LogOptions,
    drain_s: float,
    where: Instance,
    lock: PidLock,
    ready: Callable[[str], None],
) -> int:
    from kcpg.app.service import Service

    logs.set_up(options)
    loaded = read(paths)
    log_problems(loaded.problems)
    return Service(paths, loaded.nodes, options, drain_s, where, lock.sock).run(ready)


def _first_words(pipe: int) -> tuple[int, str]:
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
    return int(message["pid"]), str(message["line"])
