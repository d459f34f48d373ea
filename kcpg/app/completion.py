"""Completion for shells, and the manual page, made from the parsers, so that they never lag behind."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kcpg.app.parsers import COMMANDS, COMPLETIONS, DAEMON_ACTIONS, PARSERS, USER_ACTIONS, run_parser


class Option(NamedTuple):
    """One option of a parser."""

    names: tuple[str, ...]
    value: str  # What it takes, for people; empty: nothing
    choices: tuple[str, ...]
    text: str


def options(parser: argparse.ArgumentParser) -> list[Option]:
    """The options of a parser, help included."""
    return [
        Option(
            tuple(action.option_strings),
            "" if action.nargs == 0 else str(action.metavar or action.dest.upper()),
            tuple(str(choice) for choice in action.choices or ()),
            _expanded(action),
        )
        for action in parser._actions
        if action.option_strings and action.help is not argparse.SUPPRESS
    ]


def script(shell: str) -> str:
    """The completion script of a shell."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]()


def _expanded(action: argparse.Action) -> str:
    return (action.help or "") % {"default": action.default, "prog": "kcpg"}


def _parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Each command and its parser; an empty name is the program itself."""
    yield "", run_parser()
    for name, make in PARSERS.items():
        yield name, make()


def _words(parser: argparse.ArgumentParser) -> str:
    return " ".join(name for option in options(parser) for name in option.names)


def _topics(command: str) -> tuple[str, ...]:
    """The words that may follow a command, besides options and files."""
    found = {
        "daemon": tuple(DAEMON_ACTIONS),
        "user": tuple(USER_ACTIONS),
        "help": ("config", *COMMANDS),
        "completion": COMPLETIONS,
    }
    return found.get(command, ())


def _bash() -> str:
    cases = "\n".join(f'        {name}) words="{_words(parser)}" ;;' for name, parser in _parsers() if name)
    topics = "\n".join(f'        {name}) [ "$COMP_CWORD" = 2 ] && words="{" ".join(_topics(name))}" ;;'
                       for name in COMMANDS if _topics(name))  # fmt: skip
    return f"""\
# bash completion for kcpg; from: kcpg completion bash
_kcpg() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} words
    COMPREPLY=()
    words="{_words(run_parser())}"
    case ${{COMP_WORDS[1]}} in
{cases}
    esac
    case ${{COMP_WORDS[1]}} in
{topics}
    esac
    [ "$COMP_CWORD" = 1 ] && words="$words {" ".join(COMMANDS)}"
    case $current in
        -*) COMPREPLY=($(compgen -W "$words" -- "$current")) ;;
        *)
            words=$(echo " $words" | sed 's/ -[^ ]*//g')
            COMPREPLY=($(compgen -W "$words" -- "$current") $(compgen -f -- "$current"))
            ;;
    esac
}}
complete -o filenames -F _kcpg kcpg
"""


def _zsh() -> str:
    commands = "\n".join(f"        {_quoted(f'{name}:{text}')}" for name, text in COMMANDS.items())
    cases = []
    for name, parser in _parsers():
        if name:
            topics = _topics(name)
            first = f" '1:word:({' '.join(topics)})'" if topics else ""
            cases.append(f"        {name}) _arguments -s {_zsh_options(parser)}{first} '*:file:_files' ;;")
    cases.append(f"        help) _arguments '1:topic:({' '.join(_topics('help'))})' ;;")
    return f"""\
#compdef kcpg
# zsh completion for kcpg; from: kcpg completion zsh
_kcpg() {{
    local -a commands
    commands=(
{commands}
    )
    if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then
        _describe command commands
        _files
        return
    fi
    local command=$words[2]
    if (( ${{commands[(I)$command:*]}} )); then
        shift words
        (( CURRENT-- ))
    fi
    case $command in
{chr(10).join(cases)}
        *) _arguments -s {_zsh_options(run_parser())} '*:file:_files' ;;
    esac
}}
_kcpg "$@"
"""


def _zsh_options(parser: argparse.ArgumentParser) -> str:
    found = []
    for option in options(parser):
        text = re.sub(r"([\[\]:])", r"\\\1", option.text)
        choices = f"({' '.join(option.choices)})" if option.choices else " "
        choices = "_files" if option.value == "FILE" else choices
        value = f":{option.value.lower()}:{choices}" if option.value else ""
        found += [_quoted(f"{name}[{text}]{value}") for name in option.names]
    return " ".join(found)


def _fish() -> str:
    lines = ["# fish completion for kcpg; from: kcpg completion fish"]
    for name, text in COMMANDS.items():
        lines.append(f"complete -c kcpg -n __fish_use_subcommand -a {name} -d {_fish_quoted(text)}")
        if _topics(name):
            words = " ".join(_topics(name))
            lines.append(f"complete -c kcpg -n '__fish_seen_subcommand_from {name}' -a {_fish_quoted(words)}")
    for name, parser in _parsers():
        condition = f"'__fish_seen_subcommand_from {name}'" if name else "__fish_use_subcommand"
        for option in options(parser):
            names = " ".join(
                f"-l {one[2:]}" if one.startswith("--") else f"-s {one[1:]}" for one in option.names
            )
            value = " -r" if option.value else ""
            choices = f" -fa {_fish_quoted(' '.join(option.choices))}" if option.choices else ""
            text = _fish_quoted(option.text)
            lines.append(f"complete -c kcpg -n {condition} {names}{value}{choices} -d {text}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """For a POSIX shell."""
    return "'" + text.replace("'", "'\\''") + "'"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def manual(version: str) -> str:
    """The manual page kcpg(1), in roff (man(7))."""
    page = [f'.TH KCPG 1 "" "kcpg {version}" "User Commands"', ".SH NAME"]
    page += ["kcpg \\- carry TCP and UDP through an encrypted, retransmitting UDP tunnel", ".SH SYNOPSIS"]
    for _, parser in _parsers():
        usage = parser.format_usage().removeprefix("usage: ")
        page += [line for part in usage.splitlines() for line in (f".B {_roff(part.strip())}", ".br")]
    for name, parser in _parsers():
        heading = f"KCPG {name}".upper() if name else "DESCRIPTION"
        page += [f".SH {heading}", _roff(parser.description or "")]
        for option in options(parser):
            names = ", ".join(option.names)
            page += [".TP", f"\\fB{_roff(names)}\\fR {_roff(option.value)}".rstrip(), _roff(option.text)]
        if parser.epilog:
            page += [".PP", ".nf", *_roff_lines(parser.epilog.splitlines()), ".fi"]
    page += [".SH FILES", ".TP", "/etc/kcpg/*.conf", "Configurations, by custom."]
    page += ["\\fBkcpg help config\\fR has every key."]
    return "\n".join(page) + "\n"


def _roff(text: str) -> str:
    """A line that means nothing to roff but itself."""
    plain = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{plain}" if plain[:1] in (".", "'") else plain


def _roff_lines(lines: Iterable[str]) -> list[str]:
    return [_roff(line) for line in lines]
