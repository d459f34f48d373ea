"""The first message of every conversation: what flow it carries and where that is to go."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from kcpg.core.flow import Kind, Open, Target

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


@dataclass(frozen=True, slots=True)
class Opening:
    """An OPEN message."""

    open: Open
    delivery: Delivery

    def encode(self) -> bytes:
        """kind u8 | delivery u8 | port u16 BE | name (u8 length, UTF-8; empty: the peer's target) | source
        text."""
        target = self.open.target
        kind = self.open.kind.value
        port = target.port if target else 0
        name = _text(target.host if target else "")
        assert target is None or len(name) > len(target.host.encode()), "configuration bounds host names"
        return bytes((kind, self.delivery)) + port.to_bytes(2, "big") + name + _text(self.open.source)

    @classmethod
    def decode(cls, message: bytes) -> Opening | None:
        """None if this is no OPEN message. Bytes after the known fields are left to later versions."""
        if len(message) < 6:
            return None
        name = _read_text(message, 4)
        source = _read_text(message, 5 + message[4])
        try:
            kind, delivery = Kind(message[0]), Delivery(message[1])
        except ValueError:
            return None
        if name is None or source is None:
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
