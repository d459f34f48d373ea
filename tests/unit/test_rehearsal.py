"""What the first handshake needs is there before it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from harness.process import ROOT
from kcpg.core.seal.seal import ALGORITHMS

# In a process of its own, as this one has imported everything.
SCRIPT = """
import sys
from kcpg.app.rehearsal import rehearse
from tests.links import LinkRig, params
algorithm, rehearsed = sys.argv[1:]
both = params(algorithm=algorithm)
rig = LinkRig("compiled", dial=both, listen=both)
if rehearsed == "yes":
    rehearse(algorithm)
before = set(sys.modules)
rig.up()
assert len(rig.l.links) == 1
print(*sorted(set(sys.modules) - before))
"""


def imported(algorithm: str, rehearsed: str) -> str:
    """Modules that a first handshake imports."""
    words = [sys.executable, "-c", SCRIPT, algorithm, rehearsed]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(words, capture_output=True, text=True, check=True, env=environ).stdout.strip()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_first_handshake_imports_nothing(algorithm: str) -> None:
    assert imported(algorithm, "yes") == ""


def test_without_it_there_is_something_to_import() -> None:
    assert "Cryptodome" in imported("AES-GCM", "no")
