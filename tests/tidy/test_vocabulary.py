"""One word, one thing: names that core does not use because they could mean three of ours."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.tidy import tree

INSTEAD = {
    "session": "link (a security association) or conversation (KCP's)",
    "channel": "conversation, conv",
    "connection": "flow (a user's TCP connection) or link",
    "endpoint": "path, leg or node",
}
# Noise calls it so, and what resuming a link is proven with has no better name.
ALLOWED = {"session_secret"}


def test_core_speaks_one_language() -> None:
    wrong = []
    for path in tree.sources("kcpg/core", suffixes=(".py", ".pyx", ".pxd", ".pxi")):
        for line, identifier in _identifiers(path):
            for word, better in INSTEAD.items():
                if word in _words(identifier) and identifier not in ALLOWED:
                    wrong.append(f"{tree.name(path)}:{line}: '{identifier}'; say {better}")
    assert not wrong, "\n".join(sorted(set(wrong)))


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
