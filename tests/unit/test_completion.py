"""Completion scripts and the manual page say what the parsers say, in the shells themselves."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from kcpg.app import cli, completion
from kcpg.app.parsers import COMMANDS, PARSERS, run_parser
from tests.needs import needs

ASK_BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 ))
_kcpg
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def bash(tmp_path: Path) -> Path:
    file = tmp_path / "kcpg.bash"
    file.write_text(completion.script("bash"))
    return file


def completed(script: Path, *words: str) -> set[str]:
    """What bash offers for the last of these words."""
    command = ["bash", "-c", ASK_BASH, "bash", str(script), *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=script.parent, check=True)
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.skipif(not shutil.which("bash"), reason=needs("bash"))
def test_bash_completes_commands_actions_options_and_files(bash: Path) -> None:
    (bash.parent / "client.conf").touch()
    assert {"daemon", "doctor"} <= completed(bash, "kcpg", "d")
    assert "client.conf" in completed(bash, "kcpg", "cl")
    assert completed(bash, "kcpg", "--ch") == {"--check-config"}
    assert completed(bash, "kcpg", "daemon", "re") == {"restart", "reload"}
    assert "--watch" in completed(bash, "kcpg", "status", "--")
    assert "--check-config" not in completed(bash, "kcpg", "status", "--")
    assert completed(bash, "kcpg", "status", "cl") == {"client.conf"}
    assert "zsh" in completed(bash, "kcpg", "completion", "z")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_shell_reads_its_script(tmp_path: Path, shell: str) -> None:
    text = completion.script(shell)
    for name in COMMANDS:
        assert name in text
    for make in (run_parser, *PARSERS.values()):
        for option in completion.options(make()):
            assert option.names[-1].lstrip("-") in text
    if not shutil.which(shell):
        pytest.skip(needs(shell))
    file = tmp_path / "script"
    file.write_text(text)
    done = subprocess.run([shell, "-n", str(file)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_manual_page_has_every_command_and_option() -> None:
    page = completion.manual("1.2")
    assert page.startswith('.TH KCPG 1 "" "kcpg 1.2"')
    for name in PARSERS:
        assert f".SH KCPG {name.upper()}" in page
    plain = page.replace("\\-", "-")
    for make in (run_parser, *PARSERS.values()):
        for option in completion.options(make()):
            assert all(name in plain for name in option.names)
    if not shutil.which("groff"):
        pytest.skip(needs("groff"))
    done = subprocess.run(
        ["groff", "-man", "-ww", "-z", "-Kutf8"], input=page, text=True, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", "fish"]) == 0
    assert capsys.readouterr().out == completion.script("fish")
    assert cli.main(["completion", "man"]) == 0
    assert capsys.readouterr().out.startswith(".TH KCPG 1")
    assert cli.main(["completion", "tcsh"]) == 2
