"""Key pairs and users in configuration files."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from kcpg.app import legsettings, legsettings_native
from kcpg.app.config import load, load_text
from kcpg.app.config.model import LegConfig, Loaded, Severity, UserConfig
from kcpg.app.config.report import Report
from kcpg.app.config.users import USER_KEYS, read_text
from kcpg.app.rootkeys import derive, secret
from kcpg.core.flow import Target
from kcpg.core.native.handshake.noise import PrivateKey
from kcpg.net import addr

PRIVATE = bytes(range(32))
KEY = base64.b64encode(PRIVATE).decode()
PUBLIC = PrivateKey(PRIVATE).public
SERVER_KEY = base64.b64encode(PUBLIC).decode()
ANN = base64.b64encode(PrivateKey(b"a" * 32).public).decode()
BEN = base64.b64encode(PrivateKey(b"b" * 32).public).decode()

SERVER = "mode=server\nlisten_port=3000\ndestination_address=127.0.0.1\ndestination_port=80\n"
CLIENT = (
    "mode=client\nlisten_on=127.0.0.1\nlisten_port=5000\n"
    "destination_address=127.0.0.1\ndestination_port=3000\n"
)
USERS = f"[ann]\npublic_key={ANN}\n[ben]\npublic_key={BEN}\n"


def written(directory: Path, text: str, users: str = USERS) -> Path:
    """A configuration file, with the files that it may name beside it."""
    for name, content in (("node.conf", text), ("users.conf", users), ("node.key", f"# ours\n{KEY}\n")):
        file = directory / name
        file.write_text(content, encoding="utf-8")
        file.chmod(0o600)
    return directory / "node.conf"


def said(loaded: Loaded, severity: Severity = Severity.ERROR) -> list[str]:
    """What was found, without the directory."""
    return [
        f"{os.path.basename(p.file)}:{p.line} {p.key}: {p.reason}"
        for p in loaded.problems
        if p.severity is severity
    ]


def good(directory: Path, text: str, users: str = USERS) -> tuple[LegConfig, LegConfig]:
    loaded = load([written(directory, text, users)])
    assert loaded.ok, loaded.problems
    return loaded.nodes[0].ingress, loaded.nodes[0].egress


def test_a_server_with_users(tmp_path: Path) -> None:
    listener, _ = good(tmp_path, SERVER + "private_key_file=node.key\nusers=users.conf\n")
    assert listener.private_key == PRIVATE and listener.algorithm == "AES-GCM"
    assert [(one.name, base64.b64encode(one.public_key).decode()) for one in listener.users] == [
        ("ann", ANN),
        ("ben", BEN),
    ]
    settings = legsettings_native.listen_settings(listener, 100)
    assert [one.name for one in settings.users] == ["ann", "ben"]
    keys = derive(secret(listener))
    assert keys.pair is not None and keys.pair.own.public == PUBLIC and not keys.pair.listener


def test_a_client_of_it(tmp_path: Path) -> None:
    _, dialer = good(tmp_path, CLIENT + f"private_key_file=node.key\nserver_key={SERVER_KEY}\n")
    keys = derive(secret(dialer))
    assert keys.pair is not None and keys.pair.listener == PUBLIC
    _, inline = good(tmp_path, CLIENT + f"private_key={KEY}\nserver_key={SERVER_KEY}\n")
    assert derive(secret(inline)) == keys and inline == dialer


def test_both_ends_of_a_secret_besides_have_the_same_keys(tmp_path: Path) -> None:
    more = f"encryption_key={KEY}\n"
    listener, _ = good(tmp_path, SERVER + more + "private_key_file=node.key\nusers=users.conf\n")
    _, dialer = good(tmp_path, CLIENT + more + f"private_key_file=node.key\nserver_key={SERVER_KEY}\n")
    one, other = derive(secret(listener)), derive(secret(dialer))
    assert one.psk == other.psk and one.mask_c2s == other.mask_c2s
    without, _ = good(tmp_path, SERVER + "private_key_file=node.key\nusers=users.conf\n")
    assert derive(secret(without)).psk != one.psk


def test_a_relay_has_users_and_is_one(tmp_path: Path) -> None:
    text = (
        "mode=relay\n[listener]\nlisten_port=3001\nprivate_key_file=node.key\nusers=users.conf\n"
        "[forwarder]\ndestination_address=127.0.0.1\ndestination_port=3000\n"
        f"private_key={KEY}\nserver_key={SERVER_KEY}\n"
    )
    listener, forwarder = good(tmp_path, text)
    assert len(listener.users) == 2 and forwarder.server_key == PUBLIC and not forwarder.users


def test_what_a_section_says(tmp_path: Path) -> None:
    text = (
        f"# remarks\n[Ann]\npublic_key={ANN}\nexpires=2030-01-31\ndisabled=yes\noutbound_bandwidth=8m\n"
        "inbound_bandwidth=1M\nmax_links=3\nmax_flows=500\nallow_targets=10.0.0.0/8:22,*.example.org\n"
    )
    listener, _ = good(tmp_path, SERVER + "private_key_file=node.key\nusers=users.conf\n", text)
    (ann,) = listener.users
    assert (ann.name, ann.expires_s, ann.disabled) == ("ann", 1_896_048_000, True)
    assert (ann.outbound_bps, ann.inbound_bps) == (8_000_000, 1 << 20)
    assert (ann.max_links, ann.max_flows) == (3, 500)
    allowed = legsettings.users_targets(listener)["ann"]
    inside, outside = addr.pack("10.1.2.3", 22), addr.pack("192.0.2.1", 22)
    assert allowed.permits(Target("10.1.2.3", 22), inside)
    assert not allowed.permits(Target("192.0.2.1", 22), outside)
    core = legsettings_native.users(listener)[0]
    assert (core.max_links, core.outbound_bps, core.expires_s) == (3, 8_000_000, 1_896_048_000)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2030-01-31", 1_896_048_000),
        ("2030-01-31T02:00+02:00", 1_896_048_000),
        ("2030-01-31 00:00:05Z", 1_896_048_005),
    ],
)
def test_moments(text: str, seconds: int) -> None:
    report = Report("users.conf")
    (user,) = read_text(f"[ann]\npublic_key={ANN}\nexpires={text}\n".encode(), report)
    assert user.expires_s == seconds and not report.found


def test_a_directory_of_files(tmp_path: Path) -> None:
    directory = tmp_path / "users.d"
    directory.mkdir()
    (directory / "2.conf").write_text(f"[ben]\npublic_key={BEN}\n")
    (directory / "1.conf").write_text(f"[ann]\npublic_key={ANN}\n")
    (directory / ".1.conf.new").write_text("half of a file")
    (directory / "README").write_text("no users here")
    listener, _ = good(tmp_path, SERVER + "private_key_file=node.key\nusers=users.d\n")
    assert [one.name for one in listener.users] == ["ann", "ben"]
    (directory / "3.conf").write_text(f"[ann]\npublic_key={SERVER_KEY}\n[carl]\npublic_key={BEN}\n")
    loaded = load([tmp_path / "node.conf"])
    first = directory / "1.conf"
    assert said(loaded) == [
        "node.conf:6 users: a file of users has errors",
        f"3.conf:1 [ann]: is a user already, in {first}:1",
        "3.conf:3 [carl]: has the public key of ben, and a key is one user",
    ]


@pytest.mark.parametrize(
    ("users", "problem"),
    [
        ("[ann]\nexpires=2030-01-01\n", "users.conf:1 [ann]: has no public_key"),
        ("[ann]\npublic_key=AAAA\n", "users.conf:2 public_key: has 3 bytes, not 32"),
        (f"[ann]\npublic_key={base64.b64encode(bytes(32)).decode()}\n",
         "users.conf:2 public_key: is no public key: it agrees on nothing with any other"),
        (f"[ann]\npublic_key={ANN}\nexpires=tomorrow\n", "users.conf:3 expires: 'tomorrow' is no date"),
        (f"[ann]\npublic_key={ANN}\nmax_link=3\n", "users.conf:3 max_link: unknown key of a user"),
        (f"[ann]\npublic_key={ANN}\nmax_links=0\n", "users.conf:3 max_links: 0 is not in 1-1000000"),
        (f"public_key={ANN}\n", "users.conf:1 public_key: stands before the first user's section"),
        (f"[a b]\npublic_key={ANN}\n", "users.conf:1 : the section's name is not a name"),
        ("[ann\n", "users.conf:1 : this is neither key=value nor [name]"),
        ("\0", "users.conf:0 : the file contains zero bytes, so it is not a text"),
    ],
)  # fmt: skip
def test_mistakes_in_a_file_of_users(tmp_path: Path, users: str, problem: str) -> None:
    loaded = load([written(tmp_path, SERVER + "private_key_file=node.key\nusers=users.conf\n", users)])
    found = said(loaded)
    assert problem in found and "node.conf:6 users: a file of users has errors" in found
    assert not loaded.nodes


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (SERVER + "private_key_file=node.key\n",
         "node.conf:5 private_key_file: needs users: nobody else could have a link"),
        (SERVER + f"encryption_key={KEY}\nusers=users.conf\n",
         "node.conf:6 users: needs private_key_file"),
        (CLIENT + "private_key_file=node.key\n", "node.conf:6 private_key_file: needs server_key"),
        (CLIENT + f"server_key={SERVER_KEY}\n", "node.conf:6 server_key: needs private_key_file"),
        (CLIENT + f"private_key_file=node.key\nprivate_key={KEY}\nserver_key={SERVER_KEY}\n",
         "node.conf:6 private_key_file: conflicts with private_key in line 7"),
        (CLIENT + f"private_key_file=none.key\nserver_key={SERVER_KEY}\n",
         "node.conf:6 private_key_file: cannot read the file: no such file or directory"),
        (CLIENT + f"private_key_file=users.conf\nserver_key={SERVER_KEY}\n",
         "node.conf:6 private_key_file: the file has no private key, or more than one"),
        (CLIENT + "private_key_file=node.key\nserver_key=abc\n", "node.conf:7 server_key: is not base64"),
        (SERVER + "private_key_file=node.key\nusers=nobody.conf\n",
         "node.conf:6 users: cannot read nobody.conf: no such file or directory"),
        (SERVER + "dialect=kcptube\nencryption_algorithm=AES-GCM\nprivate_key_file=node.key\n"
         "users=users.conf\n",
         "node.conf:7 private_key_file: only the native protocol has key pairs"),
    ],
)  # fmt: skip
def test_keys_that_do_not_belong_together(tmp_path: Path, text: str, problem: str) -> None:
    found = [one.replace(f"{tmp_path}/", "") for one in said(load([written(tmp_path, text)]))]
    assert problem in found


def test_a_bandwidth_for_all_users(tmp_path: Path) -> None:
    text = SERVER + "users_bandwidth=100m\n"
    listener, _ = good(tmp_path, text + "private_key_file=node.key\nusers=users.conf\n")
    assert legsettings_native.listen_settings(listener, 9).users_bps == 100_000_000
    loaded = load_text("node.conf", text + f"encryption_key={KEY}\n")
    assert "node.conf:5 users_bandwidth: has an effect only with users" in said(loaded, Severity.WARNING)


def test_who_may_read_and_change_the_files(tmp_path: Path) -> None:
    file = written(tmp_path, SERVER + "private_key_file=node.key\nusers=users.conf\n")
    assert not said(load([file]), Severity.WARNING)
    (tmp_path / "node.key").chmod(0o644)
    (tmp_path / "users.conf").chmod(0o666)
    assert said(load([file]), Severity.WARNING) == [
        "node.conf:5 private_key_file: every user of this machine can read the file",
        "users.conf:0 : every user of this machine can change the file",
    ]
    file = written(tmp_path, CLIENT + f"private_key={KEY}\nserver_key={SERVER_KEY}\n")
    file.chmod(0o644)
    assert said(load([file]), Severity.WARNING) == [
        "node.conf:6 private_key: every user of this machine can read it in this file"
    ]


def test_a_pair_needs_no_password_and_nobody_is_warned_of_none(tmp_path: Path) -> None:
    loaded = load([written(tmp_path, CLIENT + f"private_key_file=node.key\nserver_key={SERVER_KEY}\n")])
    assert loaded.ok and not said(loaded, Severity.WARNING)


def test_what_a_reload_reads_is_known(tmp_path: Path) -> None:
    """So that a process that gives its rights up can say what it will not be able to read."""
    listener, _ = good(tmp_path, SERVER + "private_key_file=node.key\nusers=users.conf\n")
    assert listener.reads == (tmp_path / "node.key", tmp_path / "users.conf")
    (tmp_path / "other").mkdir()
    moved, _ = good(tmp_path / "other", SERVER + "private_key_file=node.key\nusers=users.conf\n")
    assert moved == listener, "the names of files are no part of what a restart is for"


def test_users_are_no_part_of_what_a_restart_is_for(tmp_path: Path) -> None:
    text = SERVER + "private_key_file=node.key\nusers=users.conf\n"
    before, _ = good(tmp_path, text)
    after, _ = good(tmp_path, text, f"[ann]\npublic_key={ANN}\n")
    assert before == after and before.users != after.users


def test_no_private_key_is_shown(tmp_path: Path) -> None:
    listener, _ = good(tmp_path, SERVER + f"private_key={KEY}\nusers=users.conf\n")
    assert repr(PRIVATE) not in repr(listener) and repr(PRIVATE) not in repr(secret(listener))
    shown = load_text("a", CLIENT + f"private_key={KEY[:-4]}\nserver_key={SERVER_KEY}\n")
    assert KEY[:20] not in "".join(map(str, shown.problems))


def test_every_field_of_a_user_has_a_key() -> None:
    fields = set(UserConfig.__dataclass_fields__) - {"name"}
    assert {row.field for row in USER_KEYS.values()} == fields
    assert all(row.meaning and row.chinese for row in USER_KEYS.values())


def test_both_pages_describe_every_setting_of_a_user() -> None:
    docs = Path(__file__).parents[2] / "docs"
    english, chinese = (docs / name for name in ("users.md", "zh/users.md"))
    for row in USER_KEYS.values():
        assert f"| `{row.name}` | {row.values} | {row.meaning} |" in english.read_text("utf-8")
        assert f"| `{row.name}` | {row.values} | {row.chinese} |" in chinese.read_text("utf-8")
