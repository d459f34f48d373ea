"""The words and options of the command line: parsers, and what their help says."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from kcpg.app.logoptions import FORMATS, ROTATE_BYTES, ROTATE_KEEP
from kcpg.errors import UsageError

COMMANDS = {
    "daemon": "start, stop or steer a background process: kcpg daemon ACTION CONFIG…",
    "status": "report on running nodes: kcpg status [--watch] [CONFIG…]",
    "init": "make a new tunnel, or take part in one: kcpg init --server HOST, kcpg init INVITATION",
    "convert": "turn a configuration of kcptun or kcptube into one of kcpg: kcpg convert FILE",
    "top": "watch links and flows on a page that renews itself: kcpg top [CONFIG…]",
    "speedtest": "measure a tunnel, to the next node and to its end: kcpg speedtest CONFIG",
    "doctor": "look at this machine for what makes a node slow or deaf: kcpg doctor [CONFIG…]",
    "keygen": "print a new key for encryption_key; --pair: a key pair",
    "user": "add, remove or show users of a node: kcpg user ACTION [NAME]",
    "completion": "print a shell's completion or the manual page: kcpg completion bash|zsh|fish|man",
    "version": "show the version, the engine and the libraries that encrypt, like --version",
    "help": "explain something: kcpg help config [KEY], kcpg help daemon",
}

# Holds an invitation for -L and -D: every user of the machine can read a command line (ps).
INVITATION_VARIABLE = "KCPG_INVITATION"

DAEMON_ACTIONS = {
    "start": "start in the background what does not run already",
    "stop": "let flows finish, notify the peers, exit",
    "restart": "stop, then start again in a process of its own; nothing stops if the configuration is wrong",
    "reload": "read the configuration again, and report whether the process took it",
    "status": "report whether it runs, since when, and what it carries",
    "ensure": "like start, but silent: for cron",
}

USER_ACTIONS = {
    "add": "a new user, with a key pair of his own, or with public_key=… of his",
    "remove": "he gets no link any more, and those he has end",
    "rotate": "a new key pair in place of his former one",
    "usage": "what he has sent and received, or all users have; --json, --csv",
    "show": "his section and whether he may have links; without a name all users",
}

COMPLETIONS = ("bash", "zsh", "fish", "man")

# Seconds that running flows get to finish after a request to stop; service managers often allow 10 or more.
DRAIN_S = 5.0

_INTRODUCTION = "Carry TCP and UDP through an encrypted, reliable UDP tunnel."
_EXIT_CODES = "Exit codes: 0 success or already running, 1 run-time failure, 2 usage or configuration error."
_ENVIRONMENT = (
    "Environment: KCPG_STATE_DIR: directory of the lock, the socket and the log of a process;\n"
    "KCPG_ENGINE=python: the engine that needs no compiler; KCPG_OFFLOAD=off: no UDP offload, to find faults."
)
_CONFIG = "a node's configuration file, or a directory of such files (*.conf)"


class OptionParser(argparse.ArgumentParser):
    """An argument parser that raises UsageError with a hint, instead of printing its usage and exiting."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(message, f"see {self.prog} --help")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print, and raise OSError if it is not taken (the base class says nothing then)."""
        (file or sys.stdout).write(message)

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse `words`; options may stand anywhere and be upper or lower case, as in kcptube."""
        known, left = self.parse_known_intermixed_args([_lower_option(word) for word in words])
        for word in left:
            if word.startswith("-"):
                raise UsageError(f"unknown option {word}", self._advice(word))
            raise UsageError(f"unexpected argument {word!r}", f"see {self.prog} --help")
        return known

    def _advice(self, word: str) -> str:
        known = [name for name in self._option_string_actions if name.startswith("--")]
        close = closest(word.partition("=")[0], known)
        return f"did you mean {close[0]}?" if close else f"see {self.prog} --help"


class _ShowVersion(argparse.Action):
    """`--version`: the facts that a bug report or a measurement should begin with."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from kcpg.app.about import print_version

        print_version()
        parser.exit()


