"""Whether this machine can emulate networks; where continuous integration cannot, that is a failure."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.netns import Lab, leftovers
from tests.needs import needs

TOOLS = ("ip", "tc", "nft", "ethtool", "ping", "dnsmasq")


def missing() -> str:
    """What is missing here; "" when nothing is."""
    if os.geteuid() != 0:
        return needs("root for network namespaces", "run it as root")
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return needs(", ".join(absent))
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode:
        return "this root may not make network namespaces"
    return "" if Path("/dev/net/tun").exists() else "no /dev/net/tun"


@pytest.fixture
def lab() -> Iterator[Lab]:
    """An empty lab; afterwards nothing of it may be left."""
    reason = missing()
    if reason and os.environ.get("CI"):
        pytest.fail(f"continuous integration must be able to emulate networks: {reason}")
    if reason:
        pytest.skip(reason)
    with Lab() as made:
        yield made
        names = [namespace.name for namespace in made.namespaces]
    assert not set(names) & set(leftovers())
