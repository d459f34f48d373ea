"""What the values of a configuration file mean together."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from kcpg.app.config import Severity, load, load_text, load_texts
from kcpg.app.config.model import Dialect, FecConfig, Mapping, UdpDelivery
from tests.unit.config_texts import CLIENT, QUIET_CLIENT, RELAY, SERVER, errors, said

# meaning together


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("mode=client\n", ["listen_port", "destination_address", "destination_port"]),
        ("mode=server\n", ["listen_port", "destination_address", "destination_port"]),
    ],
)
def test_required_keys_are_named_all_at_once(text: str, missing: list[str]) -> None:
    assert errors(text) == [(0, key) for key in missing]


def test_a_bad_value_is_not_also_missing() -> None:
    assert errors(CLIENT.replace("59000", "x")) == [(2, "listen_port")]


def test_encryption_needs_a_secret() -> None:
    assert errors(CLIENT.replace("encryption_password=unguessable-1234\n", "")) == [
        (5, "encryption_algorithm")
    ]


def test_a_password_alone_means_aes_gcm() -> None:
    loaded = load_text("c.conf", QUIET_CLIENT.replace("encryption_algorithm=AES-GCM\n", ""))
    assert loaded.nodes[0].egress.algorithm == "AES-GCM"
    assert [p.severity for p in loaded.problems] == [Severity.NOTE]


@pytest.mark.parametrize("algorithm", ["none", "XOR"])
def test_what_does_not_encrypt_is_said(algorithm: str) -> None:
    loaded = load_text("c.conf", CLIENT.replace("AES-GCM", algorithm))
    assert loaded.nodes[0].egress.algorithm == algorithm
    assert said(loaded, Severity.WARNING, "encryption_algorithm")


def test_no_encryption_at_all_is_said() -> None:
    loaded = load_text("c.conf", "\n".join(CLIENT.splitlines()[:4]))
    assert loaded.nodes[0].egress.algorithm == "none" and said(
        loaded, Severity.WARNING, "encryption_algorithm"
    )


def test_a_key_instead_of_a_password() -> None:
    key = bytes(range(32))
    text = CLIENT.replace(
        "encryption_password=unguessable-1234", f"encryption_key={base64.b64encode(key).decode()}"
    )
    leg = load_text("c.conf", text).nodes[0].egress
    assert (leg.key, leg.password) == (key, b"")
    assert errors(text + "encryption_password=x\n") == [(7, "encryption_password")]


def test_password_from_the_service_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = tmp_path / "client.conf"
    file = "encryption_password_file=${CREDENTIALS_DIRECTORY}/secret"
    conf.write_text(CLIENT.replace("encryption_password=unguessable-1234", file))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    (problem,) = load([conf]).errors
    assert "no service manager gives credentials" in problem.reason and "LoadCredential=" in problem.hint
    (tmp_path / "creds").mkdir()
    (tmp_path / "creds" / "secret").write_bytes(b"from systemd\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "creds"))
    (node,) = load([conf]).nodes
    assert node.egress.password == b"from systemd"


def test_password_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b" a p\xe4ssword \r\n")
    (tmp_path / "secret").chmod(0o644)
    conf = tmp_path / "c.conf"
    text = QUIET_CLIENT.replace("encryption_password=unguessable-1234", "encryption_password_file=secret")
    conf.write_text(text)
    loaded = load([conf])
    assert loaded.nodes[0].egress.password == b" a p\xe4ssword "
    assert [p.hint for p in loaded.problems] == ["chmod 600"]
    (tmp_path / "secret").write_bytes(b"\n")
    assert [p.reason for p in load([conf]).errors] == ["the file is empty"]
    (tmp_path / "secret").unlink()
    assert [p.reason for p in load([conf]).errors] == ["cannot read the file: no such file or directory"]


def test_secrets_are_never_shown() -> None:
    key = base64.b64encode(b"geheim" * 5 + b"!!").decode()
    texts = {
        "a": CLIENT.replace("unguessable-1234", "geheim # x -> y")
        + "encryption_password=geheim\ngeheim\nxyz geheim\n",
        "b": CLIENT.replace("encryption_password=unguessable-1234", f"encryption_key={key}").replace(
            "59000", "59001"
        ),
        "c": CLIENT.replace("encryption_password=unguessable-1234", "encryption_key=geheim"),
        "d": CLIENT.replace("encryption_password=unguessable-1234", "encryption_password geheim"),
        "e": CLIENT.replace("unguessable-1234", "geheim").replace("59000", "59002")
        + "\nencryption_password\n",
        "f": RELAY.format(outside="encryption_password=geheim", listener="", forwarder=""),
    }
    loaded = load_texts(texts)
    shown = repr(loaded) + "".join(map(str, loaded.problems))
    assert "geheim" not in shown and key not in shown


def test_manual_needs_its_numbers() -> None:
    loaded = load_text("c.conf", CLIENT + "kcp=manual\nkcp_nc=1\n")
    assert [p.key for p in loaded.errors] == ["kcp_nodelay", "kcp_interval", "kcp_resend"]


def test_numbers_without_manual_are_said_not_to_count() -> None:
    loaded = load_text("c.conf", CLIENT + "kcp=fast1\nkcp_interval=10\nkcp_sndwnd=5\n")
    leg = loaded.nodes[0].egress
    assert (leg.kcp_interval_ms, leg.kcp_snd_wnd_segments, leg.kcp_rcv_wnd_segments) == (0, 5, 2048)
    assert [p.line for p in said(loaded, Severity.WARNING, "kcp_interval")] == [8]


def test_kcp_is_regular5_when_missing() -> None:
    leg = load_text("c.conf", CLIENT).nodes[0].egress
    row = (leg.kcp_nodelay, leg.kcp_interval_ms, leg.kcp_resend, leg.kcp_nc, leg.kcp_snd_wnd_segments)
    assert (leg.kcp, row) == ("regular5", (0, 30, 2, True, 1024))


def test_sizes() -> None:
    def datagram_bytes(more: str) -> int:
        return load_text("c.conf", CLIENT + more).nodes[0].egress.datagram_bytes

    assert datagram_bytes("") == 8972
    assert datagram_bytes("mtu=1500\n") == 1452
    assert datagram_bytes("mtu=1500\nipv4_only=1\n") == 1472
    assert datagram_bytes("mtu=1500\nkcp_mtu=1200\n") == 1200
    assert datagram_bytes("kcp_mtu=0\n") == 8972
    assert errors(CLIENT + "kcp_mtu=100\n") == [(7, "kcp_mtu")]


def test_address_families() -> None:
    assert errors(CLIENT + "ipv6_only=1\nipv4_only=1\n") == [(8, "ipv6_only")]
    assert errors(CLIENT + "ipv6_only=yes\n") == [(4, "destination_address")]
    loaded = load_text(
        "c.conf", QUIET_CLIENT.replace("192.0.2.1", "192.0.2.1,::1,a.example") + "ipv4_only=1\n"
    )
    assert loaded.nodes[0].egress.addresses == ("192.0.2.1", "a.example")
    assert [p.line for p in loaded.problems] == [4]
    node = load_text("c.conf", CLIENT + "ipv4_only=0\nipv6_only=no\n").nodes[0]
    assert not node.egress.ipv4_only and not node.egress.ipv6_only


def test_a_server_has_one_target() -> None:
    assert errors(SERVER.replace("8000", "8000,8001").replace("::1", "::1,::2")) == [
        (3, "destination_port"),
        (4, "destination_address"),
    ]


def test_a_client_listens_on_the_smallest_port() -> None:
    loaded = load_text("c.conf", CLIENT.replace("59000", "600,500-510"))
    assert loaded.nodes[0].ingress.ports == (500,)
    assert said(loaded, Severity.WARNING, "listen_port")


def test_stun_needs_one_port_and_address() -> None:
    loaded = load_text("s.conf", SERVER + "stun_server=stun.example\nlisten_on=::1,127.0.0.1\n")
    assert [(p.line, p.key) for p in loaded.errors] == [(7, "stun_server")] * 2


KEY = base64.b64encode(bytes(range(32))).decode()
ONE_PORT = (
    "mode=server\nlisten_port=3000\ndestination_port=1\ndestination_address=::1\n"
    f"encryption_key={KEY}\nencryption_algorithm=AES-GCM\n"
)


def test_stun_has_effect(tmp_path: Path) -> None:
    program = tmp_path / "update"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    loaded = load_text(
        "s.conf", ONE_PORT + f"stun_server=a.example\nupdate_ipv4={os.path.relpath(program)}\n"
    )
    assert loaded.problems == ()
    assert loaded.nodes[0].ingress.stun_server == "a.example"
    assert loaded.nodes[0].ingress.update_ipv4 == str(program), "from any directory, never from PATH"


@pytest.mark.parametrize("value", ["/none", "/"])
def test_what_cannot_be_run_is_said(value: str) -> None:
    loaded = load_text("s.conf", ONE_PORT + f"stun_server=a.example\nupdate_ipv6={value}\n")
    assert [(p.key, p.severity) for p in loaded.problems] == [("update_ipv6", Severity.WARNING)]


def test_programs_without_stun_are_said() -> None:
    (problem,) = load_text("s.conf", ONE_PORT + "update_ipv4=/bin/true\n").problems
    assert problem.severity is Severity.WARNING and "stun_server" in problem.reason


def test_log_path(tmp_path: Path) -> None:
    assert load_text("c.conf", CLIENT + f"log_path={tmp_path}\n").nodes[0].log_path == tmp_path
    assert errors(CLIENT + f"log_path={tmp_path}/none\n") == [(7, "log_path")]
    assert errors(CLIENT + f"log_path={__file__}\n") == [(7, "log_path")]


def test_own_keys() -> None:
    more = "udp_delivery=datagram\nmax_flows=9\nlog_level=DEBUG\nworkers=2\ndialect=native\n"
    node = load_text("c.conf", CLIENT + more).nodes[0]
    assert (node.max_flows, node.log_level, node.workers) == (9, "debug", 2)
    assert node.egress.udp_delivery is UdpDelivery.DATAGRAM
    assert load_text("s.conf", SERVER + "dial_timeout=5\n").nodes[0].egress.dial_timeout_s == 5
    assert node.ingress.udp_delivery is UdpDelivery.DATAGRAM and node.egress.dialect is Dialect.NATIVE


# mappings


def test_braces_need_mappings() -> None:
    assert errors(CLIENT.replace("59000", "{}")) == [(2, "listen_port")]
    assert errors(CLIENT + "listen_on={}\n") == [(7, "listen_on")]
    assert errors(CLIENT.replace("59000", "{}") + "[custom_input]\n:80 -> x\n") == [(8, "mapping")]


def test_mappings_alone() -> None:
    text = CLIENT.replace("59000", "{}") + "[custom_input_tcp]\n127.0.0.1:80 -> [::1]:8080\n"
    loaded = load_text("c.conf", text)
    assert loaded.problems == ()
    ingress = loaded.nodes[0].ingress
    assert (ingress.ports, len(ingress.mappings)) == ((), 1)
    assert errors("ipv6_only=1\n" + text.replace("192.0.2.1", "::1")) == [(9, "mapping")]


def test_mappings_beside_an_ordinary_port() -> None:
    more = "[custom_input]\n:80 -> [::1]:8080\n[custom_input_udp]\n:80->[::1]:53\nkcp=fast1\n"
    loaded = load_text("c.conf", QUIET_CLIENT + "listen_port={}\n" + more)
    node = loaded.nodes[0]
    assert node.ingress.ports == (59000,) and node.egress.kcp == "fast1"
    assert node.ingress.mappings == (
        Mapping("", 80, "::1", 8080, tcp=True, udp=False),
        Mapping("", 80, "::1", 53, tcp=False, udp=True),
    )
    assert [p.line for p in loaded.problems if p.severity is Severity.WARNING] == [12]


def test_a_mapped_port_that_is_taken_is_an_error() -> None:
    assert errors(CLIENT + "listen_port={}\n[custom_input_udp]\n:59000 -> a:1\n") == [(9, "listen_port")]


def test_a_server_whose_clients_choose() -> None:
    loaded = load_text("s.conf", SERVER.replace("8000", "{}"))
    leg = loaded.nodes[0].egress
    assert (leg.any_target, leg.ports, leg.allow_targets) == (True, (), None)
    assert [(p.line, p.severity) for p in loaded.problems] == [(3, Severity.WARNING)]


def test_a_server_with_a_default_and_limits() -> None:
    loaded = load_text("s.conf", SERVER + "destination_port={}\nallow_targets=10.0.0.0/8\n")
    leg = loaded.nodes[0].egress
    assert leg.any_target and leg.ports == (8000,) and leg.allow_targets is not None
    assert loaded.problems == ()


def test_a_mapping_outside_its_section_is_an_error() -> None:
    assert errors(CLIENT + ":80 -> a:80\n") == [(7, "")]


def test_mappings_that_are_not_switched_on_are_said() -> None:
    loaded = load_text("c.conf", QUIET_CLIENT + "[custom_input]\n:80 -> a:80\n")
    assert loaded.nodes[0].ingress.mappings == ()
    assert [p.severity for p in loaded.problems] == [Severity.WARNING]


# not in this version


@pytest.mark.parametrize(
    "line",
    [
        "fib_egress=1",
    ],
)
def test_keys_without_effect_are_noted(line: str) -> None:
    loaded = load_text("c.conf", QUIET_CLIENT + line)
    assert loaded.ok
    assert [(p.line, p.severity) for p in loaded.problems] == [(8, Severity.NOTE)]


@pytest.mark.parametrize(
    "line",
    [
        "fec=20:4",
        "fec=auto",
        "fec=0:0",
        "mux_tunnels=0",
        "mux_tunnels=3",
        "dport_refresh=600",
        "blast=0",
        "workers=1",
        "keep_alive=5",
        "kcp=auto",
    ],
)
def test_values_that_change_nothing_are_not_noted(line: str) -> None:
    assert load_text("c.conf", QUIET_CLIENT + line).problems == ()


@pytest.mark.parametrize(
    ("lines", "fec"),
    [
        ("", None),
        ("kcp=fast1\n", None),
        ("kcp=auto\n", FecConfig(auto=True, data_shards=0, parity_shards=0)),
        ("kcp=auto\nfec=off\n", None),
        ("kcp=auto\nfec=0:0\n", None),
        ("kcp=auto\nfec=20:4\n", FecConfig(auto=False, data_shards=20, parity_shards=4)),
        ("fec=auto\n", FecConfig(auto=True, data_shards=0, parity_shards=0)),
    ],
)
def test_where_the_rate_is_measured_redundancy_is_too(lines: str, fec: FecConfig | None) -> None:
    """kcptube knows no kcp=auto, so that its files mean what they meant."""
    assert load_text("c.conf", CLIENT + lines).nodes[0].egress.fec == fec


def test_a_txt_record_takes_the_place_of_address_and_port() -> None:
    text = "mode=client\nlisten_port=5\ndestination_dnstxt={}\nencryption_password=x\n"
    loaded = load_text("c.conf", text.format("A.example"))
    assert loaded.ok and loaded.nodes[0].egress.dnstxt == "a.example"
    assert loaded.nodes[0].egress.addresses == loaded.nodes[0].egress.ports == ()
    assert errors(text.format("192.0.2.7")) == [(3, "destination_dnstxt")]
    assert errors(CLIENT + "destination_dnstxt=a.example\n") == [
        (3, "destination_port"),
        (4, "destination_address"),
    ]


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("0.0.0.0", "every address"),
        ("::", "every address"),
        ("255.255.255.255", "many machines"),
        ("224.0.0.251", "many machines"),
        ("ff02::1%eth0", "many machines"),
        ("fe80::1", "its interface, as in fe80::1%eth0"),
    ],
)
def test_destinations_that_nothing_can_be_sent_to(address: str, why: str) -> None:
    for text in (CLIENT.replace("192.0.2.1", address), SERVER.replace("::1", address)):
        (found,) = load_text("a.conf", text).errors
        assert found.key == "destination_address" and why in found.reason and found.hint
    target = f"[{address}]" if ":" in address else address
    mapped = CLIENT.replace("59000", "{}") + f"[custom_input]\n:80 -> {target}:80\n"
    (found,) = load_text("a.conf", mapped).errors
    assert (found.line, found.key) == (8, "mapping") and why in found.reason


def test_a_link_local_destination_with_its_interface_is_fine() -> None:
    assert load_text("a.conf", CLIENT.replace("192.0.2.1", "fe80::1%eth0")).ok
