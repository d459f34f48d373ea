"""The table of keys, its page and its help."""

from __future__ import annotations

from pathlib import Path

import pytest

from kcpg.app.config import reference
from kcpg.app.config.help import WIDTH, describe_all, describe_key
from kcpg.app.config.keys import KEYS, Scope

ROOT = Path(__file__).parents[2]

# Every key of kcptube, from its documentation.
KCPTUBE = [
    "mode", "listen_on", "listen_port", "destination_port", "destination_address", "destination_dnstxt",
    "dport_refresh", "encryption_algorithm", "encryption_password", "udp_timeout", "keep_alive",
    "mux_tunnels", "stun_server", "update_ipv4", "update_ipv6", "log_path", "fec", "mtu", "kcp_mtu",
    "kcp", "kcp_sndwnd", "kcp_rcvwnd", "kcp_nodelay", "kcp_interval", "kcp_resend", "kcp_nc",
    "outbound_bandwidth", "inbound_bandwidth", "ipv4_only", "ipv6_only", "blast", "fib_ingress",
    "fib_egress",
]  # fmt: skip

# What may stand outside a relay's sections, from the same place.
SHARED = [
    "kcp", "kcp_rcvwnd", "kcp_sndwnd", "outbound_bandwidth", "inbound_bandwidth", "encryption_password",
    "encryption_algorithm", "udp_timeout", "keep_alive", "ipv4_only", "ipv6_only", "blast", "fec",
    "mtu",
]  # fmt: skip


def test_the_page_is_up_to_date() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == reference.markdown(), "run: python -m kcpg.app.config.reference docs/configuration.md"


def test_the_table_has_every_key_of_kcptube_and_marks_the_others() -> None:
    assert {name for name, key in KEYS.items() if not key.own} == set(KCPTUBE)


@pytest.mark.parametrize("name", SHARED)
def test_shared_keys_reach_both_sections(name: str) -> None:
    assert {Scope.RELAY, Scope.LISTENER, Scope.FORWARDER} <= KEYS[name].scopes


def test_every_key_is_explained() -> None:
    text = describe_all()
    assert all(f"\n  {name} " in text for name in KEYS)
    assert max(map(len, text.splitlines())) <= WIDTH
    for name in KEYS:
        explained = describe_key(name.upper())
        assert explained is not None and explained.startswith(name)
    assert describe_key("nothing") is None
