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
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from kcpg import __version__
from kcpg.app.config.keys import KEYS
from kcpg.app.parsers import DRAIN_S
from kcpg.app.service import WATCHDOG_SHARE
from kcpg.app.workers.supervisor import CLOSE_LIMIT_S
from kcpg.errors import EXIT_USAGE
from tests.needs import needs
from tests.net import processes

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


def test_every_dependency_is_locked_by_hashes() -> None:
    """What pip would install for any list in pyproject.toml has one release, which the list permits."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    wanted = [Requirement(text) for text in project["build-system"]["requires"]]
    wanted += map(Requirement, project["project"]["dependencies"])
    for more in project["project"]["optional-dependencies"].values():
        wanted += map(Requirement, more)
    text = (ROOT / "packaging" / "lock.txt").read_text("utf-8")
    blocks = re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)
    locked: dict[str, list[str]] = {}
    for block in blocks[1:]:
        name, _, version = block.split(" ", 1)[0].partition("==")
        locked.setdefault(name, []).append(version)
        assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}", block)) >= 1, name
    for one in wanted:
        versions = locked[canonicalize_name(one.name)]
        assert all(version in one.specifier for version in versions), f"{one}: packaging/lock"
    assert "export KCPG_LOCK=packaging/lock.txt" in (ROOT / ".ci" / "run").read_text("utf-8")


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


OPENRC = """
ebegin() { :; }
eend() { return "$1"; }
checkpath() { mkdir -m "$3" -p "$4"; }
KCPG=$1 KCPG_CONFIG=$2
. "$3"
export KCPG_STATE_DIR=$4
start_pre && start && status && reload && stop && ! status
"""

PROCD = """
procd_open_instance() { :; }
procd_close_instance() { :; }
procd_set_param() { echo "$@"; }
. "$1"
KCPG=$2 CONFIG=$3
start_service
"""


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """kcpg as one program."""
    file = tmp_path / "kcpg"
    file.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m kcpg "$@"\n')
    file.chmod(0o755)
    return file


@pytest.fixture
def configurations(tmp_path: Path) -> Path:
    """A directory of them."""
    directory = tmp_path / "etc"
    directory.mkdir()
    (port,) = processes.free_ports(1)
    text = "mode=server\ndestination_address=127.0.0.1\ndestination_port=9\nencryption_algorithm=AES-GCM\n"
    (directory / "a.conf").write_text(f"{text}listen_port={port}\nencryption_password=unguessable-77\n")
    (directory / "a.conf").chmod(0o600)
    return directory


def test_openrc_starts_reloads_and_stops_it(tmp_path: Path, command: Path, configurations: Path) -> None:
    words = [
        "sh",
        "-c",
        OPENRC,
        "sh",
        command,
        configurations,
        ROOT / "packaging" / "openrc",
        tmp_path / "state",
    ]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr
    for word in (
        "no problems",
        "started, pid",
        "running, pid",
        "nothing has changed",
        "stopped",
        "not running",
    ):
        assert word in done.stdout


def test_procd_runs_the_program_that_there_is(command: Path, configurations: Path) -> None:
    words = ["sh", "-c", PROCD, "sh", ROOT / "packaging" / "procd", command, configurations]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=60)
    assert f"command {command} {configurations}" in done.stdout, done.stdout + done.stderr
    limit = re.search(r"^term_timeout (\d+)$", done.stdout, re.MULTILINE)
    assert limit is not None and int(limit[1]) > DRAIN_S + CLOSE_LIMIT_S
    (configurations / "b.conf").write_text("mode=nothing\n")
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "command" not in done.stdout, "a wrong configuration starts nothing"


def test_a_container_has_time_to_end() -> None:
    compose = (ROOT / "packaging" / "docker" / "compose.yaml").read_text("utf-8")
    limit = re.search(r"stop_grace_period: (\d+)s", compose)
    assert limit is not None and int(limit[1]) > DRAIN_S + CLOSE_LIMIT_S
    image = (ROOT / "packaging" / "docker" / "Dockerfile").read_text("utf-8")
    assert "USER kcpg" in image and re.search(r'HEALTHCHECK .*"daemon", "status"', image)
