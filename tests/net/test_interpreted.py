"""What is also compiled runs as plain Python, too: that is how it runs where there is no compiler."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys

from tests.tidy import tree

ALSO_COMPILED = runpy.run_path(str(tree.ROOT / "setup.py"))["ALSO_COMPILED"]

# Finds the .py files of these modules before the compiled ones that stand beside them; then runs pytest.
PROGRAM = """
import importlib.machinery, importlib.util, sys
modules, words = sys.argv[1].split(","), sys.argv[2:]

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in modules:
            return None
        return importlib.util.spec_from_file_location(name, name.replace(".", "/") + ".py")

sys.meta_path.insert(0, Finder)
import pytest
code = pytest.main(words)
loaded = [name for name in modules if name in sys.modules]
assert loaded and all(sys.modules[name].__file__.endswith(".py") for name in loaded), loaded
sys.exit(code)
"""

TESTS = ("tests/unit/test_splice.py", "tests/net/test_forwarder.py", "tests/net/test_driver.py",
         "tests/net/test_task.py", "tests/unit/test_link_flows.py")  # fmt: skip


def test_the_plain_form_passes_the_same_tests() -> None:
    words = ["-q", "-p", "no:cacheprovider", *TESTS]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, ",".join(ALSO_COMPILED), *words],
        cwd=tree.ROOT,
        env={**os.environ, "PYTHONPATH": str(tree.ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
