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

from kcpg.app.logoptions import LogOptions
from kcpg.app.parsers import (
    COMMANDS,
    INVITATION_VARIABLE,
    PARSERS,
    closest,
    completion_parser,
    convert_parser,
    daemon_parser,
    doctor_parser,
    init_parser,
    keygen_parser,
    run_parser,
    speedtest_parser,
    status_parser,
    top_parser,
    user_parser,
    version_parser,
)
from kcpg.errors import EXIT_FAILURE, EXIT_OK, EXIT_USAGE, KcpgError, UsageError

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
    if not words and "SS_REMOTE_HOST" in os.environ:
        from kcpg.app import sip003

        if sip003.is_plugin(os.environ):
            words = [str(sip003.write_file(os.environ))]
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
    if command == "top":
        return _top(rest)
    if command == "speedtest":
        return _speedtest(rest, before_tunnel)
    if command == "doctor":
        return _doctor(rest)
    if command == "keygen":
        return _keygen(rest)
    if command == "user":
        return _user(rest)
    if command == "completion":
        return _completion(rest)
    if command == "version":
        return _version(rest)
    if command == "help":
        return _help(rest)
    _refuse_misspelt_command(command)
    return _run(words, before_tunnel)


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


def _status(words: list[str]) -> int:
    options = status_parser().read(words)
    from kcpg.app import control

    paths = [Path(name) for name in options.configurations]
    return control.status(paths, options.json, options.interval if options.watch else 0.0)


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
    options = convert_parser().read(words[: words.index("--")] if "--" in words else words)
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


def _top(words: list[str]) -> int:
    options = top_parser().read(words)
    from kcpg.app import control

    paths = [Path(name) for name in options.configurations]
    try:
        from kcpg.app.top import Top
    except ModuleNotFoundError as error:
        raise KcpgError(
            f"kcpg top needs {error.name}", "pip install textual, in the environment of kcpg"
        ) from error
    Top(lambda: control.reports(paths), options.interval).run()
    return EXIT_OK


def _doctor(words: list[str]) -> int:
    options = doctor_parser().read(words)
    from kcpg.app import instances
    from kcpg.app.config.explain import load_or_explain
    from kcpg.app.doctor import examine

    configs = load_or_explain(instances.expand([Path(name) for name in options.configurations]))
    return examine(configs, print)


def _speedtest(words: list[str], before_tunnel: Before) -> int:
    options = speedtest_parser().read(words)
    before_tunnel()
    from kcpg.app import foreground

    paths = [Path(name) for name in options.configurations]
    return foreground.speedtest(paths, options.seconds, options.json)


def _keygen(words: list[str]) -> int:
    options = keygen_parser().read(words)
    if options.file is not None and not options.pair:
        raise UsageError(f"unexpected argument {str(options.file)!r}", "with a file it is kcpg keygen --pair")
    from kcpg.core.native.handshake.keys import format_key

    if not options.pair:
        print(format_key(os.urandom(32)))
        return EXIT_OK
    from kcpg.app import keygen

    return keygen.pair(options.file)


def _user(words: list[str]) -> int:
    options = user_parser().read(words)
    from kcpg.app import usercommand

    wish = usercommand.Wish(
        options.name,
        tuple(options.values),
        options.config,
        options.server,
        options.listen,
        options.socks,
        options.qr,
        options.reload,
        options.form,
    )
    return usercommand.run(options.action, wish)


def _completion(words: list[str]) -> int:
    what = completion_parser().read(words).what
    from kcpg import __version__
    from kcpg.app import completion

    print(completion.manual(__version__) if what == "man" else completion.script(what), end="")
    return EXIT_OK


def _version(words: list[str]) -> int:
    version_parser().read(words)
    from kcpg.app.about import print_version

    print_version()
    return EXIT_OK


def _help(words: list[str]) -> int:
    topic = words[0] if words else ""
    if topic == "config":
        from kcpg.app.foreground import help_config

        return help_config(words[1:])
    if topic in ("", "run", "help"):
        print(run_parser().format_help(), end="")
        return EXIT_OK
    if topic in PARSERS:
        print(PARSERS[topic]().format_help(), end="")
        return EXIT_OK
    raise UsageError(f"there is no help on {topic!r}", "the topics are: " + ", ".join(("config", *COMMANDS)))


def _refuse_misspelt_command(word: str) -> None:
    if word.startswith("-") or os.path.exists(word) or not word.isalpha():
        return
    close = closest(word.lower(), list(COMMANDS))
    if close:
        raise UsageError(f"{word!r} is neither a file nor a command", f"did you mean {close[0]}?")


def _log_options(options: argparse.Namespace) -> LogOptions:
    return LogOptions(options.log_format, options.log_file, options.log_rotate_bytes, options.log_rotate_keep)
