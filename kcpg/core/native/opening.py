"""The first message of every conversation: what flow it carries and where that is to go."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from kcpg.core.flow import Kind, Open, Target

_HEAD = struct.Struct(">BBH")
_TEXT_MAX_BYTES = 255
"""The length of a text is one byte; DNS names have at most 253."""


class Delivery(IntEnum):
    """How the packets of a UDP flow travel. TCP flows are always ORDERED."""

    UNORDERED = 0
    """Every packet arrives, each as soon as it is there."""
    ORDERED = 1
    """Every packet arrives, in order."""
    DATAGRAM = 2
    """A packet is sent once; it arrives or not. One too big for a datagram goes UNORDERED."""


# To look a number up is cheaper than to call its class, and every flow does it.
_KINDS = {kind.value: kind for kind in Kind}
_NUMBERS = {kind: number for number, kind in _KINDS.items()}
_DELIVERIES = {delivery.value: delivery for delivery in Delivery}


@dataclass(frozen=True, slots=True)
class Opening:
    """An OPEN message."""

    open: Open
    delivery: Delivery

    def encode(self) -> bytes:
        """kind u8 | delivery u8 | port u16 BE | name (u8 length, UTF-8; empty: the peer's target) | source
        text."""
        target = self.open.target
        port = target.port if target else 0
        name = _text(target.host if target else "")
        assert target is None or len(name) > len(target.host.encode()), "configuration bounds host names"
        return _HEAD.pack(_NUMBERS[self.open.kind], self.delivery, port) + name + _text(self.open.source)

    @classmethod
    def decode(cls, message: bytes) -> Opening | None:
        """None if this is no OPEN message. Bytes after the known fields are left to later versions."""
        if len(message) < 6:
            return None
        name = _read_text(message, 4)
        source = _read_text(message, 5 + message[4])
        kind, delivery = _KINDS.get(message[0]), _DELIVERIES.get(message[1])
        if name is None or source is None or kind is None or delivery is None:
            return None
        target = Target(name, int.from_bytes(message[2:4], "big")) if name else None
        return cls(Open(kind, target, source), delivery)


def _text(text: str) -> bytes:
    raw = text.encode("utf-8")[:_TEXT_MAX_BYTES]
    return bytes((len(raw),)) + raw


def _read_text(message: bytes, at: int) -> str | None:
    if at >= len(message) or at + 1 + message[at] > len(message):
        return None
    return message[at + 1 : at + 1 + message[at]].decode("utf-8", "replace")
