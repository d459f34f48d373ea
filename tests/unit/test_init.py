"""`kcpg init`: a tunnel from nothing, and what its invitations hold."""

from __future__ import annotations

import io
import re
import stat
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kcpg.app import adhoc, cli, init, invitation, parsers
from kcpg.app.config import load, load_text
from kcpg.app.config.model import LegConfig, Role
from kcpg.errors import UsageError

NO_WARNING = {"destination_port", "destination_address", "allow_targets"}  # of a server with {}


def keys():
    """Numbers instead of entropy."""
    number = 0

    def entropy(size):
        nonlocal number
        number += 1
        return bytes([number]) * size

    return entropy


def one(node):
    """The node of an invitation, as a configuration file gives it."""
    loaded = load_text(f"{node.role.value}.conf", node.configuration())
    assert loaded.ok, loaded.problems
    return loaded.nodes[0]


def meets(dialer: LegConfig, listener: LegConfig) -> bool:
    """Whether one dials what the other listens at, with its key."""
    return (dialer.key, dialer.algorithm, dialer.ports) == (listener.key, listener.algorithm, listener.ports)


@pytest.mark.parametrize("relays", [0, 1, 3])
def test_every_node_meets_the_next(relays):
    wish = init.Wish(
        server="server.example.org", relays=tuple(f"r{i}.example.org:40{i:02}" for i in range(relays))
    )
    nodes = init.tunnel(wish, keys())
    assert [node.role for node in nodes] == [Role.SERVER, *[Role.RELAY] * relays, Role.CLIENT]
    configs = [one(node) for node in nodes]
    for nearer, node in zip(configs[1:], configs, strict=False):
        assert meets(nearer.egress, node.ingress)
        assert node.ingress.algorithm == "AES-GCM" and nearer.egress.kcp_auto
    assert configs[-1].egress.addresses == ("r0.example.org" if relays else "server.example.org",)
    assert len({config.ingress.key for config in configs[:-1]}) == relays + 1, "a key for each tunnel"


@pytest.mark.parametrize(
    "wish",
    [
        init.Wish(server="192.0.2.1", target="[::1]:22", listen="2222"),
        init.Wish(server="[2001:db8::1]:443", socks=1080),
        init.Wish(server="2001:db8::1", ports="3000,4000-4010"),
        init.Wish(server="a.example,b.example:5000", relays=("[2001:db8::2]:53",)),
        init.Wish(server="bücher.example"),
    ],
)
def test_an_invitation_is_the_whole_node(wish):
    for node in init.tunnel(wish, keys()):
        line = node.line()
        assert invitation.is_invitation(line) and len(line) < invitation.LENGTH_MAX
        assert re.fullmatch(r"[!-~]+", line) and "'" not in line, "one word of a shell between single quotes"
        assert invitation.read(line) == node
        assert invitation.read(line[:20] + "\n  " + line[20:]) == node, "broken by a mail"
        assert one(invitation.read(line)) is not None


def lines():
    return [node.line() for node in init.tunnel(init.Wish(server="h.example", relays=("r.example",)), keys())]


@given(st.integers(0, 2), st.data())
def test_a_damaged_invitation_is_refused(which, data):
    line = lines()[which]
    at = data.draw(st.integers(0, len(line) - 1))
    char = data.draw(st.characters(min_codepoint=33, max_codepoint=126).filter(lambda c: c != line[at]))
    for damaged in (line[:at], line[:at] + char + line[at + 1 :]):
        if damaged.lower() == line.lower() and at < len(invitation.PREFIX):
            continue
        with pytest.raises(UsageError) as refused:
            invitation.read(damaged)
        assert line[10:40] not in str(refused.value), "it holds a key"


