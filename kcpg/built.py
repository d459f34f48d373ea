"""Whether the compiled modules of this checkout still are what their sources say.

Python prefers a compiled module to the `.py` beside it, so an edit that nobody compiled does nothing, and
says nothing. The build (setup.py) notes a digest of every source of each module; here they are compared. An
installed package has no `setup.py` beside it and nothing to edit: it is never looked at.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORD = "kcpg/_built.json"
"""Written by the build, relative to the checkout: compiled file -> source -> digest."""


def digest(source: Path) -> str:
    """What tells one content of a source from another."""
    return hashlib.sha256(source.read_bytes()).hexdigest()


def stale(root: Path = ROOT, thorough: bool = False) -> str | None:
    """A source that was changed after it was compiled, as a sentence for whoever changed it; None: none was.

    `thorough`: read also sources that are no newer than the build, as those of another commit may be, and
    look for modules of which the build knows nothing.
    """
    if not (root / "setup.py").exists():
        return None
    try:
        built_ns = (root / RECORD).stat().st_mtime_ns
        record: dict[str, dict[str, str]] = json.loads((root / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        built_ns, record = 0, {}
    known: dict[tuple[str, str], bool] = {}
    for compiled, sources in record.items():
        if not _stands_for_a_source(f"{root}/{compiled}"):
            continue
        for source, noted in sources.items():
            if (source, noted) not in known:
                known[source, noted] = _is_as_noted(f"{root}/{source}", noted, 0 if thorough else built_ns)
            if not known[source, noted]:
                return f"{source} was changed after {compiled} was compiled: run make setup"
    return _unknown(root, record) if thorough or not record else None


# Names are strings below: a Path for each takes four times as long, at every start.


def _is_as_noted(source: str, noted: str, built_ns: int) -> bool:
    try:
        return os.stat(source).st_mtime_ns <= built_ns or digest(Path(source)) == noted
    except OSError:  # it is gone
        return False


def _unknown(root: Path, record: dict[str, dict[str, str]]) -> str | None:
    """A compiled module of which no build has said anything."""
    for compiled in sorted((root / "kcpg").rglob("*.so")):
        name = compiled.relative_to(root).as_posix()
        if name not in record and _stands_for_a_source(str(compiled)):
            return f"nobody knows from what {name} was compiled: run make setup"
    return None


def _stands_for_a_source(compiled: str) -> bool:
    """It is there, and so is what it was compiled from: not left over from a module of another commit."""
    folder, _, name = compiled.rpartition("/")
    source = f"{folder}/{name.partition('.')[0]}"
    return os.path.exists(compiled) and (os.path.exists(source + ".py") or os.path.exists(source + ".pyx"))


def note(root: Path, compiled: dict[str, dict[str, str]]) -> None:
    """Write down what was built: compiled file -> source -> digest, all relative to `root`."""
    try:
        record = json.loads((root / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        record = {}
    kept = {name: sources for name, sources in record.items() if (root / name).exists()}
    text = json.dumps({**kept, **compiled}, indent=1, sort_keys=True)
    (root / RECORD).write_text(text + "\n", encoding="utf-8")
