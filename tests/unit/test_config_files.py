"""Whole configuration files: the chain, the grammar, several files at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from kcpg.app.config import Severity, load, load_text, load_texts
from kcpg.app.config.model import Action, LegKind, Role
from tests.unit.config_texts import CLIENT, QUIET_CLIENT, SERVER, errors, relay, said

ROOT = Path(__file__).parents[2]


# the chain


@pytest.mark.parametrize("name", ["client", "relay", "relay-shared", "server"])
def test_seed_files_are_accepted(name: str) -> None:
    loaded = load([ROOT / "configs" / "seed" / f"{name}.conf"])
    assert loaded.ok and len(loaded.nodes) == 1


def test_seed_relay_says_how_it_was_read() -> None:
    loaded = load([ROOT / "configs/seed/relay.conf"])
    said = [problem for problem in loaded.problems if problem.key != "encryption_password"]
    assert [(p.line, p.key, p.severity) for p in said] == [
        (12, "outbound_bandwidth", Severity.WARNING),
        (17, "udp_timeout", Severity.WARNING),
    ]
    assert "read '300MM' as 300M" in said[0].reason
    node = loaded.nodes[0]
    assert node.role is Role.RELAY
    assert (node.ingress.algorithm, node.egress.algorithm) == ("AES-GCM", "AES-OCB")
    assert (node.ingress.kcp_nodelay, node.egress.kcp_nodelay) == (1, 2)
    assert node.egress.outbound_bps == 300 * 1024**2
    assert node.ingress.ports == tuple(range(3000, 3011))


def test_seed_shared_relay_has_the_same_on_both_legs() -> None:
    node = load([ROOT / "configs/seed/relay-shared.conf"]).nodes[0]
    for leg in (node.ingress, node.egress):
        assert (leg.kcp, leg.outbound_bps, leg.password, leg.algorithm) == (
            "fast1",
            300 * 1024**2,
            b"qwerty1234",
            "AES-GCM",
        )


def test_example_chain_warns_of_its_passwords_alone_and_fits_together() -> None:
    loaded = load([ROOT / "configs" / f"{name}.conf" for name in ("client", "relay", "server")])
    assert {(p.key, p.severity) for p in loaded.problems} == {("encryption_password", Severity.WARNING)}
    assert sum("is published" in p.reason for p in loaded.problems) == 4
    client, middle, server = loaded.nodes
    for near, far in ((client.egress, middle.ingress), (middle.egress, server.ingress)):
        assert (near.ports, near.algorithm, near.password) == (far.ports, far.algorithm, far.password)
        assert near.addresses == far.addresses == ("127.0.0.1",)


def test_legs_of_the_roles() -> None:
    client, server = load_texts({"c.conf": CLIENT, "s.conf": SERVER}).nodes
    assert (client.ingress.kind, client.ingress.action) == (LegKind.LOCAL, Action.LISTEN)
    assert (client.egress.kind, client.egress.action) == (LegKind.TUNNEL, Action.DIAL)
    assert (server.ingress.kind, server.ingress.action) == (LegKind.TUNNEL, Action.LISTEN)
    assert (server.egress.kind, server.egress.action) == (LegKind.LOCAL, Action.DIAL)
    assert (server.egress.addresses, server.egress.ports) == (("::1",), (8000,))
    node = relay().nodes[0]
    assert (node.ingress.section, node.egress.section) == ("listener", "forwarder")


# grammar


def test_line_ends_marks_blanks_and_case() -> None:
    text = "\ufeff  MODE = Client\t\r\n\r\n# x\r\n #y\r\n" + QUIET_CLIENT.replace(
        "mode=client\n", ""
    ).replace("\n", "\r\n")
    loaded = load_text("c.conf", text)
    assert loaded.problems == () and loaded.nodes[0].egress.password == b"unguessable-1234"


@pytest.mark.parametrize("password", [b"p\xe4ss", "pä€ss".encode(), b"a=b -> c:1", b"[x]", b"\xff\xfe\x01"])
def test_passwords_are_bytes(password: bytes) -> None:
    loaded = load_text("c.conf", CLIENT.encode().replace(b"unguessable-1234", password))
    assert loaded.ok and loaded.nodes[0].egress.password == password


def test_a_trailing_comment_counts_for_text_only() -> None:
    loaded = load_text(
        "c.conf",
        QUIET_CLIENT.replace("unguessable-1234", "abcdefghijkl # x") + "kcp=fast1 # y\nudp_timeout=20 # z\n",
    )
    leg = loaded.nodes[0].egress
    assert (leg.password, leg.kcp, leg.udp_timeout_s) == (b"abcdefghijkl # x", "fast1", 20)
    assert [p.severity for p in loaded.problems] == [Severity.WARNING] * 3


def test_unknown_keys_get_a_suggestion() -> None:
    loaded = load_text("c.conf", CLIENT + "encryption_pasword=geheim\n")
    (problem,) = loaded.errors
    assert (problem.file, problem.line, problem.key) == ("c.conf", 7, "encryption_pasword")
    assert problem.hint == "did you mean 'encryption_password'?"
    assert (
        str(problem)
        == "c.conf:7: error: encryption_pasword: unknown key (did you mean 'encryption_password'?)"
    )
    assert loaded.nodes == ()


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("listener", "write [listener]"),
        ("[ listener ]", "did you mean '[listener]'?"),
        ("[forwader]", "did you mean '[forwarder]'?"),
        ("[listen_on", "a comment begins with #"),
        ("listen_on 127.0.0.1", "write listen_on=…"),
        ("listen_on: 127.0.0.1", "write listen_on=…"),
        ("listen\u00a0_on=1", "it contains the character U+00A0; retype the key"),
        ("=5", "there is no key before '='"),
    ],
)
def test_slips_of_lines_have_hints(line: str, hint: str) -> None:
    found = [p for p in relay(listener=line).errors if p.line == 7]
    assert [p.hint for p in found] == [hint]


def test_the_last_of_two_lines_counts() -> None:
    loaded = load_text("c.conf", CLIENT + "kcp=fast1\nkcp=fast2\n")
    assert loaded.nodes[0].egress.kcp == "fast2"
    assert [p.line for p in said(loaded, Severity.WARNING, "kcp")] == [8]


def test_mode_is_needed_once() -> None:
    assert errors("") == [(0, "mode")]
    assert errors("mode=\n") == [(0, "mode")]
    assert errors("mode=sever\n") == [(1, "mode")]
    assert (2, "mode") in errors("mode=client\nmode=client\n")
    assert load_text("a", "[listener]\n").errors[0].hint == "mode=relay"


def test_lines_are_checked_even_without_a_mode() -> None:
    assert errors("listen_port=x\nfoo=1\n") == [(0, "mode"), (1, "listen_port"), (2, "foo")]


@pytest.mark.parametrize("data", [b"\xff\xfem\0o\0", b"mode=client\0", b"#" * (1 << 20) + b"#"])
def test_what_is_no_text_is_a_problem(data: bytes) -> None:
    assert errors(data) == [(0, ""), (0, "mode")] or errors(data) == [(0, "")]


def test_an_empty_value_is_a_warning() -> None:
    loaded = load_text("c.conf", QUIET_CLIENT + "mtu=\n")
    assert loaded.ok and [p.severity for p in loaded.problems] == [Severity.WARNING]


def test_unreadable_files_are_problems(tmp_path: Path) -> None:
    good = tmp_path / "good.conf"
    good.write_text(CLIENT)
    loaded = load([tmp_path / "none.conf", good, tmp_path])
    assert [(p.file, p.reason) for p in loaded.errors] == [
        (str(tmp_path / "none.conf"), "the file cannot be read: no such file or directory"),
        (str(tmp_path), "the file cannot be read: is a directory"),
    ]
    assert [node.name for node in loaded.nodes] == ["good"]


def test_all_problems_of_all_files_come_at_once() -> None:
    loaded = load_texts(
        {"a": CLIENT + "foo=1\nkcp=fast9\n", "b": SERVER + "kcp_sndwnd=-1\n[listener]\nmtu=x\n"}
    )
    assert [(p.file, p.line) for p in loaded.errors] == [("a", 7), ("a", 8), ("b", 7), ("b", 8), ("b", 9)]


# several files


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        ("", "", True),
        ("listen_on=127.0.0.1\n", "", True),
        ("listen_on=127.0.0.1\n", "listen_on=0.0.0.0\n", True),
        ("listen_on=127.0.0.1\n", "listen_on=127.0.0.2\n", False),
        ("listen_on=::1\n", "listen_on=0.0.0.0\n", False),
        ("ipv4_only=1\n", "listen_on=::1\n", False),
        ("listen_on=a.example\n", "listen_on=A.example\n", True),
    ],
)
def test_two_nodes_cannot_have_one_port(first: str, second: str, clash: bool) -> None:
    loaded = load_texts({"a.conf": CLIENT + first, "b.conf": CLIENT + second})
    found = [(p.file, p.line, p.key) for p in loaded.errors]
    assert found == ([("b.conf", 2, "listen_port")] if clash else [])


def test_ranges_that_meet_are_one_error() -> None:
    loaded = load_texts({"a.conf": SERVER, "b.conf": SERVER.replace("13000-13010", "13010-13020")})
    assert [p.reason for p in loaded.errors] == ["line 2 of a.conf already uses port 13010"]


@pytest.mark.parametrize(
    ("client", "address", "port", "loops"),
    [
        ("", "::1", 59000, True),
        ("", "127.0.0.1", 59000, True),
        ("", "localhost", 59000, True),
        ("", "::1", 8000, False),
        ("", "192.0.2.5", 59000, False),
        ("listen_on=192.0.2.5\n", "192.0.2.5", 59000, True),
        ("listen_on=192.0.2.5\n", "::1", 59000, False),
        ("ipv4_only=1\n", "::1", 59000, False),
        ("ipv4_only=1\n", "localhost", 59000, True),
        ("listen_port={}\n[custom_input_tcp]\n:7000-7010 -> example.org:7000-7010\n", "::1", 7005, True),
    ],
)
def test_a_server_whose_target_is_a_client_of_the_process(
    client: str, address: str, port: int, loops: bool
) -> None:
    files = {"c.conf": CLIENT + client, "s.conf": SERVER.replace("::1", address).replace("8000", str(port))}
    for order in (files, dict(reversed(files.items()))):
        found = load_texts(order).errors
        where = [("s.conf", 3, "destination_port")] if loops else []
        assert [(p.file, p.line, p.key) for p in found] == where
        assert all("of c.conf listens on" in p.reason and "use another port" in p.hint for p in found)


def test_a_client_whose_next_node_is_itself() -> None:
    text = CLIENT.replace("192.0.2.1", "127.0.0.1").replace("59000", "3005")
    (found,) = load_texts({"c.conf": text}).errors
    assert (found.line, found.key) == (3, "destination_port") and "port 3005 of this machine" in found.reason


def test_a_server_may_have_the_target_of_its_own_number() -> None:
    """UDP of the tunnel and TCP of a web server, for example, share 443."""
    assert load_texts({"s.conf": SERVER.replace("13000-13010", "8000")}).ok


def test_names_of_nodes_are_unique() -> None:
    files = {"a/x.conf": CLIENT, "b/x.conf": CLIENT.replace("59000", "59001"), "x": SERVER}
    assert [node.name for node in load_texts(files).nodes] == ["x", "x-2", "x-3"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('listen_port="59000"', "write the value without quotes"),
        ("destination_address=https://vps.example.org:8443/x", "write the name alone: vps.example.org"),
        (":90 => 192.0.2.1:80", "a mapping stands below [custom_input]"),
        ("kcp=fast", "fast1 to fast6; auto adapts"),
        ("kcp=regular", "regular1 to regular5"),
    ],
)
def test_a_mistake_is_told_with_the_last_step(line: str, says: str) -> None:
    problems = load_text("c.conf", f"{CLIENT}\n{line}\n").errors
    assert [problem for problem in problems if says in problem.hint], problems


def test_quotes_of_a_password_are_remarked_but_not_shown() -> None:
    found = load_text("c.conf", f'{CLIENT}\nencryption_password="unguessable too"\n')
    assert found.ok and found.nodes[0].egress.password == b'"unguessable too"'
    (remark,) = [problem for problem in found.problems if "quotes" in problem.reason]
    assert "unguessable" not in str(remark)


def test_a_log_has_its_own_word_for_the_severity() -> None:
    (problem,) = load_text("c.conf", f"{CLIENT}\nnonsense=1\n").errors
    assert problem.unrated == str(problem).replace(": error: ", ": ", 1) and "error" not in problem.unrated
