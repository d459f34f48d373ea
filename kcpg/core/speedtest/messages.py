"""What a speed test says: its reserved targets and the messages of its flows (docs/protocol.md, 4.4)."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from kcpg.core.flow import Target

# Below `.invalid`, which no resolver knows (RFC 6761): a node without speed tests finds no such target.
NAME = "speedtest.kcpg.invalid"

VERSION = 1

# A test that takes longer says nothing more, and whoever has the password could have the node send for ever.
MOST_MS = 30_000

REPORT_EVERY_MS = 100  # A progress bar moves evenly, and its bytes are nothing beside those of the test

_REQUEST = struct.Struct(">BBH")
_REPORT = struct.Struct(">IQ")
_PROBE = struct.Struct(">BII")

REQUEST_BYTES = _REQUEST.size
ANSWER_BYTES = _REQUEST.size
REPORT_BYTES = _REPORT.size
PROBE_BYTES = _PROBE.size


class Place(IntEnum):
    """Who answers; the port of the reserved target."""

    NEXT = 1  # Whoever hears it first
    LAST = 2  # The node that connects flows to their targets; the others pass it on


class What(IntEnum):
    """What the node does."""

    SEND = 1
    RECEIVE = 2


class Answerer(IntEnum):
    """Which node answered."""

    RELAY = 1
    SERVER = 2


class Request(NamedTuple):
    """The first bytes of a TCP flow, from who asks."""

    what: What
    ms: int  # For how long


class Report(NamedTuple):
    """What the node has received, since the first byte after the request."""

    ms: int
    received_bytes: int


def target(place: Place) -> Target:
    """The reserved target."""
    return Target(NAME, place)


def pack_request(request: Request) -> bytes:
    """version u8 | what u8 | milliseconds u16."""
    return _REQUEST.pack(VERSION, request.what, request.ms)


def read_request(data: bytes | bytearray) -> Request | None:
    """None if this is no request of a version that is known here."""
    version, what, ms = _REQUEST.unpack_from(data)
    if version != VERSION or what not in (What.SEND, What.RECEIVE):
        return None
    return Request(What(what), min(ms, MOST_MS))


def pack_answer(who: Answerer, ms: int) -> bytes:
    """version u8 | who u8 | milliseconds u16: for how long the test will go on."""
    return _REQUEST.pack(VERSION, who, ms)


def read_answer(data: bytes | bytearray) -> Answerer | None:
    """Who answers; None if this is no answer that is understood here."""
    version, who, _ms = _REQUEST.unpack_from(data)
    return Answerer(who) if version == VERSION and who in (Answerer.RELAY, Answerer.SERVER) else None


def pack_report(report: Report) -> bytes:
    """milliseconds u32 | bytes u64."""
    return _REPORT.pack(report.ms, report.received_bytes)


def read_report(data: bytes | bytearray) -> Report:
    return Report(*_REPORT.unpack_from(data))


def pack_probe(number: int, padding_bytes: int) -> bytes:
    """version u8 | seen u32 | number u32 | zeros."""
    return _PROBE.pack(VERSION, 0, number) + bytes(padding_bytes)


def answer_probe(packet: bytes, seen: int) -> bytes | None:
    """The packet that goes back, as long as what came: so many have been seen. None if it is no probe."""
    if len(packet) < PROBE_BYTES or packet[0] != VERSION:
        return None
    _, _, number = _PROBE.unpack_from(packet)
    return _PROBE.pack(VERSION, seen, number) + packet[PROBE_BYTES:]


def read_probe(packet: bytes) -> tuple[int, int] | None:
    """(number, seen) of an answer; None if it is none."""
    if len(packet) < PROBE_BYTES or packet[0] != VERSION:
        return None
    _, seen, number = _PROBE.unpack_from(packet)
    return number, seen