def run_parser() -> OptionParser:
    """The parser of the command without a subcommand."""
    commands = "\n".join(f"  {name:10} {text}" for name, text in COMMANDS.items())
    parser = OptionParser(
        prog="kcpg",
        usage="kcpg [options] CONFIG [CONFIG …]\n       kcpg [-L …] [-D …] INVITATION\n       kcpg COMMAND …",
        description=_INTRODUCTION,
        epilog=f"commands:\n{commands}\n\nWrite ./daemon for a file called daemon.\n{_EXIT_CODES}\n"
        f"{_ENVIRONMENT}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("configurations", nargs="*", metavar="CONFIG", help=_CONFIG)
    parser.add_argument(
        "--check-config", action="store_true", help="only report what is wrong with the files"
    )
    parser.add_argument(
        "--try", dest="trial", action="store_true", help="only test the tunnel to each destination"
    )
    parser.add_argument(
        "-V",
        "--version",
        action=_ShowVersion,
        nargs=0,
        help="show the version, the engine and the libraries that encrypt",
    )
    parser.add_argument(
        "-L",
        dest="forwards",
        action="append",
        default=[],
        metavar="[ADDRESS:]PORT:HOST:PORT",
        help="with an invitation: a port here that leads to host and port beyond the server",
    )
    parser.add_argument(
        "-D",
        dest="proxies",
        action="append",
        default=[],
        metavar="[ADDRESS:]PORT",
        help="with an invitation: a SOCKS5 and HTTP proxy here, for any target beyond the server",
    )
    _add_run_options(parser)
    return parser


def daemon_parser() -> OptionParser:
    """The parser of `kcpg daemon`."""
    actions = "\n".join(f"  {name:8} {text}" for name, text in DAEMON_ACTIONS.items())
    parser = OptionParser(
        prog="kcpg daemon",
        usage=f"kcpg daemon {'|'.join(DAEMON_ACTIONS)} [options] CONFIG [CONFIG …]",
        description="Run configuration files in the background. What runs is found by any of its files.",
        epilog=f"actions:\n{actions}\n\n`status` without CONFIG means every kcpg of this user.\n"
        f"SIGTERM stops the process, SIGHUP makes it reread its configuration.\n{_EXIT_CODES}\n"
        "stop: 1 if nothing of it ran. status: 1 unless everything of it runs.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("action", choices=list(DAEMON_ACTIONS), metavar="ACTION")
    parser.add_argument("configurations", nargs="*", metavar="CONFIG", help=_CONFIG)
    _add_run_options(parser)
    return parser


def _add_run_options(parser: OptionParser) -> None:
    parser.add_argument("--log-format", choices=FORMATS, default="text", help="text lines or JSON objects")
    parser.add_argument("--log-file", type=Path, metavar="FILE", help="log to this file, rotating it")
    parser.add_argument(
        "--log-rotate-bytes",
        type=_positive,
        default=ROTATE_BYTES,
        metavar="N",
        help="rotate the log file at this size (default %(default)s)",
    )
    parser.add_argument(
        "--log-rotate-keep",
        type=_positive,
        default=ROTATE_KEEP,
        metavar="N",
        help="number of old log files to keep (default %(default)s)",
    )
    parser.add_argument(
        "--drain",
        type=_seconds,
        default=DRAIN_S,
        metavar="SECONDS",
        help="how long flows may take to finish after a request to stop (default %(default)s)",
    )


def status_parser() -> OptionParser:
    """The parser of `kcpg status`."""
    parser = OptionParser(
        prog="kcpg status",
        description="Report on running nodes: what their links carry, and what is wrong.",
        epilog="Exit code 1 unless every CONFIG runs; without CONFIG, unless anything does.\n"
        "docs/status.md describes every field.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "configurations", nargs="*", metavar="CONFIG", help="only the processes that run these files"
    )
    parser.add_argument("--json", action="store_true", help="print the full report as JSON")
    parser.add_argument("--watch", action="store_true", help="print it again and again, until Ctrl-C")
    _add_interval(parser, "with --watch: how often (default %(default)s)")
    return parser


def top_parser() -> OptionParser:
    """The parser of `kcpg top`."""
    parser = OptionParser(
        prog="kcpg top",
        description="Watch links and flows. s sorts by the next column, r turns the order round, q ends it.",
        epilog="It needs textual: pip install textual, in the environment of kcpg.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "configurations", nargs="*", metavar="CONFIG", help="only the processes that run these files"
    )
    _add_interval(parser, "how often it is renewed (default %(default)s)")
    return parser


def _add_interval(parser: OptionParser, text: str) -> None:
    parser.add_argument("--interval", type=_interval, default=1.0, metavar="SECONDS", help=text)


def init_parser() -> OptionParser:
    """The parser of `kcpg init`."""
    parser = OptionParser(
        prog="kcpg init",
        usage="kcpg init [--server HOST] [options]\n       kcpg init INVITATION [options]",
        description="Write the files of a new tunnel, with a fresh key, and print an invitation for each of "
        "its machines; or write the file of an invitation.",
        epilog=f"On a terminal, kcpg asks for what no option says.\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("invitation", nargs="?", metavar="INVITATION", help="a line kcpg://... from another machine")
    add(
        "--server", metavar="HOST", help="address or name of the server's machine; HOST:PORTS for other ports"
    )
    add("--ports", metavar="PORTS", help="UDP ports of server and relays (default 3000-3010)")
    add("--relay", action="append", metavar="HOST", help="a node between; repeat it in order from the client")
    add("--target", metavar="HOST:PORT", help="where the server connects flows to (default 127.0.0.1:8080)")
    add("--listen", metavar="PORT", help="the client's port for applications (default 59000)")
    proxy = "instead of both: the client is a SOCKS5 and HTTP proxy at this port (default 1080)"
    add("--socks", nargs="?", type=_port, const=1080, metavar="PORT", help=proxy)
    add("--directory", type=Path, default=Path(), metavar="DIR", help="where to write (default: here)")
    add("--force", action="store_true", help="replace files")
    add("--qr", action=argparse.BooleanOptionalAction, help="show a QR code (default: on a terminal)")
    return parser


def doctor_parser() -> OptionParser:
    """The parser of `kcpg doctor`."""
    parser = OptionParser(
        prog="kcpg doctor",
        description="Look at this machine for what makes a node slow or deaf, and say what to type.",
        epilog="Exit code 1 if something can be mended.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "configurations", nargs="*", metavar="CONFIG", help="also look at the ways to its peers"
    )
    return parser


def speedtest_parser() -> OptionParser:
    """The parser of `kcpg speedtest`."""
    parser = OptionParser(
        prog="kcpg speedtest",
        description="Measure the tunnel of a client or a relay by a link of its own: rate in both directions,"
        "\nloss, round trip, queue and size, to the next node and to the end, and say what holds it up.",
        epilog="The nodes answer it themselves, unless they have speedtest=no.\n"
        "Exit code 1 if something could not be measured.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("configurations", nargs="+", metavar="CONFIG", help=_CONFIG)
    text = "how long each direction is measured (default %(default)s)"
    parser.add_argument("--seconds", type=_test_seconds, default=5.0, metavar="SECONDS", help=text)
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each tunnel")
    return parser


def closest(word: str, known: list[str]) -> list[str]:
    """The one of the known words that this may be meant to be."""
    import difflib

    return difflib.get_close_matches(word, known, n=1)


def _lower_option(word: str) -> str:
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return name.lower() + equals + value


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def _port(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 3600 seconds")
    return number


def _test_seconds(text: str) -> float:
    number = float(text)
    if not 0.5 <= number <= 30:
        raise argparse.ArgumentTypeError(f"{text} is not between 0.5 and 30 seconds")
    return number


def _interval(text: str) -> float:
    number = float(text)
    if not 0.1 <= number <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0.1 and 3600 seconds")
    return number


def convert_parser() -> OptionParser:
    """The parser of `kcpg convert`."""
    parser = OptionParser(
        prog="kcpg convert",
        usage="kcpg convert [--explain] FILE\n       kcpg convert -- client -r HOST:PORT -l :PORT …",
        description="Print what kcptun's JSON or command line, or a kcptube's file, is here. Remarks go to "
        "standard error.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="kcptun's JSON, or a kcptube's file"
    )
    parser.add_argument("--explain", action="store_true", help="say of each line what it means, instead")
    return parser


def keygen_parser() -> OptionParser:
    """The parser of `kcpg keygen`."""
    parser = OptionParser(
        prog="kcpg keygen",
        description="Print a new key for encryption_key. With --pair: a private key for private_key_file, "
        "and the public one that belongs to it, for server_key or a user's public_key.",
        allow_abbrev=False,
    )
    parser.add_argument("--pair", action="store_true", help="a key pair instead")
    parser.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="with --pair: where to write the private key"
    )
    return parser


def user_parser() -> OptionParser:
    """The parser of `kcpg user`."""
    actions = "\n".join(f"  {name:8} {text}" for name, text in USER_ACTIONS.items())
    parser = OptionParser(
        prog="kcpg user",
        usage="kcpg user ACTION [NAME] [key=value …] [options]",
        description="Change the file of users of a server or relay (its key users), have it read again, and "
        "print what the user needs: his file, an invitation, a QR code.",
        epilog=f"actions:\n{actions}\n\nSettings of add are those of the file, for example "
        f"expires=2030-01-31 max_links=2.\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("action", choices=tuple(USER_ACTIONS), metavar="ACTION", help="see below")
    add("name", nargs="?", default="", metavar="NAME", help="the user; show takes all without it")
    add("values", nargs="*", metavar="key=value", help="settings of a new user")
    add("--config", type=Path, metavar="FILE", help="the node's file (default: the one that runs)")
    add("--server", default="", metavar="HOST", help="where users find the node: HOST or HOST:PORTS")
    add("--listen", type=_port, metavar="PORT", help="the user's port for applications (default 59000)")
    add("--socks", nargs="?", type=_port, const=1080, metavar="PORT",
        help="instead: a SOCKS5 and HTTP proxy (default 1080)")  # fmt: skip
    add("--qr", action=argparse.BooleanOptionalAction, help="show a QR code (default: on a terminal)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", dest="form", action="store_const", const="json", default="text",
                      help="usage: as JSON")  # fmt: skip
    form.add_argument("--csv", dest="form", action="store_const", const="csv", help="usage: as a table")
    add("--no-reload", dest="reload", action="store_false", help="only change the file")
    return parser


def completion_parser() -> OptionParser:
    """The parser of `kcpg completion`."""
    parser = OptionParser(
        prog="kcpg completion",
        description="Print the completion script of a shell, or the manual page in roff.",
        epilog="bash: kcpg completion bash >/etc/bash_completion.d/kcpg\n"
        "zsh:  into a directory of $fpath, as _kcpg\n"
        "fish: into ~/.config/fish/completions/kcpg.fish\n"
        "man:  kcpg completion man >/usr/local/share/man/man1/kcpg.1",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("what", choices=COMPLETIONS, metavar="|".join(COMPLETIONS))
    return parser


def version_parser() -> OptionParser:
    """The parser of `kcpg version`."""
    return OptionParser(prog="kcpg version", description=COMMANDS["version"], allow_abbrev=False)


PARSERS = {
    "daemon": daemon_parser,
    "status": status_parser,
    "top": top_parser,
    "speedtest": speedtest_parser,
    "doctor": doctor_parser,
    "init": init_parser,
    "convert": convert_parser,
    "keygen": keygen_parser,
    "user": user_parser,
    "completion": completion_parser,
    "version": version_parser,
}
"""The parser of each command that has options."""
