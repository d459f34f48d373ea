"""Configurations of kcptun and kcptube, and what they are here."""

from __future__ import annotations

import json

import pytest

from kcpg.app import cli, convert
from kcpg.app.config import Severity, load_text
from kcpg.app.config.kcptunfile import INTEGERS, NAMED, SWITCHES
from kcpg.app.config.model import Role
from kcpg.app.config.presets import OLD_NAMES
from kcpg.errors import UsageError
from tests.unit.config_texts import CLIENT, said

JSON_CLIENT = {
    "localaddr": ":8388", "remoteaddr": "vps.example.org:29900-29910", "key": "many words",
    "crypt": "salsa20", "mode": "fast2", "mtu": 1300, "sndwnd": 1024, "rcvwnd": 1024, "datashard": 70,
    "parityshard": 30, "dscp": 46, "nocomp": True, "quiet": True, "conn": 4, "keepalive": 10, "tcp": True,
    "smuxver": 2, "whatever": 1,
}  # fmt: skip


def node(made):
    loaded = load_text("a.conf", made.text)
    assert loaded.ok, loaded.problems
    return loaded.nodes[0]


def test_json_of_a_client():
    made = convert.content(json.dumps(JSON_CLIENT).encode(), "a.json")
    client = node(made)
    tunnel = client.egress
    assert client.role is Role.CLIENT and client.ingress.ports == (8388,) and client.log_level == "warning"
    assert tunnel.addresses == ("vps.example.org",) and tunnel.ports == tuple(range(29900, 29911))
    assert (tunnel.password, tunnel.algorithm) == (b"many words", "AES-GCM")
    assert (tunnel.kcp_auto, tunnel.dscp, tunnel.mux_tunnels, tunnel.keep_alive_s) == (True, 46, 4, 10)
    remarks = "\n".join(made.remarks)
    for word in ("mtu", "sndwnd", "datashard", "salsa20", "tcp", "whatever", "smuxver"):
        assert word in remarks
    assert "many words" not in remarks


def test_json_of_a_server():
    made = convert.content(b'\xef\xbb\xbf{"listen": ":4000", "target": "[::1]:8388", "key": "k"}', "a.json")
    server = node(made)
    assert server.role is Role.SERVER and server.ingress.ports == (4000,) and server.ingress.password == b"k"
    assert server.egress.addresses == ("::1",) and server.egress.ports == (8388,)
    path = node(convert.content(b'{"listen": ":4000", "target": "/run/app.sock", "key": "k"}', "a.json"))
    assert path.egress.path == "/run/app.sock"


@pytest.mark.parametrize(
    "line",
    [
        '-r "192.0.2.1:4000" -l ":8388" -key "two words" -mode=fast3 -nocomp -autoexpire 900',
        '--remoteaddr 192.0.2.1:4000 --localaddr=:8388 --key "two words" --nocomp=true -ds 10 -ps 3 &',
    ],
)
def test_a_command_line_in_a_script(line):
    text = f"#!/bin/sh\nulimit -n 65535\nexec /usr/bin/client_linux_amd64 {line}\n".encode()
    client = node(convert.content(text, "start.sh"))
    assert client.egress.addresses == ("192.0.2.1",) and client.egress.ports == (4000,)
    assert client.ingress.ports == (8388,) and client.egress.password == b"two words"


def test_command_lines_by_words():
    server = node(convert.words(["./server_linux_arm64", "-t", "127.0.0.1:22", "-l", ":29900", "-key", "x"]))
    assert server.role is Role.SERVER and server.egress.ports == (22,) and server.ingress.ports == (29900,)
    made = convert.words(["client", "-r", "h.example:1"])
    assert node(made).ingress.ports == (12948,) and "everybody knows" in "\n".join(made.remarks)
    with pytest.raises(UsageError, match="reads a file") as refused:
        convert.words(["client", "-c", "/etc/kcptun.json"])
    assert "kcpg convert /etc/kcptun.json" in refused.value.hint
    for wrong in (["-r"], ["client", "stray"]):
        with pytest.raises(UsageError):
            convert.words(wrong)


KCPTUBE = """\
# my tunnel
mode=client
kcp=andante
kcp_mtu=1440
inbound_bandwidth=500M
listen_port=59000
destination_port=3000-3010
destination_address=192.0.2.1
encryption_password=qwerty1234
encryption_algorithm=AES-GCM
timeout=300
fec=20:4
nonsense=1
"""


def test_a_file_of_kcptube():
    made = convert.content(KCPTUBE.encode(), "client.conf")
    client = node(made)
    assert client.egress.kcp_auto and client.egress.finds_mtu and client.egress.fec.auto
    assert client.egress.udp_timeout_s == 300 and client.egress.inbound_bps == 500 * 1024**2
    assert "# my tunnel" in made.lines and "nonsense" not in made.text
    remarks = "\n".join(made.remarks)
    for word in ("kcp=andante", "kcp_mtu", "timeout is called udp_timeout", "fec", "nonsense"):
        assert word in remarks
    relay = "mode=relay\n[listener]\nlisten_port=1\n[forwarder]\ndestination_port=2\ndestination_address=h\n"
    assert convert.content(relay.encode(), "r").lines[1:3] == ["mode=relay", "kcp=auto"]


@pytest.mark.parametrize("data", [b"", b"{nonsense", b"hello\n", b"\xff\xfe\x00"])
def test_what_is_none_of_these(data):
    with pytest.raises(UsageError):
        convert.content(data, "x")


@pytest.mark.parametrize("name", OLD_NAMES)
def test_old_presets_are_understood_with_a_remark(name):
    loaded = load_text("a.conf", CLIENT + f"kcp={name}\n")
    assert loaded.ok and loaded.nodes[0].egress.kcp == OLD_NAMES[name]
    (warning,) = said(loaded, Severity.WARNING, "kcp")
    assert OLD_NAMES[name] in warning.reason
    (error,) = load_text("a.conf", CLIENT + "timeout=9\n").errors
    assert "udp_timeout" in error.hint


def test_the_command(tmp_path, capsys):
    file = tmp_path / "client.json"
    file.write_text(json.dumps(JSON_CLIENT))
    assert cli.main(["convert", str(file)]) == 0
    out, err = capsys.readouterr()
    assert load_text("a.conf", out).ok and "salsa20" in err
    assert cli.main(["convert", "--explain", str(file)]) == 0
    out = capsys.readouterr().out
    assert "listen_port=8388: Ports to listen on" in out and "many words" not in out
    assert cli.main(["convert", "--", "client", "-r", "h:1", "-key", "x"]) == 0
    assert "destination_address=h\n" in capsys.readouterr().out
    assert cli.main(["convert"]) == 2 and cli.main(["convert", str(tmp_path / "none")]) == 2


def test_every_flag_of_kcptun_has_an_answer() -> None:
    for name in sorted(NAMED):
        value: object = True if name in SWITCHES else 7 if name in INTEGERS else "127.0.0.1:7"
        made = convert.content(json.dumps({"key": "a secret", name: value}).encode(), "a.json")
        assert not [remark for remark in made.remarks if "not known" in remark], name
        shown = made.text + " ".join(made.remarks)
        known = ("crypt", "key", "mode", "nocomp", "quiet", "localaddr", "listen", "remoteaddr", "target")
        assert name in known or name in shown or "mux_tunnels=7" in shown or "keep_alive=7" in shown, name
