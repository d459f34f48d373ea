"""Imports go inward: the rings of the architecture, each rule with its reason."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.tidy import tree

# (who, must not import, why)
RULES = [
    (
        ("kcpg/core",),
        ("gevent", "greenlet", "socket", "select", "selectors", "threading", "asyncio", "ssl"),
        "core is the protocol without input and output: the simulation runs it without socket or greenlet",
    ),
    (
        ("kcpg/core",),
        ("time", "datetime", "sched"),
        "time is an argument (now_ms) in core, so that a test can be in a virtual hour and repeat it exactly",
    ),
    (
        ("kcpg/core",),
        ("secrets", "uuid", "Cryptodome.Random", "tempfile"),
        "entropy is an argument in core, so that a seed repeats a run and keys come from one audited place",
    ),
    (
        ("kcpg/core",),
        ("logging", "warnings", "syslog"),
        "core reports facts, counted drops and events; what is worth a line in a log is decided in kcpg/app",
    ),
    (
        ("kcpg/core",),
        ("kcpg.net", "kcpg.app"),
        "imports go inward: core knows neither the sockets nor the program around it",
    ),
    (
        ("kcpg/net",),
        ("kcpg.app",),
        "imports go inward: net is usable by a program that has no configuration file and no command line",
    ),
    (
        ("kcpg/core", "kcpg/net", "kcpg/app"),
        ("kcpg.api",),
        "imports go inward: the library's face is made of the rings, and the command does not use it",
    ),
    (
        ("kcpg",),
        ("netem", "harness", "tests"),
        "the product is installed alone: the network emulation and the harness stay in the repository",
    ),
    (
        # An attacker with the keys speaks the protocol itself, and so do thousands of clients in one process.
        (
            "harness",
            "-harness/malicious_peer.py",
            "-harness/hostile.py",
            "-harness/rawlink.py",
            "-harness/load/storm.py",
            "-harness/load/herd.py",
        ),
        ("kcpg",),
        "the harness drives kcpg through its command line, as a user does, and so sees what a user gets",
    ),
    (
        ("netem",),
        ("kcpg", "harness"),
        "netem describes and emulates networks for anything, and so must not know what is tested with it",
    ),
    (
        ("netem/impair.py",),
        ("gevent", "socket", "time", "logging"),
        "impairment needs no input, output or clock: the simulation and the user-space box share it",
    ),
]


@pytest.mark.parametrize(("folders", "forbidden", "reason"), RULES, ids=lambda value: None)
def test_imports_go_inward(folders: tuple[str, ...], forbidden: tuple[str, ...], reason: str) -> None:
    wrong = [str(item) for item in _imports(folders) if item.within(*forbidden)]
    assert not wrong, "\n".join([*wrong, f"why not: {reason}"])


def _imports(folders: tuple[str, ...]) -> list[tree.Import]:
    """The imports below `folders`; an entry may also name one file, with a minus sign one that is let off."""
    found, spared = [], {folder[1:] for folder in folders if folder.startswith("-")}
    for folder in folders:
        if folder.startswith("-"):
            continue
        if folder.endswith(".py"):
            found += [item for item in tree.imports(folder.split("/")[0]) if tree.name(item.path) == folder]
        else:
            found += tree.imports(folder)
    return [item for item in found if tree.name(item.path) not in spared]


# What only code with a socket or a clock of its own says; `struct iovec` is memory, not a call.
SYSTEM = re.compile(
    r"\b(fd|fds|fileno|descriptor|sockaddr\w*|msghdr|epoll\w*|timerfd\w*|clock_gettime|getrandom|"
    r"(?:read|write|p?readv|writev|recv|recvmsg|recvmmsg|send|sendto|sendmsg|sendmmsg)\(fd)\b"
    r"|<(?:sys/(?!uio)\w+|unistd|fcntl|netinet/\w+|arpa/\w+|time|poll)\.h>"
)


@pytest.mark.parametrize(
    "path", tree.sources("kcpg/core", suffixes=(".pyx", ".pxd", ".pxi", ".h")), ids=tree.name
)
def test_compiled_core_knows_no_descriptor_either(path: Path) -> None:
    """The rules above see imports; compiled modules could call the system without one."""
    wrong = [
        f"{tree.name(path)}:{number}: {line.strip()}"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if SYSTEM.search(line.split("#")[0])
    ]
    assert not wrong, "\n".join([*wrong, "why not: core is the protocol without input and output"])


# The command line patches the standard library and waits for signals; everything else of app is plain code.
GEVENT_OUTSIDE_NET = ("kcpg/__main__.py", "kcpg/api/gevent.py", "kcpg/app/")


def test_only_the_socket_ring_and_the_entry_know_gevent() -> None:
    wrong = [
        str(item)
        for item in tree.imports("kcpg", "netem", "harness")
        if item.within("gevent") and not tree.name(item.path).startswith(("kcpg/net/", *GEVENT_OUTSIDE_NET))
    ]
    reason = (
        "greenlets belong to the sockets (kcpg/net) and to the process (the command line); nothing else waits"
    )
    assert not wrong, "\n".join([*wrong, f"why not: {reason}"])


def test_only_the_command_line_patches_the_standard_library() -> None:
    wrong = [
        str(item)
        for item in tree.imports("kcpg")
        if item.module.startswith("gevent.monkey.patch") and tree.name(item.path) != "kcpg/__main__.py"
    ]
    reason = "importing kcpg as a library must never change the program that imports it"
    assert not wrong, "\n".join([*wrong, f"why not: {reason}"])


def test_core_draws_no_entropy_of_its_own() -> None:
    """`os.urandom` and the functions of the module `random` are global state; instances are passed in."""
    wrong = []
    for path in tree.sources("kcpg/core"):
        for node in ast.walk(tree.tree(path)):
            if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
                continue
            used = f"{node.value.id}.{node.attr}"
            if used in {"os.urandom", "os.getrandom"} or (
                node.value.id == "random" and node.attr != "Random"
            ):
                wrong.append(f"{tree.name(path)}:{node.lineno} uses {used}")
    for path in tree.sources("kcpg/core", suffixes=(".pyx", ".pxi")):
        text = path.read_text(encoding="utf-8")
        wrong += [
            f"{tree.name(path)} uses {word}"
            for word in ("urandom", "getrandom", "clock_gettime")
            if word in text
        ]
    reason = "entropy and rng are arguments in core, so that a printed seed repeats a run"
    assert not wrong, "\n".join([*wrong, f"why not: {reason}"])
