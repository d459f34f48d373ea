"""What each system would be started with: its programs, their words and their configurations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.bench.systems import EXECUTABLES, SYSTEMS
from harness.bench.systems.base import FAR, NEAR, Part, Settings, Wiring
from harness.bench.systems.kcpg import Kcpg
from kcpg.app.config import load


@pytest.fixture
def wiring(tmp_path: Path) -> Wiring:
    return Wiring(
        tmp_path,
        ("127.0.0.1", 5900),
        ("127.0.0.1", 8000),
        ("10.77.1.2", 8000),
        "10.77.1.2",
        (3000, 3001, 3002),
    )


@pytest.fixture
def programs(tmp_path: Path) -> Mapping[str, str]:
    """Something executable for every option."""
    found = {}
    for name in EXECUTABLES:
        path = tmp_path / f"bin-{name.lower()}"
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
        found[name] = str(path)
    return found


def parts(name: str, wiring: Wiring, settings: Settings | None = None) -> list[Part]:
    return SYSTEMS[name].parts(wiring, settings or Settings())


def test_direct_is_no_program_and_goes_to_the_target_itself(wiring: Wiring) -> None:
    for name in ("direct", "direct-bbr", "direct-copy"):
        assert parts(name, wiring) == []
        assert SYSTEMS[name].entry(wiring) == wiring.reach
    assert SYSTEMS["kcpg"].entry(wiring) == wiring.entry


def test_kcpg_is_a_client_here_and_the_others_there(wiring: Wiring) -> None:
    assert [(part.name, part.side) for part in parts("kcpg", wiring)] == [("client", NEAR), ("server", FAR)]
    relayed = parts("kcpg-relay", wiring)
    assert [(part.name, part.side) for part in relayed] == [("client", NEAR), ("relay", FAR), ("server", FAR)]
    assert all(part.ready and part.environ["PYTHONPATH"] for part in relayed)
    client, relay, server = (Path(part.words[-1]).read_text() for part in relayed)
    listener, forwarder = relay.split("[forwarder]\n")
    assert "destination_address=10.77.1.2\ndestination_port=3000" in client
    assert "listen_on=10.77.1.2\nlisten_port=3000" in listener
    assert "destination_address=127.0.0.1\ndestination_port=3001" in forwarder
    assert "listen_on=127.0.0.1\nlisten_port=3001" in server
    assert "destination_address=127.0.0.1\ndestination_port=8000" in server


@pytest.mark.parametrize("name", [name for name in SYSTEMS if name.startswith("kcpg") and "-to-" not in name])
def test_kcpg_itself_reads_its_configurations(name: str, wiring: Wiring) -> None:
    for part in parts(name, wiring, Settings(options={"mtu": "1300"})):
        path = Path(part.words[-1])
        assert path.stat().st_mode & 0o077 == 0, "it holds a password"
        assert "mtu=1300" in path.read_text()
        loaded = load([path])
        assert loaded.nodes and loaded.ok, loaded.problems


def test_what_an_older_tree_does_not_do_is_told_from_a_failure() -> None:
    said = "error: the protocol of kcptube is not available yet (remove the line)"
    system = SYSTEMS["kcpg-kcptube"]
    assert system.unsupported(said) and not system.unsupported("no such file")


def test_another_tree_of_sources_is_run_by_its_path(wiring: Wiring, tmp_path: Path) -> None:
    part = Kcpg("old", root=tmp_path).parts(wiring, Settings())[0]
    assert part.environ["PYTHONPATH"] == str(tmp_path)
    assert "-P" in part.words, "the directory it is started in must not come first"


def test_kcptun_has_the_same_secret_windows_and_fec_on_both_sides(
    wiring: Wiring, programs: Mapping[str, str]
) -> None:
    client, server = parts("kcptun", wiring, Settings(programs))
    assert client.words[0] == programs["KCPTUN_CLIENT"] and server.words[0] == programs["KCPTUN_SERVER"]
    assert client.words[1:5] == ("-l", "127.0.0.1:5900", "-r", "10.77.1.2:3000")
    assert server.words[1:5] == ("-l", "10.77.1.2:3000", "-t", "127.0.0.1:8000")
    assert client.words[5:] == server.words[5:]
    assert (client.sockets, server.sockets) == ((("tcp", 5900),), (("udp", 3000),))
    fec = parts("kcptun-fec", wiring, Settings(programs))[0].words
    assert fec[fec.index("--datashard") + 1] == "10" and fec[fec.index("--parityshard") + 1] == "3"


def test_kcpg_takes_the_place_of_either_end_of_kcptun(wiring: Wiring, programs: Mapping[str, str]) -> None:
    both, ours = parts("kcptun", wiring, Settings(programs)), parts("kcpg-kcptun", wiring)
    assert parts("kcpg-to-kcptun", wiring, Settings(programs)) == [ours[0], both[1]]
    assert parts("kcptun-to-kcpg", wiring, Settings(programs)) == [both[0], ours[1]]
    texts = [Path(part.words[-1]).read_text() for part in ours]
    words = both[0].words
    for key, flag in (
        ("encryption_password", "--key"),
        ("kcp_sndwnd", "--sndwnd"),
        ("kcp_rcvwnd", "--rcvwnd"),
    ):
        assert all(f"{key}={words[words.index(flag) + 1]}\n" in text for text in texts)
    assert "KCPTUN_CLIENT" in SYSTEMS["kcpg-to-kcptun"].missing(Settings({"KCPTUN_CLIENT": "/nowhere"}))


def test_kcptun_libev_gets_json_and_kcptube_its_own_grammar(
    wiring: Wiring, programs: Mapping[str, str]
) -> None:
    client, server = parts("kcptun-libev", wiring, Settings(programs))
    near, far = (json.loads(Path(part.words[-1]).read_text()) for part in (client, server))
    assert near["kcp_connect"] == far["kcp_bind"] == "10.77.1.2:3000"
    assert near["password"] == far["password"] and near["listen"] == "127.0.0.1:5900"
    assert near["udp"] == far["udp"] == {"sndbuf": 1048576, "rcvbuf": 1048576}, "those of its sample"
    assert near["kcp"] == far["kcp"] and near["kcp"]["flush"] == 2
    client, server = parts("kcptube", wiring, Settings(programs))
    texts = [Path(part.words[-1]).read_text() for part in (client, server)]
    assert "mode=client" in texts[0] and "mode=server" in texts[1]
    assert all("kcp=regular3\n" in text and "bandwidth" not in text for text in texts)
    assert "mux_tunnels" in texts[0] and "mux_tunnels" not in texts[1], "a server refuses it"


def test_any_other_tunnel_is_two_command_lines(wiring: Wiring) -> None:
    commands = {
        "OTHER_CLIENT": "mine -l {entry} -r {server} -k 'a b'",
        "OTHER_SERVER": "mine -l {server} -t {target}",
    }
    assert SYSTEMS["other"].missing(Settings(commands)) == ""
    client, server = parts("other", wiring, Settings(commands))
    assert client.words == ("mine", "-l", "127.0.0.1:5900", "-r", "10.77.1.2:3000", "-k", "a b")
    assert server.words == ("mine", "-l", "10.77.1.2:3000", "-t", "127.0.0.1:8000")


def test_what_is_not_there_says_so_and_how_to_name_it(programs: Mapping[str, str]) -> None:
    assert "KCPTUBE" in SYSTEMS["kcptube"].missing(Settings())
    assert "KCPTUN_LIBEV" in SYSTEMS["kcptun-libev"].missing(Settings())
    assert "OTHER_CLIENT" in SYSTEMS["other"].missing(Settings())
    wrong = SYSTEMS["kcptun"].missing(Settings({**programs, "KCPTUN_SERVER": "/nowhere/server"}))
    assert "/nowhere/server is not an executable" in wrong
    for system in SYSTEMS.values():
        assert system.missing(Settings(programs)) == ""


def test_socat_forks_for_many_and_goes_to_the_target(wiring: Wiring, programs: Mapping[str, str]) -> None:
    (part,) = parts("socat", wiring, Settings(programs))
    assert part.words[0] == programs["SOCAT"] and part.side == NEAR
    assert "fork" in part.words[2] and part.words[3].startswith("TCP4:10.77.1.2:8000")
