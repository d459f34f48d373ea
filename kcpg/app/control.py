"""`kcpg daemon stop|status|reload`, `kcpg status`: what is done to processes, found by any file of theirs."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from kcpg.app import instances
from kcpg.app.asking import ask
from kcpg.app.instances import Running
from kcpg.app.paths import STATE_VARIABLE, Instance, instance, running_pid
from kcpg.errors import EXIT_FAILURE, EXIT_OK, KcpgError

STOP_MARGIN_S = 5.0  # A process that has not ended this long after its drain time is killed

# A reload reads files, derives keys, looks names up and lets the flows of what it stops finish.
RELOAD_LIMIT_S = 60.0

POLL_S = 0.05  # Interval for looking at a process that is ending or reloading; a person does not notice it

RATE_S = 0.5  # Between the two reports from which a single status takes its rates

_CLEAR = "\x1b[H\x1b[2J"  # Cursor to the corner, empty screen (ECMA-48)

Report = Mapping[str, Any]


def stop(paths: list[Path]) -> int:
    """Stop what runs of these files, and wait for its end; the other files of the same processes go on.

    0 if something was stopped, and all of it ended as it should.
    """
    code = EXIT_OK
    processes, missing = _processes(paths)
    for process, files in processes.items():
        code = max(
            code, _stop_all(process) if len(files) == len(process.files) else _stop_some(process, files)
        )
    _tell_missing(missing)
    if processes:
        return code
    rest = [process for process in instances.running(os.environ) if process.files]
    for process in rest:
        print(f"kcpg: pid {process.pid} runs {', '.join(process.files)}")
    return EXIT_FAILURE


def reload(paths: list[Path]) -> int:
    """Have the processes that run these files read their configuration again, and tell the results.

    0 if every file runs and every process took its configuration.
    """
    processes, missing = _processes(paths)
    code = EXIT_FAILURE if missing else EXIT_OK
    for process in processes:
        ok, text = reload_one(process)
        print(f"kcpg: {process.instance.name}: {text}", file=sys.stdout if ok else sys.stderr)
        code = code if ok else EXIT_FAILURE
    _tell_missing(missing)
    return code


def reload_one(process: Running) -> tuple[bool, str]:
    """Have one process read its configuration again: whether it took it, and the result in words."""
    one, pid = process.instance, process.pid
    before = _reloads(ask(one))
    if before is None:
        raise KcpgError(f"{one.name}: pid {pid} does not answer", "see its log")
    _send(one, pid, signal.SIGHUP)
    until_s = time.monotonic() + RELOAD_LIMIT_S
    while time.monotonic() < until_s:
        answer = ask(one)
        after = _reloads(answer)
        if answer is not None and after is not None and after > before:
            return bool(answer["reload"]["ok"]), str(answer["reload"]["text"])
        if running_pid(one) != pid:
            return False, "the process has ended"
        time.sleep(POLL_S)
    return False, f"did not reload within {RELOAD_LIMIT_S:.0f} s; see its log"


def take_in(arguments: list[Path], files: list[Path], quiet: bool) -> int | None:
    """Have the process that was started with these arguments run files that are new in a directory, or were
    stopped; None if there is no such process."""
    name = instance(arguments, os.environ).name
    process = next((one for one in instances.running(os.environ) if one.instance.name == name), None)
    if process is None:
        return None
    instances.take_in(process.instance, instances.real(files))
    ok, text = reload_one(process)
    if not ok or not quiet:
        print(f"kcpg: {process.instance.name}: {text}", file=sys.stdout if ok else sys.stderr)
    return EXIT_OK if ok else EXIT_FAILURE


def status(paths: list[Path], as_json: bool = False, every_s: float = 0.0) -> int:
    """Print which processes run these files, or all of this user's, and what they carry.

    With `every_s`, again and again until a signal ends the command; JSON is one line each time then. 0 if
    every file runs; without files, if anything does; and if each process answers.
    """
    before: dict[Instance, Report | None] = {}
    while True:
        answers, missing = _answers(paths)
        if not every_s and not as_json and any(_has_links(answer) for answer in answers.values()):
            before = {process.instance: answer for process, answer in answers.items()}
            time.sleep(RATE_S)
            answers, missing = _answers(paths)
        if as_json:
            found = [answer or {"pid": process.pid} for process, answer in answers.items()]
            print(json.dumps(found, indent=None if every_s else 2, ensure_ascii=False), flush=True)
        else:
            _print_page(answers, before, missing, clear=bool(every_s) and sys.stdout.isatty())
        if not every_s:
            return EXIT_FAILURE if missing or not answers or None in answers.values() else EXIT_OK
        before = {process.instance: answer for process, answer in answers.items()}
        time.sleep(every_s)


def reports(paths: list[Path]) -> list[Report]:
    """The reports of the processes that run these files, or of all; without those that do not answer."""
    return [answer for answer in _answers(paths)[0].values() if answer is not None]


def _answers(paths: list[Path]) -> tuple[dict[Running, Report | None], list[str]]:
    """The reports of the processes that are meant, and the files that nobody runs."""
    if paths:
        processes, missing = _processes(paths)
        found: dict[Running, Report | None] = {process: ask(process.instance) for process in processes}
        return found, missing
    answers = {process: ask(process.instance) for process in instances.running(os.environ)}
    meant: dict[Running, Report | None] = {
        process: answer for process, answer in answers.items() if _is_meant(process.instance, answer)
    }
    return meant, []


def _has_links(answer: Report | None) -> bool:
    legs = [node.get(side, {}) for node in (answer or {}).get("nodes", ()) for side in ("ingress", "egress")]
    return any(leg.get("links") for leg in legs)


def _print_page(
    answers: Mapping[Running, Report | None],
    before: Mapping[Instance, Report | None],
    missing: list[str],
    clear: bool,
) -> None:
    from kcpg.app import status_report

    if clear:
        print(_CLEAR, end="")
    for process, answer in answers.items():
        one = process.instance
        print(status_report.text(one.name, process.pid, answer, before.get(one)))
    _tell_missing(missing)
    if not answers and not missing:
        print("kcpg: nothing is running")
    sys.stdout.flush()


def _processes(paths: list[Path]) -> tuple[dict[Running, list[str]], list[str]]:
    """The processes that run these files, each with those that it runs, and the files that nobody runs."""
    files = instances.real(instances.expand(paths))
    found = instances.find(files, os.environ)
    processes: dict[Running, list[str]] = {}
    for file, process in found.items():
        processes.setdefault(process, []).append(file)
    return processes, [file for file in files if file not in found]


def _tell_missing(files: Iterable[str]) -> None:
    for file in files:
        print(f"kcpg: {file}: not running")


def _is_meant(one: Instance, answer: Report | None) -> bool:
    """Whether «every kcpg of this user» has this one in it: all, unless a state directory was chosen."""
    if STATE_VARIABLE not in os.environ or one.pid.exists():
        return True
    return answer is not None and answer.get("state_directory") == str(one.directory)


def _stop_all(process: Running) -> int:
    """End the process."""
    one, pid = process.instance, process.pid
    answer = ask(one)
    drain_s = answer.get("drain_s") if answer else None
    limit_s = STOP_MARGIN_S + (float(drain_s) if isinstance(drain_s, (int, float)) else STOP_MARGIN_S)
    if _send(one, pid, signal.SIGTERM) and not _until(lambda: running_pid(one) != pid, limit_s):
        _send(one, pid, signal.SIGKILL)
        _until(lambda: running_pid(one) != pid, STOP_MARGIN_S)
        print(f"kcpg: {one.name}: did not exit within {limit_s:.0f} s and was killed", file=sys.stderr)
        return EXIT_FAILURE
    print(f"kcpg: {one.name}: stopped")
    return EXIT_OK


def _stop_some(process: Running, files: list[str]) -> int:
    """Have the process run these files no longer, and the others as before."""
    instances.leave_out(process.instance, files)
    ok, text = reload_one(process)
    if not ok:
        instances.take_in(process.instance, files)
        print(f"kcpg: {process.instance.name}: {text}", file=sys.stderr)
        return EXIT_FAILURE
    still = instances.real(Path(name) for name in (ask(process.instance) or {}).get("configurations", ()))
    if any(file in still for file in files):  # a process that gave root's rights up cannot read the list
        instances.take_in(process.instance, files)
        text = f"{process.instance.name}: pid {process.pid} cannot end some of its files"
        print(f"kcpg: {text}; stop and start it without them", file=sys.stderr)
        return EXIT_FAILURE
    rest = [file for file in process.files if file not in files]
    print(f"kcpg: {process.instance.name}: stopped {', '.join(files)}; {', '.join(rest)} goes on")
    return EXIT_OK


def _reloads(answer: Report | None) -> int | None:
    """How often the process has read its configuration again; None if it does not say."""
    found = answer.get("reload") if answer is not None else None
    return int(found["count"]) if isinstance(found, dict) else None


def _send(one: Instance, pid: int, number: int) -> bool:
    """Send a signal; False if the process has gone. Raises KcpgError if it is another user's."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    except PermissionError as error:
        raise KcpgError(
            f"{one.name}: pid {pid} belongs to another user", "call as that user, or as root"
        ) from error
    return True


def _until(condition: Callable[[], bool], limit_s: float) -> bool:
    until_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > until_s:
            return False
        time.sleep(POLL_S)
    return True
