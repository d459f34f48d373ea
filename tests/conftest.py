"""What all tests share: hypothesis' settings, the fixture `engine`, and what may run side by side."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from tests.engines import ENGINES

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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `-n`, tests of real sockets, processes and networks stay in one process, one after another."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            if REAL & set(item.path.relative_to(config.rootpath).parts):
                item.add_marker(pytest.mark.xdist_group("real"))


REAL = {"net", "bench"}


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Runs the test once for each engine, "compiled" and "python"; tests/engines.py says more."""
    return str(request.param)
