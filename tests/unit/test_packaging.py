"""The numbers of the service file are those of the program."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from kcpg import __version__
from kcpg.app.config.keys import KEYS
from kcpg.app.parsers import DRAIN_S
from kcpg.app.service import WATCHDOG_SHARE
from kcpg.app.workers.supervisor import CLOSE_LIMIT_S
from kcpg.errors import EXIT_USAGE
from tests.needs import needs

ROOT = Path(__file__).parents[2]
SERVICE = (ROOT / "packaging" / "kcpg@.service").read_text("utf-8")
LIMITS = (ROOT / "docs" / "limits.md").read_text("utf-8")

SPARE_DESCRIPTORS = 1000  # For listening ports, links and the log


def setting(name: str) -> int:
    """A number that the service file sets."""
    (text,) = re.findall(rf"^{name}=(\d+)$", SERVICE, re.MULTILINE)
    return int(text)


def test_descriptors_suffice_for_the_default_number_of_flows() -> None:
    most_flows = KEYS["max_flows"].default
    assert isinstance(most_flows, int) and str(most_flows) in SERVICE
    assert setting("LimitNOFILE") >= most_flows + SPARE_DESCRIPTORS
    assert "A flow takes one descriptor" in SERVICE
    assert "Each flow of a client or a server is one descriptor" in LIMITS


def test_the_service_manager_waits_for_flows_and_workers() -> None:
    assert f"flows get {DRAIN_S:.0f} s" in SERVICE and f"another {CLOSE_LIMIT_S:.0f} s" in SERVICE
    assert setting("TimeoutStopSec") > DRAIN_S + CLOSE_LIMIT_S


def test_a_wrong_configuration_is_not_retried() -> None:
    assert setting("RestartPreventExitStatus") == EXIT_USAGE


EXPOSED_LEAST = 2.0  # Below it, systemd-analyze finds little that a break-in could reach

_MDWE = """
import ctypes, runpy, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) != 0:  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN
    sys.exit(77)
sys.argv = ["kcpg", "--version"]
runpy.run_module("kcpg", run_name="__main__")
"""


def test_little_of_the_machine_is_open_to_a_node_that_was_broken_into(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip(needs("systemd-analyze", "apt-get install systemd"))
    unit = tmp_path / "kcpg@.service"
    unit.write_text(SERVICE)
    words = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    done = subprocess.run(words, capture_output=True, text=True)
    if "unrecognized option" in done.stderr:
        pytest.skip(needs("a systemd-analyze that has --offline", "systemd 250 or newer"))
    found = re.search(r"Overall exposure level for .*: ([0-9.]+) ", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) < EXPOSED_LEAST, done.stdout


def test_kcpg_runs_where_no_memory_becomes_executable() -> None:
    """MemoryDenyWriteExecute=: neither the engine nor the ciphers need such memory."""
    assert "MemoryDenyWriteExecute=yes" in SERVICE
    done = subprocess.run([sys.executable, "-c", _MDWE], cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("this kernel has no PR_SET_MDWE")
    assert done.returncode == 0 and "AES-GCM" in done.stdout, done.stderr


def test_the_state_directory_of_the_service_is_one_that_kcpg_takes() -> None:
    assert "Environment=KCPG_STATE_DIR=/run/kcpg-%i" in SERVICE and "RuntimeDirectory=kcpg-%i" in SERVICE
    assert "RuntimeDirectoryMode=0700" in SERVICE


def test_the_unit_waits_until_the_node_is_ready_and_watches_it() -> None:
    assert re.search("^Type=notify-reload$", SERVICE, re.MULTILINE)
    assert setting("WatchdogSec") > WATCHDOG_SHARE


def test_the_version_stands_in_one_place() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "kcpg.__version__"}
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    newest = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", changelog, re.MULTILINE)[0]
    assert newest == __version__, "the changelog's first section is that of the sources"
    for minor in re.findall(r"Python :: 3\.(\d+)", str(project["project"]["classifiers"])):
        assert int(minor) >= int(project["project"]["requires-python"].partition(".")[2])


def test_wheels_are_built_for_what_the_release_page_says() -> None:
    targets = set(runpy.run_path(str(ROOT / "packaging" / "wheels"))["TARGETS"])
    assert targets == {"x86_64-gnu", "aarch64-gnu", "x86_64-musl", "aarch64-musl"}
    makefile = (ROOT / "Makefile").read_text("utf-8")
    (line,) = re.findall(r"^WHEEL_TARGETS \?= (.*)$", makefile, re.MULTILINE)
    assert set(line.split()) == targets


def test_the_site_has_every_document() -> None:
    nav = set(re.findall(r"[\w/]+\.md", (ROOT / "mkdocs.yml").read_text("utf-8")))
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert nav == {page for page in pages if not page.startswith("adr/")}
