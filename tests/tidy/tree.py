"""The repository's own source files, as the tidy tests read them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("kcpg", "netem", "harness")


def sources(*folders: str, suffixes: tuple[str, ...] = (".py",)) -> list[Path]:
    """Every file below `folders` (relative to the repository) with one of `suffixes`, in a fixed order."""
    found = (path for folder in folders for path in (ROOT / folder).rglob("*"))
    return sorted(path for path in found if path.suffix in suffixes and path.is_file())


def name(path: Path) -> str:
    """`path` as it is called inside the repository."""
    return path.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Import:
    """One imported module: its full name, where it is imported, and whether only type checkers see it."""

    module: str
    path: Path
    line: int
    typing_only: bool = False

    def __str__(self) -> str:
        return f"{name(self.path)}:{self.line} imports {self.module}"

    def within(self, *packages: str) -> bool:
        """Whether the module is one of `packages` or lies below one of them."""
        return any(self.module == package or self.module.startswith(package + ".") for package in packages)


def imports(*folders: str) -> list[Import]:
    """Every import below `folders`: Python and Cython files, cimports included, relative ones resolved."""
    found = [item for path in sources(*folders) for item in _python_imports(path)]
    cython = sources(*folders, suffixes=(".pyx", ".pxd", ".pxi"))
    return found + [item for path in cython for item in _cython_imports(path)]


@cache
def tree(path: Path) -> ast.Module:
    """The parsed Python file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _package(path: Path) -> list[str]:
    return list(path.relative_to(ROOT).parent.parts)


def _absolute(path: Path, level: int, module: str) -> str:
    if level == 0:
        return module
    base = _package(path)
    base = base[: len(base) - (level - 1)]
    return ".".join([*base, module] if module else base)


def _python_imports(path: Path) -> Iterator[Import]:
    typing_only = {
        id(inner)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree(path)):
        hidden = id(node) in typing_only
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, path, node.lineno, hidden)
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(path, node.level, node.module or "")
            for alias in node.names:  # `from kcpg import net` imports kcpg.net
                yield Import(f"{module}.{alias.name}", path, node.lineno, hidden)


_CYTHON_IMPORT = re.compile(
    r"^\s*(?:from\s+(\.*)([\w.]*)\s+c?import\s+(.+)|c?import\s+([\w.]+(?:\s*,\s*[\w.]+)*))"
)


def _cython_imports(path: Path) -> Iterator[Import]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = _CYTHON_IMPORT.match(line)
        if match is None:
            continue
        dots, module, what, plain = match.groups()
        if plain:
            for each in plain.split(","):
                yield Import(each.strip(), path, number)
            continue
        base = _absolute(path, len(dots), module)
        for each in what.strip("()").split(","):
            first = each.split("#")[0].split()
            yield Import(f"{base}.{first[0].strip('()')}" if first else base, path, number)
