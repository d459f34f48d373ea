"""A listener behind a real NAT, which a real STUN server shows its outside."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.netns import Lab
from harness.topologies.nat import FIRST_PORT, PORTS, Nat, nat
from kcpg.net import addr
from kcpg.net.stun import Timing
from netem.profile import Impair, Profile
from tests.net import processes
from tests.net.emulation import lab
from tests.net.sockets import until
from tests.net.stunserver import run_coturn
from tests.net.test_public import SERVER, lines, recorder
from tests.net.test_stun import Rig

__all__ = ["lab"]

IMPAIR = Impair(delay_ns=10**6)
NEAR = Profile("near", "made for a test", ("chosen",), IMPAIR, IMPAIR)
QUICK = Timing(first_wait_s=0.2, last_wait_s=0.5, keep_s=0.1, keep_spread_s=0.01, retry_s=0.1)
STUN_PORT = 3478


@pytest.fixture
def behind(lab: Lab, tmp_path: Path) -> Iterator[Nat]:
    """The network of topologies/nat.py, coturn on its server's addresses."""
    with nat(lab, NEAR, backend="box") as topology:
        assert isinstance(topology, Nat)
        hosts = topology.links[1].far.addresses
        probe = topology.client.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with probe, run_coturn(tmp_path, hosts, STUN_PORT, probe, topology.server.command([])):
            yield topology


def split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def test_the_outside_is_found_kept_and_found_again(behind: Nat) -> None:
    v4, v6 = behind.links[1].far.addresses
    rows = {socket.AF_INET: (v4, 0), socket.AF_INET6: (v6, 0, 0, 0)}
    with behind.client.inside():
        rig = Rig("python", "")
    try:
        client = rig.ask("stun.example", STUN_PORT, lambda *a: [(a[2], 1, 6, "", rows[a[2]])], QUICK)
        until(lambda: len(client.public) == 2, "both families", 10)
        first = [split(address) for address in sorted(rig.found)]
        assert {host for host, _ in first} == set(behind.outer)
        assert all(FIRST_PORT <= port < FIRST_PORT + PORTS for _, port in first)
        low, high = behind.rebind()
        until(lambda: all(low <= addr.port(one) <= high for one in client.public), "both again", 20)
        assert {split(addr.text(one))[0] for one in client.public} == set(behind.outer)
        assert rig.found[-2:] != rig.found[:2] and len(rig.found) >= 4
    finally:
        rig.close()


def test_a_server_tells_its_outside(behind: Nat, tmp_path: Path) -> None:
    programs = [recorder(tmp_path, name) for name in ("four", "six")]
    v4, v6 = behind.links[1].far.addresses
    for version, host, (program, out) in zip((4, 6), (v4, v6), programs, strict=True):
        place = f"[{host}]" if version == 6 else host
        config = tmp_path / f"server{version}.conf"
        config.write_text(
            SERVER.format(listen=3000 + version, target=9)
            + f"stun_server={place}:{STUN_PORT}\nlog_path={tmp_path}\nupdate_ipv{version}={program}\n"
        )
        with behind.client.inside():
            node = processes.Node(tmp_path / "state", config)
        try:
            node.says("exited with code 0")
        finally:
            node.stop()
        (line,) = lines(out)
        outer = behind.outer[version == 6]
        shown = f"[{outer}]" if version == 6 else outer
        assert line.startswith(f"1 {shown}:")
        _, port = split(line.removeprefix("1 "))
        assert FIRST_PORT <= port < FIRST_PORT + PORTS
        assert f"External IPv{version} Address: {outer}" in lines(tmp_path / "ip_address.txt")
        assert f"External IPv{version} Port: {port}" in lines(tmp_path / "ip_address.txt")
