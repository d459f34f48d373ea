"""What tests of real processes share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.net.tunnels import Tunnel


@pytest.fixture
def tunnels() -> Iterator[list[Tunnel]]:
    """Those of a test, closed at its end."""
    made: list[Tunnel] = []
    yield made
    for each in made:
        each.close()
