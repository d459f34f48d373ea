"""Edits of a file of users leave everything else as it is."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kcpg.app import userfile
from kcpg.errors import KcpgError

TEXT = """# Ours
server=vpn.example.org

# The boss
[ann]
public_key=AAA
expires=2030-01-01

# From next door
[ben]
public_key=BBB  # not a remark
"""


def test_a_new_user_stands_at_the_end() -> None:
    assert userfile.added("", "ann", {"public_key": "A"}) == "[ann]\npublic_key=A\n"
    grown = userfile.added(TEXT.rstrip("\n"), "carl", {"public_key": "C", "max_links": "2"})
    assert grown == TEXT + "\n[carl]\npublic_key=C\nmax_links=2\n"


def test_a_users_section_goes_with_its_own_lines_alone() -> None:
    assert userfile.removed(TEXT, "ann") == TEXT.replace("[ann]\npublic_key=AAA\nexpires=2030-01-01\n", "")
    without = userfile.removed(TEXT, "ben")
    assert userfile.names(without) == ["ann"] and "# From next door" in without
    assert userfile.removed(TEXT, "nobody") == TEXT


def test_another_key() -> None:
    assert userfile.changed(TEXT, "ann", "public_key", "XXX") == TEXT.replace("AAA", "XXX")
    assert userfile.changed("[ann]\n", "ann", "public_key", "X") == "[ann]\npublic_key=X\n"
    twice = "[ann]\npublic_key=A\npublic_key=B\n"
    assert userfile.changed(twice, "ann", "public_key", "X") == "[ann]\npublic_key=X\n"


def test_a_section_to_be_shown() -> None:
    assert userfile.section(TEXT, "ann") == "[ann]\npublic_key=AAA\nexpires=2030-01-01\n"
    assert userfile.section(TEXT, "nobody") == ""


def test_where_the_node_is_found() -> None:
    assert userfile.with_server(TEXT, "other:1") == TEXT.replace("vpn.example.org", "other:1")
    made = userfile.with_server("[ann]\nserver=x\n", "here")
    assert made.endswith("server=here\n[ann]\nserver=x\n")


NAMES = st.lists(st.text("abcdef", min_size=1, max_size=4), unique=True, min_size=1, max_size=5)


@given(NAMES, st.data())
def test_adding_and_removing_leaves_what_was_there(names: list[str], data: st.DataObject) -> None:
    text = TEXT
    for name in names:
        text = userfile.added(text, f"x{name}", {"public_key": name})
    assert userfile.names(text) == ["ann", "ben", *(f"x{name}" for name in names)]
    for name in data.draw(st.permutations(names)):
        text = userfile.removed(text, f"x{name}")
    assert text.rstrip() == TEXT.rstrip()


def test_a_file_keeps_its_mode_and_is_never_half_written(tmp_path: Path) -> None:
    file = tmp_path / "users.conf"
    userfile.write(file, "one")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(file)
    userfile.write(link, "two")
    assert link.is_symlink() and file.read_text() == "two" and stat.S_IMODE(file.stat().st_mode) == 0o640
    assert sorted(os.listdir(tmp_path)) == ["link", "users.conf"]
    with pytest.raises(KcpgError, match="cannot write"):
        userfile.write(tmp_path / "no" / "file", "three")


def test_only_one_at_a_time(tmp_path: Path) -> None:
    with userfile.alone(tmp_path):
        fd = os.open(tmp_path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)
    with pytest.raises(KcpgError, match="cannot open"), userfile.alone(tmp_path / "no"):
        pass
