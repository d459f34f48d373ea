"""`kcpg keygen --pair` and `kcpg user`, without a node that runs."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from kcpg.app import cli, invitation
from kcpg.app.config import load, load_text
from kcpg.app.config.keypairs import read_private_key
from kcpg.app.config.model import NodeConfig, Role
from kcpg.app.invitation import Door, Invitation
from kcpg.app.rootkeys import derive, secret
from kcpg.core.native.handshake.keys import format_key, parse_key
from kcpg.core.native.handshake.noise import PrivateKey

SERVER = """mode=server
listen_port=3000-3010
destination_address=127.0.0.1
destination_port=80
private_key_file=server.key
users=users.conf
"""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing runs."""
    monkeypatch.setenv("KCPG_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The file of a server with a key pair and no users yet."""
    assert cli.main(["keygen", "--pair", str(tmp_path / "server.key")]) == 0
    capsys.readouterr()
    file = tmp_path / "server.conf"
    file.write_text(SERVER)
    file.chmod(0o600)
    return file


def user(server: Path, *words: str) -> int:
    return cli.main(["user", *words, "--config", str(server)])


def client_of(out: str) -> NodeConfig:
    """The client of the file that was printed; the invitation says the same."""
    text = out[out.index("# For the machine of the applications.") : out.index("\n\n# The same in one line")]
    printed = load_text("client.conf", text)
    assert printed.ok, printed.problems
    line = re.search(r"kcpg init '(\S+)'", out)
    assert line is not None
    told = load_text("client.conf", invitation.read(line[1]).configuration())
    assert told.nodes == printed.nodes
    return printed.nodes[0]


def test_a_pair_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "node.key"
    assert cli.main(["keygen", "--pair", str(file)]) == 0
    public = parse_key(capsys.readouterr().out)
    private, readable_by_others = read_private_key(tmp_path, "node.key")
    assert PrivateKey(private).public == public and not readable_by_others
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_text()
    assert cli.main(["keygen", "--pair", str(file)]) == 2 and file.read_text() == before
    assert "is there already" in capsys.readouterr().err
    assert cli.main(["keygen", "--pair", str(tmp_path / "no" / "file")]) == 1


def test_a_pair_on_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["keygen", "--pair"]) == 0
    out = capsys.readouterr().out
    (tmp_path / "node.key").write_text(out)
    private, _ = read_private_key(tmp_path, "node.key")
    found = re.search(r"public key: (\S+)", out)
    assert found is not None and parse_key(found[1]) == PrivateKey(private).public


def test_a_key_of_a_password_takes_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["keygen", "x"]) == 2 and "keygen --pair" in capsys.readouterr().err


