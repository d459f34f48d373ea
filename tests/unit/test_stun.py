"""STUN's binding request and answer: RFC 8489's layout, and nothing but an answer is believed."""

from __future__ import annotations

import ipaddress
import zlib
from struct import pack

import pytest

from kcpg.core import stun
from kcpg.core.stun import Mapped, Refused

TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")  # of RFC 5769's test vectors
V4, V6 = bytes((192, 0, 2, 1)), ipaddress.ip_address("2001:db8:1234:5678:11:2233:4455:6677").packed

# RFC 5769 §2.2 and §2.3: answers with SOFTWARE, MESSAGE-INTEGRITY and FINGERPRINT.
VECTOR_V4 = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643"
    "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96"
)
VECTOR_V6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a1470113a9fa"
    "a5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c"
)


def attribute(kind: int, value: bytes) -> bytes:
    return pack(">HH", kind, len(value)) + value + bytes(-len(value) % 4)


def message(*attributes: bytes, kind: int = 0x0101, transaction: bytes = TRANSACTION) -> bytes:
    body = b"".join(attributes)
    return pack(">HH", kind, len(body)) + stun.COOKIE + transaction + body


def mapped(ip: bytes, port: int) -> bytes:
    return attribute(0x0001, pack(">BBH", 0, 1 if len(ip) == 4 else 2, port) + ip)


def xor_mapped(ip: bytes, port: int) -> bytes:
    key = stun.COOKIE + TRANSACTION
    hidden = bytes(a ^ b for a, b in zip(ip, key, strict=False))
    return attribute(0x0020, pack(">BBH", 0, 1 if len(ip) == 4 else 2, port ^ 0x2112) + hidden)


def test_request() -> None:
    assert stun.request(TRANSACTION).hex() == "000100002112a442" + TRANSACTION.hex()
    assert stun.read(stun.request(TRANSACTION), TRANSACTION) is None, "a request is no answer"


@pytest.mark.parametrize(("vector", "ip"), [(VECTOR_V4, V4), (VECTOR_V6, V6)])
def test_the_vectors_of_rfc_5769(vector: bytes, ip: bytes) -> None:
    assert stun.read(vector, TRANSACTION) == Mapped(ip, 32853)


@pytest.mark.parametrize("ip", [V4, V6])
@pytest.mark.parametrize("kind", [mapped, xor_mapped])
def test_both_forms_of_both_families(kind, ip: bytes) -> None:
    assert stun.read(message(kind(ip, 3000)), TRANSACTION) == Mapped(ip, 3000)


def test_the_masked_form_counts_and_the_first_of_a_kind() -> None:
    # Some NATs rewrite what looks like an address: this is what the masked form is for.
    answer = message(mapped(bytes((10, 0, 0, 1)), 1), xor_mapped(V4, 2), xor_mapped(V6, 3))
    assert stun.read(answer, TRANSACTION) == Mapped(V4, 2)


def test_padding_and_attributes_without_meaning_for_us() -> None:
    for size in range(9):
        answer = message(attribute(0x8022, b"s" * size), attribute(0x0004, bytes(8)), xor_mapped(V4, 2))
        assert stun.read(answer, TRANSACTION) == Mapped(V4, 2)


GOOD = message(xor_mapped(V4, 3000))

WRONG = {
    "another transaction": message(xor_mapped(V4, 1), transaction=bytes(12)),
    "another cookie": GOOD[:4] + b"\x21\x12\xa4\x43" + GOOD[8:],
    "a request": message(xor_mapped(V4, 1), kind=0x0001),
    "an indication": message(xor_mapped(V4, 1), kind=0x0011),
    "another method": message(xor_mapped(V4, 1), kind=0x0103),
    "first bits set": message(xor_mapped(V4, 1), kind=0xC101),
    "too short": GOOD[:19],
    "cut": GOOD[:-1],
    "longer than it says": GOOD + bytes(4),
    "length no multiple of 4": message(xor_mapped(V4, 1) + b"\x00"),
    "no address": message(attribute(0x8022, b"soft")),
    "empty": message(),
    "attribute longer than the message": message(xor_mapped(V4, 1), pack(">HH", 0x8022, 5) + bytes(4)),
    "unknown attribute that must be understood": message(attribute(0x7FFF, b""), xor_mapped(V4, 1)),
    "family 3": message(attribute(0x0020, pack(">BBH", 0, 3, 1) + V4)),
    "IPv4 with 16 bytes": message(attribute(0x0020, pack(">BBH", 0, 1, 1) + V6)),
    "IPv6 with 4 bytes": message(attribute(0x0020, pack(">BBH", 0, 2, 1) + V4)),
    "address of 3 bytes": message(attribute(0x0020, b"\x00\x01\x00")),
    "port 0": message(xor_mapped(V4, 0)),
    "no host": message(mapped(bytes(4), 5)),
    "bad masked form beside a good plain one": message(
        mapped(V4, 1), attribute(0x0020, pack(">BBH", 0, 3, 1) + V4)
    ),
    "bad checksum": VECTOR_V4[:-1] + b"\x00",
    "something after the checksum": message(
        attribute(0x8028, bytes(4)), xor_mapped(V4, 1)
    ),
    "error without a code": message(kind=0x0111),
    "error code 200": message(attribute(0x0009, b"\x00\x00\x02\x00"), kind=0x0111),
    "error code 4, 100": message(attribute(0x0009, b"\x00\x00\x04\x64"), kind=0x0111),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_nothing_else_is_believed(what: str) -> None:
    assert stun.read(WRONG[what], TRANSACTION) is None


def test_a_checksum_of_our_own() -> None:
    head = message(xor_mapped(V4, 7), attribute(0x8028, bytes(4)))[:-8]
    crc = (zlib.crc32(head) ^ 0x5354554E).to_bytes(4, "big")
    assert stun.read(head + attribute(0x8028, crc), TRANSACTION) == Mapped(V4, 7)


@pytest.mark.parametrize("reason", [b"", b"Try Alternate"])
def test_a_refusal_may_be_shorter_than_any_datagram_of_ours(reason: bytes) -> None:
    answer = message(attribute(0x0009, b"\x00\x00\x03\x00" + reason), kind=0x0111)
    assert stun.read(answer, TRANSACTION) == Refused(300, reason.decode())


def test_a_refusals_words_cannot_hurt_a_log() -> None:
    answer = message(attribute(0x0009, b"\x00\x00\x04\x01a\nb\x1b\xff"), kind=0x0111)
    refused = stun.read(answer, TRANSACTION)
    assert isinstance(refused, Refused)
    assert refused.code == 401 and refused.reason.isprintable()
