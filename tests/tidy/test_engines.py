"""The two engines match: what is compiled is listed, typed, and named as its plain twin."""

from __future__ import annotations

import ast
import importlib
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines import MODULES, TWINS, require
from tests.tidy import tree

SETUP = runpy.run_path(str(tree.ROOT / "setup.py"))
LISTED = SETUP["EXTENSIONS"]


def _module(path: Path) -> str:
    return ".".join(path.relative_to(tree.ROOT).with_suffix("").parts)


def test_every_compiled_module_is_in_the_one_list() -> None:
    present = {_module(path) for path in tree.sources("kcpg", suffixes=(".pyx",))}
    assert present == set(LISTED), "setup.py builds EXTENSIONS; a source outside it is dead code"


def test_what_is_also_compiled_has_its_types() -> None:
    types = tree.sources("kcpg", suffixes=(".pxd",))
    typed = {_module(path) for path in types if path.with_suffix(".py").exists()}
    assert typed == set(SETUP["ALSO_COMPILED"]), "compiled without a .pxd a file is no faster (docs/adr/0008)"


def test_pip_compiles_every_module() -> None:
    """Make compiles by itself and tells pip not to; whoever installs kcpg leaves it to pip."""
    require("kcpg.core.kcp._kcp")
    program = "import setuptools; from distutils.core import run_setup as run; " + (
        "print(*(each.name for each in run('setup.py', stop_after='init').ext_modules))"
    )
    words = [sys.executable, "-W", "ignore", "-c", program]
    environ = {name: value for name, value in os.environ.items() if name != "KCPG_ENGINE"}
    done = subprocess.run(words, cwd=tree.ROOT, env=environ, capture_output=True, text=True, check=False)
    wanted = sorted([*LISTED, *SETUP["ALSO_COMPILED"]])
    assert sorted(done.stdout.split()) == wanted, done.stdout + done.stderr


@pytest.mark.parametrize("path", tree.sources("kcpg", suffixes=(".pyx",)), ids=tree.name)
def test_every_compiled_module_has_its_types(path: Path) -> None:
    assert path.with_suffix(".pyi").exists(), f"without a .pyi mypy sees nothing of {tree.name(path)}"


@pytest.mark.parametrize("module", LISTED)
def test_the_types_tell_the_truth(module: str) -> None:
    """Every public name of the .pyi exists in the compiled module, and every method in its class."""
    require(module)
    compiled = importlib.import_module(module)
    stub = tree.tree(tree.ROOT.joinpath(*module.split(".")).with_suffix(".pyi"))
    missing = [name for name in _declared(stub.body) if not hasattr(compiled, name)]
    for node in stub.body:
        if isinstance(node, ast.ClassDef) and hasattr(compiled, node.name):
            owner = getattr(compiled, node.name)
            missing += [f"{node.name}.{name}" for name in _declared(node.body) if not hasattr(owner, name)]
    assert not missing, f"declared in {module}'s .pyi and not there: {missing}"


def _declared(body: list[ast.stmt]) -> list[str]:
    names = [node.name for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    names += [
        node.target.id
        for node in body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    return [name for name in names if not name.startswith("_")]


# How the plain Wire, its link wires and their conversations work together; the compiled ones use C structs.
INSIDE = {
    "Wire": "epochs events is_alone lone_ms now_ms outbox paced_ms pool starved timers wake",
    "LinkWire": "can_send conv_changed held_until link_fec mark_dirty note_received rtt_ms seal "
    "segment_bytes share turn urgent",
    "Conv": "acked_empty acked_ms count_for deliver fit flush_into flush_packets heeded_spurious is_capped "
    "is_dirty is_lone is_long is_outstanding is_urgent join note_change notice open_window packets_in "
    "packets_out raise_events rcv_limit seen snd_limit thin_acks",
    "Kcp": "acked_ms count_for flush_into",
    "GroupSender": "parity_bytes",
    "TunWire": "make_kcp",
}

# What only the compiled one shows, and why.
ONLY_COMPILED = {
    "Wire": "tx_cursor",  # of its vector, which tests look into
    "TunWire": "tx_cursor",
    "Cipher": "is_compiled",  # whether a library does the work
    "Conv": "bypass set_bypass",  # the way past the splice, which kcpg.net.bypass has only there
}


@pytest.mark.parametrize("name", TWINS)
def test_both_engines_have_the_same_face(name: str) -> None:
    """The same public methods and attributes, but for what stands above."""
    compiled_module, python_module = TWINS[name]
    require(compiled_module)
    compiled = _public(getattr(importlib.import_module(compiled_module), name))
    python = _public(getattr(importlib.import_module(python_module), name))
    inside, extra = set(INSIDE.get(name, "").split()), set(ONLY_COMPILED.get(name, "").split())
    assert not inside - python and not extra - compiled, "an exception that is none any more"
    lacking = {
        python_module: sorted(compiled - extra - python),
        compiled_module: sorted(python - inside - compiled),
    }
    assert not any(lacking.values()), f"{name} lacks {lacking}"


@pytest.mark.parametrize("compiled_module, python_module", sorted(MODULES.items()))
def test_both_engines_have_the_same_functions(compiled_module: str, python_module: str) -> None:
    """Every function that a compiled module gives is there in the plain one."""
    require(compiled_module)
    compiled, python = importlib.import_module(compiled_module), importlib.import_module(python_module)
    stub = tree.tree(tree.ROOT.joinpath(*compiled_module.split(".")).with_suffix(".pyi"))
    declared = {node.name for node in stub.body if isinstance(node, ast.FunctionDef)}
    shown = {name for name, each in vars(compiled).items() if callable(each) and not name.startswith("_")}
    shown -= {
        name for name in shown if getattr(getattr(compiled, name), "__module__", None) != compiled_module
    }
    assert declared == shown and all(callable(getattr(python, name, None)) for name in declared)


def _public(owner: type) -> set[str]:
    return {each for each in dir(owner) if not each.startswith("_")} | _assigned(owner)


def _assigned(owner: type) -> set[str]:
    """Public attributes a plain class and its bases set on themselves; dir() does not know them."""
    found: set[str] = set()
    for base in owner.__mro__:
        if not base.__module__.startswith("kcpg."):
            continue
        source = tree.ROOT.joinpath(*base.__module__.split(".")).with_suffix(".py")
        if not source.exists():  # compiled alone: dir() knows its attributes
            continue
        for defined in ast.walk(tree.tree(source)):
            if isinstance(defined, ast.ClassDef) and defined.name == base.__name__:
                found |= set(_stores(defined))
    return found


def _stores(defined: ast.ClassDef) -> Iterator[str]:
    for node in ast.walk(defined):
        if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Store):
            continue
        on_self = isinstance(node.value, ast.Name) and node.value.id == "self"
        if on_self and not node.attr.startswith("_"):
            yield node.attr
