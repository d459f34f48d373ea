"""Who a dialer is to its listeners, over its own restarts and those of its machine.

A listener that hears of a dialer's new life asks on the links of the former one, and ends the flows of those
that nobody answers. So no two dialers may have the same identity, not even those of machines made from one
image. It is derived from a random file that is written at the first start, from this machine's id, and from
which of its dialers it is.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from pathlib import Path

from kcpg.app.paths import STATE_VARIABLE, make_private, state_directory
from kcpg.core.native.handshake.params import DIALER_BYTES
from kcpg.errors import KcpgError

FILE = "identity"

SECRET_BYTES = 32

# Where root's programs keep what outlives a boot (FHS 3.0 §5.8). A state directory under /run does not.
LASTING_DIRECTORY_ROOT = Path("/var/lib/kcpg")

# Set by systemd for a unit with StateDirectory= (systemd.exec(5)).
SYSTEMD_VARIABLE = "STATE_DIRECTORY"

_MACHINE_IDS = ("/etc/machine-id", "/var/lib/dbus/machine-id")


def dialer_identity(configuration: Path, section: str, worker: int, environ: Mapping[str, str]) -> bytes:
    """16 bytes for the dialer of this section of this file in this worker (from 0 up).

    Empty where nothing can be kept: then the dialer tells no identity.
    """
    secret = _secret(environ)
    if not secret:
        return b""
    where = "\0".join((os.path.realpath(configuration), section, str(worker)))
    text = _machine_id() + b"\0" + where.encode("utf-8", "surrogateescape")
    return hmac.digest(secret, text, "sha256")[:DIALER_BYTES]


def _secret(environ: Mapping[str, str]) -> bytes:
    """What is in the file, written if need be; empty if that fails everywhere."""
    for directory in directories(environ):
        try:
            make_private(directory, is_ours=directory == LASTING_DIRECTORY_ROOT)
            return _read_or_write(directory / FILE)
        except OSError:
            continue
    try:
        return _read_or_write(state_directory(environ) / FILE)
    except (OSError, KcpgError):
        return b""


def directories(environ: Mapping[str, str]) -> list[Path]:
    """What outlives a boot, and is looked at before the state directory."""
    if environ.get(STATE_VARIABLE):
        lasting = environ.get(SYSTEMD_VARIABLE, "").partition(":")[0]
        return [Path(lasting)] if os.path.isabs(lasting) else []
    return [LASTING_DIRECTORY_ROOT] if os.geteuid() == 0 else []


def _read_or_write(file: Path) -> bytes:
    """Raises OSError. One that is cut short or empty, as after a full disk, is replaced."""
    found = _read(file)
    if len(found) == SECRET_BYTES:
        return found
    new = file.with_name(f"{FILE}.{os.getpid()}")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(fd, "wb") as stream:
            stream.write(os.urandom(SECRET_BYTES))
            stream.flush()
            os.fsync(fd)
        if found:
            os.rename(new, file)
        else:
            _link(new, file)
    finally:
        new.unlink(missing_ok=True)
    return _read(file)


def _link(new: Path, file: Path) -> None:
    """Of several processes that start together the first one wins."""
    try:
        os.link(new, file)
    except FileExistsError:
        if not _read(file):
            os.rename(new, file)


def _read(file: Path) -> bytes:
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return b""
    with os.fdopen(fd, "rb") as stream:
        return stream.read(SECRET_BYTES + 1)


def _machine_id() -> bytes:
    for name in _MACHINE_IDS:
        try:
            found = Path(name).read_bytes().strip()
        except OSError:
            continue
        if found:
            return found
    return b""
