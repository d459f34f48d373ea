"""Real processes that speak kcptube's protocol: chains, what they say of it, and that they give back what
they took."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.net import processes
from tests.net.tunnels import BYTES, NATIVE, Tunnel

TUBE = "dialect=kcptube\nkcp=fast3\nencryption_password=a secret\nencryption_algorithm={}\n"


def tube(algorithm: str = "AES-GCM", more: str = "") -> str:
    """The configuration of a hop."""
    return TUBE.format(algorithm) + more


def paths(mux: int) -> str:
    """What its dialler has beside that."""
    return f"mux_tunnels={mux}\n" if mux else ""


@pytest.mark.parametrize("mux", [0, 2])
@pytest.mark.parametrize(
    "hops",
    [
        [tube()],
        [tube("xchacha20", "fec=5:2\n")],
        [tube("AES-OCB"), NATIVE],
        [NATIVE, tube("chacha20")],
    ],
    ids=["plain", "fec", "to native", "from native"],
)
def test_bytes_and_packets(tmp_path: Path, tunnels: list[Tunnel], hops: list[str], mux: int) -> None:
    tunnel = Tunnel(tmp_path, hops, paths(mux))
    tunnels.append(tunnel)
    tunnel.exchange_all([1, 50_000, BYTES, BYTES + 1])
    for size in (0, 1, 1400, 20_000):
        packet = bytes(size)
        assert processes.ask_packet(tunnel.entry, packet) == packet


def test_what_is_said_of_it(tmp_path: Path, tunnels: list[Tunnel]) -> None:
    tunnel = Tunnel(tmp_path, [tube()], paths(1))
    tunnels.append(tunnel)
    for node in tunnel.nodes.values():
        assert "for compatibility only" in node.says("dialect=kcptube")
    tunnel.exchange(BYTES)
    client = tunnel.config("client")
    (link,) = tunnel.node("client")["egress"]["links"]
    assert link["carries"] == "mux" and link["state"] == "up" and link["payload_bytes"] > BYTES
    assert "datagrams of 1440 B" in processes.call(tunnel.state, "status", client).stdout
    tried = processes.call(tunnel.state, "--try", client)
    assert tried.returncode == 0 and "kcptube's protocol, AES-GCM" in tried.stdout, tried.stdout


def test_a_try_recognises_a_kcptube(tmp_path: Path, tunnels: list[Tunnel]) -> None:
    tunnel = Tunnel(tmp_path, [tube()], paths(1))
    tunnels.append(tunnel)
    native = tmp_path / "native.conf"
    native.write_text(tunnel.config("client").read_text().replace("dialect=kcptube", "dialect=native"))
    tried = processes.call(tunnel.state, "--try", native)
    assert tried.returncode == 1
    assert "a kcptube answers there with this password: write dialect=kcptube" in tried.stdout, tried.stdout


def test_a_try_with_another_password_fails(tmp_path: Path, tunnels: list[Tunnel]) -> None:
    tunnel = Tunnel(tmp_path, [tube()], paths(1))
    tunnels.append(tunnel)
    client = tmp_path / "wrong.conf"
    client.write_text(tunnel.config("client").read_text().replace("a secret", "no secret"))
    tried = processes.call(tunnel.state, "--try", client)
    assert tried.returncode == 1 and "0 of 1 destinations answered" in tried.stdout


@pytest.mark.parametrize("mux", [0, 1])
def test_descriptors_are_given_back(tmp_path: Path, tunnels: list[Tunnel], mux: int) -> None:
    tunnel = Tunnel(tmp_path, [tube()], paths(mux))
    tunnels.append(tunnel)
    if mux:  # the link that stays may come after the process is ready
        tunnel.exchange(1000)
        processes.until(lambda: _flows(tunnel) == 0, "the first flow is over")
    tunnel.gives_back_what_it_takes()
    assert _flows(tunnel) == 0


def _flows(tunnel: Tunnel) -> int:
    """Flows, and links of single flows, that both ends still know."""
    count = 0
    for name in tunnel.nodes:
        node = tunnel.node(name)
        leg = node["egress" if name == "client" else "ingress"]
        count += node["flows"]["tcp"] + sum(link["carries"] != "mux" for link in leg["links"])
    return count
