"""The way past the splice: what little comes goes on at once, and what is read goes straight into segments.

A request and its answer spend their time in system calls. So where the compiled engine runs, bytes need not
take the way through `Splice.pump` and Python objects:

    out of a conversation   its `Bypass` (`TcpBypass`, `PacketBypass`; of a relay `HopBypass`, in core) takes
                            what little came while `DatagramIo.receive` still runs, before anybody is told
    into a conversation     `TcpBypass.read`, `PacketBypass.read_packets` and `read_packets_from` read a
                            socket straight into its segments

Much data, ends and errors take the way through the splice as ever, which for TCP moves bytes between socket
and segments by the same `TcpBypass`. `Flow.bypassed` knows what went past the splice. The plain engine has
none of this: there `conv_of` finds nothing, and flows copy through the byte interface of
`kcpg.core.flow.Flow`. The compiled half is `_bypass.pyx`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kcpg import engine
from kcpg.core.flow import Flow

TURNS = 8  # system calls per move of one flow, at most 88 kB each: 0.25 ms, then others have their turn
SHORT_READ = 4096  # a socket that gave less had no more; if more comes, its watcher says so
LITTLE_SEGMENTS = 4  # what an interactive flow sends at once; a write of this takes some ten microseconds
# What goes past the splice: all that a line of 100 Mbit/s brings while a socket is left alone
# (`net.coalesce`). A write of this takes less than going through the splice would, and no more than any
# turn may.
CARRY_SEGMENTS = 32
NO_ROOM = -10_000  # not read: the conversation takes nothing now. Below every negative errno

if TYPE_CHECKING or engine.ENGINE == "compiled":
    from kcpg.net._bypass import CompiledConv
else:
    CompiledConv = None


def conv_of(flow: Flow) -> Any:
    """The conversation of a flow if sockets can be read into it and written from it here, else None."""
    conv = getattr(flow, "conv", None)
    return conv if conv is not None and type(conv) is CompiledConv else None


def has_little(source: Flow) -> bool:
    """Whether `source` is a conversation with few unread segments."""
    conv = getattr(source, "conv", None)
    return conv is not None and 0 < conv.unread <= LITTLE_SEGMENTS
