"""Who a process becomes, as far as it can be told without becoming it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from kcpg.app import privileges
from kcpg.app.config import load_text, load_texts
from kcpg.errors import StartError
from tests.unit.config_texts import QUIET_CLIENT, SERVER, errors


def test_a_user_by_name_and_by_number() -> None:
    by_name = privileges.identity("nobody")
    assert privileges.identity(str(by_name.uid)) == by_name
    assert by_name.gid in by_name.groups and by_name.uid != 0


def test_a_group_replaces_the_users_own() -> None:
    assert privileges.identity("nobody", "4321").gid == 4321
    assert 4321 in privileges.identity("nobody", "4321").groups


def test_a_number_that_no_list_has_needs_a_group() -> None:
    assert privileges.identity("4242424", "4321") == privileges.Identity(4242424, 4321, (4321,), "4242424")
    with pytest.raises(LookupError, match="needs a group"):
        privileges.identity("4242424")


def test_whoever_is_that_user_already_changes_nothing() -> None:
    mine = privileges.identity(str(os.getuid()), str(os.getgid()))
    assert mine.is_ours
    privileges.become(mine, reloads=False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can become anybody")
def test_only_root_can_become_somebody_else() -> None:
    with pytest.raises(StartError, match="only root can become user"):
        privileges.become(privileges.Identity(4242424, 4321, (4321,), "x"), reloads=False)


def test_a_process_that_carries_traffic_forbids_dumps_before_it_reads_a_secret() -> None:
    code = (
        "import resource; import kcpg.__main__; kcpg.__main__._before_tunnel();"
        "import ctypes; dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0);"
        "print(resource.getrlimit(resource.RLIMIT_CORE), dumpable)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "(0, 0) 0\n", done.stderr  # PR_GET_DUMPABLE


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ("user=nobody\n", []),
        ("user=nobody\ngroup=0\n", []),
        ("user=no-such-user-here\n", [(8, "user")]),
        ("user=nobody\ngroup=no-such-group-here\n", [(8, "user")]),
        ("user=4242424\n", [(8, "user")]),
        ("group=0\n", [(8, "group")]),
        ("user=a b\n", [(8, "user")]),
        ("user=../x\n", [(8, "user")]),
    ],
)
def test_users_in_a_configuration(more: str, found: list[tuple[int, str]]) -> None:
    assert errors(QUIET_CLIENT + more) == found


def test_root_is_no_user_to_become() -> None:
    (problem,) = load_text("c.conf", QUIET_CLIENT + "user=root\n").problems
    assert problem.key == "user" and "keeps all rights" in problem.reason


def test_the_files_of_a_process_agree_on_its_user() -> None:
    same = load_texts({"c.conf": QUIET_CLIENT + "user=nobody\n", "s.conf": SERVER + "user=nobody\n"})
    assert same.ok and {(node.user, node.group) for node in same.nodes} == {("nobody", "")}
    other = load_texts({"c.conf": QUIET_CLIENT + "user=nobody\n", "s.conf": SERVER})
    (problem,) = other.errors
    assert (problem.file, problem.key) == (
        "s.conf",
        "user",
    ) and "is not set here and nobody in" in problem.reason
