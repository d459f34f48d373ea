"""Lock, state directory and names of a daemon."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kcpg.app import paths
from kcpg.app.lock import PidLock, holder
from kcpg.errors import KcpgError
from tests.needs import needs

HOLD = """
import sys
from pathlib import Path
from kcpg.app.lock import PidLock
lock = PidLock(Path(sys.argv[1]))
assert lock.acquire()
lock.write_pid()
print("held", flush=True)
sys.stdin.read()
"""


def test_lock_belongs_to_the_process_and_dies_with_it(tmp_path):
    file = tmp_path / "a.pid"
    assert holder(file) is None
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout.readline() == "held\n"
        assert holder(file) == child.pid
        assert not PidLock(file).acquire()
    finally:
        child.kill()
        child.communicate()
    assert file.read_text() == f"{child.pid}\n", "a crash leaves the file"
    assert holder(file) is None, "but not the lock"
    again = PidLock(file)
    assert again.acquire()
    again.write_pid()
    assert holder(file) == os.getpid()
    again.release()
    assert holder(file) is None and file.read_text() == ""


def test_a_number_left_behind_that_another_process_has_is_not_running(tmp_path):
    file = tmp_path / "a.pid"
    file.write_text(f"{os.getpid()}\n")
    assert holder(file) is None


def test_instance_is_the_set_of_files(tmp_path, monkeypatch):
    env = {"KCPG_STATE_DIR": str(tmp_path / "state")}
    (tmp_path / "a.conf").touch()
    (tmp_path / "link.conf").symlink_to(tmp_path / "a.conf")
    monkeypatch.chdir(tmp_path)
    one = paths.instance([tmp_path / "a.conf", tmp_path / "b.conf"], env)
    assert paths.instance([Path("b.conf"), Path("link.conf")], env) == one
    assert paths.instance([Path("a.conf")], env) != one
    assert one.name.startswith("a+b-")
    one.pid.touch()
    assert [found.name for found in paths.all_instances(env)] == [one.name]


def test_state_directory_is_private(tmp_path):
    env = {"KCPG_STATE_DIR": str(tmp_path / "deep" / "state")}
    made = paths.state_directory(env)
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    made.chmod(0o755)
    assert stat.S_IMODE(paths.state_directory(env).stat().st_mode) == 0o700


def test_state_directory_refuses_what_others_could_have_placed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(KcpgError, match="not a directory"):
        paths.state_directory({"KCPG_STATE_DIR": str(tmp_path / "link")})
    (tmp_path / "file").touch()
    with pytest.raises(KcpgError, match="KCPG_STATE_DIR"):
        paths.state_directory({"KCPG_STATE_DIR": str(tmp_path / "file")})


@pytest.mark.skipif(os.geteuid() != 0, reason=needs("root to give a directory away", "run it as root"))
def test_state_directory_of_another_user_is_refused(tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    with pytest.raises(KcpgError, match="another user"):
        paths.state_directory({"KCPG_STATE_DIR": str(theirs)})


def test_state_directory_does_not_depend_on_the_login(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr(paths, "_home_of", lambda uid: str(tmp_path))
    by_cron = paths._candidates({})
    assert by_cron == paths._candidates({"HOME": "", "XDG_RUNTIME_DIR": "/run/user/12345"})
    assert by_cron == paths._candidates({"HOME": str(tmp_path)})
    assert by_cron == [tmp_path / ".local/state/kcpg", Path("/tmp/kcpg-12345")]
