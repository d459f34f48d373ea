"""The file of a listener's users: a section for each, by his name. `users=` may name a directory of such
files."""

from __future__ import annotations

import datetime
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kcpg.app.config import addresses, values
from kcpg.app.config.lex import FILE_BYTES_MAX, LexError, Line, Shape, lines
from kcpg.app.config.model import Quota, UserConfig
from kcpg.app.config.passwords import reason_of
from kcpg.app.config.report import Report
from kcpg.app.config.values import BadValue, Remarks, ValueParser, suggest

USERS_MAX = 100_000  # Of one listener: ten times what it is made for, 60 MB; more is a mistake
FILES_MAX = 1024  # Of one directory
SUFFIX = ".conf"  # Of the files of a directory
SERVER = "server"  # The key that may stand before all sections: where users find the node

# X25519 agrees on nothing with points of small order (RFC 7748, section 6.1; the list of cr.yp.to/ecdh.html).
_SMALL_ORDER = frozenset(
    bytes.fromhex(text)
    for text in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
)


def public_key(text: str, remarks: Remarks) -> bytes:
    """32 bytes in base64 that are a key of X25519."""
    try:
        raw = values.key_32(text, remarks)
    except BadValue as bad:
        raise BadValue(bad.reason, "kcpg keygen --pair prints one") from None
    if raw[:31] + bytes((raw[31] & 0x7F,)) in _SMALL_ORDER:
        raise BadValue(
            "is no public key: it agrees on nothing with any other", "kcpg keygen --pair prints one"
        )
    return raw


def moment(text: str, remarks: Remarks) -> int:
    """A day or a moment, in UTC unless it says otherwise: seconds since 1970."""
    bare = values.uncomment(text, remarks)
    try:
        found = datetime.datetime.fromisoformat(bare)
    except ValueError:
        raise BadValue(f"'{bare}' is no date", "for example 2030-01-31, or 2030-01-31T18:00+02:00") from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=datetime.UTC)
    return max(int(found.timestamp()), 1)


def quota(text: str, remarks: Remarks) -> Quota:
    """`100G/month`."""
    bare = values.uncomment(text, remarks)
    match = re.fullmatch(r"([0-9]+)([KMGTkmgt]?)(?:/(day|week|month))?", bare)
    if match is None or not int(match[1]):
        raise BadValue(f"'{bare}' is no quota", "for example 100G/month, with day, week, month or nothing")
    number, unit, period = match.groups()
    base = 1000 if unit.islower() else 1024
    limit = int(number) * base ** " kmgt".index(unit.lower() or " ")
    if limit > values.BANDWIDTH_MAX_BPS:
        raise BadValue(f"'{bare}' is too large")
    return Quota(limit, period or "")


@dataclass(frozen=True, slots=True)
class UserKey:
    """A row of the table: what a user's section may say."""

    name: str
    parse: ValueParser
    values: str
    meaning: str
    chinese: str
    field: str  # Of UserConfig


_COUNT = values.within(1, 1_000_000)

USER_KEYS = {
    row.name: row
    for row in (
        UserKey(
            "public_key", public_key, "base64 of 32 bytes", "Who he is. Required.", "用户的公钥，必填。",
            "public_key",
        ),
        UserKey(
            "expires", moment, "2030-01-31, 2030-01-31T18:00+02:00",
            "From this day or moment on (UTC, unless it says otherwise) he is refused, and his links end.",
            "从这一天或时刻起（除非另行注明，均为 UTC）拒绝该用户，并关闭他的链路。", "expires_s",
        ),
        UserKey(
            "disabled", values.boolean, "yes, no", "yes: he is refused, and his links end.",
            "yes：拒绝该用户，并关闭他的链路。", "disabled",
        ),
        UserKey(
            "outbound_bandwidth", values.bandwidth, "bit/s, with K M G (1024) or k m g (1000)",
            "Highest rate at which this node sends to him, by all of his links together.",
            "本节点向该用户发送的最高速率，由他的所有链路分享。", "outbound_bps",
        ),
        UserKey(
            "inbound_bandwidth", values.bandwidth, "bit/s, with K M G (1024) or k m g (1000)",
            "Highest rate at which each of his links may send. His own kcpg keeps to it.",
            "该用户的每条链路发送的最高速率，由他自己的 kcpg 遵守。", "inbound_bps",
        ),
        UserKey(
            "max_links", _COUNT, "1-1000000",
            "Most links at once. One is enough for a client as it is by default.",
            "同时存在的链路的上限。默认设置的客户端只需一条。", "max_links",
        ),
        UserKey(
            "max_flows", _COUNT, "1-1000000", "Most flows at once, of all his links.",
            "所有链路上同时存在的流的上限。", "max_flows",
        ),
        UserKey(
            "quota", quota, "100G/month, 5g/day, 20G/week, 1T (K M G T of 1024, k m g t of 1000)",
            "Bytes that he may send and receive in a day, a week (from Monday), a month (UTC), or ever where "
            "none is named. When they are used up his links end, until the next period or a larger quota.",
            "该用户在一天、一周（从星期一起）、一个月（UTC）之内可以收发的字节数；不写期限则为总共。"
            "用完后他的链路关闭，直到下一个期限或更大的限额。",
            "quota",
        ),
        UserKey(
            "allow_targets", addresses.allow_list, "as the key of this name",
            "In a server with {}: the targets that he may choose, besides what allow_targets of the node "
            "permits: both must.",
            "用于带 {} 的服务端：该用户可以选择的目标；节点自己的 allow_targets 也必须允许。",
            "allow_targets",
        ),
    )
}  # fmt: skip


