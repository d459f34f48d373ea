"""Key pairs of a tunnel leg: whether the keys that belong together are there, and the files they name."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from kcpg.app.config.model import Dialect
from kcpg.app.config.passwords import keep_secret, read_password
from kcpg.app.config.raw import Options, RawFile
from kcpg.app.config.report import Report
from kcpg.app.config.users import read_users
from kcpg.app.config.values import BadValue, key_32

PRIVATE = ("private_key", "private_key_file")


def has_pair(options: Options) -> bool:
    """Whether this leg has a key pair of its own, right or wrong."""
    return any(map(options.given, PRIVATE))


def private_key(raw: RawFile, options: Options) -> bytes | None:
    """The leg's private key, 32 bytes; None: it has none."""
    file = options.get("private_key_file", str)
    return raw.private_keys.get(file) if file else options.get("private_key", bytes)


def check_pair(raw: RawFile, options: Options, listens: bool, report: Report) -> None:
    """Check one tunnel leg, and read the files that it names."""
    given = [name for name in PRIVATE if options.given(name)]
    other = "users" if listens else "server_key"
    if len(given) > 1:
        reason = f"conflicts with {given[0]} in line {options.line(given[0])}"
        report.error(options.line(given[1]), given[1], reason, "keep one of them")
    if given and not options.given(other):
        reason = "needs users: nobody else could have a link" if listens else "needs server_key"
        hint = (
            "kcpg user add NAME makes the first one"
            if listens
            else "kcpg keygen --pair prints it at the server"
        )
        report.error(options.line(given[0]), given[0], reason, hint)
    if options.given(other) and not given:
        report.error(
            options.line(other), other, "needs private_key_file", "kcpg keygen --pair FILE writes one"
        )
    if given and options.get("dialect", Dialect) not in (None, Dialect.NATIVE):
        reason = "only the native protocol has key pairs"
        report.error(options.line(given[0]), given[0], reason, "remove dialect, or the key")
    keep_secret(options, report, "private_key_file", raw.private_keys, partial(read_private_key, raw.base))
    if listens:
        _read_users(raw, options, report)
        if options.given("users_bandwidth") and not options.given("users"):
            line = options.line("users_bandwidth")
            report.warning(line, "users_bandwidth", "has an effect only with users")


def read_private_key(base: Path, name: str) -> tuple[bytes, bool]:
    """(the key of a file, whether every user may read the file). Raises BadValue. Lines that begin with #
    do not count.
    """
    data, others = read_password(base, name)
    words = [line.strip() for line in data.decode("ascii", "replace").splitlines()]
    words = [word for word in words if word and not word.startswith("#")]
    if len(words) != 1:
        raise BadValue("the file has no private key, or more than one", "kcpg keygen --pair FILE writes one")
    try:
        return key_32(words[0], []), others
    except BadValue as bad:
        raise BadValue(f"the file's key {bad.reason}", "kcpg keygen --pair FILE writes one") from None


def _read_users(raw: RawFile, options: Options, report: Report) -> None:
    name = options.get("users", str)
    if name is None or name in raw.users:
        return
    line = options.line("users")
    try:
        found = read_users(raw.base / name)
    except BadValue as bad:
        report.error(line, "users", bad.reason, bad.hint)
        return
    raw.users[name] = found.users
    raw.reports += found.reports
    if found.failed:
        report.error(line, "users", "a file of users has errors")
    elif not found.users:
        report.warning(line, "users", "there are no users: nobody can have a link", "kcpg user add NAME")
