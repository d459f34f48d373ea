"""`python -m tests.fuzz [SECONDS=60] [SEED=…] [KEEP=1] [INPUT=file] [TARGET…]`: see the package.

SECONDS is for all targets together. SEED is drawn and printed where it is not given. KEEP=1 puts inputs that
did something new into the corpus. INPUT runs one file on one target.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz import runner
from tests.fuzz.targets import TARGETS


def main(words: Sequence[str]) -> int:
    """Fuzz; returns 1 if a target failed."""
    given = dict(word.split("=", 1) for word in words if "=" in word)
    names = [word for word in words if "=" not in word] or list(TARGETS)
    unknown = [*(set(names) - set(TARGETS)), *(set(given) - {"SECONDS", "SEED", "KEEP", "INPUT", "NEWEST"})]
    if unknown:
        print(f"{', '.join(unknown)}: the targets are {', '.join(TARGETS)}\n{__doc__}", file=sys.stderr)
        return 2
    seconds, seed = float(given.get("SECONDS", "60")), given.get("SEED") or secrets.token_hex(4)
    if "INPUT" in given:
        runner.replay(names[0], TARGETS[names[0]], Path(given["INPUT"]))
        return 0
    if "NEWEST" in given:
        share, keep = seconds / len(names), bool(given.get("KEEP"))
        return runner.child(names[0], TARGETS[names[0]], seed, share, Path(given["NEWEST"]), keep)
    print(f"fuzzing {', '.join(names)} for {seconds:.0f} s, SEED={seed}", flush=True)
    return max(_search(name, seed, seconds / len(names), given.get("KEEP", "")) for name in names)


def _search(name: str, seed: str, seconds: float, keep: str) -> int:
    with tempfile.TemporaryDirectory(prefix="kcpg-fuzz-") as directory:
        newest = Path(directory) / "newest"
        words = [name, f"SECONDS={seconds}", f"SEED={seed}", f"KEEP={keep}", f"NEWEST={newest}"]
        code = subprocess.run([sys.executable, "-X", "faulthandler", "-m", "tests.fuzz", *words]).returncode
        if code == 0:
            return 0
        data = runner.last_input(newest)
        if code == runner.FAILED:
            data = runner.smaller(data, lambda shorter: _fails(name, shorter))
        path = runner.saved(name, data, "found")
        how = "raised" if code == runner.FAILED else f"the process ended with {code}"
        print(f"{name}: {how}. Repeat it: make fuzz TARGETS={name} INPUT={os.path.relpath(path)}", flush=True)
        return 1


def _fails(name: str, data: bytes) -> bool:
    try:
        TARGETS[name](data)
    except Exception:
        return True
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
