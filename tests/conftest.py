"""What all tests share: hypothesis' settings, the fixture `engine`, and what may run side by side."""

from __future__ import annotations

import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

# Also what the tests share keeps its asserts with PYTHONOPTIMIZE, as the tests themselves do.
_HERE = Path(__file__).parent
_SHARED = (path.relative_to(_HERE.parent).with_suffix("") for path in _HERE.rglob("*.py"))
pytest.register_assert_rewrite(*(".".join(path.parts) for path in _SHARED))

from kcpg import built  # noqa: E402
from tests.engines import ENGINES  # noqa: E402
from tests.needs import pytest_terminal_summary  # noqa: E402, F401  (pytest calls it)

# No deadline per example: the machines that run these are shared and the figure would only measure
# them. A failing example prints the line that repeats it. The fixture `engine` is a plain string, the
# same for every example.
settings.register_profile(
    "kcpg",
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("kcpg")

# A shell ignores SIGINT for what it starts in the background, and children inherit that: a node that a test
# interrupts would not notice.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


REAL = ("tests/net/", "tests/bench/")
"""What uses real sockets, processes and networks: with `-n` it stays in one process, one after another."""


class InTurn(LoadScopeScheduling):
    """What is real is one piece of work, a simulation is one, and any other file: in the order of `_rank`."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(REAL):
            return "real"
        return nodeid if nodeid.startswith("tests/sim/") else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> InTurn:
    """Whatever --dist says. Its loadgroup would do, but it groups nothing under pytest 9.2 and says nothing
    (github.com/pytest-dev/pytest-xdist/issues/1386).
    """
    config.option.loadscopereorder = False  # by the number of tests, which says nothing of how long they take
    return InTurn(config, log)


def _rank(item: pytest.Item) -> int:
    """The longest pieces first, and at last what is short, so that no process waits long for the other."""
    if item.nodeid.startswith(REAL):
        return 0
    if item.nodeid.startswith("tests/property/"):
        return 1
    if item.nodeid.startswith("tests/sim/"):
        return 3 if "[compiled" in item.nodeid else 2  # the plain engine takes three times as long
    return 4


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Every process orders them alike; one alone keeps the order of the files."""
    if hasattr(config, "workerinput"):
        items.sort(key=_rank)


_claimed: list[socket.socket] = []


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Makes sure of it: the first process with something real takes a name that only one can have."""
    worker: dict[str, Any] | None = getattr(item.config, "workerinput", None)
    if worker is not None and item.nodeid.startswith(REAL) and not _claimed:
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0kcpg-real-{worker['testrunuid']}")
        except OSError:
            claim.close()
            pytest.fail("what is real runs in two processes at once", pytrace=False)
        _claimed.append(claim)


def pytest_configure(config: pytest.Config) -> None:
    """Nobody tests what is not what was written: an edit of a compiled file needs the compiler first."""
    problem = built.stale(thorough=True)
    if problem is not None:
        pytest.exit(problem, returncode=3)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Runs the test once for each engine, "compiled" and "python"; tests/engines.py says more."""
    return str(request.param)
