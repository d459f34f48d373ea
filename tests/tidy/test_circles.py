"""No circle among modules: what a module needs is read before it, and understood without it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tests.tidy import tree

Graph = Mapping[str, set[str]]

WIRE = "conv flight linkwire wire"

# Modules that know each other's types, and why that stays. This list may only shrink.
TYPES_ALONE: dict[frozenset[str], str] = {
    frozenset(f"kcpg.core.native.wire.{name}" for name in WIRE.split()): "one thing, in C one unit",
    frozenset(f"kcpg.core.kcptube.{name}" for name in ("dialedlink", "dialer", "request")): (
        "a dialer of one dialect, in three files"
    ),
    frozenset(f"kcpg.net.{name}" for name in ("dial", "listening", "local_tcp", "local_udp")): (
        "flows and what makes them"
    ),
    frozenset(("kcpg.net.datagrams", "kcpg.net.udp")): "a driver's sockets, and what serves them",
}


def graph(typing_too: bool) -> Graph:
    """What every module of kcpg imports of kcpg; `typing_too`: also for type checkers alone."""
    modules = {_module(tree.name(path)) for path in tree.sources("kcpg", suffixes=(".py", ".pyx"))}
    found: dict[str, set[str]] = {module: set() for module in modules}
    for item in tree.imports("kcpg"):
        if item.path.suffix not in (".py", ".pyx") or (item.typing_only and not typing_too):
            continue
        target = item.module if item.module in modules else item.module.rpartition(".")[0]
        importer = _module(tree.name(item.path))
        if target in modules and target != importer:
            found[importer].add(target)
    return found


def _module(name: str) -> str:
    return name.rpartition(".")[0].replace("/", ".").removesuffix(".__init__")


def circles(modules: Graph) -> set[frozenset[str]]:
    """The sets of modules that reach each other (Tarjan's algorithm)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: set[frozenset[str]] = set()

    def visit(module: str) -> None:
        order[module] = low[module] = len(order)
        stack.append(module)
        for other in sorted(modules[module]):
            if other not in order:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], order[other])
        if low[module] == order[module]:
            at = stack.index(module)
            found.add(frozenset(stack[at:]))
            del stack[at:]

    for module in sorted(modules):
        if module not in order:
            visit(module)
    return {each for each in found if len(each) > 1}


def _named(found: Iterable[frozenset[str]]) -> str:
    return "\n".join(sorted(" <-> ".join(sorted(each)) for each in found))


def test_circles_are_found() -> None:
    modules = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": {"d"}, "f": {"a"}}
    assert circles(modules) == {frozenset("abc"), frozenset("de")}
    assert graph(typing_too=False)["kcpg.core.node"] >= {"kcpg.core.flow", "kcpg.core.splice"}


def test_no_circle_is_imported() -> None:
    found = circles(graph(typing_too=False))
    assert not found, f"{_named(found)}\nmust be imported in an order that works by luck"


def test_no_further_circle_is_there_for_types() -> None:
    found = circles(graph(typing_too=True))
    more = {each for each in found if not any(each <= known for known in TYPES_ALONE)}
    assert not more, f"{_named(more)}\nneed each other: let the inner one say by a Protocol what it needs"
    gone = {known for known in TYPES_ALONE if not any(each <= known for each in found)}
    assert not gone, f"{_named(gone)}\nis no circle any more: strike it from TYPES_ALONE"