@pytest.mark.parametrize(
    "body",
    [
        "kcpg://{key}@h:3000/client",
        "kcpg://{key}@h:3000/client?listen=1-5",
        "kcpg://{key}@h:3000/client?listen=59000&update_ipv4=/bin/sh",
        "kcpg://{key}@h:3000/server",
        "kcpg://{key}@h:3000/server?target=x%0Alog_path=/",
        "kcpg://{key}@h:3000/relay",
        "kcpg://{key}@h:3000/relay?next=h:3000",
        "kcpg://{key}@h/client?listen=1",
        "kcpg://short@h:3000/client?listen=1",
        "kcpg://{key}@h:3000/toaster",
        "kcpg://{key}@[::1:3000/client?listen=1",
    ],
)
def test_what_an_invitation_may_not_say(body):
    body = body.format(key="A" * 43)
    with pytest.raises(UsageError):
        invitation.read(f"{body}#{invitation._check(body)}")


def call(*words):
    return cli.main(["init", *map(str, words)])


def test_both_ends_from_one_command(tmp_path, capsys):
    assert call("--server", "vpn.example.org", "--directory", tmp_path / "here") == 0
    out = capsys.readouterr().out
    files = [tmp_path / "here" / name for name in ("server.conf", "client.conf")]
    loaded = load(files)
    assert loaded.ok and not loaded.problems, "an example is free of remarks"
    server, client = loaded.nodes
    assert meets(client.egress, server.ingress)
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    made = re.findall(r"kcpg init '(\S+)'", out)
    assert len(made) == 2
    there = tmp_path / "there"
    for line in made:
        assert call(line, "--directory", there) == 0
    for file in files:
        assert (there / file.name).read_text() == file.read_text()
    assert "kcpg --try" in capsys.readouterr().out


def test_a_chain_with_relays_and_a_proxy(tmp_path, capsys):
    words = ["--server", "s.example", "--relay", "r1.example", "--relay", "r2.example:53", "--socks"]
    assert call(*words, "--directory", tmp_path) == 0
    names = {"server.conf", "relay-1.conf", "relay-2.conf", "client.conf"}
    assert {file.name for file in tmp_path.iterdir()} == names
    each = [load([tmp_path / name]) for name in sorted(names)]  # they are for machines of their own
    assert {problem.key for loaded in each for problem in loaded.problems} <= NO_WARNING
    client, first, second, server = (node for loaded in each for node in loaded.nodes)
    assert client.egress.addresses == ("r1.example",) and first.egress.addresses == ("r2.example",)
    assert second.ingress.ports == (53,) and server.egress.any_target
    assert client.ingress.socks_port == 1080 and "proxy at 127.0.0.1:1080" in capsys.readouterr().out


def test_nothing_is_overwritten(tmp_path, capsys):
    (tmp_path / "client.conf").write_text("precious")
    assert call("--server", "h.example", "--directory", tmp_path) == 2
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "client.conf").read_text() == "precious" and not (tmp_path / "server.conf").exists()
    assert call("--server", "h.example", "--directory", tmp_path, "--force") == 0
    assert "mode=client" in (tmp_path / "client.conf").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the server's address is missing"),
        (["--server", "http://x/"], "is not a number"),
        (["--server", "h.example", "--target", "127.0.0.1"], "has no port"),
        (["--server", "h.example", "--socks", "--target", "127.0.0.1:80"], "excludes"),
        (["--server", "h.example", "--ports", "0"], "not in 1-65535"),
        (["--server", "h.example", "--socks", "0"], "is not a port"),
        (["nonsense"], "this is no invitation"),
        (["kcpg://abc"], "cut off or mistyped"),
        (["kcpg://abc", "--server", "h.example"], "says all about the tunnel"),
        (
            [word for i in range(17) for word in ("--relay", f"r{i}.example")] + ["--server", "h"],
            "at most 16",
        ),
    ],
)
def test_mistakes(words, said, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert call(*words, "--directory", tmp_path) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("answers", "target", "socks"),
    [("h.example\n\n\n\n\n", "127.0.0.1", 0), ("h.example\n5000\nsocks\n\n", "", 1080)],
)
def test_it_asks_for_what_was_not_said(answers, target, socks, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Terminal(answers))
    assert call("--directory", tmp_path, "--no-qr") == 0
    server, client = load([tmp_path / "server.conf", tmp_path / "client.conf"]).nodes
    assert server.egress.addresses == ((target,) if target else ()) and client.ingress.socks_port == socks
    monkeypatch.setattr(sys, "stdin", Terminal("h.example\n"))
    assert call("--directory", tmp_path / "other") == 2, "the input ends"


