"""Paths of the lock, the pid, the status socket and the log of a running kcpg."""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from kcpg.app.lock import holder, named_holder, names
from kcpg.errors import KcpgError

# Environment variable that sets the directory; the command fails if it is unusable.
STATE_VARIABLE = "KCPG_STATE_DIR"

# Log files of root's daemons (FHS 3.0 §5.10); other users' are in their state directories.
LOG_DIRECTORY_ROOT = Path("/var/log/kcpg")

# Where systemd makes the state directories of packaging/kcpg@.service, and kcpg root's.
RUN_DIRECTORY = Path("/run")

_STEM_LENGTH = 40  # File names contain this many characters of the configurations' names, and a hash


class Instance(NamedTuple):
    """The files of one process. Commands that start it with the same arguments mean the same instance."""

    name: str
    directory: Path
    log: Path

    @property
    def pid(self) -> Path:
        """The pid file, which the process keeps locked with flock(2)."""
        return self.directory / f"{self.name}.pid"

    @property
    def socket(self) -> Path:
        """The unix socket that answers every connection with a status report."""
        return self.directory / f"{self.name}.sock"

    @property
    def files(self) -> Path:
        """The list of the configuration files that the process runs (`kcpg.app.instances`)."""
        return self.directory / f"{self.name}.files"

    @property
    def left_out(self) -> Path:
        """The list of those of its files that the process is to run no longer (`kcpg.app.instances`)."""
        return self.directory / f"{self.name}.out"


def running_pid(one: Instance) -> int | None:
    """The pid of the process that runs this instance; None if none does or it is just starting."""
    return holder(one.pid) or named_holder(one.name)


def instance(configurations: list[Path], environ: Mapping[str, str]) -> Instance:
    """The instance that runs exactly these configuration files, in any order and spelling."""
    real = sorted(os.path.realpath(path) for path in configurations)
    digest = hashlib.sha256("\0".join(real).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    stem = "+".join(Path(path).stem for path in real)
    readable = re.sub(r"[^A-Za-z0-9_.+-]", "_", stem)[:_STEM_LENGTH]
    return at(f"{readable}-{digest}", state_directory(environ), environ)


def at(name: str, directory: Path, environ: Mapping[str, str]) -> Instance:
    """The instance called `name` in a state directory."""
    return Instance(name, directory, _log_directory(directory, environ) / f"{name}.log")


def all_instances(environ: Mapping[str, str]) -> list[Instance]:
    """Every instance that has left a pid file in the state directory, running or not, by name."""
    directory = state_directory(environ)
    return [at(file.stem, directory, environ) for file in sorted(directory.glob("*.pid"))]


def hidden_instances(environ: Mapping[str, str]) -> list[Instance]:
    """Every instance that this user's processes run without a pid file in the state directory, by name."""
    directory = state_directory(environ)
    found = [at(name, directory, environ) for name in names()]
    return [one for one in found if not one.pid.exists()]


def foreign_instances(environ: Mapping[str, str]) -> list[Instance]:
    """Every instance with a pid file in another state directory that this user may read, by name: those of
    systemd's units, and root's. None if a state directory was chosen."""
    if environ.get(STATE_VARIABLE):
        return []
    own = state_directory(environ)
    others = [
        at for at in sorted(RUN_DIRECTORY.glob("kcpg*")) if at != own and os.access(at, os.R_OK | os.X_OK)
    ]
    return [
        Instance(file.stem, at, at / f"{file.stem}.log") for at in others for file in sorted(at.glob("*.pid"))
    ]


def state_directory(environ: Mapping[str, str]) -> Path:
    """A directory that only this user can enter, created if missing. Raises KcpgError if none is usable.

    The choice depends on the user alone, not on a login session nor on $HOME: cron, sudo and a terminal must
    find the same lock. $XDG_RUNTIME_DIR cannot promise that: cron has none, and log-out removes it. A
    directory that the user chose may be anybody's, /tmp for example: kcpg makes it or takes it as it is, and
    never changes its mode.
    """
    chosen = environ.get(STATE_VARIABLE)
    candidates = [Path(os.path.abspath(chosen))] if chosen else _candidates()
    reasons = []
    for directory in candidates:
        try:
            make_private(directory, is_ours=not chosen)
            return directory
        except OSError as error:
            reasons.append(f"{directory}: {error.strerror or error}")
    hint = f"set {STATE_VARIABLE} to a directory that does not exist yet, or to one of mode 0700"
    raise KcpgError(f"no usable state directory ({'; '.join(reasons)})", hint)


def _candidates() -> list[Path]:
    uid = os.geteuid()
    found = [RUN_DIRECTORY / "kcpg"] if uid == 0 else []
    home = _home_of(uid)
    if home and home != "/" and os.path.isdir(home):
        found.append(Path(home) / ".local/state/kcpg")
    return [*found, Path(f"/tmp/kcpg-{uid}")]


def _home_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return ""


def make_private(directory: Path, is_ours: bool) -> None:
    """Create `directory` with mode 0700, or check that this user alone may enter it. Raises OSError.

    `is_ours`: its name is kcpg's own, so that its mode may be changed to that.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        pass
    facts = os.lstat(directory)
    if not stat.S_ISDIR(facts.st_mode):
        raise NotADirectoryError(20, "is not a directory")
    if facts.st_uid != os.geteuid():
        raise PermissionError(1, "belongs to another user")
    mode = stat.S_IMODE(facts.st_mode)
    if mode & 0o077:
        if not is_ours:
            raise PermissionError(1, f"has mode {mode:04o}, so that other users may enter it")
        os.chmod(directory, 0o700)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(13, "is not writable")


def _log_directory(state: Path, environ: Mapping[str, str]) -> Path:
    if os.geteuid() != 0 or environ.get(STATE_VARIABLE):
        return state
    try:
        LOG_DIRECTORY_ROOT.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError:
        return state
    return LOG_DIRECTORY_ROOT if os.access(LOG_DIRECTORY_ROOT, os.W_OK) else state
