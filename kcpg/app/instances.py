"""Which process runs which configuration file: found by the file, whatever else that process runs.

It imports nothing that a tunnel needs, so that `kcpg daemon ensure`, called each minute, costs next to
nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from kcpg.app.paths import Instance, all_instances, foreign_instances, hidden_instances, running_pid
from kcpg.errors import UsageError

SUFFIX = ".conf"  # Of the files that a directory stands for


class Running(NamedTuple):
    """A process and the files that it runs."""

    instance: Instance
    pid: int
    files: tuple[str, ...]  # Real paths


def expand(arguments: Iterable[Path]) -> list[Path]:
    """The files that these arguments name: a directory stands for its *.conf, in the order of their names.

    Raises UsageError for a directory that has none.
    """
    files: list[Path] = []
    for argument in arguments:
        if not argument.is_dir():
            files.append(argument)
            continue
        inside = sorted(argument.glob(f"*{SUFFIX}"))
        if not inside:
            raise UsageError(f"{argument}: the directory holds no *{SUFFIX}", f"name the files *{SUFFIX}")
        files += inside
    return files


def real(files: Iterable[Path]) -> list[str]:
    """Their paths as processes are compared by them, without duplicates."""
    return list(dict.fromkeys(os.path.realpath(file) for file in files))


def running(environ: Mapping[str, str]) -> Iterator[Running]:
    """Every process of this user, those of systemd's units that this user may see, and root's."""
    seen = set()
    lookups = (all_instances, hidden_instances, foreign_instances)
    for one in chain.from_iterable(look_up(environ) for look_up in lookups):
        pid = running_pid(one)
        if pid is not None and pid not in seen:
            seen.add(pid)
            yield Running(one, pid, _files(one))


def find(files: Iterable[str], environ: Mapping[str, str]) -> dict[str, Running]:
    """The process of each of these files (real paths) that one runs."""
    wanted = set(files)
    found: dict[str, Running] = {}
    for process in running(environ):
        found.update(dict.fromkeys(wanted.intersection(process.files), process))
        if len(found) == len(wanted):
            break
    return found


def note(one: Instance, files: Iterable[Path]) -> None:
    """Write down which files this process runs. Raises OSError."""
    _write(one.files, real(files))


def forget(one: Instance) -> None:
    """Remove what was written down, and what was left out. Raises nothing."""
    for file in (one.files, one.left_out):
        with contextlib.suppress(OSError):
            file.unlink()


def left_out(one: Instance) -> set[str]:
    """The files (real paths) that the process is not to run, though its arguments name them."""
    return set(_read(one.left_out))


def leave_out(one: Instance, files: Iterable[str]) -> None:
    """From its next reload on, the process is to run none of these files. Raises OSError."""
    _write(one.left_out, sorted(left_out(one).union(files)))


def take_in(one: Instance, files: Iterable[str]) -> None:
    """From its next reload on, the process may run these files again. Raises OSError."""
    out = left_out(one)
    if not out.isdisjoint(files):
        _write(one.left_out, sorted(out.difference(files)))


def _files(one: Instance) -> tuple[str, ...]:
    found = _read(one.files)
    if found:
        return tuple(found)
    # The state directory was wiped, or the process is of a version that kept no list: it knows.
    from kcpg.app.asking import ask

    answer = ask(one) or {}
    return tuple(real(Path(name) for name in answer.get("configurations", ())))


def _read(file: Path) -> list[str]:
    try:
        data = file.read_bytes()
    except OSError:
        return []
    return [os.fsdecode(name) for name in data.split(b"\0") if name]


def _write(file: Path, names: Iterable[str]) -> None:
    """A reader sees the old list or the new one."""
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(fd, b"\0".join(os.fsencode(name) for name in names))
    finally:
        os.close(fd)
    os.replace(draft, file)