def test_the_code_to_scan_is_the_invitation(tmp_path, capsys):
    segno = pytest.importorskip("segno")
    assert call("--server", "h.example", "--directory", tmp_path, "--qr") == 0
    out = capsys.readouterr().out
    line = re.findall(r"kcpg init '(\S+client\S+)'", out)[0]
    drawn = io.StringIO()
    segno.make(line, error="l", micro=False).terminal(drawn, compact=True, border=2)
    assert drawn.getvalue() in out


def test_a_place_that_cannot_be_written(capsys):
    assert call("--server", "h.example", "--directory", "/proc/nowhere") == 1
    assert "cannot write" in capsys.readouterr().err
    assert not Path("/proc/nowhere").exists()


# -- without a file --


def client_line():
    return init.tunnel(init.Wish(server="h.example", socks=1080), keys())[-1].line()


def adhoc_node(forwards, proxies):
    loaded = load_text("client.conf", adhoc.configuration(client_line(), forwards, proxies))
    assert loaded.ok, loaded.problems
    return loaded.nodes[0].ingress


def test_forwards_and_a_proxy_as_of_ssh():
    leg = adhoc_node(["8080:intranet:80", "*:5353:[2001:db8::1]:53", "[::1]:22:10.0.0.1:22"], ["9050"])
    assert [(m.listen_address, m.listen_port, m.target_address, m.target_port) for m in leg.mappings] == [
        ("127.0.0.1", 8080, "intranet", 80),
        ("", 5353, "2001:db8::1", 53),
        ("::1", 22, "10.0.0.1", 22),
    ]
    assert (leg.socks_port, leg.addresses, leg.ports) == (9050, ("127.0.0.1",), ())
    plain = adhoc_node(["192.0.2.5:8000"], [])
    assert (plain.ports, plain.addresses, plain.socks_port, plain.mappings) == (
        (8000,),
        ("192.0.2.5",),
        0,
        (),
    )
    assert adhoc_node([], []).socks_port == 1080, "its own, without options"
    assert adhoc_node([], ["*:1080"]).addresses == ("0.0.0.0", "::")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-L", "8080:intranet"], "is not"),
        (["-L", "1:2:3:4:5"], "is none"),
        (["-L", "8080:intranet:99999"], "not in 1-65535"),
        (["-D", "a:b:c"], "is none"),
        (["-D", "1080", "-D", "1081"], "once"),
        (["-D", "127.0.0.2:1080", "-L", "8000"], "one address"),
        (["x.conf"], "stands alone"),
    ],
)
def test_mistakes_without_a_file(words, said, capsys):
    assert cli.main(["--check-config", client_line(), *words]) == 2
    assert said in capsys.readouterr().err


def test_a_file_takes_no_forwards_and_other_roles_need_a_file(tmp_path, capsys, monkeypatch):
    assert cli.main(["client.conf", "-D", "1080"]) == 2
    assert "need an invitation" in capsys.readouterr().err
    server = init.tunnel(init.Wish(server="h.example"), keys())[0].line()
    assert cli.main([server]) == 2
    assert "invites a server" in capsys.readouterr().err


def test_the_invitation_may_stand_in_the_environment(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv(parsers.INVITATION_VARIABLE, client_line())
    assert cli.main(["--check-config", "-D", "1080"]) == 0
    assert not list(tmp_path.iterdir()), "the file is gone"
    monkeypatch.setenv(parsers.INVITATION_VARIABLE, "")
    assert cli.main(["--check-config", "-D", "1080"]) == 2
