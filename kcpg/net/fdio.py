"""The fast way between a TCP socket and a conversation: the kernel copies into and out of segment slots.

Only the compiled engine has it. For any other partner `fast` answers None, and the flow copies through the
byte interface of `kcpg.core.flow.Flow` instead, which is the plain-Python twin of this.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from kcpg.core import engine
from kcpg.core.flow import Flow
from kcpg.net import sock

TURNS = 8
"""System calls per move of one flow, at most 88 kB each: a quarter of a millisecond, then others have their
turn."""
SHORT_READ = 4096
"""A socket that gave less than this had no more; if more comes, its watcher says so without an extra call."""
LITTLE_SEGMENTS = 4
"""What an interactive flow sends at once; a write of this takes some ten microseconds."""
NO_ROOM = -10_000
"""`read` was not tried: the conversation takes nothing now. Below every negative errno."""

fds: Any = sock
"""Making and ending connections: `sock`, or its compiled twin."""
if engine.ENGINE == "compiled":
    fds = import_module("kcpg.net._sock")

try:
    from kcpg.core.native.wire._wire import Wire as CompiledWire
    from kcpg.net._udp import CompiledConv
    from kcpg.net._udp import UdpIo as CompiledIo
except ImportError:
    CompiledConv = CompiledIo = CompiledWire = None  # type: ignore[assignment,misc]


def compiled_io(wire: Any) -> Any:
    """The tunnel sockets of a compiled wire; None if this is none."""
    return CompiledIo(wire) if CompiledWire is not None and isinstance(wire, CompiledWire) else None


def is_compiled(io: Any) -> bool:
    """Whether these are the tunnel sockets of a compiled wire."""
    return CompiledIo is not None and type(io) is CompiledIo


def fast(flow: Flow) -> Any:
    """The conversation of a flow if sockets can be read into it and written from it here, else None.

    `tcp_read(conv, fd)`: bytes read into it (0: end of file; NO_ROOM; -errno). `tcp_write(conv, fd)`: bytes
    of it written (0: there are none; -errno). `set_outlet(conv, fd)`: what little comes for it is written to
    this socket as soon as it is received, without a call of Python (-1: no more, to be said before the
    descriptor is closed); endings, errors and much data wake the partner as ever.

    For UDP, `kcpg.net._packets` has the same: `packets_in(conv, fd)` and `packets_from(fd, convs)` read
    packets of a connected and a listening socket into conversations and give those that have to go the
    other way; `set_packet_outlet(conv, fd, place)` sends what little comes.
    """
    conv = getattr(flow, "conv", None)
    return conv if conv is not None and type(conv) is CompiledConv else None


def has_little(source: Flow) -> bool:
    """Whether `source` is a conversation with few unread segments."""
    conv = getattr(source, "conv", None)
    return conv is not None and 0 < conv.unread <= LITTLE_SEGMENTS
