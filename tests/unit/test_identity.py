"""Who a dialer is over its restarts: a file, this machine, and which of its dialers it is."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kcpg.app import identity
from kcpg.app.identity import FILE, dialer_identity

PRINT = """
import os, sys
from pathlib import Path
from kcpg.app.identity import dialer_identity
sys.stdin.read(1)
print(dialer_identity(Path("/a.conf"), "", 0, os.environ).hex())
"""


def of(directory: Path, file: str = "/a.conf", section: str = "", worker: int = 0) -> bytes:
    return dialer_identity(Path(file), section, worker, {"KCPG_STATE_DIR": str(directory)})


def test_it_outlives_the_process_and_is_for_its_owner_only(tmp_path):
    first = of(tmp_path)
    assert len(first) == 16 and of(tmp_path) == first
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == [FILE]


def test_every_dialer_has_its_own(tmp_path, monkeypatch):
    (tmp_path / "1").mkdir(mode=0o700)
    (tmp_path / "2").mkdir(mode=0o700)
    one = tmp_path / "1"
    found = [of(one), of(one, "/b.conf"), of(one, section="x"), of(one, worker=1), of(tmp_path / "2")]
    monkeypatch.setattr(identity, "_machine_id", lambda: b"the same disk in another machine")
    found.append(of(one))
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("broken", [b"", b"short", bytes(33)])
def test_a_broken_file_is_replaced(tmp_path, broken):
    (tmp_path / FILE).write_bytes(broken)
    first = of(tmp_path)
    assert len(first) == 16 and of(tmp_path) == first
    assert [file.name for file in tmp_path.iterdir()] == [FILE]


def test_processes_that_start_together_agree(tmp_path):
    environ = {**os.environ, "KCPG_STATE_DIR": str(tmp_path)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PRINT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environ,
        )
        for _ in range(4)
    ]
    answers = {one.communicate("x")[0] for one in started}
    assert len(answers) == 1 and len(answers.pop().strip()) == 32


def test_where_nothing_can_be_kept_a_dialer_tells_nothing(tmp_path):
    nowhere = tmp_path / "file"
    nowhere.write_text("")
    assert of(nowhere) == b""


def test_a_link_in_its_place_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_bytes(bytes(32))
    (tmp_path / FILE).symlink_to(tmp_path / "elsewhere")
    assert of(tmp_path) == b""


def test_systemds_directory_lasts_longer_than_the_one_for_the_state(tmp_path):
    run, lasting = tmp_path / "run", tmp_path / "lib"
    lasting.mkdir(mode=0o700)
    environ = {"KCPG_STATE_DIR": str(run), "STATE_DIRECTORY": f"{lasting}:/other"}
    assert len(dialer_identity(Path("/a.conf"), "", 0, environ)) == 16
    assert (lasting / FILE).exists() and not run.exists()
