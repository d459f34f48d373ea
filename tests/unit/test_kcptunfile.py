"""kcptun's own files: what they become, and what is said of them."""

from __future__ import annotations

import json

import pytest

from kcpg.app.config import Severity, load_text
from kcpg.app.config.kcptunfile import DEFAULT_KEY, MODES, translate
from kcpg.app.config.model import LegConfig, Loaded, Role
from kcpg.app.config.report import Report
from tests.unit.config_texts import said

CLIENT = {"localaddr": ":2000", "remoteaddr": "192.0.2.1:29900", "key": "PASSWORD"}
SERVER = {"listen": ":29900", "target": "127.0.0.1:9999", "key": "PASSWORD"}

# The files that the Debian package has as examples.
LOCAL = """{
	"localaddr": ":2000",
	"remoteaddr": "11.22.33.44:2000",
	"key": "PASSWORD",
	"crypt": "aes-128",
	"mode": "fast3",
	"mtu": 1400,
	"sndwnd": 128,
	"rcvwnd": 1024,
	"datashard": 10,
	"parityshard": 3,
	"dscp": 46,
	"nocomp": true,
	"acknodelay": false,
	"nodelay": 1,
	"interval": 40,
	"resend": 2,
	"nc": 1,
	"sockbuf": 16777217,
	"smuxver": 1,
	"smuxbuf": 16777217,
	"streambuf": 2097152,
	"keepalive": 10,
	"autoexpire": 1800,
	"quiet": false,
	"tcp": false
}"""


def loaded(base: dict[str, object] = CLIENT, **more: object) -> Loaded:  # type: ignore[assignment]
    return load_text("client.json", json.dumps({**base, **more}, indent=1))


def leg(base: dict[str, object] = CLIENT, **more: object) -> LegConfig:  # type: ignore[assignment]
    found = loaded(base, **more)
    assert found.ok, found.problems
    (node,) = found.nodes
    return node.egress if node.role is Role.CLIENT else node.ingress


def test_the_example_of_a_client() -> None:
    found = load_text("local.json", LOCAL)
    assert found.ok, found.problems
    (node,) = found.nodes
    tunnel = node.egress
    assert (node.role, node.name) == (Role.CLIENT, "local")
    assert node.ingress.ports == (2000,) and tunnel.addresses == ("11.22.33.44",) and tunnel.ports == (2000,)
    assert tunnel.is_kcptun and tunnel.algorithm == "aes-128" and tunnel.password == b"PASSWORD"
    assert (tunnel.kcp_nodelay, tunnel.kcp_interval_ms, tunnel.kcp_resend, tunnel.kcp_nc) == (1, 10, 2, True)
    assert (tunnel.kcp_snd_wnd_segments, tunnel.kcp_rcv_wnd_segments) == (128, 1024)
    assert tunnel.fec is not None and (tunnel.fec.data_shards, tunnel.fec.parity_shards) == (10, 3)
    assert tunnel.datagram_bytes == 1400 and tunnel.nocomp and tunnel.smuxver == 1
    assert (tunnel.smuxbuf_bytes, tunnel.streambuf_bytes) == (16777217, 2097152)
    assert (tunnel.keep_alive_s, tunnel.dport_refresh_s, tunnel.mux_tunnels) == (10, 1800, 1)
    assert tunnel.dscp == 46 and not said(found, Severity.WARNING, "dscp")


def test_defaults() -> None:
    tunnel = leg()
    assert (tunnel.algorithm, tunnel.datagram_bytes, tunnel.nocomp, tunnel.smuxver) == ("aes", 1350, False, 1)
    assert (tunnel.kcp_snd_wnd_segments, tunnel.kcp_rcv_wnd_segments) == (128, 512)
    assert tunnel.fec is not None and (tunnel.fec.data_shards, tunnel.fec.parity_shards) == (10, 3)
    assert (tunnel.mux_tunnels, tunnel.dport_refresh_s, tunnel.scavengettl_s) == (1, 0, 600)
    assert said(loaded(), Severity.NOTE, "smuxver")
    server = leg(SERVER)
    assert (server.kcp_snd_wnd_segments, server.kcp_rcv_wnd_segments) == (1024, 1024)
    assert not said(loaded(SERVER), Severity.NOTE, "smuxver")


