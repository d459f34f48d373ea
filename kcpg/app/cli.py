"""The command line: words and options in, an exit code out.

`kcpg a.conf b.conf` runs nodes, like kcptube; a first word from COMMANDS does something else. Each command
imports its modules only when it runs, and only those that carry traffic import what a tunnel needs: `--help`,
`status` and a `daemon ensure` that finds everything running answer at once.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from kcpg import __version__
from kcpg.app.logoptions import FORMATS, ROTATE_BYTES, ROTATE_KEEP, LogOptions
from kcpg.errors import EXIT_FAILURE, EXIT_OK, EXIT_USAGE, KcpgError, UsageError

COMMANDS = {
    "daemon": "start, stop or steer a background process: kcpg daemon ACTION CONFIG…",
    "status": "report on running nodes: kcpg status [--watch] [CONFIG…]",
    "init": "make a new tunnel, or take part in one: kcpg init --server HOST, kcpg init INVITATION",
    "convert": "turn a configuration of kcptun or kcptube into one of kcpg: kcpg convert FILE",
    "doctor": "look at this machine for what makes a node slow or deaf: kcpg doctor [CONFIG…]",
    "keygen": "print a new key for encryption_key",
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
        close = _close(word.partition("=")[0], known)
        return f"did you mean {close[0]}?" if close else f"see {self.prog} --help"


Before = Callable[[], None]


def _nothing() -> None:
    pass


def main(words: Sequence[str] | None = None, before_tunnel: Before = _nothing) -> int:
    """Do what the command line says and return the exit code of the process.

    `before_tunnel` is called by a command that is about to carry traffic, before it imports what does.
    """
    given = list(sys.argv[1:] if words is None else words)
    _open_standard_files()
    try:
        return _flushed(given, before_tunnel)
    except KcpgError as error:
        _complain(error)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_FAILURE
    except BrokenPipeError:  # the reader of our output has exited (`kcpg status | head`): not an error
        _forget_output()
        return EXIT_OK
    except OSError as error:
        from kcpg.app.output import FULL_ERRNOS

        if error.errno not in FULL_ERRNOS:
            raise
        _forget_output()
        what = f"cannot write {error.filename or 'the output'}: {error.strerror}"
        _complain(KcpgError(what, "make room (df and df -i show it)"))
        return EXIT_FAILURE


def _flushed(words: list[str], before_tunnel: Before) -> int:
    """Do it, and have standard output take what was printed, also by an option that ends the program."""
    try:
        return _dispatch(words, before_tunnel)
    finally:
        sys.stdout.flush()


def _complain(error: KcpgError) -> None:
    with contextlib.suppress(OSError):  # nowhere to say it
        print(f"kcpg: {error}", file=sys.stderr)


def _forget_output() -> None:
    """Keep Python from complaining at its end about what standard output did not take."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _open_standard_files() -> None:
    """Open the null device as those of descriptors 0 to 2 that the caller closed: no socket must get their
    numbers."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    # Python sets a stream to None if its descriptor was closed at the start.
    for name, fd in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(fd, "w", closefd=False))  # noqa: SIM115  (open as long as the process)
        stream = getattr(sys, name)
        if (
            isinstance(stream, io.TextIOWrapper) and stream.errors == "strict"
        ):  # not every locale has every character of our texts
            stream.reconfigure(errors="replace")


def _dispatch(words: list[str], before_tunnel: Before) -> int:
    if not words:
        print(run_parser().format_help(), file=sys.stderr, end="")
        return EXIT_USAGE
    command, rest = words[0], words[1:]
    if command == "--worker":  # handle.WORKER, without the cost of importing it
        before_tunnel()
        from kcpg.app.workers import worker

        return worker.run(int(rest[0]))
    if command == "daemon":
        return _daemon(rest, before_tunnel)
    if command == "status":
        return _status(rest)
    if command == "init":
        return _init(rest)
    if command == "convert":
        return _convert(rest)
    if command == "doctor":
        return _doctor(rest)
    if command == "keygen":
        return _keygen(rest)
    if command == "version":
        return _version(rest)
    if command == "help":
        return _help(rest)
    _refuse_misspelt_command(command)
    return _run(words, before_tunnel)


class _ShowVersion(argparse.Action):
    """`--version`: the facts that a bug report or a measurement should begin with."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        _print_version()
        parser.exit()


