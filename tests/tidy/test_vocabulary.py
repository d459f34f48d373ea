"""One word, one thing: names that are not used because they could mean three of ours, or were given up."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tidy import tree

# Words that could be several things of ours, and in which rings they could.
AMBIGUOUS = {
    "session": (("core", "net", "app"), "link (a security association) or conversation (KCP's)"),
    "channel": (("core", "net", "app"), "conversation, conv"),
    "connection": (("core",), "flow (a user's TCP connection) or link; net and app have real ones"),
    "endpoint": (("core", "net", "app"), "path, leg or node"),
}
# Words that were given up, so that what took their place is the only word for it.
RETIRED = {
    "bundle": "LinkWire, link_wire",
    "caller": "DialedLink (a link that a dialer keeps), DialHost (what that sees of the dialer)",
    "crew": "WorkerPool",
    "inlet": "bypass",
    "linger": "drain (a flow or a link that is over); only a socket lingers",
    "lingering": "draining",
    "outlet": "bypass",
    "protection": "FecControl, fec_control",
    "rekeying": "rekey",
    "reputation": "PenaltyBox",
    "stir": "wake",
    "vigil": "AdaptiveBusyPoll",
}
# Names that were given up, though their words are good for other things.
RETIRED_NAMES = {
    "Asking": "Request (a question in kcptube's conversation 0)",
    "Attempt": "HandshakeAttempt",
    "Member": "WorkerHandle",
    "Opening": "OpenMessage",
    "Part": "WorkerContext",
    "Seen": "ReplayCache",
    "Share": "WorkerSlot: a share is the fair part of a resource",
    "look": "inspect (state that is there now)",
}
ALLOWED = {
    "session_secret": "Noise calls it so, and what resuming a link is proven with has no better name",
    "Channel": "of app/workers/channel.py: the socket pair of the supervisor and a worker",
    "channel": "one of those",
    "_channel": "one of those",
    "linger": "the C struct of SO_LINGER, in net/_sock.pyx",
}
RINGS = ("core", "net", "app")


@pytest.mark.parametrize("ring", RINGS)
def test_a_ring_speaks_one_language(ring: str) -> None:
    words = {word: better for word, (rings, better) in AMBIGUOUS.items() if ring in rings} | RETIRED
    wrong = []
    for path, line, identifier in _all(ring):
        if identifier in ALLOWED:
            continue
        found = [words[word] for word in _words(identifier) & set(words)]
        if identifier in RETIRED_NAMES:
            found.append(RETIRED_NAMES[identifier])
        wrong += [f"{tree.name(path)}:{line}: '{identifier}'; say {better}" for better in found]
    assert not wrong, "\n".join(sorted(set(wrong)))


def test_docstrings_say_something() -> None:
    """One that begins by sending its reader elsewhere says what the base class says, or nothing."""
    wrong = [
        f"{tree.name(path)}:{number}: {line.strip()}"
        for path in tree.sources("kcpg", "netem", "harness", suffixes=(".py", ".pyx", ".pxi"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if line.lstrip().startswith('"""See ')
    ]
    assert not wrong, "\n".join(wrong)


def test_what_is_allowed_is_used() -> None:
    used = {identifier for ring in RINGS for _, _, identifier in _all(ring)}
    assert not set(ALLOWED) - used, "an exception that is none any more"


def _all(ring: str) -> Iterator[tuple[Path, int, str]]:
    for path in tree.sources(f"kcpg/{ring}", suffixes=(".py", ".pyx", ".pxd", ".pxi")):
        yield from ((path, line, identifier) for line, identifier in _identifiers(path))


def _words(identifier: str) -> set[str]:
    """`open_TunnelLink` is open, tunnel, link; a plural counts as its singular."""
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", identifier)
    return {part.lower() for part in parts} | {part.lower().removesuffix("s") for part in parts}


def _identifiers(path: Path) -> Iterator[tuple[int, str]]:
    if path.suffix != ".py":
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for match in re.finditer(r"\bc(?:p)?def\b[^#\"']*", line):
                yield from ((number, word) for word in re.findall(r"[A-Za-z_]\w*", match.group()))
        return
    for node in ast.walk(tree.tree(path)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
