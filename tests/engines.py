"""The two engines, compiled and plain Python, for tests that run on both.

A test that takes the fixture `engine` (see conftest.py) runs once with "compiled" and once with
"python"; `twin()` gives the class or function of that engine:

    def test_something(engine):
        kcp = twin(engine, "Kcp")(conv=1, kcp_mtu=1376, params=KcpParams())

Where the compiled module is not built the compiled half is skipped, except where KCPG_REQUIRE_COMPILED
is set (as continuous integration does): there it fails, so that a broken build cannot pass unseen.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest

from tests.needs import needs

ENGINES = ("compiled", "python")

# What exists twice: the public name, then the module of each engine.
TWINS = {
    "Kcp": ("kcpg.core.kcp._kcp", "kcpg.core.kcp.kcp"),
    "Sealer": ("kcpg.core.seal._seal", "kcpg.core.seal.seal"),
    "HeaderMask": ("kcpg.core.seal._seal", "kcpg.core.seal.seal"),
    "ReplayWindow": ("kcpg.core.seal._seal", "kcpg.core.seal.replay"),
    "Code": ("kcpg.core.fec._fec", "kcpg.core.fec.code"),
    "GroupSender": ("kcpg.core.fec._fec", "kcpg.core.fec.sender"),
    "GroupReceiver": ("kcpg.core.fec._fec", "kcpg.core.fec.receiver"),
    "LossCounter": ("kcpg.core.fec._fec", "kcpg.core.fec.adaptive"),
    "Wire": ("kcpg.core.native.wire._wire", "kcpg.core.native.wire.wire"),
    "LinkWire": ("kcpg.core.native.wire._wire", "kcpg.core.native.wire.wire"),
    "Conv": ("kcpg.core.native.wire._wire", "kcpg.core.native.wire.wire"),
    "TunWire": ("kcpg.core.kcptun._wire", "kcpg.core.kcptun.wire"),
    "TunConv": ("kcpg.core.kcptun._wire", "kcpg.core.kcptun.wire"),
    "Cipher": ("kcpg.core.kcptun._wire", "kcpg.core.kcptun.cipher"),
    "ShardSender": ("kcpg.core.kcptun._wire", "kcpg.core.kcptun.fec"),
    "ShardReceiver": ("kcpg.core.kcptun._wire", "kcpg.core.kcptun.fec"),
    "Parser": ("kcpg.core.kcptun._wire", "kcpg.core.kcptun.smux"),
    "ReplayCache": ("kcpg.core._plainwire", "kcpg.core.replaycache"),
    "UdpIo": ("kcpg.net._udp", "kcpg.net.udp"),
}

# Modules whose functions exist twice.
MODULES = {"kcpg.net._packets": "kcpg.net.packets", "kcpg.net._sock": "kcpg.net.sock"}


def twin(engine: str, name: str) -> Any:
    """The object called `name` of `engine`; skips (or fails, see above) where that engine is not built."""
    module = TWINS[name][ENGINES.index(engine)]
    require(module, engine)
    return getattr(importlib.import_module(module), name)


def require(module: str, engine: str = "compiled") -> None:
    """Skip the calling test when a compiled `module` is not built or not wanted."""
    if engine != "compiled":
        return
    if os.environ.get("KCPG_ENGINE") == "python":
        pytest.skip("KCPG_ENGINE=python: the compiled engine is not wanted")
    try:
        importlib.import_module(module)
    except ImportError as error:
        if os.environ.get("KCPG_REQUIRE_COMPILED"):
            pytest.fail(f"{module} is not built, and KCPG_REQUIRE_COMPILED is set: {error}", pytrace=False)
        pytest.skip(needs("the compiled engine", "make setup"))
