"""The command line, without starting anything."""

from __future__ import annotations

import base64
import errno
from pathlib import Path

import pytest

from kcpg import __version__
from kcpg.app import cli, daemon, foreground
from kcpg.app.logs import LogOptions
from kcpg.engine import ENGINE


def test_version(capsys):
    with pytest.raises(SystemExit) as leaving:
        cli.main(["--version"])
    assert leaving.value.code == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first == f"kcpg {__version__}"
    told = dict(line.split(": ") for line in others)
    assert told.pop("engine") == ENGINE
    assert list(told) == ["AES-GCM", "AES-OCB", "chacha20", "xchacha20"] and all(told.values())


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as leaving:
        cli.main(["--help"])
    assert leaving.value.code == 0
    out = capsys.readouterr().out
    for word in (*cli.COMMANDS, "--check-config", "--try", "--log-format", "Exit codes"):
        assert word in out


def test_no_argument_shows_help_and_is_a_usage_error(capsys):
    assert cli.main([]) == 2
    assert "usage: kcpg" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--chek-config", "a.conf"], "did you mean --check-config?"),
        (["a.conf", "--trie"], "did you mean --try?"),
        (["--zzz", "a.conf"], "see kcpg --help"),
        (["daemon", "start", "--log-fromat=json", "a.conf"], "did you mean --log-format?"),
        (["--log-format", "yaml", "a.conf"], "invalid choice"),
        (["--drain", "-3", "a.conf"], "--drain"),
        (["daemon", "restart", "a.conf"], "invalid choice"),
        (["daemon", "start"], "no configuration file"),
        (["daemon", "stop"], "no configuration file"),
        (["daemon"], "required"),
        (["--check-config"], "no configuration file"),
        (["keygen", "x"], "unexpected argument 'x'"),
        (["help", "nonsense"], "no help on"),
        (["deamon", "start"], "did you mean daemon?"),
    ],
)
def test_mistakes_are_explained_with_exit_code_2(words, hint, capsys):
    assert cli.main(words) == 2
    err = capsys.readouterr().err
    assert err.startswith("kcpg: ") and hint in err
    assert err.count("\n") == 1


def test_first_word_that_is_no_command_is_a_configuration(monkeypatch):
    seen = []
    monkeypatch.setattr(foreground, "run", lambda *given: seen.append(given) or 0)
    assert cli.main(["a.conf", "--LOG-FORMAT=json", "b.conf", "--drain", "2"]) == 0
    assert seen == [([Path("a.conf"), Path("b.conf")], LogOptions("json"), 2.0)]


def test_switches_of_kcptube_work_in_any_place_and_case(monkeypatch):
    seen = []
    monkeypatch.setattr(foreground, "check", lambda paths: seen.append(("check", paths)) or 0)
    monkeypatch.setattr(foreground, "trial", lambda paths: seen.append(("try", paths)) or 0)
    assert cli.main(["a.conf", "--Check-Config", "b.conf"]) == 0
    assert cli.main(["--TRY", "a.conf"]) == 0
    assert seen == [("check", [Path("a.conf"), Path("b.conf")]), ("try", [Path("a.conf")])]


def test_a_file_called_like_a_command_needs_its_directory(monkeypatch):
    seen = []
    monkeypatch.setattr(foreground, "run", lambda paths, *_: seen.append(paths) or 0)
    assert cli.main(["./daemon"]) == 0
    assert seen == [[Path("./daemon")]]


@pytest.mark.parametrize(("action", "quiet"), [("start", False), ("ensure", True)])
def test_daemon_start_and_ensure(monkeypatch, action, quiet):
    seen = []
    monkeypatch.setattr(daemon, "start", lambda paths, log, drain, quiet: seen.append((paths, quiet)) or 0)
    assert cli.main(["daemon", action, "a.conf"]) == 0
    assert seen == [([Path("a.conf")], quiet)]


def test_keygen_prints_a_fresh_key_of_32_bytes(capsys):
    assert cli.main(["keygen"]) == 0
    first = capsys.readouterr().out
    cli.main(["keygen"])
    assert len(base64.b64decode(first, validate=False)) == 32
    assert capsys.readouterr().out != first


def test_help_topics(capsys):
    for topic in ("daemon", "status", "keygen", "help"):
        assert cli.main(["help", topic]) == 0
        assert topic in capsys.readouterr().out


def test_a_state_directory_without_inodes_is_a_message(monkeypatch, capfd):
    def full(_words):
        raise OSError(errno.ENOSPC, "No space left on device", "/run/kcpg/a.pid")

    monkeypatch.setattr(cli, "_dispatch", full)
    monkeypatch.setattr(cli, "_forget_output", lambda: None)
    assert cli.main(["daemon", "ensure", "a.conf"]) == 1
    said = "kcpg: cannot write /run/kcpg/a.pid: No space left on device; make room (df and df -i show it)\n"
    assert capfd.readouterr().err == said
