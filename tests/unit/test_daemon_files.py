"""Lock, state directory and names of a daemon."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kcpg.app import instances, paths
from kcpg.app.lock import PidLock, holder, named_holder, names
from kcpg.errors import KcpgError
from tests.needs import needs
from tests.unit.config_texts import SERVER

HOLD = """
import sys
from pathlib import Path
from kcpg.app.lock import PidLock
lock = PidLock(Path(sys.argv[1]))
if not lock.acquire():
    sys.exit("somebody has it")
lock.write_pid()
print("held", flush=True)
sys.stdin.read()
"""

BEFORE_FORK = """
import sys
from pathlib import Path
from gevent import monkey
monkey.patch_all()
from kcpg.app import daemon, lock, paths
from gevent._hub_local import get_hub_if_exists
loaded = daemon.read([Path(sys.argv[1])])
one = lock.PidLock(Path(sys.argv[1]).with_suffix(".pid"), sys.argv[1][-40:])
print(loaded.ok and one.acquire(), get_hub_if_exists())
"""

LET_GO = """
import os, sys
from kcpg.app import daemon, descriptors
descriptors._LIST = sys.argv[1]
ours = os.dup(1)
kept, gone = os.pipe()
daemon._let_go({ours, kept})
def open_still(fd):
    try:
        return bool(os.fstat(fd))
    except OSError:
        return False
os.write(ours, f"{open_still(kept)} {open_still(gone)}".encode())
"""

SQUAT = """
import os, socket, sys
os.setuid(65534)
sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
sock.bind("\\0" + sys.argv[1])
sock.listen()
print("taken", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("listing", ["/proc/self/fd", "/nonexistent"])
def test_a_daemon_lets_go_of_its_callers_descriptors(listing):
    """Where /proc is mounted, and where it is not."""
    argv = [sys.executable, "-c", LET_GO, listing]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == "True False", done.stderr


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


def test_a_name_holds_where_the_files_are_gone_or_others(tmp_path):
    name = f"test-{tmp_path.name}-{os.getpid()}"
    one = PidLock(tmp_path / "a.pid", name)
    assert one.acquire() and named_holder(name) == os.getpid()
    one.path.unlink()
    assert not PidLock(tmp_path / "a.pid", name).acquire(), "the directory was wiped"
    assert not PidLock(tmp_path / "b.pid", name).acquire(), "another HOME"
    assert name in names()
    one.release()
    assert named_holder(name) is None and name not in names()
    again = PidLock(tmp_path / "b.pid", name)
    assert again.acquire()
    again.release()


@pytest.mark.skipif(os.geteuid() != 0, reason=needs("root to act as another user", "run it as root"))
def test_a_name_that_another_user_took_holds_up_nobody(tmp_path):
    name = f"test-{tmp_path.name}-{os.getpid()}"
    command = [sys.executable, "-c", SQUAT, f"kcpg-0-{name}"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == b"taken\n"
        lock = PidLock(tmp_path / "a.pid", name)
        assert named_holder(name) is None
        assert lock.acquire()
        lock.release()
    finally:
        child.kill()
        child.communicate()


def test_a_number_left_behind_that_another_process_has_is_not_running(tmp_path):
    file = tmp_path / "a.pid"
    file.write_text(f"{os.getpid()}\n")
    assert holder(file) is None


def test_no_event_loop_exists_when_a_daemon_forks(tmp_path):
    """Two processes would share it, and the daemon would hang."""
    file = tmp_path / "server.conf"
    file.write_text(SERVER)
    command = [sys.executable, "-c", BEFORE_FORK, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == "True None\n", done.stderr


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
    assert paths.state_directory(env) == made


@pytest.mark.parametrize("mode", [0o1777, 0o755, 0o710, 0o701])
def test_a_chosen_directory_that_others_may_enter_is_refused_and_stays_as_it_is(tmp_path, mode):
    """/tmp, for example: a mode of 0700 there would stop everybody else."""
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    chosen.chmod(mode)
    with pytest.raises(KcpgError, match=f"has mode {mode:04o}.*KCPG_STATE_DIR"):
        paths.state_directory({"KCPG_STATE_DIR": str(chosen)})
    assert stat.S_IMODE(chosen.stat().st_mode) == mode
    assert not list(chosen.iterdir())


def test_a_directory_of_its_own_name_becomes_private(monkeypatch, tmp_path):
    """A copy from a backup, for example, that a umask has opened."""
    own = tmp_path / ".local/state/kcpg"
    own.mkdir(parents=True)
    own.chmod(0o755)
    monkeypatch.setattr(paths, "_candidates", lambda: [own])
    assert paths.state_directory({}) == own
    assert stat.S_IMODE(own.stat().st_mode) == 0o700


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
    monkeypatch.setattr(paths, "RUN_DIRECTORY", tmp_path / "run")
    monkeypatch.setattr(paths, "_home_of", lambda uid: str(tmp_path))
    by_cron = paths.state_directory({})
    assert by_cron in (tmp_path / ".local/state/kcpg", tmp_path / "run/kcpg")
    assert paths.state_directory({"HOME": "/", "XDG_RUNTIME_DIR": "/run/user/12345"}) == by_cron
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert paths._candidates() == [tmp_path / ".local/state/kcpg", Path("/tmp/kcpg-12345")]


def test_processes_of_units_are_found_unless_a_state_directory_was_chosen(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "RUN_DIRECTORY", tmp_path)
    monkeypatch.setattr(paths, "_home_of", lambda uid: "/")
    monkeypatch.setattr(paths, "state_directory", lambda environ: tmp_path / "own")
    unit = tmp_path / "kcpg-client"
    unit.mkdir()
    (unit / "client-1234.pid").touch()
    assert paths.foreign_instances({}) == [paths.Instance("client-1234", unit, unit / "client-1234.log")]
    assert paths.foreign_instances({"KCPG_STATE_DIR": str(tmp_path)}) == []


def test_a_directory_stands_for_its_files(tmp_path):
    for name in ("b.conf", "a.conf", "notes.txt"):
        (tmp_path / name).touch()
    given = [tmp_path / "b.conf", tmp_path, Path("gone.conf")]
    assert [file.name for file in instances.expand(given)] == ["b.conf", "a.conf", "b.conf", "gone.conf"]
    assert len(instances.real(instances.expand(given))) == 3
    (tmp_path / "empty").mkdir()
    with pytest.raises(KcpgError, match=r"empty: the directory holds no \*\.conf"):
        instances.expand([tmp_path / "empty"])


def test_what_a_process_runs_and_leaves_out_is_written_down(tmp_path):
    one = paths.Instance("x", tmp_path, tmp_path / "x.log")
    odd = tmp_path / os.fsdecode(b"a\nb\xff.conf")
    instances.note(one, [odd, odd, tmp_path / "b.conf"])
    assert instances._files(one) == (str(odd), str(tmp_path / "b.conf"))
    instances.leave_out(one, [str(odd)])
    instances.leave_out(one, ["/b"])
    assert instances.left_out(one) == {str(odd), "/b"}
    instances.take_in(one, [str(odd)])
    assert instances.left_out(one) == {"/b"}
    instances.forget(one)
    assert not list(tmp_path.iterdir())