def _print_version() -> None:
    from kcpg import built, engine

    print(f"kcpg {__version__}")
    if (problem := built.stale()) is not None:
        print(f"NOT AS WRITTEN: {problem}")
    print(f"engine: {engine.ENGINE}")
    for algorithm, library in engine.cipher_libraries().items():
        print(f"{algorithm}: {library}")


def run_parser() -> OptionParser:
    """The parser of the command without a subcommand."""
    commands = "\n".join(f"  {name:8} {text}" for name, text in COMMANDS.items())
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


def _run(words: list[str], before_tunnel: Before) -> int:
    options = run_parser().read(words)
    with _configurations(options) as paths:
        return _run_files(paths, options, before_tunnel)


@contextlib.contextmanager
def _configurations(options: argparse.Namespace) -> Iterator[list[Path]]:
    """The files to run; the one of an invitation lasts as long as it runs."""
    given = list(options.configurations)
    wishes = options.forwards or options.proxies
    if wishes and not given and os.environ.get(INVITATION_VARIABLE):
        given = [os.environ[INVITATION_VARIABLE]]
    if not given:
        raise UsageError("no configuration file given", "see kcpg --help")
    if not any(word[:7].lower() == "kcpg://" for word in given):
        if wishes:
            hint = "in a file, socks_port= and [custom_input] say the same"
            raise UsageError("-L and -D need an invitation, not a file", hint)
        yield [Path(name) for name in given]
        return
    if len(given) > 1:
        raise UsageError("an invitation stands alone", "run each in a process of its own")
    from kcpg.app import adhoc

    with adhoc.file(given[0], options.forwards, options.proxies) as path:
        yield [path]


def _run_files(paths: list[Path], options: argparse.Namespace, before_tunnel: Before) -> int:
    if not options.check_config:
        before_tunnel()
    from kcpg.app import foreground

    if options.check_config:
        return foreground.check(paths)
    if options.trial:
        return foreground.trial(paths)
    return foreground.run(paths, _log_options(options), options.drain)


def _daemon(words: list[str], before_tunnel: Before) -> int:
    parser = daemon_parser()
    options = parser.read(words)
    paths = [Path(name) for name in options.configurations]
    if not paths and options.action != "status":
        raise UsageError("no configuration file given", "see kcpg daemon --help")
    if options.action in ("start", "ensure"):
        return _start(paths, options, before_tunnel)
    if options.action == "restart":
        return _restart(paths, options, before_tunnel)
    from kcpg.app import control

    if options.action == "stop":
        return control.stop(paths)
    if options.action == "reload":
        return control.reload(paths)
    return control.status(paths)


def _start(paths: list[Path], options: argparse.Namespace, before_tunnel: Before) -> int:
    """Start what does not run yet. `ensure` prints errors only."""
    from kcpg.app import instances

    quiet = options.action == "ensure"
    files = instances.expand(paths)
    found = instances.find(instances.real(files), os.environ)
    if not quiet:
        for file, process in found.items():
            print(f"kcpg: {file}: already running, pid {process.pid}")
    missing = [file for file in files if os.path.realpath(file) not in found]
    if not missing:
        return EXIT_OK
    if found:
        from kcpg.app import control

        if (code := control.take_in(paths, missing, quiet)) is not None:
            return code
        paths = missing
    before_tunnel()
    from kcpg.app import daemon

    return daemon.start(paths, _log_options(options), options.drain, quiet)


def _restart(paths: list[Path], options: argparse.Namespace, before_tunnel: Before) -> int:
    """End what runs of these files, and start all of them in a process of their own."""
    from kcpg.app import control, instances
    from kcpg.app.config.explain import load_or_explain

    files = instances.expand(paths)
    load_or_explain(files, warnings=False)  # one with errors ends nothing
    stopped = control.stop(paths) if instances.find(instances.real(files), os.environ) else EXIT_OK
    before_tunnel()
    from kcpg.app import daemon

    return daemon.start(paths, _log_options(options), options.drain, quiet=False) or stopped


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
    parser.add_argument(
        "--interval",
        type=_interval,
        default=1.0,
        metavar="SECONDS",
        help="with --watch: how often (default %(default)s)",
    )
    return parser


