"""The command line, without starting anything."""

from __future__ import annotations

import base64
import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kcpg import __version__
from kcpg.app import cli, daemon, foreground, parsers
from kcpg.app.logs import LogOptions
from kcpg.engine import ENGINE
from tests.net import processes

# What only a process needs that carries traffic, or encrypts.
HEAVY = ("gevent", "netaddr", "cryptography", "Cryptodome", "dns", "kcpg.core", "kcpg.net", "kcpg.engine")

INTERRUPT = """
import os, signal, sys
def hook(event, args):
    if event == "import" and args[0] == "{module}":
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(hook)
"""


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
    for word in (*parsers.COMMANDS, "--check-config", "--try", "--log-format", "Exit codes"):
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
        (["daemon", "rerun", "a.conf"], "invalid choice"),
        (["daemon", "reload"], "no configuration file"),
        (["version", "x"], "unexpected argument 'x'"),
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
    def full(_words, _before):
        raise OSError(errno.ENOSPC, "No space left on device", "/run/kcpg/a.pid")

    monkeypatch.setattr(cli, "_dispatch", full)
    monkeypatch.setattr(cli, "_forget_output", lambda: None)
    assert cli.main(["daemon", "ensure", "a.conf"]) == 1
    said = "kcpg: cannot write /run/kcpg/a.pid: No space left on device; make room (df and df -i show it)\n"
    assert capfd.readouterr().err == said


def _modules(state, *words):
    """The modules that a command imports."""
    argv = [sys.executable, "-X", "importtime", *processes.command(*words)[1:]]
    done = subprocess.run(
        argv, env=processes.environment(state), capture_output=True, text=True, timeout=processes.PATIENCE_S
    )
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "import time" in line}


def test_a_command_that_carries_nothing_imports_nothing_that_does(tmp_path):
    """cron calls `ensure` each minute."""
    (port,) = processes.free_ports(1)
    file = tmp_path / "server.conf"
    text = f"mode=server\nlisten_port={port}\ndestination_address=127.0.0.1\ndestination_port=9\n"
    file.write_text(f"{text}encryption_password=x\n")
    node = processes.Node(tmp_path / "state", file).ready()
    try:
        for words in (("daemon", "ensure", file), ("status", file), ("daemon", "stop", "gone"), ("--help",)):
            found = _modules(tmp_path / "state", *words)
            assert "kcpg.app.cli" in found
            heavy = [name for name in found if any(f"{name}.".startswith(f"{one}.") for one in HEAVY)]
            assert not heavy, f"{words} imports {heavy}"
        slow = {"dataclasses", "socket", "logging", "json", "subprocess"}
        assert not slow & _modules(tmp_path / "state", "daemon", "ensure", file)
    finally:
        node.stop()


@pytest.mark.parametrize(
    "module", ["kcpg.app", "argparse", "gevent", "kcpg.app.foreground", "kcpg.app.service"]
)
def test_ctrl_c_while_it_starts_leaves_no_traceback(tmp_path, module):
    (tmp_path / "sitecustomize.py").write_text(INTERRUPT.format(module=module))
    file = tmp_path / "server.conf"
    (port,) = processes.free_ports(1)
    text = f"mode=server\nlisten_port={port}\ndestination_address=127.0.0.1\ndestination_port=9\n"
    file.write_text(f"{text}encryption_password=x\n")
    env = processes.environment(tmp_path / "state")
    env["PYTHONPATH"] = f"{tmp_path}:{env['PYTHONPATH']}"
    done = subprocess.run(
        processes.command(file), env=env, capture_output=True, text=True, timeout=processes.PATIENCE_S
    )
    assert done.returncode == -signal.SIGINT
    assert done.stderr == ""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gbk"])
def test_any_locale_prints_the_help(tmp_path, encoding):
    env = {**processes.environment(tmp_path), "PYTHONIOENCODING": encoding}
    done = subprocess.run(
        processes.command("--help"), env=env, capture_output=True, timeout=processes.PATIENCE_S
    )
    assert done.returncode == 0 and done.stderr == b""
    assert b"usage: kcpg" in done.stdout


def test_a_full_disk_takes_no_help_and_that_is_a_message(tmp_path):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            processes.command("--help"), env=processes.environment(tmp_path), stdout=full,
            stderr=subprocess.PIPE, text=True, timeout=processes.PATIENCE_S,
        )  # fmt: skip
    assert done.returncode == 1
    assert (
        done.stderr.startswith("kcpg: cannot write the output: No space") and "Traceback" not in done.stderr
    )
