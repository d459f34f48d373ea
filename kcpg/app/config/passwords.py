"""Passwords that have a file of their own."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from kcpg.app.config.raw import Options
from kcpg.app.config.report import Report
from kcpg.app.config.values import BadValue

# Where systemd puts what LoadCredential= names (systemd.exec(5)); a path may begin with this variable alone.
_CREDENTIALS = "${CREDENTIALS_DIRECTORY}/"

PASSWORD_BYTES_MAX = 64 * 1024  # A larger file is no password


def read_password(base: Path, name: str) -> tuple[bytes, bool]:
    """(password, whether every user may read the file). Raises BadValue if there is none.

    `name` is relative to `base`, or begins with `${CREDENTIALS_DIRECTORY}/`. Line ends at the end of the file
    are not part of the password.
    """
    if name.startswith(_CREDENTIALS):
        directory = os.environ.get("CREDENTIALS_DIRECTORY", "")
        if not directory:
            raise BadValue(
                "no service manager gives credentials to this process", "LoadCredential= in the unit"
            )
        name = os.path.join(directory, name.removeprefix(_CREDENTIALS))
    try:
        with open(base / name, "rb") as file:
            data = file.read(PASSWORD_BYTES_MAX + 1)
            others = is_readable_by_others(file.fileno())
    except (OSError, ValueError) as error:
        raise BadValue(f"cannot read the file: {reason_of(error)}") from None
    if len(data) > PASSWORD_BYTES_MAX:
        raise BadValue(f"the file is larger than {PASSWORD_BYTES_MAX} bytes")
    password = data.rstrip(b"\r\n")
    if not password:
        raise BadValue("the file is empty")
    return password, others


def keep_secret(
    options: Options,
    report: Report,
    key: str,
    kept: dict[str, bytes],
    read: Callable[[str], tuple[bytes, bool]],
) -> None:
    """Put the secret of the file that `key` names, if it names one, into `kept`, by the file's name.

    `read`: as `read_password` for a name.
    """
    name = options.get(key, str)
    if name is None or name in kept:
        return
    line = options.line(key)
    try:
        kept[name], readable_by_others = read(name)
    except BadValue as bad:
        report.error(line, key, bad.reason, bad.hint)
        return
    if readable_by_others:
        report.warning(line, key, "every user of this machine can read the file", "chmod 600")


def is_readable_by_others(fd: int) -> bool:
    """Whether every user of the machine may read this open file; of a pipe, nobody else can."""
    mode = os.fstat(fd).st_mode
    return stat.S_ISREG(mode) and bool(mode & stat.S_IROTH)


def reason_of(error: Exception) -> str:
    """`no such file or directory`, without Python's decoration."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text[:1].lower() + text[1:]
