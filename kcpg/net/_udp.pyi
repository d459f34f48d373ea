"""Batched system calls of the compiled engine."""

from kcpg.core.native.wire.wire import Wire
from kcpg.net.datagrams import DatagramIo

class UdpIo(DatagramIo):
    wire: Wire
    def __init__(self, wire: Wire) -> None: ...
