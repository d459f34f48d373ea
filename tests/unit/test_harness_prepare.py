"""harness/prepare installs what is missing, and no server that a machine would then run for ever."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PREPARE = ROOT / "harness" / "prepare"
APT = ROOT / "packaging" / "apt"

PROGRAMS = (
    *("ip", "tc", "nft", "ethtool", "ping", "unshare", "iperf3", "tcpdump", "dnsmasq", "curl", "ssh"),
    *("valgrind", "linux.uml", "modprobe", "kcptun-client", "zsh", "fish", "groff", "chromium"),
)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Everything but sshd is installed; apt-get notes what it is told, and whether services may start."""
    for name in PROGRAMS:
        (tmp_path / name).symlink_to("/bin/true")
    for tool in ("sh", "sort", "tr", "rm", "chmod", "cat", "touch"):
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / tool).symlink_to(found)
    (tmp_path / "id").write_text(f"#!/bin/sh\ncat {tmp_path}/uid\n")
    (tmp_path / "uid").write_text("0\n")
    (tmp_path / "uname").write_text("#!/bin/sh\necho x86_64\n")
    install = f'[ "$1" = install ] && touch {tmp_path}/sshd && chmod 755 {tmp_path}/sshd'
    policy = f"{tmp_path}/policy; echo services: $? >>{tmp_path}/apt"
    (tmp_path / "apt-get").write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/apt\n{policy}\n{install}\nexit 0\n')
    for name in ("id", "uname", "apt-get"):
        (tmp_path / name).chmod(0o755)
    return tmp_path


def prepare(machine: Path, *words: str, **environ: str) -> tuple[int, str]:
    """The exit code, and what apt-get was told."""
    # The real /usr/sbin comes last in the script's own path and would hide what is missing.
    script = PREPARE.read_text().replace(":/usr/sbin:/sbin", "")
    text = machine / "prepare"
    text.write_text(script)
    done = subprocess.run(
        ["/bin/sh", str(text), *words],
        env={"PATH": str(machine), "POLICY": str(machine / "policy"), "APT": str(APT), **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    log = machine / "apt"
    return done.returncode, log.read_text() if log.exists() else ""


def test_no_ssh_server_where_systemd_would_start_it(machine: Path) -> None:
    assert prepare(machine, SYSTEMD=str(machine)) == (0, "")


@pytest.mark.parametrize("environ", [{"CI": "true", "SYSTEMD": "/"}, {"SYSTEMD": "/nowhere"}])
def test_an_ssh_server_is_installed_without_being_started(machine: Path, environ: dict[str, str]) -> None:
    code, told = prepare(machine, **environ)
    assert code == 0
    assert "install -y -q --no-install-recommends openssh-server" in told
    assert "services: 101" in told, "invoke-rc.d(8): 101 is no"
    assert not (machine / "policy").exists()
    assert prepare(machine, **environ) == (0, told), "nothing is missing any more"


def test_what_single_tests_need_is_installed_for_them(machine: Path) -> None:
    for name in ("valgrind", "linux.uml"):
        (machine / name).unlink()
    nowhere = {"SYSTEMD": str(machine)}
    assert prepare(machine, **nowhere) == (0, ""), "only tests need it"
    code, told = prepare(machine, "test", **nowhere)
    assert code == 0
    assert re.findall(r"^install .* (\S+)$", told, re.MULTILINE) == ["user-mode-linux", "valgrind"]


def test_a_stun_server_follows_the_same_rule_as_the_ssh_server(machine: Path) -> None:
    assert prepare(machine, "test", SYSTEMD=str(machine)) == (0, "")
    assert "coturn" in prepare(machine, "test", SYSTEMD="/nowhere")[1]


def test_what_a_distribution_does_not_have_is_no_failure(machine: Path) -> None:
    """Each is asked for by itself: one that is unknown would keep the others out."""
    for name in ("valgrind", "linux.uml"):
        (machine / name).unlink()
    apt = machine / "apt-get"
    apt.write_text(apt.read_text().replace("exit 0\n", 'case "$*" in *valgrind) exit 100 ;; esac\n'))
    code, told = prepare(machine, "test", SYSTEMD=str(machine))
    assert code == 0 and "user-mode-linux" in told and "valgrind" in told


def test_a_user_gets_the_exact_command(machine: Path) -> None:
    (machine / "uid").write_text("1000\n")
    (machine / "nft").unlink()
    assert prepare(machine, SYSTEMD="/") == (1, "")
