"""Builds the compiled engine of kcpg; everything declarative stands in pyproject.toml.

`EXTENSIONS` is the one list of compiled modules: the build, the tidy tests and the engine tests read it.
`KCPG_ENGINE=python` in the environment builds none of them (kcpg then runs on its plain-Python engine).
"""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

EXTENSIONS = (
    "kcpg.core._datagramwire",
    "kcpg.core._plainwire",
    "kcpg.core.fec._fec",
    "kcpg.core.kcp._kcp",
    "kcpg.core.kcptun._wire",
    "kcpg.core.seal._seal",
    "kcpg.core.native.wire._wire",
    "kcpg.net._bypass",
    "kcpg.net._packets",
    "kcpg.net._sock",
    "kcpg.net._udp",
)

# Plain Python files that are also compiled, with the C types of the .pxd beside each (docs/adr/0008): what
# runs per event and per flow. Without a compiler they run as they are.
ALSO_COMPILED = (
    "kcpg.core.flow",
    "kcpg.core.native.link.convflow",
    "kcpg.core.native.dial.dialer",
    "kcpg.core.native.link.flowtable",
    "kcpg.core.native.leg",
    "kcpg.core.native.listener",
    "kcpg.core.native.link.liveness",
    "kcpg.core.native.link.open_message",
    "kcpg.core.node",
    "kcpg.core.congestion",
    "kcpg.core.pathloss",
    "kcpg.core.splice",
    "kcpg.net.addr",
    "kcpg.net.alarm",
    "kcpg.net.busypoll",
    "kcpg.net.bypass",
    "kcpg.net.clock",
    "kcpg.net.coalesce",
    "kcpg.net.datagrams",
    "kcpg.net.driver",
    "kcpg.net.inlinepoll",
    "kcpg.net.local",
    "kcpg.net.local_tcp",
    "kcpg.net.task",
)

# -O3 lets the compiler vectorise the ring scans and the byte-wise XOR. No -march: it gains nothing
# measurable and would tie the built file to this machine's processor. -g0: without the lines for a debugger,
# which Python's own flags ask for, the same instructions are compiled in four fifths of the time and take a
# fifth of the space; profilers name functions all the same.
COMPILE_ARGS = ["-O3", "-g0", "-fno-strict-aliasing", "-Wno-unused-function"]
LINK_ARGS: list[str] = []

# `make asan`: every memory access is checked, and so is what C leaves undefined; a report names lines.
if os.environ.get("KCPG_SANITIZE"):
    SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    COMPILE_ARGS += ["-O1", "-g1", "-fno-omit-frame-pointer", *SANITIZERS]
    LINK_ARGS += SANITIZERS


def source_of(module: str) -> Path:
    """The source of a compiled module, relative to this directory."""
    return Path(*module.split(".")).with_suffix(".py" if module in ALSO_COMPILED else ".pyx")


def stale() -> bool:
    """Whether a file that several modules are compiled from is newer than one that was compiled in place.

    Then all are compiled: one that was not would know other sizes of what it shares with the rest.
    """
    compiled = [path.stat().st_mtime for path in Path("kcpg").rglob("*.so")]
    shared = [path.stat().st_mtime for end in ("pxd", "pxi", "h") for path in Path("kcpg").rglob(f"*.{end}")]
    return bool(compiled) and max(shared) > min(compiled)


def extensions(force: bool = False) -> list[Extension]:
    """The compiled modules, ready for setup(); empty when the plain-Python engine was asked for.

    `force`: compile also what seems to be up to date.
    """
    if os.environ.get("KCPG_ENGINE") == "python":
        return []
    from Cython.Build import cythonize

    wanted = [
        Extension(
            module,
            [str(source_of(module))],
            include_dirs=[str(source_of(module).parent)],
            extra_compile_args=COMPILE_ARGS,
            extra_link_args=LINK_ARGS,
        )
        for module in EXTENSIONS + ALSO_COMPILED
    ]
    # Annotations are for mypy; only the .pxd says what is a C type.
    built: list[Extension] = cythonize(
        wanted,
        build_dir="build/cython",
        language_level=3,
        quiet=True,
        force=force,
        compiler_directives={"annotation_typing": False},
    )
    for extension in built:
        # Without a compiler the installation still succeeds and kcpg uses its plain-Python engine. Set
        # here because cythonize() drops the attribute from the extensions it is given.
        extension.optional = True
    return built


def parts_of(module: str) -> list[Path]:
    """Every file of this tree that a compiled module is made of."""
    from Cython.Build.Dependencies import create_dependency_tree

    here, source = Path.cwd(), source_of(module)
    parts = {Path(part).resolve() for part in create_dependency_tree().all_dependencies(str(source))}
    parts.update(path.resolve() for path in source.parent.glob("*.h"))
    return sorted(part.relative_to(here) for part in parts if part.is_relative_to(here / "kcpg"))


class BuildAndNote(build_ext):
    """Builds in place and notes from what, so that kcpg/built.py sees an edit that nobody compiled."""

    def run(self) -> None:
        built = runpy.run_path("kcpg/built.py")
        # Before anything is compiled: what changes meanwhile is a change.
        digests: dict[str, dict[str, str]] = {
            extension.name: {part.as_posix(): built["digest"](part) for part in parts_of(extension.name)}
            for extension in self.extensions or ()
        }
        self.done: list[str] = []
        super().run()
        if self.inplace and self.done:
            files = {name: Path(self.get_ext_fullpath(name)).resolve() for name in self.done}
            built["note"](
                Path.cwd(),
                {str(files[name].relative_to(Path.cwd())): digests[name] for name in self.done},
            )

    def build_extension(self, ext: Any) -> None:
        super().build_extension(ext)  # raises where it cannot
        self.done.append(ext.name)


if __name__ == "__main__":
    FORCE = stale()
    setup(
        ext_modules=extensions(FORCE),
        cmdclass={"build_ext": BuildAndNote},
        options={"build_ext": {"parallel": os.cpu_count() or 1, "force": FORCE}},
    )
