"""What was sealed under a key and a salt opens in both engines, and nothing else does."""

from __future__ import annotations

import hmac
import random

import pytest

from kcpg.core.native.handshake.envelope import Envelope
from kcpg.core.seal import _seal, salted, seal
from kcpg.core.seal._seal import LIBCRYPTO

KEY = bytes(range(32))
OPENERS = {
    "compiled": lambda: _seal.SaltedOpener(KEY),
    "compiled without libcrypto": lambda: _seal.SaltedOpener(KEY, "pycryptodomex"),
    "python": lambda: salted.SaltedOpener(KEY),
    "pycryptodomex": lambda: salted.SaltedOpener(KEY, "pycryptodomex"),
}


def sealed(salt: bytes, header: bytes, content: bytes) -> bytes:
    """As RFC 5869 and RFC 8439 have it, by the library that is in every installation."""
    key = hmac.digest(KEY, salt + b"\x01", "sha256")
    return salt + seal.aead("chacha20", key, "pycryptodomex").encrypt(bytes(12), content, header)


@pytest.mark.parametrize("name", OPENERS)
def test_what_was_sealed_opens_and_what_was_changed_does_not(name: str) -> None:
    opener, rng = OPENERS[name](), random.Random(name)
    for size in (0, 1, 15, 16, 17, 63, 64, 65, 400, 1500):
        salt, header, content = rng.randbytes(16), rng.randbytes(8), rng.randbytes(size)
        body = sealed(salt, header, content)
        assert opener.open(header, body) == content
        for at in {0, 15, 16, size // 2 + 16, len(body) - 1}:
            changed = body[:at] + bytes((body[at] ^ 1 << rng.randrange(8),)) + body[at + 1 :]
            assert opener.open(header, changed) is None
        assert opener.open(bytes(8), body) is None
        assert opener.open(header, body) == content, "one that failed spoils nothing"


@pytest.mark.parametrize("name", OPENERS)
def test_anything_shorter_opens_nothing(name: str) -> None:
    opener = OPENERS[name]()
    for size in range(34):
        assert opener.open(bytes(8), bytes(size)) is None


def test_libcrypto_does_the_work_where_it_can() -> None:
    assert LIBCRYPTO and _seal.SaltedOpener(KEY).backend == LIBCRYPTO
    assert _seal.SaltedOpener(KEY, "pycryptodomex").backend == "pycryptodomex"


def test_an_envelope_opens_what_it_sealed() -> None:
    envelope, rng = Envelope(KEY, bytes(32)), random.Random(1)
    datagram, salt = envelope.seal(0, b"content", 500, rng.randbytes)
    masked, body = datagram[:8], datagram[8:]
    header = bytes(a ^ b for a, b in zip(masked, envelope._mask.mask(body[-16:]), strict=True))
    opened = envelope.open(header, body)
    assert opened is not None and opened[:7] == b"content" and not any(opened[7:]) and body[:16] == salt
