"""`kcpg doctor`: each check on a good and on a bad machine."""

from __future__ import annotations

import resource
import subprocess
from pathlib import Path

import pytest

from kcpg.app import doctor
from kcpg.app.doctor import Finding
from tests.net import processes


@pytest.mark.parametrize(
    ("finding", "ok", "says", "do"),
    [
        (doctor.check_engine("compiled"), True, "compiled", ""),
        (doctor.check_engine("python"), False, "fraction of the speed", "C compiler"),
        (doctor.check_cipher("ipsec-mb 1.3.0", "x86_64"), True, "ipsec-mb", ""),
        (doctor.check_cipher("OpenSSL 3.0.19", "x86_64"), False, "a third", "libipsec-mb1"),
        (doctor.check_cipher("OpenSSL 3.0.19", "aarch64"), True, "OpenSSL", ""),
        (doctor.check_buffers(4 << 20, 4 << 20), True, "4096 KiB", ""),
        (doctor.check_buffers(212_992, 4 << 20), False, "208 KiB to receive", "net.core.rmem_max=4194304"),
        (doctor.check_offload(True, True), True, "GRO", ""),
        (doctor.check_offload(False, True), False, "no segmentation:", "KCPG_OFFLOAD"),
        (doctor.check_descriptors(resource.RLIM_INFINITY), True, "no limit", ""),
        (doctor.check_descriptors(1024), False, "1024", "ulimit -n"),
        (doctor.check_clock(0x2001), True, "kept right", ""),
        (doctor.check_clock(0x40), False, "nothing keeps it right", "timedatectl"),
        (doctor.check_clock(None), True, "nobody can tell", ""),
        (doctor.check_mtu("way to x", 1500, None), True, "1500", ""),
        (doctor.check_mtu("way to x", 1420, None), True, "less than the usual 1500", ""),
        (doctor.check_mtu("way to x", 1420, 1500), False, "the interface takes 1420", "mtu=1420"),
    ],
)
def test_a_check_and_what_to_type(finding: Finding, ok: bool, says: str, do: str) -> None:
    assert finding.ok == ok
    assert says in finding.text
    assert do in finding.do and bool(finding.do) == (not ok)


def test_connection_tracking(tmp_path: Path) -> None:
    assert list(doctor.check_conntrack(tmp_path)) == [], "no firewall, no finding"
    for name, number in (("count", 100), ("max", 1000), ("udp_timeout", 30)):
        (tmp_path / f"nf_conntrack_{name}").write_text(f"{number}\n")
    assert [finding.ok for finding in doctor.check_conntrack(tmp_path)] == [True]
    (tmp_path / "nf_conntrack_count").write_text("801\n")
    (tmp_path / "nf_conntrack_udp_timeout").write_text("10\n")
    full, short = doctor.check_conntrack(tmp_path)
    assert not full.ok and full.do.endswith("nf_conntrack_max=2000")
    assert not short.ok and "after 10 s" in short.text


def test_drops_of_the_kernel(tmp_path: Path) -> None:
    file = tmp_path / "snmp"
    assert list(doctor.check_drops(file)) == []
    head = "Tcp: RtoAlgorithm\nTcp: 1\nUdp: InDatagrams NoPorts RcvbufErrors SndbufErrors\n"
    file.write_text(f"{head}Udp: 1000000 5 10 0\n")
    assert next(doctor.check_drops(file)).ok
    file.write_text(f"{head}Udp: 1000000 5 900 200\n")
    (bad,) = doctor.check_drops(file)
    assert not bad.ok and "1100 of 1000000" in bad.text


def test_the_clock_of_this_machine_is_read_like_adjtimex_says() -> None:
    status = doctor._clock_status()
    assert status is None or 0 <= status < 1 << 16


def test_the_command_looks_at_this_machine_and_at_the_way_to_a_peer(tmp_path: Path) -> None:
    file = tmp_path / "client.conf"
    file.write_text(
        "mode=client\nlisten_port=59000\ndestination_address=127.0.0.1,host.invalid\ndestination_port=3000\n"
        "encryption_password=x\nencryption_algorithm=AES-GCM\n"
    )
    done = processes.call(tmp_path / "state", "doctor", file)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "ok    way to 127.0.0.1: packets of 655" in done.stdout
    assert "BAD   way to host.invalid: does not resolve" in done.stdout
    for what in (
        "engine",
        "cipher",
        "socket buffers",
        "UDP offload",
        "file descriptors",
        "clock",
        "state directory",
    ):
        assert f" {what}: " in done.stdout
    mended = done.stdout.count("BAD ")
    assert f"{mended} of these can be mended" in done.stdout


def test_a_machine_with_small_buffers_is_told_the_command(tmp_path: Path) -> None:
    """As a user who may not go beyond net.core.rmem_max."""
    limit = _number("/proc/sys/net/core/rmem_max")
    if limit >= doctor.BUFFER_BYTES:
        pytest.skip("this machine has large buffers")
    command = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-all", *processes.command("doctor")]
    done = subprocess.run(
        command,
        env=processes.environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=processes.PATIENCE_S,
    )
    assert f"BAD   socket buffers: {limit >> 10} KiB to receive" in done.stdout, done.stdout + done.stderr


def _number(file: str) -> int:
    return int(Path(file).read_text())
