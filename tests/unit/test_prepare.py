"""packaging/prepare: what is missing is installed as root, and named with the exact command otherwise."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

PREPARE = Path(__file__).resolve().parents[2] / "packaging" / "prepare"

# A machine in a directory: whether it has a thing is whether a file of that name lies there.
COMMANDS = {
    "python3": """
        case "$*" in
            *ensurepip*) test -e {home}/venv ;;
            *Python.h*) test -e {home}/headers ;;
            *version_info\\ \\<*) test ! -e {home}/old ;;
            *realpath*) cat {home}/interpreter ;;
            *%d.%d*) echo python3.12 ;;
            *libIPSec_MB*) test -e {home}/ipsec ;;
            -V) echo Python 3.9.2 ;;
            *) exit 64 ;;
        esac""",
    "readlink": "echo /usr/bin/python3.11",
    "id": "cat {home}/uid",
    "uname": "cat {home}/machine",
    "apt-cache": "test -e {home}/offers-ipsec",
    "cc": "cat >/dev/null; test -e {home}/cc-works",
    "apt-get": """
        echo "$*" >>{home}/apt
        echo Get:1 http://deb.example bookworm InRelease; echo debconf: unable to initialize >&2
        case "$(cat {home}/fails)" in "$1") echo E: no such package >&2; exit 100 ;; esac
        case "$1" in install) touch {home}/venv {home}/headers {home}/cc-works ;; esac""",
}


class Machine:
    """A pretended machine with everything installed, a plain user, and the distribution's python3."""

    def __init__(self, home: Path) -> None:
        self.home = home
        for name, body in COMMANDS.items():
            path = home / name
            path.write_text("#!/bin/sh\n" + body.format(home=home) + "\n")
            path.chmod(0o755)
        for tool in ("sh", "sort", "tr", "cat", "touch", "rm", "chmod"):
            found = shutil.which(tool)
            assert found is not None
            (home / tool).symlink_to(found)
        for has in ("venv", "headers", "cc-works", "ipsec", "offers-ipsec"):
            (home / has).touch()
        (home / "uid").write_text("1000\n")
        (home / "machine").write_text("x86_64\n")
        (home / "fails").touch()
        (home / "interpreter").write_text("/usr/bin/python3.11\n")

    def lacks(self, *things: str) -> None:
        for thing in things:
            (self.home / thing).unlink()

    def prepare(self, python: str = "python3", **environ: str) -> tuple[int, str]:
        done = subprocess.run(
            ["/bin/sh", str(PREPARE), python],
            env={"PATH": str(self.home), "POLICY": str(self.home / "policy"), **environ},
            capture_output=True,
            text=True,
            check=False,
        )
        assert not done.stdout, "only stderr is for people here"
        return done.returncode, done.stderr

    @property
    def installed(self) -> str:
        log = self.home / "apt"
        return log.read_text() if log.exists() else ""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_complete_machine_is_left_alone(machine: Machine) -> None:
    assert machine.prepare() == (0, "")
    assert not machine.installed


def test_a_compiler_may_be_several_words(machine: Machine) -> None:
    assert machine.prepare(CC="cc -pipe") == (0, "")


def test_a_user_gets_the_exact_command(machine: Machine) -> None:
    machine.lacks("venv", "headers", "cc", "cc-works")
    code, text = machine.prepare()
    assert code == 1
    assert "sudo apt-get install -y gcc libc6-dev python3-dev python3-venv" in text
    assert not machine.installed


def test_without_a_compiler_the_plain_engine_is_offered(machine: Machine) -> None:
    machine.lacks("cc", "cc-works")
    code, text = machine.prepare()
    assert code == 1 and "KCPG_ENGINE=python" in text
    assert machine.prepare(KCPG_ENGINE="python") == (0, "")


def test_root_gets_it_installed(machine: Machine) -> None:
    machine.lacks("venv", "headers")
    (machine.home / "uid").write_text("0\n")
    code, text = machine.prepare()
    assert code == 0
    assert "install -y -q --no-install-recommends python3-dev python3-venv" in machine.installed
    assert text == "kcpg set-up: installing python3-dev python3-venv \n", "what apt says is not for people"


@pytest.mark.parametrize("step", ["update", "install"])
def test_what_apt_said_is_shown_where_it_fails(machine: Machine, step: str) -> None:
    machine.lacks("venv")
    (machine.home / "uid").write_text("0\n")
    (machine.home / "fails").write_text(step)
    code, text = machine.prepare()
    assert code == 100
    assert "Get:1" in text and "debconf" in text and "E: no such package" in text
    assert not (machine.home / "policy").exists()


def test_without_a_network_the_faster_cipher_is_not_offered(machine: Machine) -> None:
    machine.lacks("ipsec", "offers-ipsec")
    (machine.home / "uid").write_text("0\n")
    (machine.home / "fails").write_text("update")
    assert machine.prepare() == (0, "")


def test_an_interpreter_beside_the_distributions_has_its_own_packages(machine: Machine) -> None:
    machine.lacks("venv", "headers")
    (machine.home / "interpreter").write_text("/usr/bin/python3.12\n")
    assert "python3.12-dev python3.12-venv" in machine.prepare()[1]


def test_an_old_python_is_named_with_the_way_out(machine: Machine) -> None:
    (machine.home / "old").touch()
    code, text = machine.prepare()
    assert code == 1
    assert "3.11 or newer" in text and "3.9.2" in text and "PYTHON=" in text


def test_no_python_at_all(machine: Machine) -> None:
    code, text = machine.prepare("python3.99")
    assert code == 1 and "apt-get install" in text


def test_a_user_hears_of_the_faster_cipher_and_goes_on(machine: Machine) -> None:
    machine.lacks("ipsec")
    code, text = machine.prepare()
    assert code == 0 and not machine.installed
    assert "sudo apt-get install -y libipsec-mb1" in text
    assert machine.prepare(KCPG_ENGINE="python") == (0, "")


def test_root_gets_the_faster_cipher(machine: Machine) -> None:
    machine.lacks("ipsec", "venv")
    (machine.home / "uid").write_text("0\n")
    assert machine.prepare()[0] == 0
    updates, *installs = machine.installed.splitlines()
    assert updates == "update" and all(line.startswith("install ") for line in installs)
    assert machine.installed.endswith("install -y -q --no-install-recommends libipsec-mb1\n")


@pytest.mark.parametrize("why", ["another processor", "not offered"])
def test_nothing_is_said_where_there_is_no_faster_cipher(machine: Machine, why: str) -> None:
    machine.lacks("ipsec")
    if why == "not offered":
        machine.lacks("offers-ipsec")
    else:
        (machine.home / "machine").write_text("aarch64\n")
    assert machine.prepare() == (0, "")
    (machine.home / "uid").write_text("0\n")
    assert machine.prepare()[0] == 0
    assert "install" not in machine.installed
