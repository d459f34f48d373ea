"""Edits of a file of users: its other lines, remarks included, stay as they are."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from kcpg.app.config.lex import Shape, lines
from kcpg.errors import KcpgError

MODE = 0o600  # Of a new file: it holds no secret, but tells who is served


def names(text: str) -> list[str]:
    """The sections, in order."""
    return [
        line.name for line in lines(text.encode("utf-8", "surrogateescape")) if line.shape is Shape.SECTION
    ]


def section(text: str, name: str) -> str:
    """The lines of a user's section, its head included; empty: there is none."""
    span = _span(text, name)
    return "" if span is None else "".join(text.splitlines(keepends=True)[span[0] : span[1]])


def added(text: str, name: str, values: dict[str, str]) -> str:
    """The text with a section for a new user at its end."""
    before = text if not text or text.endswith("\n") else text + "\n"
    gap = "\n" if before.strip() else ""
    return f"{before}{gap}[{name}]\n" + "".join(f"{key}={value}\n" for key, value in values.items())


def removed(text: str, name: str) -> str:
    """The text without a user's section."""
    span = _span(text, name)
    if span is None:
        return text
    rows = text.splitlines(keepends=True)
    return "".join(rows[: span[0]] + rows[span[1] :])


def changed(text: str, name: str, key: str, value: str) -> str:
    """The text with another value of a key in a user's section."""
    span = _span(text, name)
    assert span is not None, "only of a user that is there"
    rows = text.splitlines(keepends=True)
    own = [
        line.number - 1
        for line in lines(text.encode("utf-8", "surrogateescape"))
        if line.shape is Shape.OPTION and line.name == key and span[0] < line.number - 1 < span[1]
    ]
    for at in own[1:]:
        rows[at] = ""
    if own:
        rows[own[0]] = f"{key}={value}\n"
    else:
        rows.insert(span[0] + 1, f"{key}={value}\n")
    return "".join(rows)


def with_server(text: str, place: str) -> str:
    """The text with the line, before all sections, that says where users find this node."""
    rows = text.splitlines(keepends=True)
    for line in lines(text.encode("utf-8", "surrogateescape")):
        if line.shape is Shape.SECTION:
            break
        if line.shape is Shape.OPTION and line.name == "server":
            rows[line.number - 1] = f"server={place}\n"
            return "".join(rows)
    return f"# Where users find this node; kcpg user writes it to their files.\nserver={place}\n{text}"


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Only one command at a time changes files of this directory. Raises KcpgError."""
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise KcpgError(f"cannot open {directory}: {error.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def write(file: Path, text: str) -> None:
    """Replace a file whole or not at all; it keeps its mode and owner. Raises KcpgError."""
    real = Path(os.path.realpath(file))
    new = real.with_name(f".{real.name}.{os.getpid()}")
    try:
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
        try:
            with contextlib.suppress(FileNotFoundError):
                former = os.stat(real)
                os.fchmod(fd, former.st_mode & 0o7777)
                if (former.st_uid, former.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(fd, former.st_uid, former.st_gid)
            with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            os.rename(new, real)
        except OSError:
            new.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise KcpgError(f"cannot write {file}: {error.strerror}", "run it as the owner of the file") from None


def read(file: Path) -> str:
    """The text of a file; empty if there is none. Raises KcpgError."""
    try:
        return file.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise KcpgError(f"cannot read {file}: {error.strerror}") from None


def _span(text: str, name: str) -> tuple[int, int] | None:
    """First row and row after the last of a user's section. Remarks right above the next one belong to that
    one.
    """
    rows = text.splitlines()
    heads = [line for line in lines(text.encode("utf-8", "surrogateescape")) if line.shape is Shape.SECTION]
    for place, head in enumerate(heads):
        if head.name == name:
            last = heads[place + 1].number - 1 if place + 1 < len(heads) else len(rows)
            while last < len(rows) and last > head.number and _is_remark(rows[last - 1]):
                last -= 1
            return head.number - 1, last
    return None


def _is_remark(row: str) -> bool:
    return not row.strip() or row.lstrip().startswith(("#", "＃"))
