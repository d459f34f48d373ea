"""harness/prepare installs what is missing, and no server that a machine would then run for ever."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

PREPARE = Path(__file__).resolve().parents[2] / "harness" / "prepare"

PROGRAMS = (
    *("ip", "tc", "nft", "ethtool", "ping", "unshare", "iperf3", "tcpdump", "dnsmasq", "curl", "ssh"),
    "valgrind",
)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Everything but sshd is installed; apt-get notes what it is told, and whether services may start."""
    for name in PROGRAMS:
        (tmp_path / name).symlink_to("/bin/true")
    for tool in ("sort", "tr", "rm", "chmod", "cat", "touch"):
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / tool).symlink_to(found)
    (tmp_path / "id").write_text(f"#!/bin/sh\ncat {tmp_path}/uid\n")
    (tmp_path / "uid").write_text("0\n")
    install = f'[ "$1" = install ] && touch {tmp_path}/sshd && chmod 755 {tmp_path}/sshd'
    policy = f"{tmp_path}/policy; echo services: $? >>{tmp_path}/apt"
    (tmp_path / "apt-get").write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/apt\n{policy}\n{install}\nexit 0\n')
    for name in ("id", "apt-get"):
        (tmp_path / name).chmod(0o755)
    return tmp_path


def prepare(machine: Path, **environ: str) -> tuple[int, str]:
    """The exit code, and what apt-get was told."""
    # The real /usr/sbin comes last in the script's own path and would hide what is missing.
    script = PREPARE.read_text().replace(":/usr/sbin:/sbin", "")
    text = machine / "prepare"
    text.write_text(script)
    done = subprocess.run(
        ["/bin/sh", str(text)],
        env={"PATH": str(machine), "POLICY": str(machine / "policy"), **environ},
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


def test_valgrind_is_wanted_where_its_test_must_not_be_skipped(machine: Path) -> None:
    (machine / "valgrind").unlink()
    assert prepare(machine, SYSTEMD=str(machine)) == (0, "")
    assert "openssh-server valgrind" in prepare(machine, SYSTEMD=str(machine), CI="true")[1]


def test_a_user_gets_the_exact_command(machine: Path) -> None:
    (machine / "uid").write_text("1000\n")
    (machine / "nft").unlink()
    assert prepare(machine, SYSTEMD="/") == (1, "")
