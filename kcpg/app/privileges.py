"""What a process keeps of its rights: no dumps of its memory, and with `user` no longer those of root.

A node needs root for what it opens at the start. Later it needs one right of root's: a reload may bind a port
below 1024. So the process that reloads keeps CAP_NET_BIND_SERVICE alone; its workers and the programs that it
runs keep nothing (capabilities(7)). Sockets that are opened later, for a hop or by a reload, get the buffers
that everybody gets: at most net.core.rmem_max.
"""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import resource
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import kcpg
from kcpg.errors import StartError

# include/uapi/linux/prctl.h and capability.h
_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_CAP_NET_BIND_SERVICE = 10
_CAPS_MOST = 64
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    """Capabilities 0 to 31; those from 32 on have a second one."""

    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inherited", ctypes.c_uint32),
    )


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a process runs as once its ports are open."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str

    def __str__(self) -> str:
        return f"user {self.name}"

    @property
    def is_ours(self) -> bool:
        """Whether the process runs as that already."""
        return os.geteuid() == os.getuid() == self.uid and os.getegid() == self.gid


def identity(user: str, group: str = "") -> Identity:
    """The user and group of these names or numbers; without a group the user's own.

    Raises LookupError with words for a person.
    """
    found = _user(user)
    if group:
        gid = _group(group)
    elif found is not None:
        gid = found.pw_gid
    else:
        raise LookupError(f"user {user} is in no list of this machine, so it needs a group")
    uid = int(user) if found is None else found.pw_uid
    groups = {gid} if found is None else {gid, *os.getgrouplist(found.pw_name, found.pw_gid)}
    return Identity(uid, gid, tuple(sorted(groups)), user if found is None else found.pw_name)


def become(wanted: Identity, reloads: bool) -> None:
    """Give root's rights up for good, in every thread. `reloads`: this process opens ports later.

    Does nothing where it runs as that user. Raises StartError.
    """
    if wanted.is_ours:
        return
    if os.geteuid() != 0:
        raise StartError(f"only root can become {wanted}", "run it as root, or as that user without user=")
    try:
        if sys.platform == "linux":
            _limit_capabilities()
        os.setgroups(wanted.groups)
        os.setresgid(wanted.gid, wanted.gid, wanted.gid)
        os.setresuid(wanted.uid, wanted.uid, wanted.uid)
        if sys.platform == "linux":
            _keep(1 << _CAP_NET_BIND_SERVICE if reloads else 0)
    except OSError as error:
        raise StartError(f"cannot become {wanted}: {error.strerror}") from error
    forbid_dumps()
    if problem := unreadable((Path(sys.executable), Path(kcpg.__file__))):
        raise StartError(f"{wanted} cannot read {problem}, which kcpg runs from", "install it elsewhere")


def unreadable(paths: Iterable[Path]) -> str:
    """The first of these files that this process may not read; empty if there is none."""
    return next((str(path) for path in paths if not os.access(path, os.R_OK)), "")


def forbid_dumps() -> None:
    """Write no core file, and let no other process of this user look into this one: it holds keys."""
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _user(name: str) -> pwd.struct_passwd | None:
    """Its entry; None for a number without one."""
    try:
        return pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except KeyError:
        if name.isdecimal():
            return None
        raise LookupError(f"there is no user {name} on this machine") from None


def _group(name: str) -> int:
    if name.isdecimal():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise LookupError(f"there is no group {name} on this machine") from None


def _limit_capabilities() -> None:
    """What this process starts may never have more than this one will keep, by a set-user-ID file neither."""
    for number in range(_CAPS_MOST):
        if number != _CAP_NET_BIND_SERVICE:
            _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)  # fails beyond the kernel's last one
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _check(_libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0))


def _keep(capabilities: int) -> None:
    """Keep these alone, as far as they are there: a container may have taken them."""
    header, data = _Header(_CAPABILITY_VERSION_3, 0), (_Data * 2)()
    _check(_libc.capget(ctypes.byref(header), data))
    kept = capabilities & data[0].permitted
    data[0] = _Data(kept, kept, 0)
    data[1] = _Data(0, 0, 0)
    _check(_libc.capset(ctypes.byref(header), data))
    _check(_libc.prctl(_PR_SET_KEEPCAPS, 0, 0, 0, 0))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
