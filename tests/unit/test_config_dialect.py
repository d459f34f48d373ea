"""`dialect=kcptube`: what it takes, what it refuses, and what the legs are told."""

from __future__ import annotations

import pytest

from kcpg.app import legsettings, legsettings_kcptube, legsettings_kcptun
from kcpg.app.config import Severity, load_text
from kcpg.app.config.model import Dialect, LegConfig
from kcpg.core.kcptube.wire import Format
from kcpg.core.kcptun import cipher
from kcpg.core.kcptun import wire as tun_wire
from kcpg.core.kcptun.framestream import StreamSettings
from kcpg.core.native.dial.pathchoice import Destination
from kcpg.errors import StartError
from tests.unit.config_texts import CLIENT, SERVER, errors, relay, said

TUBE = "dialect=kcptube\n"


def leg(more: str = "", text: str = CLIENT) -> LegConfig:
    loaded = load_text("a.conf", text + TUBE + more)
    assert loaded.ok, loaded.problems
    node = loaded.nodes[0]
    return node.egress if text is CLIENT else node.ingress


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ("kcp=auto\n", "kcp"),
        ("fec=auto\n", "fec"),
    ],
)
def test_what_only_the_native_protocol_has_is_an_error(more: str, key: str) -> None:
    assert errors(CLIENT + TUBE + more) == [(8, key)]
    assert errors(CLIENT + more) == []


def test_a_key_is_no_password() -> None:
    text = CLIENT.replace("encryption_password=unguessable-1234", f"encryption_key={'A' * 43}=")
    assert errors(text) == []
    assert errors(text + TUBE) == [(5, "encryption_key")]


def test_a_password_alone_encrypts_nothing_for_kcptube() -> None:
    text = CLIENT.replace("encryption_algorithm=AES-GCM\n", "")
    assert errors(text) == [] and errors(text + TUBE) == [(5, "encryption_password")]


def test_workers_cannot_share_a_listening_leg() -> None:
    assert errors(SERVER + TUBE + "workers=2\n") == [(8, "workers")]
    assert errors(CLIENT + TUBE + "workers=2\n") == []
    assert [p.key for p in relay("workers=2", listener="dialect=kcptube").errors] == ["workers"]
    assert relay("workers=2", forwarder="dialect=kcptube").ok


def test_warnings() -> None:
    loaded = load_text("a.conf", CLIENT + TUBE + "udp_delivery=datagram\nkcp_mtu=4000\n")
    assert said(loaded, Severity.WARNING, "udp_delivery") and said(loaded, Severity.WARNING, "kcp_mtu")
    assert not said(
        load_text("a.conf", CLIENT + TUBE + "udp_delivery=ordered\n"), Severity.WARNING, "dialect"
    )


def test_a_relay_has_a_dialect_for_each_leg() -> None:
    node = relay(listener="dialect=kcptube").nodes[0]
    assert (node.ingress.dialect, node.egress.dialect) == (Dialect.KCPTUBE, Dialect.NATIVE)
    assert node.ingress.is_kcptube and not node.egress.is_kcptube
    both = relay("dialect=kcptube").nodes[0]
    assert both.ingress.is_kcptube and both.egress.is_kcptube


def test_each_flow_has_a_path_unless_asked() -> None:
    assert legsettings_kcptube.dial_settings(leg()).tunnels == 0
    assert legsettings_kcptube.dial_settings(leg("mux_tunnels=3\n")).tunnels == 3
    assert load_text("a.conf", CLIENT).nodes[0].egress.mux_tunnels == 1


def test_the_dialer_is_told() -> None:
    more = "outbound_bandwidth=8m\ninbound_bandwidth=80m\nkeep_alive=7\ndport_refresh=30\ndial_timeout=9\n"
    told = legsettings_kcptube.dial_settings(leg(more))
    assert told.targets == (Destination("192.0.2.1", tuple(range(3000, 3011))),)
    assert (told.outbound_bps, told.inbound_bps) == (8_000_000, 80_000_000)
    assert (told.keep_alive_ms, told.hop_every_ms, told.flow_wait_ms) == (7_000, 30_000, 9_000)
    assert told.kcp.interval_ms == 30 and told.kcp.snd_wnd == 1024


def test_what_the_listener_is_given() -> None:
    told = legsettings_kcptube.listen_settings(leg(text=SERVER), 99)
    assert told.max_links == 99
    assert told.format == Format("AES-OCB", b"unguessable-1234", 1440)


@pytest.mark.parametrize(
    ("more", "datagram", "kcp_mtu"),
    [
        ("", 1440, 1418),
        ("fec=20:4\n", 1438, 1405),
        ("encryption_algorithm=none\n", 1424, 1418),
        ("encryption_algorithm=XOR\nfec=20:4\n", 1422, 1405),
        ("mtu=1300\n", 1252, 1230),
        ("mtu=1300\nipv4_only=1\n", 1272, 1250),
        ("kcp_mtu=1200\n", 1200, 1178),
        ("kcp_mtu=9000\n", 2048, 2026),
    ],
)
def test_how_large_datagrams_are(more: str, datagram: int, kcp_mtu: int) -> None:
    found = legsettings_kcptube.wire_format(leg(more))
    assert (found.datagram_bytes, found.kcp_mtu) == (datagram, kcp_mtu)