def test_the_key_that_everybody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = {name: value for name, value in CLIENT.items() if name != "key"}
    assert leg(bare).password == DEFAULT_KEY.encode() and said(loaded(bare), Severity.WARNING, "key")
    monkeypatch.setenv("KCPTUN_KEY", "from the environment")
    assert leg(bare).password == b"from the environment" and not said(loaded(bare), Severity.WARNING, "key")
    assert leg().password == b"PASSWORD"


@pytest.mark.parametrize("mode", MODES)
def test_modes(mode: str) -> None:
    tunnel = leg(mode=mode, interval=4000)
    found = (tunnel.kcp_nodelay, tunnel.kcp_interval_ms, tunnel.kcp_resend, tunnel.kcp_nc)
    assert found == (*MODES[mode][:3], True)


def test_manual_mode() -> None:
    tunnel = leg(mode="manual", nodelay=1, interval=1, resend=3, nc=0)
    assert (tunnel.kcp_nodelay, tunnel.kcp_interval_ms, tunnel.kcp_resend, tunnel.kcp_nc) == (1, 10, 3, False)
    assert leg(mode="manual").kcp_interval_ms == 50


def test_everything_else() -> None:
    tunnel = leg(
        remoteaddr="[2001:db8::1]:3000-3010", conn=4, autoexpire=5, scavengettl=0, datashard=0,
        ratelimit=1000, framesize=4096, smuxver=2, crypt="null", quiet=True, closewait=30,
        log="a.log", pprof=True,
    )  # fmt: skip
    assert tunnel.addresses == ("2001:db8::1",) and tunnel.ports == tuple(range(3000, 3011))
    assert (tunnel.mux_tunnels, tunnel.dport_refresh_s, tunnel.scavengettl_s) == (4, 20, 1)
    assert tunnel.fec is None and tunnel.outbound_bps == 8000 and tunnel.framesize_bytes == 4096
    assert tunnel.smuxver == 2 and tunnel.algorithm == "null"
    assert loaded(quiet=True).nodes[0].log_level == "warning"
    assert leg({"listen": "10.0.0.1:1000-1002", "target": ":80", "key": "x"}).ports == (1000, 1001, 1002)


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"qpp": True}, "qpp"),
        ({"tcp": True}, "tcp"),
        ({"mtuu": 1400}, "mtuu"),
        ({"mtu": "1400"}, "mtu"),
        ({"conn": True}, "conn"),
        ({"conn": -1}, "conn"),
        ({"conn": 10**30}, "conn"),
        ({"nocomp": 1}, "nocomp"),
        ({"mode": "fast4"}, "mode"),
        ({"remoteaddr": "/run/socket"}, "remoteaddr"),
        ({"localaddr": "a:1\nmode=server\nb:2"}, "localaddr"),
        ({"key": "with a line\nbreak"}, "key"),
        ({"key": " blank"}, "key"),
        ({"crypt": "rot13"}, "encryption_algorithm"),
        ({"crypt": "aes\nlog_path=/tmp"}, "crypt"),
        ({"listen": ":1"}, ""),
        ({"smuxver": 3}, "smuxver"),
    ],
)
def test_mistakes_are_told_with_their_line(more: dict[str, object], key: str) -> None:
    found = loaded(**more)
    assert key in [problem.key for problem in found.errors]
    assert all(problem.line >= 0 for problem in found.errors)
    if key in more:
        assert {problem.line for problem in found.errors if problem.key == key} != {0}


@pytest.mark.parametrize(
    "text", ["{", "{}", '{"a": 1', "{'localaddr': 1}", "[1]", '{"key": "x"}', "{" * 100_000]
)
def test_what_is_no_file_of_kcptun(text: str) -> None:
    assert load_text("a.json", text).errors


def test_the_translation_is_a_file_of_ours() -> None:
    report = Report("a.json")
    text = translate(json.dumps(CLIENT).encode(), report).text
    assert text.startswith("mode=client\ndialect=kcptun\nlisten_port=2000\n")
    assert load_text("a.conf", text).ok
