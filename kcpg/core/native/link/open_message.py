"""The first message of every conversation: what flow it carries and where that is to go."""

from __future__ import annotations

from enum import IntEnum

from kcpg.core.flow import TCP, Kind, Open, Target
from kcpg.core.words import printable

_TEXT_MAX_BYTES = 255  # The length of a text is one byte; DNS names have at most 253


class Delivery(IntEnum):
    """How the packets of a UDP flow travel. TCP flows are always ORDERED."""

    UNORDERED = 0  # Every packet arrives, each as soon as it is there
    ORDERED = 1  # Every packet arrives, in order
    DATAGRAM = 2  # A packet is sent once; it arrives or not. One too big for a datagram goes UNORDERED.


# To look a number up is cheaper than to call its class, and every flow does it.
UNORDERED, ORDERED, DATAGRAM = Delivery
_KINDS = {kind.value: kind for kind in Kind}
_TCP, _UDP = _KINDS
_DELIVERIES = {delivery.value: delivery for delivery in Delivery}


class OpenMessage:
    """An OPEN message."""

    __slots__ = ("delivery", "open")

    def __init__(self, request: Open, delivery: Delivery) -> None:
        self.open = request
        self.delivery = delivery

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OpenMessage) and (self.open, self.delivery) == (other.open, other.delivery)

    def __repr__(self) -> str:
        return f"OpenMessage({self.open}, {self.delivery!r})"

    def encode(self) -> bytes:
        """kind u8 | delivery u8 | port u16 BE | name (u8 length, UTF-8; empty: the peer's target) | source
        text."""
        request = self.open
        kind = _TCP if request.kind is TCP else _UDP
        source = request.source.encode("utf-8")
        if len(source) > _TEXT_MAX_BYTES:
            source = source[:_TEXT_MAX_BYTES]
        if request.target is None:
            return bytes((kind, self.delivery, 0, 0, 0, len(source))) + source
        name = request.target.host.encode("utf-8")
        # Configuration bounds host names, and `printable` those that a relay passes on.
        assert len(name) <= _TEXT_MAX_BYTES
        port = request.target.port
        head = bytes((kind, self.delivery, port >> 8, port & 0xFF, len(name)))
        return head + name + bytes((len(source),)) + source


def read_open_message(message: bytes) -> OpenMessage | None:
    """None if this is no OPEN message. Its texts are made printable. Bytes after the known fields are left
    to later versions."""
    size = len(message)
    if size < 6:
        return None
    source = 5 + message[4]
    end = source + 1 + message[source] if source < size else size + 1
    kind, delivery = _KINDS.get(message[0]), _DELIVERIES.get(message[1])
    if end > size or kind is None or delivery is None:
        return None
    target = None
    if source > 5:
        target = Target(printable(message[5:source]), message[2] << 8 | message[3])
    return OpenMessage(Open(kind, target, printable(message[source + 1 : end])), delivery)
