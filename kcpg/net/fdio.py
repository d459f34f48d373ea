"""The fast way between a TCP socket and a conversation: the kernel copies into and out of segment slots.

Only the compiled engine has it. For any other partner the functions below answer None, and the flow copies
through the byte interface of `kcpg.core.flow.Flow` instead, which is the plain-Python twin of this.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from kcpg.core.flow import Flow

TURNS = 8
"""System calls per move of one flow, at most 88 kB each: a quarter of a millisecond, then others have their
turn."""
SHORT_READ = 4096
"""A socket that gave less than this had no more; if more comes, its watcher says so without an extra call."""
LITTLE_SEGMENTS = 4
"""What an interactive flow sends at once; a write of this takes some ten microseconds."""
NO_ROOM = -10_000
"""`read` was not tried: the conversation takes nothing now. Below every negative errno."""

_tcp_read: Callable[[Any, int], int] | None
_tcp_write: Callable[[Any, int], int] | None
_set_outlet: Callable[[Any, int], None] | None
_take_outlet_bytes: Callable[[Any], int] | None
_compiled_conv: type | None
try:
    from kcpg.net._udp import CompiledConv as _compiled_conv
    from kcpg.net._udp import set_outlet as _set_outlet
    from kcpg.net._udp import take_outlet_bytes as _take_outlet_bytes
    from kcpg.net._udp import tcp_read as _tcp_read
    from kcpg.net._udp import tcp_write as _tcp_write
except ImportError:
    _tcp_read = _tcp_write = _set_outlet = _take_outlet_bytes = _compiled_conv = None


def reader_into(sink: Flow) -> Callable[[int], int] | None:
    """A function fd -> bytes read into `sink` (0: end of file; NO_ROOM; -errno), or None."""
    conv = getattr(sink, "conv", None)
    if _tcp_read is None or _compiled_conv is None or not isinstance(conv, _compiled_conv):
        return None
    return partial(_tcp_read, conv)


def has_little(source: Flow) -> bool:
    """Whether `source` is a conversation with few unread segments."""
    conv = getattr(source, "conv", None)
    return conv is not None and 0 < conv.unread <= LITTLE_SEGMENTS


def writer_from(source: Flow) -> Callable[[int], int] | None:
    """A function fd -> bytes of `source` written (0: none there; -errno), or None."""
    conv = getattr(source, "conv", None)
    if _tcp_write is None or _compiled_conv is None or not isinstance(conv, _compiled_conv):
        return None
    return partial(_tcp_write, conv)


def let_out(source: Flow, fd: int) -> None:
    """Let what little comes for `source` be written to this socket as soon as it is received, without a call
    of Python; -1: no more, to be said before the descriptor is closed. Endings, errors and much data wake the
    partner as ever."""
    conv = getattr(source, "conv", None)
    if _set_outlet is not None and _compiled_conv is not None and isinstance(conv, _compiled_conv):
        _set_outlet(conv, fd)


def take_let_out(source: Flow) -> int:
    """Bytes of `source` written in that way since the last call."""
    conv = getattr(source, "conv", None)
    return _take_outlet_bytes(conv) if _take_outlet_bytes is not None and conv is not None else 0
