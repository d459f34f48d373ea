"""kcpg as a library: streams through a tunnel, without listening ports and a process of its own.

    from kcpg.api import Tunnel                  # asyncio
    from kcpg.api.gevent import Tunnel           # gevent, monkey-patched or not

What this package exports is stable: it changes with the major version only (docs/embedding.md). All else of
kcpg is inner and may change at any time, but for the core that docs/embedding.md describes.

Tests of what has none of its own name:
    asyncio, client, gevent, streams: net/test_api.py
"""

from __future__ import annotations

from kcpg.api.asyncio import Tunnel
from kcpg.errors import ConfigurationError

__all__ = ["ConfigurationError", "Tunnel"]