def _status(words: list[str]) -> int:
    options = status_parser().read(words)
    from kcpg.app import control

    paths = [Path(name) for name in options.configurations]
    return control.status(paths, options.json, options.interval if options.watch else 0.0)


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


def _init(words: list[str]) -> int:
    options = init_parser().read(words)
    from kcpg.app import init

    where = {"force": options.force, "qr": options.qr}
    wish = init.Wish(
        options.server,
        options.ports,
        options.target,
        options.socks,
        options.listen,
        tuple(options.relay) if options.relay else None,
    )
    if options.invitation is None:
        if options.socks and (options.target or options.listen):
            raise UsageError("--socks excludes --target and --listen", "a proxy's clients choose the target")
        return init.make(wish, options.directory, **where)
    if wish != init.Wish():
        raise UsageError("an invitation says all about the tunnel", "leave the options of a new one out")
    return init.accept(options.invitation, options.directory, **where)


def _convert(words: list[str]) -> int:
    """`kcpg convert FILE`, or `kcpg convert -- kcptun's command line`."""
    command = words[words.index("--") + 1 :] if "--" in words else []
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
    options = parser.read(words[: words.index("--")] if "--" in words else words)
    if (options.file is None) == (not command):
        raise UsageError("a file or a command line is missing", "see kcpg convert --help")
    from kcpg.app import convert
    from kcpg.app.config import load_text

    made = convert.words(command) if options.file is None else convert.file(options.file)
    problems = load_text("converted", made.text).problems
    if options.explain:
        print("\n".join([*convert.explain("converted", problems, made.text), *made.remarks]))
        return EXIT_OK
    print(made.text, end="")
    for remark in [*made.remarks, *map(str, problems)]:
        print(remark, file=sys.stderr)
    return EXIT_OK
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


def _doctor(words: list[str]) -> int:
    options = doctor_parser().read(words)
    from kcpg.app import instances
    from kcpg.app.config.explain import load_or_explain
    from kcpg.app.doctor import examine

    configs = load_or_explain(instances.expand([Path(name) for name in options.configurations]))
    return examine(configs, print)


def _keygen(words: list[str]) -> int:
    parser = OptionParser(
        prog="kcpg keygen", description="Print a new key for encryption_key.", allow_abbrev=False
    )
    parser.read(words)
    from kcpg.core.native.handshake.keys import format_key

    print(format_key(os.urandom(32)))
    return EXIT_OK


def _version(words: list[str]) -> int:
    parser = OptionParser(prog="kcpg version", description=COMMANDS["version"], allow_abbrev=False)
    parser.read(words)
    _print_version()
    return EXIT_OK


def _help(words: list[str]) -> int:
    topic = words[0] if words else ""
    if topic == "config":
        from kcpg.app.foreground import help_config

        return help_config(words[1:])
    if topic in ("", "run"):
        print(run_parser().format_help(), end="")
        return EXIT_OK
    if topic == "daemon":
        print(daemon_parser().format_help(), end="")
        return EXIT_OK
    if topic == "init":
        print(init_parser().format_help(), end="")
        return EXIT_OK
    if topic in COMMANDS:
        print(f"kcpg {topic}: {COMMANDS[topic]}")
        return EXIT_OK
    raise UsageError(f"there is no help on {topic!r}", "the topics are: " + ", ".join(("config", *COMMANDS)))


def _refuse_misspelt_command(word: str) -> None:
    if word.startswith("-") or os.path.exists(word) or not word.isalpha():
        return
    close = _close(word.lower(), list(COMMANDS))
    if close:
        raise UsageError(f"{word!r} is neither a file nor a command", f"did you mean {close[0]}?")


def _close(word: str, known: list[str]) -> list[str]:
    """The one of the known words that this may be meant to be."""
    import difflib

    return difflib.get_close_matches(word, known, n=1)


def _log_options(options: argparse.Namespace) -> LogOptions:
    return LogOptions(options.log_format, options.log_file, options.log_rotate_bytes, options.log_rotate_keep)


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


def _interval(text: str) -> float:
    number = float(text)
    if not 0.1 <= number <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0.1 and 3600 seconds")
    return number
