"""Which engine runs: the compiled data plane, or the plain-Python one with the same interface.

`KCPG_ENGINE=python` in the environment asks for the plain one. `KCPG_ENGINE=compiled` insists on the other:
an ImportError says what is missing. Unset, the compiled one is taken if it was built. Nothing else chooses.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

TWINS = {
    "kcpg.core.fec.adaptive": "kcpg.core.fec._fec",
    "kcpg.core.fec.code": "kcpg.core.fec._fec",
    "kcpg.core.fec.receiver": "kcpg.core.fec._fec",
    "kcpg.core.fec.sender": "kcpg.core.fec._fec",
    "kcpg.core.kcp.kcp": "kcpg.core.kcp._kcp",
    "kcpg.core.kcptun.cipher": "kcpg.core.kcptun._wire",
    "kcpg.core.kcptun.fec": "kcpg.core.kcptun._wire",
    "kcpg.core.kcptun.smux": "kcpg.core.kcptun._wire",
    "kcpg.core.kcptun.wire": "kcpg.core.kcptun._wire",
    "kcpg.core.native.wire.wire": "kcpg.core.native.wire._wire",
    "kcpg.core.plainwire": "kcpg.core._plainwire",
    "kcpg.core.replaycache": "kcpg.core._plainwire",
    "kcpg.core.seal.replay": "kcpg.core.seal._seal",
    "kcpg.core.seal.salted": "kcpg.core.seal._seal",
    "kcpg.core.seal.seal": "kcpg.core.seal._seal",
    "kcpg.net.packets": "kcpg.net._packets",
    "kcpg.net.sock": "kcpg.net._sock",
    "kcpg.net.udp": "kcpg.net._udp",
}
"""Each plain module with a compiled twin."""

_DECISIVE = "kcpg.core.native.wire.wire"  # its twin needs those of kcp, seal and fec


def _choose() -> str:
    asked = os.environ.get("KCPG_ENGINE", "")
    if asked not in ("", "compiled", "python"):
        raise ImportError(f"KCPG_ENGINE={asked}: KCPG_ENGINE must be «compiled», «python» or unset")
    if asked == "python":
        return "python"
    try:
        import_module(TWINS[_DECISIVE])
        for compiled in TWINS.values():
            if find_spec(compiled) is None:
                raise ImportError(f"{compiled} is not built: run make setup")
    except ImportError:
        if asked == "compiled":
            raise
        return "python"
    return "compiled"


ENGINE = _choose()
"""`compiled` or `python`: the engine in use."""

SLOW = (
    "the compiled engine is not built; using the plain-Python engine, at a fraction of the speed; install a C"
    " compiler and Python's headers, then kcpg from where it came:"
    " pip install --no-cache-dir --force-reinstall SOURCE"
)
"""What to tell a person who got the plain-Python engine without having asked for it."""


def is_slow() -> bool:
    """Whether the plain-Python engine runs though nobody asked for it."""
    return ENGINE == "python" and not os.environ.get("KCPG_ENGINE")


def module(plain: str) -> Any:
    """The module `plain` of the plain engine, or its compiled twin where that engine runs."""
    return import_module(TWINS[plain] if ENGINE == "compiled" else plain)


if TYPE_CHECKING:
    from kcpg.core.fec.code import Code as Code
    from kcpg.core.kcp.kcp import Kcp as Kcp
    from kcpg.core.native.wire.wire import Conv as Conv
    from kcpg.core.native.wire.wire import LinkWire as LinkWire
    from kcpg.core.native.wire.wire import Wire as Wire
    from kcpg.core.seal.salted import SaltedOpener as SaltedOpener
    from kcpg.core.seal.seal import Sealer as Sealer
else:
    Code = module("kcpg.core.fec.code").Code
    Kcp = module("kcpg.core.kcp.kcp").Kcp
    Sealer = module("kcpg.core.seal.seal").Sealer
    SaltedOpener = module("kcpg.core.seal.salted").SaltedOpener
    _wire = module(_DECISIVE)
    LinkWire, Conv, Wire = _wire.LinkWire, _wire.Conv, _wire.Wire

__all__ = ["ENGINE", "TWINS", "LinkWire", "Code", "Conv", "Kcp", "SaltedOpener", "Sealer", "Wire", "module"]


def cipher_libraries() -> dict[str, str]:
    """Which library does the work of each authenticated cipher, with its version where that is known."""
    from kcpg.core.seal.seal import ALGORITHMS, CHECKSUMS, KEY_BYTES, iv_bytes

    names = [name for name in ALGORITHMS if name not in CHECKSUMS]
    return {name: Sealer(name, bytes(KEY_BYTES), bytes(iv_bytes(name))).backend for name in names}
