"""Which engine runs: the compiled data plane, or the plain-Python one with the same interface.

`KCPG_ENGINE=python` in the environment asks for the plain one, `KCPG_ENGINE=compiled` insists on the other
(an ImportError says what is missing); without it the compiled one is taken if it was built.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

from kcpg.core.seal.seal import ALGORITHMS, CHECKSUMS, KEY_BYTES, iv_bytes

ENGINE = "python"
"""`compiled` or `python`: the engine in use."""

if TYPE_CHECKING:
    from kcpg.core.kcp.kcp import Kcp as Kcp
    from kcpg.core.native.wire.wire import Bundle as Bundle
    from kcpg.core.native.wire.wire import Conv as Conv
    from kcpg.core.native.wire.wire import Wire as Wire
    from kcpg.core.seal.seal import Sealer as Sealer
else:
    _asked = os.environ.get("KCPG_ENGINE", "")
    if _asked not in ("", "compiled", "python"):
        raise ImportError(f"KCPG_ENGINE={_asked}: say compiled or python, or leave it away")
    try:
        if _asked == "python":
            raise ImportError
        _wire = import_module("kcpg.core.native.wire._wire")
        Kcp = import_module("kcpg.core.kcp._kcp").Kcp
        Sealer = import_module("kcpg.core.seal._seal").Sealer
        ENGINE = "compiled"
    except ImportError:
        if _asked == "compiled":
            raise
        _wire = import_module("kcpg.core.native.wire.wire")
        Kcp = import_module("kcpg.core.kcp.kcp").Kcp
        Sealer = import_module("kcpg.core.seal.seal").Sealer
    Bundle, Conv, Wire = _wire.Bundle, _wire.Conv, _wire.Wire

__all__ = ["ENGINE", "Bundle", "Conv", "Kcp", "Wire", "cipher_libraries"]


def cipher_libraries() -> dict[str, str]:
    """Which library does the work of each authenticated cipher, with its version where that is known."""
    names = [name for name in ALGORITHMS if name not in CHECKSUMS]
    return {name: Sealer(name, bytes(KEY_BYTES), bytes(iv_bytes(name))).backend for name in names}
