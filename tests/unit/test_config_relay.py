"""A relay: two sections, what stands outside them, and its patience."""

from __future__ import annotations

import pytest

from kcpg.app.config import Severity, load_texts
from tests.unit.config_texts import CLIENT, RELAY, SERVER, errors, relay, said

# a relay


def test_outside_values_override_those_in_sections() -> None:
    loaded = relay(outside="kcp=fast3\nudp_timeout=200\nmtu=1400\nblast=1", listener="kcp=regular1")
    node = loaded.nodes[0]
    for leg in (node.ingress, node.egress):
        assert (leg.kcp, leg.udp_timeout_s, leg.mtu_bytes, leg.blast) == ("fast3", 205, 1400, True)
    assert [p.reason for p in said(loaded, Severity.WARNING, "kcp")] == [
        "line 2, outside the sections, overrides it"
    ]


def test_only_a_yes_of_ipv4_only_overrides() -> None:
    assert relay(outside="ipv4_only=0", listener="ipv4_only=1").nodes[0].ingress.ipv4_only
    node = relay(outside="ipv4_only=1", listener="ipv4_only=0").nodes[0]
    assert node.ingress.ipv4_only and node.egress.ipv4_only
    assert not relay(outside="ipv4_only=0").nodes[0].ingress.ipv4_only


def test_outside_none_does_not_take_encryption_away_silently() -> None:
    assert said(relay(outside="encryption_algorithm=none"), Severity.ERROR, "encryption_algorithm")


def test_outside_manual_brings_its_numbers_along() -> None:
    outside = "kcp=manual\nkcp_nodelay=2\nkcp_interval=10\nkcp_resend=3\nkcp_nc=no"
    leg = relay(outside=outside).nodes[0].egress
    assert (leg.kcp_nodelay, leg.kcp_interval_ms, leg.kcp_resend, leg.kcp_nc) == (2, 10, 3, False)
    assert (leg.kcp_snd_wnd_segments, leg.kcp_rcv_wnd_segments) == (2048, 2048)


@pytest.mark.parametrize(
    ("where", "line", "severity"),
    [
        ("outside", "listen_port=1", Severity.ERROR),
        ("outside", "destination_address=::1", Severity.ERROR),
        ("outside", "mux_tunnels=3", Severity.ERROR),
        ("listener", "destination_port=1", Severity.ERROR),
        ("forwarder", "listen_on=::1", Severity.ERROR),
        ("listener", "dport_refresh=600", Severity.WARNING),
        ("forwarder", "stun_server=stun.example", Severity.WARNING),
        ("forwarder", "log_level=debug", Severity.WARNING),
        ("listener", "mode=relay", Severity.ERROR),
    ],
)
def test_keys_in_the_wrong_place(where: str, line: str, severity: Severity) -> None:
    key = line.partition("=")[0]
    assert len(said(relay(**{where: line}), severity, key)) == 1


def test_a_neutral_value_in_the_wrong_place_is_nothing() -> None:
    assert relay(outside="mux_tunnels=1").problems == ()


def test_both_sections_are_needed() -> None:
    assert errors("mode=relay\n") == [(0, "[listener]"), (0, "[forwarder]")]
    assert (0, "[forwarder]") in errors("mode=relay\n[listener]\nlisten_port=3\n")
    assert errors("mode=relay\n[listener]\n[forwarder]\n") == [
        (0, "listen_port"),
        (0, "destination_address"),
        (0, "destination_port"),
    ]


def test_a_section_of_another_mode_is_an_error() -> None:
    assert (7, "[listener]") in errors(CLIENT + "[listener]\n")
    assert (7, "[custom_input]") in errors(SERVER + "[custom_input]\n")


@pytest.mark.parametrize(
    ("own_s", "ends_s", "waits_s", "warned"),
    [
        ("", None, 185, False),
        ("10", None, 185, True),
        ("300", None, 305, False),
        ("10", 10, 15, False),
        ("", 300, 305, True),
        ("20", 300, 305, True),
    ],
)
def test_a_relay_never_gives_up_before_its_ends(
    own_s: str, ends_s: int | None, waits_s: int, warned: bool
) -> None:
    files = {
        "r.conf": RELAY.format(outside=f"udp_timeout={own_s}" if own_s else "", listener="", forwarder="")
    }
    if ends_s is not None:
        files["c.conf"] = CLIENT + f"udp_timeout={ends_s}\n"
        files["s.conf"] = SERVER + f"udp_timeout={min(ends_s, 20)}\n"
    loaded = load_texts(files)
    node = loaded.nodes[0]
    assert (node.ingress.udp_timeout_s, node.egress.udp_timeout_s) == (waits_s, waits_s)
    assert bool(said(loaded, Severity.WARNING, "udp_timeout")) == warned
