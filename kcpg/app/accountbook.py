"""What users have used, in an SQLite database: a row per node, user and day (UTC).

Several processes may write at once. Every method may wait for the disk and raise sqlite3.Error or OSError.
"""

from __future__ import annotations

import datetime
import os
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from kcpg.app.identity import directories
from kcpg.app.paths import make_private, state_directory
from kcpg.core.native.users import Usage

FILE = "usage.sqlite3"

# Days that are kept singly; older ones become one row. More than a year, so that any month can be compared.
DAYS_KEPT = 400

BUSY_S = 2.0  # How long another process may hold the file

BEFORE = ""  # The day of that row: earlier than all

_SCHEMA = """
CREATE TABLE IF NOT EXISTS usage (
    node TEXT NOT NULL, user TEXT NOT NULL, day TEXT NOT NULL,
    rx_bytes INTEGER NOT NULL, tx_bytes INTEGER NOT NULL,
    rx_datagrams INTEGER NOT NULL, tx_datagrams INTEGER NOT NULL,
    links INTEGER NOT NULL, seconds REAL NOT NULL, last_seen INTEGER NOT NULL,
    PRIMARY KEY (node, user, day)
) WITHOUT ROWID
"""

_ADD = """
INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    rx_bytes = rx_bytes + excluded.rx_bytes, tx_bytes = tx_bytes + excluded.tx_bytes,
    rx_datagrams = rx_datagrams + excluded.rx_datagrams, tx_datagrams = tx_datagrams + excluded.tx_datagrams,
    links = links + excluded.links, seconds = seconds + excluded.seconds,
    last_seen = max(last_seen, excluded.last_seen)
"""

_FOLD = """
INSERT INTO usage SELECT node, user, '', sum(rx_bytes), sum(tx_bytes), sum(rx_datagrams), sum(tx_datagrams),
    sum(links), sum(seconds), max(last_seen) FROM usage WHERE day < ? AND day != '' GROUP BY node, user
ON CONFLICT DO UPDATE SET
    rx_bytes = rx_bytes + excluded.rx_bytes, tx_bytes = tx_bytes + excluded.tx_bytes,
    rx_datagrams = rx_datagrams + excluded.rx_datagrams, tx_datagrams = tx_datagrams + excluded.tx_datagrams,
    links = links + excluded.links, seconds = seconds + excluded.seconds,
    last_seen = max(last_seen, excluded.last_seen)
"""


class Row(NamedTuple):
    """What one user has used since some day. `in`: received from him."""

    user: str
    rx_bytes: int
    tx_bytes: int
    rx_datagrams: int
    tx_datagrams: int
    links: int
    seconds: float
    last_seen: int  # Seconds since 1970


class Book:
    """An open database."""

    def __init__(self, file: Path, node: Path) -> None:
        """`node`: the file of its configuration, by which it is told from others in the same database."""
        self._node = os.path.realpath(node)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        # One thread at a time uses it.
        self._database = sqlite3.connect(file, BUSY_S, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")  # a crash of the machine loses the last seconds
        self._database.execute(_SCHEMA)
        self._folded = ""

    def close(self) -> None:
        """Idempotent."""
        self._database.close()

    def add(self, used: Mapping[str, Usage], wall_s: int) -> None:
        """Add what users have used lately. All of it, or nothing."""
        today = day(wall_s)
        rows = [
            (
                self._node,
                user,
                today,
                one.rx_bytes,
                one.tx_bytes,
                one.rx_datagrams,
                one.tx_datagrams,
                one.links,
                one.seconds,
                wall_s if one.rx_bytes else 0,
            )
            for user, one in used.items()
        ]
        with self._transaction():
            self._database.executemany(_ADD, rows)
            if self._folded != today:
                self._fold(wall_s)
        self._folded = today

    def used_bytes(self, user: str, since: str) -> int:
        """Bytes of a user in both directions, since a day."""
        query = "SELECT total(rx_bytes + tx_bytes) FROM usage WHERE node = ? AND user = ? AND day >= ?"
        return int(self._database.execute(query, (self._node, user, since)).fetchone()[0])

    def rows(self, since: str = BEFORE) -> list[Row]:
        """All users of the node, by name."""
        query = """SELECT user, sum(rx_bytes), sum(tx_bytes), sum(rx_datagrams), sum(tx_datagrams),
            sum(links), sum(seconds), max(last_seen) FROM usage
            WHERE node = ? AND day >= ? GROUP BY user ORDER BY user"""
        return [Row(*found) for found in self._database.execute(query, (self._node, since))]

    def _fold(self, wall_s: int) -> None:
        oldest = day(wall_s - DAYS_KEPT * 86_400)
        self._database.execute(_FOLD, (oldest,))
        self._database.execute("DELETE FROM usage WHERE day < ? AND day != ''", (oldest,))

    def _transaction(self) -> _Transaction:
        return _Transaction(self._database)


class _Transaction:
    """A change that other processes see whole or not at all."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_: object) -> None:
        self._database.execute("COMMIT" if kind is None else "ROLLBACK")


def find_directory(environ: Mapping[str, str]) -> Path:
    """Where the database is: a directory that outlives a boot if there is one. Raises OSError, KcpgError."""
    for directory in directories(environ):
        try:
            make_private(directory, is_ours=True)
        except OSError:
            continue
        return directory
    return state_directory(environ)


def day(wall_s: int) -> str:
    """`2030-01-31`, in UTC."""
    return datetime.datetime.fromtimestamp(wall_s, datetime.UTC).date().isoformat()


def since(period: str, wall_s: int) -> str:
    """The first day of the period («day», «week», «month») that this moment lies in; no period: all days."""
    today = datetime.datetime.fromtimestamp(wall_s, datetime.UTC).date()
    if period == "week":
        return (today - datetime.timedelta(days=today.weekday())).isoformat()
    if period == "month":
        return today.replace(day=1).isoformat()
    return today.isoformat() if period == "day" else BEFORE


def together(parts: Iterable[Mapping[str, Usage]]) -> dict[str, Usage]:
    """Sums by user."""
    whole: dict[str, Usage] = {}
    for part in parts:
        for user, one in part.items():
            known = whole.get(user)
            whole[user] = one if known is None else known.plus(one)
    return whole
