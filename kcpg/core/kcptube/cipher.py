"""Seals and opens datagrams as kcptube does: six algorithms, one key, a nonce made of two bytes repeated.

    AEAD       ciphertext | tag 16 | IV seed 2      the seed, in the clear, repeated is the nonce
    none       plaintext | checksum 2
    XOR        the same, every byte exclusive-ored with its right neighbour; keyless

The key is SHA3-256 of the password. `chacha20` is the construction from before RFC 8439, with a nonce of
64 bits and no padding in what Poly1305 covers.
"""

from __future__ import annotations

import hashlib
import hmac
import zlib
from collections.abc import Callable
from typing import Protocol

from Cryptodome.Cipher import ChaCha20, ChaCha20_Poly1305
from Cryptodome.Hash import Poly1305 as CryptodomePoly1305

from kcpg.core.seal import seal

if seal.HAVE_CRYPTOGRAPHY:
    from cryptography.hazmat.primitives.ciphers import Cipher as Stream
    from cryptography.hazmat.primitives.ciphers import algorithms
    from cryptography.hazmat.primitives.poly1305 import Poly1305

ALGORITHMS = seal.ALGORITHMS
AAD = b"KCP PortHopping"
TAG_BYTES = 16
TRAILER_BYTES = 2
SEEDS = 1 << 16  # Different nonces there are

_NONCE_BYTES = {"AES-GCM": 16, "AES-OCB": 12, "chacha20": 8, "xchacha20": 24}
_BLOCK = bytes(64)
_AAD_BYTES = len(AAD).to_bytes(8, "little")
_CONSTANTS = b"expand 32-byte k"


def overhead(algorithm: str) -> int:
    """Bytes that sealing adds."""
    return TRAILER_BYTES + (TAG_BYTES if algorithm in _NONCE_BYTES else 0)