def test_the_first_user(server: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert user(server, "add", "Ann", "expires=2030-01-31", "--server", "vpn.example.org") == 0
    out = capsys.readouterr().out
    client = client_of(out)
    loaded = load([server])
    assert loaded.ok, loaded.problems
    (ann,) = loaded.nodes[0].ingress.users
    assert ann.name == "ann" and ann.expires_s == 1_896_048_000
    theirs, ours = derive(secret(client.egress)), derive(secret(loaded.nodes[0].ingress))
    assert theirs.pair is not None and theirs.pair.own.public == ann.public_key
    assert theirs.psk == ours.psk and theirs.mask_c2s == ours.mask_c2s
    assert client.egress.addresses == ("vpn.example.org",) and client.egress.ports == tuple(range(3000, 3011))
    assert client.ingress.ports == (59000,) and "does not run now" in out
    assert stat.S_IMODE((server.parent / "users.conf").stat().st_mode) == 0o600


def test_the_next_user_is_told_the_same_place(server: Path, capsys: pytest.CaptureFixture[str]) -> None:
    user(server, "add", "ann", "--server", "192.0.2.1:4000,4001", "--listen", "1234")
    capsys.readouterr()
    assert user(server, "add", "ben", "--socks") == 0
    client = client_of(capsys.readouterr().out)
    assert (client.egress.addresses, client.egress.ports) == (("192.0.2.1",), (4000, 4001))
    assert client.ingress.socks_port == 1080
    assert [one.name for one in load([server]).nodes[0].ingress.users] == ["ann", "ben"]


def test_a_server_whose_clients_choose_makes_proxies(
    server: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.write_text(SERVER.replace("destination_port=80", "destination_port={}").replace(
        "destination_address=127.0.0.1\n", "encryption_algorithm=chacha20\n"))  # fmt: skip
    assert user(server, "add", "ann", "--server", "vpn.example.org") == 0
    client = client_of(capsys.readouterr().out)
    assert client.ingress.socks_port == 1080 and client.egress.algorithm == "chacha20"


def test_a_key_besides_is_in_the_invitation(server: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.write_text(SERVER + "encryption_key=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n")
    user(server, "add", "ann", "--server", "vpn.example.org")
    assert client_of(capsys.readouterr().out).egress.key == bytes(range(32))


def test_a_password_besides_is_in_the_file_alone(server: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.write_text(SERVER + "encryption_password=a long secret of two\n")
    user(server, "add", "ann", "--server", "vpn.example.org")
    out = capsys.readouterr().out
    assert "encryption_password=a long secret of two" in out and "kcpg://" not in out


def test_a_user_with_a_key_of_his_own(server: Path, capsys: pytest.CaptureFixture[str]) -> None:
    public = PrivateKey(b"a" * 32).public
    assert user(server, "add", "ann", f"public_key={format_key(public)}") == 0
    assert "private" not in capsys.readouterr().out
    assert load([server]).nodes[0].ingress.users[0].public_key == public


def test_another_key_and_no_user(server: Path, capsys: pytest.CaptureFixture[str]) -> None:
    user(server, "add", "ann", "max_links=3", "--server", "vpn.example.org")
    user(server, "add", "ben")
    before = load([server]).nodes[0].ingress.users
    capsys.readouterr()
    assert user(server, "rotate", "ann") == 0
    client = client_of(capsys.readouterr().out)
    after = load([server]).nodes[0].ingress.users
    pair = derive(secret(client.egress)).pair
    assert pair is not None and after[0].public_key == pair.own.public != before[0].public_key
    assert after[0].max_links == 3 and after[1] == before[1]
    assert user(server, "remove", "ann") == 0
    assert load([server]).nodes[0].ingress.users == (before[1],)


def test_what_is_shown(server: Path, capsys: pytest.CaptureFixture[str]) -> None:
    user(server, "add", "ann", "expires=2001-01-01", "--server", "vpn.example.org")
    user(server, "add", "ben", "disabled=yes")
    user(server, "add", "carl", "expires=2100-01-01")
    user(server, "add", "dora")
    capsys.readouterr()
    user(server, "show")
    assert capsys.readouterr().out.splitlines() == [
        "ann: expired on 2001-01-01 00:00 UTC",
        "ben: disabled",
        "carl: may have links until 2100-01-01 00:00 UTC",
        "dora: may have links",
    ]
    user(server, "show", "ben")
    out = capsys.readouterr().out
    assert out.startswith("[ben]\npublic_key=") and out.endswith("disabled=yes\n# disabled\n")


def test_a_directory_of_users(server: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (server.parent / "users.d").mkdir()
    server.write_text(SERVER.replace("users.conf", "users.d"))
    for name in ("ann", "ben"):
        assert user(server, "add", name, "--server", "vpn.example.org") == 0
    files = server.parent / "users.d"
    assert sorted(one.name for one in files.iterdir()) == ["ann.conf", "ben.conf"]
    assert user(server, "rotate", "ben", "--server", "vpn.example.org") == 0
    assert user(server, "remove", "ann") == 0
    assert [one.name for one in files.iterdir()] == ["ben.conf"]
    assert [one.name for one in load([server]).nodes[0].ingress.users] == ["ben"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add",), "the user's name is missing"),
        (("add", "ann"), "where do users find this node?"),
        (("add", "a/b", "--server", "x"), "is not a name"),
        (("add", ".x", "--server", "x"), "is not a name"),
        (("add", "ann", "quota"), "'quota' is no setting of a user"),
        (("add", "ann", "expires=soon", "--server", "x"), "'soon' is no date"),
        (("add", "ann", "--server", "x:y"), "'x:y'"),
        (("remove", "ann"), "there is no user 'ann'"),
        (("rotate", "ann"), "there is no user 'ann'"),
        (("rotate", "ann", "max_links=2"), "rotate takes no settings"),
        (("melt", "ann"), "invalid choice"),
    ],
)
def test_mistakes(
    server: Path, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (server.parent / "users.conf").write_text("")
    assert user(server, *words) == 2
    assert said in capsys.readouterr().err
    assert (server.parent / "users.conf").read_text() == ""


def test_nodes_without_users(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.conf"
    file.write_text(SERVER.replace("users=users.conf\n", ""))
    assert user(file, "show") == 2 and "has no users" in capsys.readouterr().err
    assert cli.main(["user", "show"]) == 2 and "no node with users runs" in capsys.readouterr().err


def test_an_invitation_with_a_part_missing_is_refused() -> None:
    door = Door(b"", ("host",), (3000,), private=b"p" * 32, listener=PrivateKey(b"l" * 32).public)
    node = Invitation(Role.CLIENT, door, listen=1)
    assert invitation.read(node.line()) == node
    for wrong in (node.line().replace(".", "", 1), node.line()[:40] + node.line()[44:]):
        with pytest.raises(Exception, match="cut off or mistyped"):
            invitation.read(wrong)
