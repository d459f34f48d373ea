"""What a configuration gives away, and that it is said."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from kcpg.app.config import Severity, load, load_text
from kcpg.app.config.exposure import PUBLISHED, SHORT_PASSWORD_BYTES
from kcpg.app.config.model import Loaded
from tests.unit.config_texts import CLIENT, QUIET_CLIENT, SERVER

ROOT = Path(__file__).parents[2]

KEY = "encryption_key=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
PASSWORD = "encryption_password=unguessable-1234"


def warned(loaded: Loaded) -> list[tuple[int, str, str]]:
    return [(p.line, p.key, p.reason) for p in loaded.problems if p.severity is Severity.WARNING]


@pytest.mark.parametrize("secret", [PASSWORD, KEY], ids=["password", "key"])
@pytest.mark.parametrize(("mode", "readable"), [(0o644, True), (0o604, True), (0o640, False), (0o600, False)])
def test_a_secret_in_a_file_that_others_can_read_is_said(
    tmp_path: Path, secret: str, mode: int, readable: bool
) -> None:
    file = tmp_path / "c.conf"
    file.write_text(QUIET_CLIENT.replace(PASSWORD, secret))
    file.chmod(mode)
    reason = "every user of this machine can read it in this file"
    key = secret.partition("=")[0]
    assert warned(load([file])) == [(5, key, reason)] * readable


def test_a_file_without_secrets_may_be_read_by_all(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("unguessable-1234\n")
    (tmp_path / "secret").chmod(0o600)
    file = tmp_path / "c.conf"
    file.write_text(QUIET_CLIENT.replace(PASSWORD, "encryption_password_file=secret"))
    file.chmod(0o644)
    assert warned(load([file])) == []


def test_a_secret_that_comes_through_a_pipe_is_nobody_elses(tmp_path: Path) -> None:
    read, write = os.pipe()
    with os.fdopen(write, "w") as pipe:
        pipe.write(QUIET_CLIENT)
    loaded = load([Path(f"/proc/self/fd/{read}")])
    os.close(read)
    assert loaded.ok and warned(loaded) == []


@pytest.mark.parametrize("text", [QUIET_CLIENT, SERVER], ids=["client", "server"])
@pytest.mark.parametrize("where", ["here", "file"])
@pytest.mark.parametrize("password", ["a", "x" * (SHORT_PASSWORD_BYTES - 1), "qwerty1234", "Qwerty1234"])
def test_a_password_that_can_be_guessed_is_said_and_not_shown(
    tmp_path: Path, text: str, where: str, password: str
) -> None:
    (tmp_path / "secret").write_text(password)
    (tmp_path / "secret").chmod(0o600)
    file = tmp_path / "c.conf"
    line = f"encryption_password={password}" if where == "here" else "encryption_password_file=secret"
    file.write_text(text.replace(PASSWORD, line))
    file.chmod(0o600)
    loaded = load([file])
    ((number, key, reason),) = warned(loaded)
    assert (number, key) == (5, line.partition("=")[0])
    assert "is published" in reason if password.lower() == "qwerty1234" else "can be guessed" in reason
    assert password == "a" or password not in str(loaded.problems)


def test_a_long_password_of_ones_own_is_enough() -> None:
    text = QUIET_CLIENT.replace("unguessable-1234", "x" * SHORT_PASSWORD_BYTES)
    assert load_text("c.conf", text).problems == ()


def test_every_password_of_our_examples_counts_as_published() -> None:
    pages = [ROOT / "README.md", ROOT / "docs" / "configuration.md", *ROOT.glob("configs/**/*.conf")]
    shown = {
        password.strip().lower().encode()
        for page in pages
        for password in re.findall(r"^encryption_password=(.+)$", page.read_text("utf-8"), re.MULTILINE)
    }
    assert len(shown) > 3 and shown <= PUBLISHED


@pytest.mark.parametrize(
    ("more", "severity"),
    [
        ("", Severity.WARNING),
        ("listen_on=0.0.0.0\n", Severity.NOTE),
        ("listen_on=::\n", Severity.NOTE),
        ("listen_on=192.0.2.7,::\n", Severity.NOTE),
        ("listen_on=127.0.0.1,::1\n", None),
        ("listen_on=192.0.2.7\n", None),
        ("listen_port={}\n[custom_input]\n:80 -> [::1]:80\n", Severity.WARNING),
        ("listen_on=127.0.0.1\nlisten_port={}\n[custom_input]\n:80 -> [::1]:80\n", Severity.NOTE),
        ("listen_on=127.0.0.1\nlisten_port={}\n[custom_input]\n127.0.0.1:80 -> [::1]:80\n", None),
    ],
)
def test_a_client_that_listens_for_everybody_says_so(more: str, severity: Severity | None) -> None:
    found = load_text("c.conf", CLIENT + more).problems
    said = [
        p.severity for p in found if "everybody who can reach this machine may use the tunnel" in p.reason
    ]
    assert said[:1] == ([severity] if severity else [])


def test_a_server_listens_for_everybody_and_asks_for_a_password() -> None:
    assert load_text("s.conf", SERVER).problems == ()
