"""The typed units inside datagrams: their numbers, and how control frames are written and read.

A payload may be followed by zeros (short datagrams are padded), so every field tells its own length. Readers
give None for anything malformed and never raise. Conversation numbers are little-endian, as in KCP; the rest
is big-endian.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from kcpg.core.units import MASK32
from kcpg.core.words import printable

PAD = 0  # nothing; the datagram itself was the message
KCP = 1  # KCP segments of any conversations, back to back
DATAGRAM = 2  # conv | one user packet, never retransmitted; at least MIN_PACKET_BYTES of it
PING = 3  # 8 opaque bytes, which a PONG brings back
PONG = 4
PATH_CHALLENGE = 5  # 8 opaque bytes, which a PATH_RESPONSE brings back on the same path
PATH_RESPONSE = 6
MTU_PROBE = 7  # 8 opaque bytes and as many more as the path may take
RESET = 8  # conv | code | text: this flow is aborted
RESET_ACK = 9  # conv
CLOSE = 10  # code | text: the link ends
REKEY = 11  # a handshake message for the next epoch
FEC_DATA = 12  # a KCP or DATAGRAM frame as a data shard: see kcpg.core.fec.group
FEC_PARITY = 13  # a parity shard
MTU_ACK = 14  # the 8 bytes of an MTU_PROBE, which has arrived
LOSS_REPORT = 15  # expected u32 | lost u32 | bursts u32: counted since the link began
GOAWAY = 17  # spread u32 | deadline u32 | text: the link ends soon, and new flows belong elsewhere
PIECE = 16  # number | place | count | part of a KCP or DATAGRAM frame that the path does not take whole

# What concerns the link and not a conversation's data.
CONTROL = frozenset(
    {
        *(PING, PONG, PATH_CHALLENGE, PATH_RESPONSE, MTU_PROBE, MTU_ACK),
        *(RESET, RESET_ACK, CLOSE, REKEY, LOSS_REPORT, GOAWAY),
    }
)


# They ask about a path without taking it: where they come from is not where the peer wants its data.
PATH_PROBES = frozenset((PATH_CHALLENGE, PATH_RESPONSE))

# Keeps the 16 sampled bytes, the tag, clear of the type byte, and gives tiny frames no telling size.
MIN_DATAGRAM_BYTES = 32

# Payload of the shortest datagram: what is shorter is padded with zeros to this.
MIN_PAYLOAD_BYTES = MIN_DATAGRAM_BYTES - 25

# A shorter user packet cannot travel as DATAGRAM, as the padding would lengthen it; it goes as a message.
MIN_PACKET_BYTES = MIN_PAYLOAD_BYTES - 4

_LOSSES = struct.Struct(">III")
_GOAWAY = struct.Struct(">II")

OPAQUE_BYTES = 8
MAX_TEXT_BYTES = 255


class Losses(NamedTuple):
    """Of what the peer sent: datagrams judged, those of them that never came, and runs of the latter."""

    expected: int
    lost: int
    bursts: int


class ResetFrame(NamedTuple):
    """An aborted flow: its conversation, a `ResetCode` number, words for a person."""

    conv: int
    code: int
    text: str


class CloseFrame(NamedTuple):
    """A link's end: a `ResetCode` number, words for a person, over how many ms to spread new calls."""

    code: int
    text: str
    spread_ms: int


class GoAwayFrame(NamedTuple):
    """A link that ends soon: over how many ms to spread new calls, in how many ms it ends, why in words."""

    spread_ms: int
    deadline_ms: int
    text: str


def pack_conv(conv: int) -> bytes:
    """Payload of RESET_ACK, and the head of DATAGRAM."""
    return conv.to_bytes(4, "little")


def read_conv(payload: bytes) -> int | None:
    """The conversation a payload begins with."""
    return int.from_bytes(payload[:4], "little") if len(payload) >= 4 else None


def read_opaque(payload: bytes) -> bytes | None:
    """The 8 bytes of PING, PONG, PATH_CHALLENGE, PATH_RESPONSE, MTU_PROBE or MTU_ACK."""
    return payload[:OPAQUE_BYTES] if len(payload) >= OPAQUE_BYTES else None


def pack_reset(conv: int, code: int, text: str) -> bytes:
    """Payload of RESET; a text too long is cut."""
    return pack_conv(conv) + bytes((code,)) + pack_text(text)


def read_reset(payload: bytes) -> ResetFrame | None:
    """The contents of RESET."""
    text = read_text(payload[5:])
    return ResetFrame(int.from_bytes(payload[:4], "little"), payload[4], text) if text is not None else None


def pack_close(code: int, text: str, spread_ms: int = 0) -> bytes:
    """Payload of CLOSE; a text too long is cut."""
    return bytes((code,)) + pack_text(text) + min(spread_ms, MASK32).to_bytes(4, "big")


def read_close(payload: bytes) -> CloseFrame | None:
    """The contents of CLOSE."""
    text = read_text(payload[1:])
    if text is None:
        return None
    behind = 2 + payload[1]
    return CloseFrame(payload[0], text, int.from_bytes(payload[behind : behind + 4].ljust(4, b"\0"), "big"))


def pack_goaway(spread_ms: int, deadline_ms: int, text: str) -> bytes:
    """Payload of GOAWAY; a text too long is cut."""
    return _GOAWAY.pack(min(spread_ms, MASK32), min(deadline_ms, MASK32)) + pack_text(text)


def read_goaway(payload: bytes) -> GoAwayFrame | None:
    """The contents of GOAWAY."""
    text = read_text(payload[_GOAWAY.size :])
    if text is None:
        return None
    spread_ms, deadline_ms = _GOAWAY.unpack_from(payload)
    return GoAwayFrame(spread_ms, deadline_ms, text)


def pack_rekey(message: bytes) -> bytes:
    """Payload of REKEY."""
    return struct.pack(">H", len(message)) + message


def read_rekey(payload: bytes) -> bytes | None:
    """The handshake message inside REKEY."""
    length = int.from_bytes(payload[:2], "big")
    return payload[2 : 2 + length] if len(payload) >= 2 + length and length else None


def pack_losses(losses: Losses) -> bytes:
    """Payload of LOSS_REPORT."""
    return _LOSSES.pack(*(count & MASK32 for count in losses))


def read_losses(payload: bytes) -> Losses | None:
    """The contents of LOSS_REPORT; the counters are modulo 2^32."""
    return Losses(*_LOSSES.unpack_from(payload)) if len(payload) >= _LOSSES.size else None


def pack_text(text: str, limit: int = MAX_TEXT_BYTES) -> bytes:
    """Length byte and UTF-8, cut between characters to at most `limit` bytes."""
    assert 0 <= limit <= MAX_TEXT_BYTES
    data = text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore").encode()
    return bytes((len(data),)) + data


def read_text(data: bytes) -> str | None:
    """Words from a peer, fit for a log line: what does not print is replaced. None if cut short."""
    if not data or len(data) < 1 + data[0]:
        return None
    return printable(data[1 : 1 + data[0]])