TUN = "dialect=kcptun\n"


def tun_leg(more: str = "", text: str = CLIENT) -> LegConfig:
    text = text.replace("AES-GCM", "aes").replace("AES-OCB", "aes-128-gcm")
    loaded = load_text("a.conf", text + TUN + more)
    assert loaded.ok, loaded.problems
    node = loaded.nodes[0]
    return node.egress if "mode=client" in text else node.ingress


def test_what_kcptun_lacks_is_an_error() -> None:
    client, server = CLIENT.replace("AES-GCM", "aes"), SERVER.replace("AES-OCB", "aes")
    assert errors(client + TUN) == errors(server + TUN) == []
    assert errors(CLIENT + TUN) == [(6, "encryption_algorithm")]  # AES-GCM is not kcptun's
    assert errors(client) == [(6, "encryption_algorithm")]  # nor aes the native protocol's
    for more, key in (("kcp=auto", "kcp"), ("fec=auto", "fec")):
        assert errors(f"{client}{TUN}{more}\n") == [(8, key)]
    assert errors(server + TUN + "workers=2\n") == [(8, "workers")]
    assert errors(server.replace("=8000", "={}") + TUN) == [(3, "destination_port")]
    mapping = "listen_port={}\n[custom_input]\n:1000 -> 10.0.0.1:80\n"
    assert errors(client + TUN + mapping) == [(8, "listen_port")]
    key = client.replace("encryption_password=unguessable-1234", f"encryption_key={'A' * 43}=")
    assert errors(key + TUN) == [(5, "encryption_key")]


@pytest.mark.parametrize(
    ("more", "key"),
    [("keep_alive=60\n", "keep_alive"), ("kcp_mtu=1501\n", "kcp_mtu"), ("encryption_algorithm=tea\n", None)],
)
def test_warnings_of_kcptun(more: str, key: str | None) -> None:
    loaded = load_text("a.conf", CLIENT.replace("AES-GCM", "aes") + TUN + more)
    assert loaded.ok and said(loaded, Severity.WARNING, key or "encryption_algorithm")


def test_keys_of_kcptun_elsewhere() -> None:
    assert said(load_text("a.conf", CLIENT + "smuxver=2\n"), Severity.WARNING, "smuxver")


def test_what_the_kcptun_dialer_is_told() -> None:
    told = legsettings_kcptun.dial_settings(tun_leg())
    assert told.format == tun_wire.Format("aes", b"unguessable-1234", 1350, (0, 0))
    assert told.streams == StreamSettings(1, True, 10_000, 4 << 20, 2 << 20, 8192)
    assert (told.tunnels, told.expire_ms, told.scavenge_ms, told.flow_wait_ms) == (1, 0, 600_000, 30_000)
    assert (told.kcp.nodelay, told.kcp.interval_ms, told.kcp.resend, told.kcp.nc) == (0, 30, 2, True)
    more = (
        "nocomp=1\nsmuxver=2\nsmuxbuf=100000\nstreambuf=200000\nframesize=4096\nscavengettl=9\nkeep_alive=60\n"
        "mux_tunnels=3\ndport_refresh=100\nfec=5:2\nkcp_mtu=1600\ndial_timeout=7\noutbound_bandwidth=8m\n"
    )
    told = legsettings_kcptun.dial_settings(tun_leg(more))
    assert told.format == tun_wire.Format("aes", b"unguessable-1234", 1500, (5, 2))
    assert told.streams == StreamSettings(2, False, 30_000, 100_000, 200_000, 4096)
    assert (told.tunnels, told.expire_ms, told.scavenge_ms, told.flow_wait_ms) == (3, 100_000, 9_000, 7_000)
    assert told.outbound_bps == 8_000_000


def test_what_the_kcptun_listener_is_told() -> None:
    told = legsettings_kcptun.listen_settings(
        tun_leg("mtu=1400\nipv4_only=1\n", SERVER.replace("::1", "a")), 9
    )
    assert told.max_links == 9 and told.format.datagram_bytes == 1372
    assert told.format.crypt == "aes-128-gcm" and told.format.kcp_mtu == 1344


def test_a_client_of_kcptun_takes_no_packets() -> None:
    for more, udp in (("", True), (TUN, False)):
        text = (CLIENT.replace("AES-GCM", "aes") if more else CLIENT) + more
        node = load_text("a.conf", text).nodes[0]
        settings = legsettings.local_listen(node.ingress, 1, lambda name: [name], not node.egress.is_kcptun)
        assert [bind.udp for bind in settings.binds] == [udp]


def test_a_cipher_that_the_libraries_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    leg = tun_leg("encryption_algorithm=sm4\n")
    monkeypatch.setattr(cipher.seal, "HAVE_CRYPTOGRAPHY", False)
    with pytest.raises(StartError, match="sm4"):
        legsettings_kcptun.wire_format(leg)