class Seals(Protocol):
    """One AEAD: `decrypt` raises one of `seal.FORGED`."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes, /) -> bytes: ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes, /) -> bytes: ...


class Cipher:
    """Both directions of every datagram under one password. `library`: as of `seal.Sealer`.

    `seeds`: where the walk over all nonces begins, and its step, which becomes odd: none comes twice before
    all were used, which is the best that can be done.
    """

    def __init__(
        self, algorithm: str, password: bytes, seeds: tuple[int, int] = (0, 1), library: str | None = None
    ) -> None:
        assert algorithm in ALGORITHMS, algorithm
        self.algorithm = algorithm
        self.authentic = algorithm in _NONCE_BYTES
        self.overhead = overhead(algorithm)
        self._seed, self._step = seeds[0] % SEEDS, seeds[1] | 1
        if not self.authentic:
            self._seal, self._open = (_xor, _un_xor) if algorithm == "XOR" else (_same, _same)
            return
        library = library or seal.LIBRARIES[not seal.HAVE_CRYPTOGRAPHY]
        self._aead = _aead(algorithm, hashlib.sha3_256(password).digest(), library)
        self._repeats = _NONCE_BYTES[algorithm] // TRAILER_BYTES

    def seal(self, plaintext: bytes) -> bytes:
        """A datagram."""
        if not self.authentic:
            return self._seal(plaintext + checksum(plaintext))
        self._seed = (self._seed + self._step) % SEEDS
        return self.seal_with(self._seed.to_bytes(TRAILER_BYTES, "little"), plaintext)

    def seal_with(self, seed: bytes, plaintext: bytes) -> bytes:
        """A datagram with this IV seed."""
        return self._aead.encrypt(seed * self._repeats, plaintext, AAD) + seed

    def open(self, datagram: bytes) -> bytes | None:
        """What a datagram holds; None if it is none of ours. Never raises."""
        if not self.authentic:
            data = self._open(datagram)
            plaintext = data[:-TRAILER_BYTES]
            return plaintext if plaintext and data[-TRAILER_BYTES:] == checksum(plaintext) else None
        if len(datagram) <= TAG_BYTES + TRAILER_BYTES:
            return None
        try:
            return self._aead.decrypt(
                datagram[-TRAILER_BYTES:] * self._repeats, datagram[:-TRAILER_BYTES], AAD
            )
        except seal.FORGED:
            return None


def checksum(data: bytes) -> bytes:
    """CRC-32, its halves exclusive-ored."""
    crc = zlib.crc32(data)
    return ((crc >> 16) ^ (crc & 0xFFFF)).to_bytes(2, "big")


def _same(data: bytes) -> bytes:
    return data


def _xor(data: bytes) -> bytes:
    number = int.from_bytes(data, "little")
    return (number ^ (number >> 8)).to_bytes(len(data), "little")


def _un_xor(data: bytes) -> bytes:
    """Every byte becomes the exclusive or of itself and all behind it, in doubling steps."""
    number, shift = int.from_bytes(data, "little"), 8
    while shift < 8 * len(data):
        number ^= number >> shift
        shift *= 2
    return number.to_bytes(len(data), "little")


def _aead(algorithm: str, key: bytes, library: str) -> Seals:
    if algorithm == "chacha20":
        return _OldChaCha(_keystream(library), _poly1305(library), key)
    if algorithm != "xchacha20":
        return seal.aead(algorithm, key, library)
    return _XChaCha(key) if library == "cryptography" else _CryptodomeXChaCha(key)


class _OldChaCha:
    """ChaCha20-Poly1305 with a nonce of 8 bytes, as before RFC 8439."""

    def __init__(
        self,
        keystream: Callable[[bytes, bytes, bytes], bytes],
        tag: Callable[[bytes, bytes, bytes, bytes], bytes],
        key: bytes,
    ) -> None:
        self._keystream, self._tag, self._key = keystream, tag, key

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes) -> bytes:
        stream = self._keystream(self._key, nonce, _BLOCK + data)
        return stream[64:] + self._mac(nonce, stream[:32], stream[64:])

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes) -> bytes:
        sealed = data[:-TAG_BYTES]
        stream = self._keystream(self._key, nonce, _BLOCK + sealed)
        if not hmac.compare_digest(self._mac(nonce, stream[:32], sealed), data[-TAG_BYTES:]):
            raise ValueError("tag")
        return stream[64:]

    def _mac(self, nonce: bytes, poly_key: bytes, sealed: bytes) -> bytes:
        covered = AAD + _AAD_BYTES + sealed + len(sealed).to_bytes(8, "little")
        return self._tag(self._key, nonce, poly_key, covered)


def _keystream(library: str) -> Callable[[bytes, bytes, bytes], bytes]:
    if library == "cryptography":
        return lambda key, nonce, data: (
            Stream(algorithms.ChaCha20(key, bytes(8) + nonce), None).encryptor().update(data)
        )
    return lambda key, nonce, data: ChaCha20.new(key=key, nonce=nonce).encrypt(data)


def _poly1305(library: str) -> Callable[[bytes, bytes, bytes, bytes], bytes]:
    if library == "cryptography":
        return lambda key, nonce, poly_key, data: Poly1305.generate_tag(poly_key, data)
    return lambda key, nonce, poly_key, data: CryptodomePoly1305.new(
        key=key, nonce=nonce, cipher=ChaCha20, data=data
    ).digest()


class _XChaCha:
    """XChaCha20-Poly1305 out of ChaCha20: the subkey is a block of it less what the block began with."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes) -> bytes:
        return self._inner(nonce).encrypt(bytes(4) + nonce[16:], data, associated_data)

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes) -> bytes:
        return self._inner(nonce).decrypt(bytes(4) + nonce[16:], data, associated_data)

    def _inner(self, nonce: bytes) -> seal.Aead:
        block = Stream(algorithms.ChaCha20(self._key, nonce[:16]), None).encryptor().update(_BLOCK)
        subkey = _subtract(block[:16], _CONSTANTS) + _subtract(block[48:], nonce[:16])
        return seal.aead("chacha20", subkey, "cryptography")


def _subtract(block: bytes, start: bytes) -> bytes:
    """Four little-endian words less four others."""
    return b"".join(
        (
            (int.from_bytes(block[i : i + 4], "little") - int.from_bytes(start[i : i + 4], "little"))
            % (1 << 32)
        ).to_bytes(4, "little")
        for i in range(0, 16, 4)
    )


class _CryptodomeXChaCha:
    def __init__(self, key: bytes) -> None:
        self._key = key

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes) -> bytes:
        cipher = ChaCha20_Poly1305.new(key=self._key, nonce=nonce)
        cipher.update(associated_data)
        return b"".join(cipher.encrypt_and_digest(data))

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes) -> bytes:
        cipher = ChaCha20_Poly1305.new(key=self._key, nonce=nonce)
        cipher.update(associated_data)
        return bytes(cipher.decrypt_and_verify(data[:-TAG_BYTES], data[-TAG_BYTES:]))
