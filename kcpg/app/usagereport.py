"""`kcpg user usage`: what users have used, for people, for programs and for tables."""

from __future__ import annotations

import csv
import io
import json
import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from kcpg.app import accountbook
from kcpg.app.accountbook import Book, Row
from kcpg.app.config.model import UserConfig
from kcpg.app.wording import duration, size
from kcpg.errors import KcpgError

_COLUMNS = ("user", "received", "sent", "this month", "of its quota", "links", "online", "last seen")


def report(config: Path, users: Sequence[UserConfig], name: str, form: str, wall_s: int) -> str:
    """What the users of a node have used; `name`: of one of them, or empty. `form`: text, json or csv.

    Those that are no users any more are there as well. Raises KcpgError.
    """
    try:
        rows, month, spent = _read(config, users, wall_s)
    except (sqlite3.Error, OSError) as error:
        raise KcpgError(f"cannot read the account of the users: {error}") from None
    known = {user.name for user in users}
    silent = [Row(one, 0, 0, 0, 0, 0, 0.0, 0) for one in known if one not in {row.user for row in rows}]
    chosen = [row for row in sorted([*rows, *silent]) if not name or row.user == name]
    if not chosen and name:
        raise KcpgError(f"nothing is known of {name!r}")
    made = [_entry(row, month.get(row.user, 0), spent.get(row.user)) for row in chosen]
    if form == "json":
        return json.dumps(made, indent=2)
    if form == "csv":
        text = io.StringIO()
        table = csv.DictWriter(
            text, list(_entry(Row("", 0, 0, 0, 0, 0, 0.0, 0), 0, None)), lineterminator="\n"
        )
        table.writeheader()
        table.writerows(made)
        return text.getvalue().rstrip("\n")
    cells = [_COLUMNS, *(_cells(row, month.get(row.user, 0), spent.get(row.user)) for row in chosen)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(_COLUMNS))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)


def _read(
    config: Path, users: Sequence[UserConfig], wall_s: int
) -> tuple[list[Row], dict[str, int], dict[str, tuple[int, int]]]:
    file = accountbook.find_directory(os.environ) / accountbook.FILE
    if not file.exists():
        return [], {}, {}
    book = Book(file, config)
    try:
        month = book.rows(accountbook.since("month", wall_s))
        spent = {
            user.name: (
                book.used_bytes(user.name, accountbook.since(user.quota.period, wall_s)),
                user.quota.limit_bytes,
            )
            for user in users
            if user.quota is not None
        }
        return book.rows(), {row.user: row.rx_bytes + row.tx_bytes for row in month}, spent
    finally:
        book.close()


def _entry(row: Row, month_bytes: int, spent: tuple[int, int] | None) -> dict[str, object]:
    used, limit = spent if spent is not None else (None, None)
    return {
        **row._asdict(),
        "seconds": round(row.seconds, 1),
        "month_bytes": month_bytes,
        "quota_used_bytes": used,
        "quota_bytes": limit,
    }


def _cells(row: Row, month_bytes: int, spent: tuple[int, int] | None) -> tuple[str, ...]:
    seen = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(row.last_seen)) if row.last_seen else "never"
    quota = f"{spent[0] / spent[1]:.0%} of {size(spent[1])}" if spent is not None else "-"
    return (
        row.user,
        size(row.rx_bytes),
        size(row.tx_bytes),
        size(month_bytes),
        quota,
        str(row.links),
        duration(row.seconds),
        seen,
    )
