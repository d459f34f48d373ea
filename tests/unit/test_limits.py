"""docs/limits.md tells the truth."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kcpg.app.config.keys import KEYS
from tests.tidy import tree

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "limits.md").read_text("utf-8")
ROWS = re.findall(r"^\| `(kcpg[\w.]+)\.([A-Z_]+)` \| (\d+) \|", PAGE, re.MULTILINE)

# (module, class), and what the page says of its containers: name and bound.
HELD = {
    tuple(where.rsplit(".", 1)): dict(re.findall(r"`(\w+)` ([^;]+)", holds))
    for where, holds in re.findall(r"^\| `(kcpg[\w.]+\.\w+)` \| (`\w+` .+) \|$", PAGE, re.MULTILINE)
}

GROWING = {"dict", "list", "set", "deque", "OrderedDict", "Counter", "defaultdict", "bytearray"}

# Bounds that are no number of their own: so many as there are of something that is bounded, or one turn's.
MEASURES = re.compile(r"one per \w|one datagram\b|one batch\b|emptied each turn\b|.*`\w+`")


def test_the_table_is_read() -> None:
    assert len(ROWS) > 20


@pytest.mark.parametrize(("module", "name", "value"), ROWS, ids=[row[1] for row in ROWS])
def test_a_documented_limit_is_the_one_in_force(module: str, name: str, value: str) -> None:
    assert constant(module, name) == int(value)


def constant(module: str, name: str) -> object:
    """Of a module; one that is a C integer where the module is compiled stands in its source alone."""
    found = getattr(importlib.import_module(module), name, None)
    if found is not None:
        return found
    source = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text("utf-8")
    for line in ast.parse(source).body:
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == name:
            return ast.literal_eval(line.value)
    raise AssertionError(f"{module} has no {name}")


def test_every_container_has_a_bound() -> None:
    found: dict[tuple[str, ...], set[str]] = {}
    for module, owner, name in containers():
        found.setdefault((module, owner), set()).add(name)
    listed = {where: set(names) for where, names in HELD.items()}
    missing = {where: names - listed.get(where, set()) for where, names in found.items()}
    stale = {where: names - found.get(where, set()) for where, names in listed.items()}
    wrong = [
        f"{'.'.join(where)}: {', '.join(names)} has no bound" for where, names in missing.items() if names
    ]
    wrong += [
        f"{'.'.join(where)}: {', '.join(names)} is not there" for where, names in stale.items() if names
    ]
    assert not wrong, "\n".join([*wrong, "see «What each container holds» in docs/limits.md"])


@pytest.mark.parametrize("where", HELD, ids=".".join)
def test_a_bound_is_a_constant_a_key_or_a_number_of_bounded_things(where: tuple[str, str]) -> None:
    source = (ROOT / where[0].replace(".", "/")).with_suffix(".py").read_text("utf-8")
    for name, bound in HELD[where].items():
        assert MEASURES.match(bound), f"{name}: {bound}"
        for constant_name in re.findall(r"`(\w+)`", bound):
            is_known = re.search(rf"\b{constant_name}\b", source) or constant_name in KEYS
            assert is_known or constant_name in {row[1] for row in ROWS}, f"{name}: what is {constant_name}?"


def test_a_container_without_a_bound_is_noticed() -> None:
    code = """
class Made:
    seen: dict[str, int] = field(default_factory=dict)
    def __init__(self, given):
        self.kept = deque(maxlen=9)
        self.queue: deque[int] = deque()
        self.table, self.copy = {}, list(given)
        self.fixed = [1, 2]
        self.sizes = {}
"""
    assert set(_of_classes(ast.parse(code))) == {("Made", "seen"), ("Made", "queue"), ("Made", "sizes")}


def containers() -> Iterator[tuple[str, str, str]]:
    """(module, class, name) of what objects keep and fill later; a configuration is bounded by its file."""
    for path in tree.sources("kcpg", suffixes=(".py",)):
        module = tree.name(path).removesuffix(".py").replace("/", ".")
        if module.startswith(("kcpg.core.", "kcpg.net.", "kcpg.app.")) and ".config." not in module:
            for owner, name in _of_classes(ast.parse(path.read_text("utf-8"))):
                yield module, owner, name


def _of_classes(module: ast.Module) -> Iterator[tuple[str, str]]:
    for owner in (node for node in ast.walk(module) if isinstance(node, ast.ClassDef)):
        for node in ast.walk(owner):
            if isinstance(node, ast.Assign) and len(node.targets) == 1:
                target, value = node.targets[0], node.value
            elif isinstance(node, ast.AnnAssign) and node.value is not None:
                target, value = node.target, node.value
            else:
                continue
            if not _grows(value):
                continue
            if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
                yield owner.name, target.attr
            elif isinstance(target, ast.Name) and node in owner.body:
                yield owner.name, target.id


def _grows(value: ast.expr) -> bool:
    """Whether it is an empty container without a bound of its own."""
    if isinstance(value, ast.Dict | ast.List):
        return not ast.unparse(value).strip("[]{}")
    if not isinstance(value, ast.Call):
        return False
    made = ast.unparse(value.func).partition("[")[0].rpartition(".")[2]
    if made == "field":
        return any(
            ast.unparse(word.value) in GROWING for word in value.keywords if word.arg == "default_factory"
        )
    return made in GROWING and not value.args and not any(word.arg == "maxlen" for word in value.keywords)
