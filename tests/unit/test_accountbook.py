"""The database of what users have used."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kcpg.app.accountbook import DAYS_KEPT, Book, day, find_directory, since, together
from kcpg.core.native.users import Usage

NOON = 1_896_091_200  # 2030-01-31, a Thursday, 12:00 UTC
DAY_S = 86_400


def test_what_is_added_is_there_after_a_restart(tmp_path: Path) -> None:
    file, node = tmp_path / "usage.sqlite3", tmp_path / "a.conf"
    book = Book(file, node)
    book.add({"ann": Usage(10, 20, 1, 2, 1, 2.5), "ben": Usage(tx_bytes=5)}, NOON)
    book.add({"ann": Usage(1, 1, 1, 1, 0, 2.0)}, NOON + DAY_S)
    book.close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = Book(file, node)
    ann, ben = again.rows()
    assert ann == ("ann", 11, 21, 2, 3, 1, 4.5, NOON + DAY_S)
    assert ben == ("ben", 0, 5, 0, 0, 0, 0.0, 0), "nothing came from him, so he was not seen"
    assert [row.user for row in again.rows(day(NOON + DAY_S))] == ["ann"]
    again.close()


def test_nodes_and_processes_share_a_file(tmp_path: Path) -> None:
    file = tmp_path / "usage.sqlite3"
    one, other, elsewhere = (Book(file, tmp_path / name) for name in ("a.conf", "a.conf", "b.conf"))
    for _ in range(50):
        for book in (one, other, elsewhere):
            book.add({"ann": Usage(1, 1)}, NOON)
    assert one.used_bytes("ann", "") == other.used_bytes("ann", "") == 200
    assert elsewhere.used_bytes("ann", "") == 100
    for book in (one, other, elsewhere):
        book.close()


def test_a_change_is_whole_or_not_at_all(tmp_path: Path) -> None:
    book = Book(tmp_path / "usage.sqlite3", tmp_path / "a.conf")
    with pytest.raises((sqlite3.Error, OverflowError)):
        book.add({"ann": Usage(1, 1), "ben": Usage(1 << 70, 0)}, NOON)
    assert book.rows() == []
    book.add({"ann": Usage(1, 1)}, NOON)
    assert book.used_bytes("ann", "") == 2
    book.close()


def test_old_days_become_one_row_and_nothing_is_lost(tmp_path: Path) -> None:
    book = Book(tmp_path / "usage.sqlite3", tmp_path / "a.conf")
    for n in range(0, DAYS_KEPT + 200, 50):
        book.add({"ann": Usage(1, 0, links=1)}, NOON + n * DAY_S)
    (ann,) = book.rows()
    assert (ann.rx_bytes, ann.links, ann.last_seen) == (12, 12, NOON + 550 * DAY_S)
    (count,) = book._database.execute("SELECT count(*) FROM usage").fetchone()
    assert count == 1 + DAYS_KEPT // 50 + 1
    book.close()


@pytest.mark.parametrize(
    ("period", "first"),
    [("day", "2030-01-31"), ("week", "2030-01-28"), ("month", "2030-01-01"), ("", "")],
)
def test_periods_begin(period: str, first: str) -> None:
    assert since(period, NOON) == first


def test_a_month_begins_at_midnight_utc(tmp_path: Path) -> None:
    book = Book(tmp_path / "usage.sqlite3", tmp_path / "a.conf")
    midnight = NOON + DAY_S // 2
    book.add({"ann": Usage(7)}, midnight - 1)
    assert book.used_bytes("ann", since("month", midnight - 1)) == 7
    assert book.used_bytes("ann", since("month", midnight)) == 0
    book.close()


COUNTS = st.builds(Usage, *[st.integers(0, 1 << 40)] * 5, st.integers(0, 1000))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abc"), COUNTS), max_size=6))
def test_nothing_is_lost_however_it_is_put_together(tmp_path: Path, parts: list[dict[str, Usage]]) -> None:
    file = tmp_path / "usage.sqlite3"
    file.unlink(missing_ok=True)
    book = Book(file, tmp_path / "a.conf")
    book.add(together(parts[:3]), NOON)
    for part in parts[3:]:
        book.add(part, NOON)
    for row in book.rows():
        mine = [part[row.user] for part in parts if row.user in part]
        assert row.rx_bytes == sum(one.rx_bytes for one in mine)
        assert row.tx_datagrams == sum(one.tx_datagrams for one in mine)
        assert row.seconds == sum(one.seconds for one in mine)
    book.close()


def test_where_it_is(tmp_path: Path) -> None:
    chosen = {"KCPG_STATE_DIR": str(tmp_path / "state")}
    assert find_directory(chosen) == tmp_path / "state"
    lasting = {**chosen, "STATE_DIRECTORY": str(tmp_path / "lib")}
    assert find_directory(lasting) == tmp_path / "lib"