@dataclass(slots=True)
class UsersFiles:
    """What `users=` named: the users, and the reports about each file."""

    users: tuple[UserConfig, ...] = ()
    server: str = ""  # Where users find this node, as `kcpg user` writes it to their files
    reports: list[Report] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether any of the files has an error."""
        return any(report.failed for report in self.reports)


def read_users(path: Path) -> UsersFiles:
    """The users of a file, or of all files of a directory that end in `.conf`. Raises BadValue if there is
    neither.
    """
    found, known = UsersFiles(), _Known()
    for file in users_files(path):
        report = Report(str(file))
        found.reports.append(report)
        try:
            with open(file, "rb") as stream:
                data = stream.read(FILE_BYTES_MAX + 1)
                mode = os.fstat(stream.fileno()).st_mode
        except OSError as error:
            raise BadValue(f"cannot read {file}: {reason_of(error)}") from None
        if stat.S_ISREG(mode) and mode & stat.S_IWOTH:
            report.warning(0, "", "every user of this machine can change the file", "chmod 644")
        read_text(data, report, known)
    found.users, found.server = tuple(known.users), known.server
    return found


def users_files(path: Path) -> list[Path]:
    """The file itself, or those of a directory, by name. Raises BadValue."""
    try:
        if not path.is_dir():
            return [path]
        files = sorted(one for one in path.iterdir() if one.suffix == SUFFIX and not one.name.startswith("."))
    except OSError as error:
        raise BadValue(f"cannot read the directory: {reason_of(error)}") from None
    if len(files) > FILES_MAX:
        raise BadValue(f"the directory has more than {FILES_MAX} files")
    return files


class _Known:
    """The users read so far, and whose names and keys are taken."""

    def __init__(self) -> None:
        self.users: list[UserConfig] = []
        self.server = ""
        self._names: dict[str, str] = {}
        self._keys: dict[bytes, str] = {}

    def add(self, user: UserConfig, report: Report, line: int) -> None:
        if other := self._names.get(user.name):
            report.error(line, f"[{user.name}]", f"is a user already, in {other}", "give one another name")
        elif other := self._keys.get(user.public_key):
            reason = f"has the public key of {other}, and a key is one user"
            report.error(line, f"[{user.name}]", reason, "kcpg keygen --pair prints another")
        elif len(self.users) >= USERS_MAX:
            report.error(line, f"[{user.name}]", f"there are more than {USERS_MAX} users")
        else:
            self.users.append(user)
            self._names[user.name] = f"{report.file}:{line}"
            self._keys[user.public_key] = user.name


def read_text(data: bytes, report: Report, known: _Known | None = None) -> tuple[UserConfig, ...]:
    """The users of one file's bytes."""
    known = known or _Known()
    section: Line | None = None
    given: dict[str, Any] = {}

    def finish() -> None:
        if section is None:
            return
        if "public_key" not in given:
            hint = f"kcpg user add {section.name}"
            if not report.failed:
                report.error(section.number, f"[{section.name}]", "has no public_key", hint)
            return
        words = {USER_KEYS[name].field: value for name, value in given.items() if value is not None}
        known.add(UserConfig(name=section.name, **words), report, section.number)

    try:
        found = lines(data)
    except LexError as error:
        report.error(0, "", str(error))
        return ()
    for line in found:
        if line.shape is Shape.SECTION:
            finish()
            section, given = line, {}
            _check_name(line, report)
        elif line.shape is not Shape.OPTION:
            report.error(line.number, "", "this is neither key=value nor [name]", "a comment begins with #")
        elif section is None and line.name == SERVER:
            known.server = line.text
        elif section is None:
            hint = "write [name] above it"
            report.error(line.number, _shown(line.name), "stands before the first user's section", hint)
        else:
            _option(line, given, report)
    finish()
    return tuple(known.users)


def _check_name(line: Line, report: Report) -> None:
    try:
        values.short_name(line.name, [])
    except BadValue as bad:
        report.error(line.number, "", f"the section's name {bad.reason}", bad.hint)


def _option(line: Line, given: dict[str, Any], report: Report) -> None:
    key = USER_KEYS.get(line.name)
    if key is None:
        hint = suggest(line.name, USER_KEYS) or f"a user has {', '.join(USER_KEYS)}"
        report.error(line.number, _shown(line.name), "unknown key of a user", hint)
        return
    if line.name in given:
        report.warning(line.number, line.name, "is set again and replaces the line above")
    remarks: Remarks = []
    try:
        given[line.name] = key.parse(line.text, remarks)
    except BadValue as bad:
        report.error(line.number, line.name, bad.reason, bad.hint)
    for remark in remarks:
        report.warning(line.number, line.name, remark)


def _shown(word: str) -> str:
    return word if word.isascii() and word.isprintable() and len(word) < 40 else ""
