"""STUN's binding request and its answer (RFC 8489): what a public server says our address looks like.

Sans-IO: bytes in, bytes out, the transaction id is an argument. `read` believes nothing that is not exactly
an answer to the request that was sent; from whom it came is for the caller to check.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

from kcpg.core.words import printable

HEADER_BYTES = 20
TRANSACTION_BYTES = 12
DEFAULT_PORT = 3478  # RFC 8489 §18.6
COOKIE = bytes.fromhex("2112a442")
COOKIE_AT = 4  # where it stands in a message

_HEADER = Struct(">HH4s12s")
_ATTRIBUTE = Struct(">HH")
# Method binding with the class bits of RFC 8489 §5.
_REQUEST = 0x0001
_SUCCESS = 0x0101
_ERROR = 0x0111

_MAPPED_ADDRESS = 0x0001
_ERROR_CODE = 0x0009
_XOR_MAPPED_ADDRESS = 0x0020
_FINGERPRINT = 0x8028
_FINGERPRINT_XOR = 0x5354554E  # «STUN», RFC 8489 §14.7
# Below 0x8000 an attribute must be understood, or the answer is void (RFC 8489 §6.3.3). These need no action:
# RESPONSE-ADDRESS to CHANGED-ADDRESS, PASSWORD and REFLECTED-FROM of RFC 3489, which servers of that age send
# still, and what goes with credentials, which a binding request does not have.
_IGNORED = frozenset(
    (0x0002, 0x0003, 0x0004, 0x0005, 0x0006, 0x0007, 0x0008, 0x000A, 0x000B, 0x0014, 0x0015, 0x001C, 0x001D)
)
_OPTIONAL = 0x8000
_FAMILIES = {1: 4, 2: 16}  # RFC 8489 §14.1: the number of a family -> bytes of its addresses
_MAX_REASON_BYTES = 763  # RFC 8489 §14.8


@dataclass(frozen=True, slots=True)
class Mapped:
    """The server sees us at this address. `ip`: 4 or 16 bytes."""

    ip: bytes
    port: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The server answered with an error: `code` 300 to 699, and its words."""

    code: int
    reason: str


def request(transaction: bytes) -> bytes:
    """A binding request without attributes. `transaction`: 12 unpredictable bytes, new for every request."""
    assert len(transaction) == TRANSACTION_BYTES
    return _HEADER.pack(_REQUEST, 0, COOKIE, transaction)


def read(datagram: bytes, transaction: bytes) -> Mapped | Refused | None:
    """The answer to the request with this transaction id; None if the datagram is anything else."""
    if len(datagram) < HEADER_BYTES:
        return None
    kind, length, cookie, echoed = _HEADER.unpack_from(datagram)
    if kind not in (_SUCCESS, _ERROR) or cookie != COOKIE or echoed != transaction:
        return None
    if length != len(datagram) - HEADER_BYTES or length % 4:
        return None
    found: dict[int, bytes] = {}
    for attribute, value in _attributes(datagram):
        if value is None or _FINGERPRINT in found:  # cut short; or something after what must be the last
            return None
        found.setdefault(attribute, value)  # of several of a kind the first counts (RFC 8489 §14)
    if not _understood(found) or not _intact(datagram, found.get(_FINGERPRINT)):
        return None
    if kind == _ERROR:
        return _error(found.get(_ERROR_CODE, b""))
    if _XOR_MAPPED_ADDRESS in found:
        return _address(found[_XOR_MAPPED_ADDRESS], COOKIE + transaction)
    return _address(found.get(_MAPPED_ADDRESS, b""), bytes(4 + TRANSACTION_BYTES))


def _attributes(datagram: bytes) -> Iterator[tuple[int, bytes | None]]:
    """Type and value of each; None for the value that is longer than the message. Padded to four bytes."""
    at = HEADER_BYTES
    while at < len(datagram):
        kind, length = _ATTRIBUTE.unpack_from(datagram, at)  # fits: every step is a multiple of 4
        at += _ATTRIBUTE.size
        whole = at + length <= len(datagram)
        yield kind, datagram[at : at + length] if whole else None
        if not whole:
            return
        at += length + -length % 4


def _understood(found: dict[int, bytes]) -> bool:
    known = _IGNORED | {_MAPPED_ADDRESS, _XOR_MAPPED_ADDRESS, _ERROR_CODE}
    return all(kind in known or kind >= _OPTIONAL for kind in found)


def _intact(datagram: bytes, fingerprint: bytes | None) -> bool:
    """Whether the checksum fits, if there is one: CRC-32 of everything before it (RFC 8489 §14.7)."""
    if fingerprint is None:
        return True
    before = datagram[: -(_ATTRIBUTE.size + 4)]
    return fingerprint == (zlib.crc32(before) ^ _FINGERPRINT_XOR).to_bytes(4, "big")


def _address(value: bytes, key: bytes) -> Mapped | None:
    size = _FAMILIES.get(value[1]) if len(value) >= 4 else None
    if size is None or len(value) != 4 + size:
        return None
    port = int.from_bytes(value[2:4], "big") ^ int.from_bytes(key[:2], "big")
    ip = bytes(a ^ b for a, b in zip(value[4:], key, strict=False))
    # A port or an address of zeros is nowhere; a server that says so is broken.
    return Mapped(ip, port) if port and any(ip) else None


def _error(value: bytes) -> Refused | None:
    if not 4 <= len(value) <= 4 + _MAX_REASON_BYTES:
        return None
    hundreds, number = value[2] & 7, value[3]
    if not 3 <= hundreds <= 6 or number > 99:
        return None
    return Refused(hundreds * 100 + number, printable(value[4:]))
