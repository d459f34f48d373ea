"""What stands in both engines is the same: each compiled part stands beside its twin, each constant has one.

`_sender.pxi` is the twin of `sender.py` in the same folder, and so for every `.pyx`, `.pxi` and `.pxd` whose
name begins with an underscore. What has no twin of its stem stands in `WITHOUT_TWIN`, with the reason.

A C constant has the name of the Python constant that it repeats. C has one name space for a module and what
it includes, so that one of another file may carry a prefix (`PREFIXES`), and Python one underscore more. What
only the compiled engine has stands in `ONLY_COMPILED`.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tidy import tree

# Compiled parts without a plain module of their stem, by the reason.
WITHOUT_TWIN = {
    "memory, which Python looks after": "core/kcp/_rings core/native/wire/_pool",
    "its twin serves both dialects and stands above": "core/native/wire/_pacer core/native/wire/_timers",
    "numbers in memory; Python has struct": "core/kcp/_numbers",
    "the other half of a file that would be too long": "core/kcp/_face core/kcp/_recall",
    "the module that the parts of a folder make up": "core/fec/_fec",
    "libraries, which plain Python reaches through packages": """
        core/seal/_cfb core/seal/_evp core/seal/_ipsec core/seal/_short""",
    "what only the compiled engine has": "core/_datagramwire core/native/wire/_bypass",
    "system calls, for which Python has socket": "net/_syscalls",
}

PREFIXES = ("KCP_", "FEC_", "EV_", "CMD_", "REPLAY_")

# Where a compiled module's constants have their twins: its own folder, and these.
BESIDE = {
    "kcpg/core": ("kcpg.core.native.wire.turn", "kcpg.core.native.wire.wire"),
    "kcpg/core/native/wire": ("kcpg.core.kcp.params", "kcpg.core.pacer", "kcpg.net.bypass"),
}

# Constants that plain Python has no use for, by the reason.
ONLY_COMPILED = {
    "memory, which Python looks after": """
        CHUNK_SLOTS_MAX CHUNK_SLOTS_MIN FEC_LINK FEC_POOL_SHARE FEC_SLOT_EXTRA KCP_RING_LOG KCP_WASTE_BYTES
        KCP_WASTE_LOG PATH_ADDRESS_BYTES RCV_ENTRY REPLAY_WORDS RING_KEEP RING_START SND_ENTRY
        MARKS_START MARK_BYTES SLOT_ALIGN IPSEC_CONTEXT_WORDS IPSEC_KEY_BYTES SHORT_AAD
        SHORT_BLOCKS""",
    "the processor's caches and registers": """
        BATCH CACHE_LINE CFB_LANES COLD_TURNS FETCH_AHEAD KERNELS SHORT_BYTES""",
    "flags, where Python has enums and sets": """
        RCV_ACK_DUE RCV_DONE RCV_HERE RCV_READY SND_ACKED SND_COPY SND_LATE SND_STREAM SND_TAIL""",
    "answers of functions, where Python answers otherwise": """
        FEC_DUPLICATE FEC_LATE FEC_MALFORMED FEC_OK KCP_OK NO_WAIT""",
    "sizes of fields, where Python has struct and numbers without end": """
        ADDRESS_BYTES AES_BLOCK CFB_BLOCK CFB_BYTES HALF32 INFO4_BYTES INFO6_BYTES MAP_BASE NAME4_BYTES""",
    "other people's interfaces that Python calls by libraries": """
        AF_INET SHA_BLOCK SHA_STATE EVP_CTRL_AEAD_GET_TAG EVP_CTRL_AEAD_SET_IVLEN EVP_CTRL_AEAD_SET_TAG""",
    "vectors of system calls; Python makes one call for each": """
        BATCH_BYTES BATCH_MESSAGES BUFFERS BUFFER_STRIDE FEW_PACKETS FEW_SLOTS JOINED_BUFFERS JOINED_BYTES
        JOINED_MS MESSAGES PACKET_BYTES SLOTS VECTORS""",
}
ALONE = {name for names in ONLY_COMPILED.values() for name in names.split()}

_ENUM = re.compile(r"(\s*)(?:cdef|ctypedef)\s+enum\b.*:\s*$")
_CONSTANT = re.compile(r"\s+(\w+)\s*=\s*([^#]+?)\s*(?:#.*)?$")


@dataclass(frozen=True)
class Constant:
    """One constant of a C enum."""

    path: Path
    line: int
    name: str
    value: int

    def __str__(self) -> str:
        return f"{tree.name(self.path)}:{self.line} {self.name} = {self.value}"

    def names(self) -> set[str]:
        """What its twin may be called."""
        bare = {self.name, *(self.name.removeprefix(each) for each in PREFIXES)}
        bare |= {each + self.name for each in PREFIXES}
        return bare | {f"_{name}" for name in bare}


def constants(path: Path) -> Iterator[Constant]:
    """The constants of every enum of a Cython file that gives them values."""
    depth: int | None = None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if begins := _ENUM.match(line):
            depth = len(begins[1])
        elif depth is not None and (given := _CONSTANT.match(line)):
            value = eval(given[2], {"__builtins__": {}})  # a number, or a shift of one
            assert isinstance(value, int), f"{tree.name(path)}:{number}"
            yield Constant(path, number, given[1], value)
        elif depth is not None and line.strip() and not line.lstrip().startswith("#"):
            depth = None if len(line) - len(line.lstrip()) <= depth else depth


CONSTANTS = [
    each for path in tree.sources("kcpg", suffixes=(".pyx", ".pxd", ".pxi")) for each in constants(path)
]


def twins(constant: Constant) -> dict[str, int]:
    """The Python constants of its name, by module and name."""
    folder = constant.path.parent
    modules = [
        f"{tree.name(folder).replace('/', '.')}.{path.stem}"
        for path in sorted(folder.glob("*.py"))
        if path.stem != "__init__"
    ]
    return _valued(constant, modules) or _valued(constant, BESIDE.get(tree.name(folder), ()))


def _valued(constant: Constant, modules: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for module in modules:
        for name in constant.names() & _assigned(module):
            value = getattr(importlib.import_module(module), name)
            if isinstance(value, int):
                found[f"{module}.{name}"] = int(value)
    return found


def _assigned(module: str) -> set[str]:
    """What a module itself gives a value, not what it imports."""
    source = tree.tree(tree.ROOT.joinpath(*module.split(".")).with_suffix(".py"))
    targets = [target for node in source.body if isinstance(node, ast.Assign) for target in node.targets]
    targets += [node.target for node in source.body if isinstance(node, ast.AnnAssign)]
    pairs = [each for target in targets for each in getattr(target, "elts", [target])]
    return {each.id for each in pairs if isinstance(each, ast.Name)}


STEMS = sorted(
    {
        path.with_suffix("")
        for path in tree.sources("kcpg", suffixes=(".pyx", ".pxd", ".pxi"))
        if path.stem.startswith("_")
    }
)


def has_twin(stem: Path) -> bool:
    """`kcp/_sender` has `kcp/sender.py` beside it."""
    return stem.with_name(f"{stem.name.removeprefix('_')}.py").exists()


@pytest.mark.parametrize("stem", STEMS, ids=tree.name)
def test_a_compiled_part_stands_beside_its_twin(stem: Path) -> None:
    """And what is said to have no twin has none."""
    alone = tree.name(stem).removeprefix("kcpg/") in " ".join(WITHOUT_TWIN.values()).split()
    assert has_twin(stem) != alone, (
        f"{tree.name(stem)}: give it the stem of its plain twin, or say in WITHOUT_TWIN why it has none"
    )


def test_what_has_no_twin_is_there() -> None:
    known = {tree.name(stem).removeprefix("kcpg/") for stem in STEMS}
    gone = set(" ".join(WITHOUT_TWIN.values()).split()) - known
    assert not gone, f"there is no such part any more: {sorted(gone)}"


def test_constants_are_found() -> None:
    """That this file reads them at all."""
    assert len(CONSTANTS) > 100
    assert {"TURN_SEGMENTS", "KCP_HEADER_BYTES", "REBUILT_AGE_MS"} <= {each.name for each in CONSTANTS}


@pytest.mark.parametrize("constant", CONSTANTS, ids=lambda each: each.name)
def test_a_constant_is_the_same_in_both_engines(constant: Constant) -> None:
    if constant.name in ALONE:
        return
    found = twins(constant)
    assert found, f"{constant} has no Python constant of its name; if it needs none, say why in ONLY_COMPILED"
    values = set(found.values())
    assert values == {constant.value}, f"{constant} differs: {found}"


def test_what_stands_alone_is_there() -> None:
    gone = ALONE - {each.name for each in CONSTANTS}
    assert not gone, f"no enum has these any more: {sorted(gone)}"
