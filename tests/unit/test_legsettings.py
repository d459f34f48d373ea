"""What a configuration says is what the legs are told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kcpg.app import legsettings, legsettings_native
from kcpg.app.config import load_text
from kcpg.app.config.model import Mapping
from kcpg.core.flow import Target
from kcpg.net.local import Bind

CLIENT = """
mode=client
kcp=regular1
inbound_bandwidth=500M
outbound_bandwidth=50M
listen_port=59000
destination_port=3000-3002,3010
destination_address=123.45.67.89
encryption_password=unguessable-1234
encryption_algorithm=AES-GCM
"""

SERVER = """
mode=server
listen_port=13000-13010
destination_port=59000
destination_address=::1
encryption_password=unguessable-1234
encryption_algorithm=AES-OCB
"""


def node(text):
    """The only node of a configuration text."""
    loaded = load_text("a.conf", text)
    assert loaded.ok, loaded.problems
    return loaded.nodes[0]


def never(name):
    """Nothing may be looked up."""
    raise AssertionError(name)


def test_client_listens_everywhere_for_both_protocols():
    settings = legsettings.local_listen(node(CLIENT).ingress, 10, never)
    assert settings.binds == (Bind("", 59000),)
    assert settings.max_flows == 10


def test_addresses_and_names_to_listen_on():
    config = node(CLIENT + "listen_on=127.0.0.1,::1,localhost\n").ingress
    settings = legsettings.local_listen(config, 10, {"localhost": ["127.0.0.9", "127.0.0.1"]}.__getitem__)
    assert sorted(bind.host for bind in settings.binds) == ["127.0.0.1", "127.0.0.9", "::1"]


def test_mappings_have_their_own_targets():
    mapping = Mapping("127.0.0.1", 8080, "fd00::1", 80, tcp=True, udp=False)
    config = replace(node(CLIENT).ingress, ports=(), mappings=(mapping,))
    settings = legsettings.local_listen(config, 10, never)
    assert legsettings.where(config) == "1 mapping"
    assert settings.binds == (Bind("127.0.0.1", 8080, tcp=True, udp=False, target=Target("fd00::1", 80)),)


@pytest.mark.parametrize(("line", "wait_ms"), [("", 30_000), ("dial_timeout=5\n", 5000)])
def test_a_flow_waits_for_a_link_as_long_as_is_configured(line, wait_ms):
    assert legsettings_native.dial_settings(node(CLIENT + line).egress, 100).flow_wait_ms == wait_ms


def test_server_dials_its_destination():
    settings = legsettings.local_dial(node(SERVER).egress)
    assert settings.target == Target("::1", 59000)
    assert not settings.any_target


@pytest.mark.parametrize(
    ("ports", "expected"),
    [((), ()), ((5,), ((5, 5),)), ((1, 2, 3, 7), ((1, 3), (7, 7))), ((65534, 65535), ((65534, 65535),))],
)
def test_ranges(ports, expected):
    assert legsettings.ranges(ports) == expected


def test_places_in_words():
    assert legsettings.where(node(CLIENT).ingress) == "*:59000"
    assert legsettings.where(node(CLIENT).egress) == "123.45.67.89:3000-3002,3010"
    assert legsettings.where(node(SERVER).egress) == "[::1]:59000"
