"""kcptube's messages inside a conversation: one header byte, and what follows it. Integers are big-endian.

low nibble: the feature; high nibble: the kind of the conversation (0 where it does not matter)
kind | INITIALISE  settings                 conversation 0: a request, and the answer to it
kind | FAILURE     text, NUL
kind | DISCONNECT, KEEP_ALIVE, KEPT_ALIVE   and two bytes nobody looks at; 03: a probe, in conversation 0
kind | DATA        bytes of a TCP flow, or a packet
kind | MUX_DATA    id u32, bytes or a packet
kind | MUX_CANCEL  id u32, one byte
kind | MUX_TARGET  id u32, port u16, address, NUL
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from kcpg.core.flow import Kind, Reset, ResetCode, Target
from kcpg.core.words import printable

INITIALISE: Final = 0
FAILURE: Final = 1
DISCONNECT: Final = 2
KEEP_ALIVE: Final = 3
KEPT_ALIVE: Final = 4
DATA: Final = 5
MUX_DATA: Final = 6
MUX_CANCEL: Final = 7
MUX_TARGET: Final = 8

PROBE: Final = b"\x03\x00\x00"  # A question in conversation 0, and its answer

TEXT_MOST: Final = 200  # Bytes of a reason that are sent, or read
HOST_MOST: Final = 255  # Bytes of a target's name (RFC 1035)

_CODES = {str(Reset(code)): code for code in ResetCode}
_SETTINGS = struct.Struct(">IHHQQH")  # number, first and last port, bytes/s out and in, the target's port
_NUMBER = struct.Struct(">I")
_TARGET = struct.Struct(">IH")
ID_BYTES: Final = 5  # Header byte and id


class Carries(IntEnum):
    """What a conversation is for: the high nibble."""

    MUX = 1
    TCP = 2
    UDP = 3


KIND_OF = {Carries.TCP: Kind.TCP, Carries.UDP: Kind.UDP}
CARRIES = {Kind.TCP: Carries.TCP, Kind.UDP: Carries.UDP}


@dataclass(frozen=True, slots=True)
class Settings:
    """What both ends tell each other once."""

    number: int = 0  # Of the new conversation, in an answer
    ports: tuple[int, int] = (0, 0)  # First and last port of the answering end; (0, 0): they have gaps
    out_bytes_s: int = 0
    in_bytes_s: int = 0
    target: Target | None = None  # Where the client wants a flow to go


def header(carries: int, feature: int) -> bytes:
    """The header byte."""
    return bytes((carries << 4 | feature,))


def split(message: bytes) -> tuple[int, int]:
    """(kind, feature) of a message that is not empty."""
    return message[0] >> 4, message[0] & 15


def pack_settings(carries: Carries, settings: Settings) -> bytes:
    """An INITIALISE message."""
    target = settings.target
    fields = _SETTINGS.pack(
        settings.number,
        *settings.ports,
        settings.out_bytes_s,
        settings.in_bytes_s,
        target.port if target else 0,
    )
    return header(carries, INITIALISE) + fields + (_host(target.host) if target else b"") + b"\0"


def read_settings(message: bytes) -> Settings | None:
    """The settings of an INITIALISE message; None: cut short, or its target is none."""
    if len(message) < 1 + _SETTINGS.size:
        return None
    number, first, last, out, into, port = _SETTINGS.unpack_from(message, 1)
    text = message[1 + _SETTINGS.size :]
    if not port and not text.partition(b"\0")[0]:
        return Settings(number, (first, last), out, into)
    target = _read_target(port, text)
    return None if target is None else Settings(number, (first, last), out, into, target)


def short(carries: int, feature: int) -> bytes:
    """DISCONNECT, KEEP_ALIVE or KEPT_ALIVE."""
    return header(carries, feature) + b"\0\0"


def pack_failure(carries: int, reason: Reset) -> bytes:
    """FAILURE with a reason for people."""
    return header(carries, FAILURE) + str(reason).encode()[:TEXT_MOST].replace(b"\0", b" ") + b"\0"


def read_reason(message: bytes, otherwise: ResetCode) -> Reset:
    """The reason in a FAILURE. Nodes of ours begin it with the words of a code; `otherwise`: the others'."""
    text = printable(message[1 : 1 + TEXT_MOST].partition(b"\0")[0])
    word, _, rest = text.partition(": ")
    code = _CODES.get(word)
    return Reset(otherwise, text) if code is None else Reset(code, rest)


def mux_data(carries: int, number: int) -> bytes:
    """The header of a MUX_DATA message."""
    return header(carries, MUX_DATA) + _NUMBER.pack(number)


def mux_cancel(carries: int, number: int, code: ResetCode | None = None) -> bytes:
    """A MUX_CANCEL message: an end, or with `code` a reset. To kcptube, which does not look at the last byte,
    both are the same."""
    return header(carries, MUX_CANCEL) + _NUMBER.pack(number) + bytes((0 if code is None else code + 1,))


def read_code(message: bytes) -> ResetCode | None:
    """Why a MUX_CANCEL aborts its flow; None: it only ends it."""
    value = message[ID_BYTES] if len(message) > ID_BYTES else 0
    if not value:
        return None
    return ResetCode(value - 1) if value <= len(ResetCode) else ResetCode.INTERNAL


def mux_target(carries: int, number: int, target: Target) -> bytes:
    """A MUX_TARGET message."""
    return header(carries, MUX_TARGET) + _TARGET.pack(number, target.port) + _host(target.host) + b"\0"


def read_id(message: bytes) -> int | None:
    """The id of a MUX message; None: cut short."""
    return None if len(message) < ID_BYTES else int(_NUMBER.unpack_from(message, 1)[0])


def read_mux_target(message: bytes) -> Target | None:
    """The target of a MUX_TARGET message; None: it has none."""
    if len(message) < 1 + _TARGET.size:
        return None
    return _read_target(_TARGET.unpack_from(message, 1)[1], message[1 + _TARGET.size :])


def _host(host: str) -> bytes:
    return host.encode("idna" if not host.isascii() else "ascii")[:HOST_MOST]


def _read_target(port: int, text: bytes) -> Target | None:
    host = text.partition(b"\0")[0]
    if not port or not 0 < len(host) <= HOST_MOST or not host.isascii():
        return None
    text_host = host.decode("ascii")
    return Target(text_host, port) if text_host.isprintable() and " " not in text_host else None
