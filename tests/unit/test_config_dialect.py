"""`dialect=kcptube`: what it takes, what it refuses, and what the legs are told."""

from __future__ import annotations

import pytest

from kcpg.app import legsettings_kcptube
from kcpg.app.config import Severity, load_text
from kcpg.app.config.model import Dialect, LegConfig
from kcpg.core.kcptube.wire import Format
from kcpg.core.native.dial.pathchoice import Destination
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
