"""The key schedule: from a password or key file to everything a leg seals with, and from a handshake to an
epoch.

docs/protocol.md, "Keys", is the authority for every label here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass

from kcpg.core.seal.seal import KEY_BYTES, iv_bytes

SALT = b"kcpg/1"

# 32 MiB and about 80 ms on a server core of 2024, paid once per start and per guess of an attacker who tries
# passwords.
SCRYPT_N = 1 << 15
SCRYPT_R = 8
SCRYPT_P = 1
SCRYPT_BYTES = 64
SCRYPT_MEMORY = 64 << 20  # What the library may take: twice what N and R come to


@dataclass(frozen=True, slots=True)
class RootKeys:
    """What both nodes of a tunnel know before they meet: five keys of 32 bytes. c2s: from dialer to
    listener.
    """

    handshake_c2s: bytes
    handshake_s2c: bytes
    mask_c2s: bytes
    mask_s2c: bytes
    psk: bytes

    def __repr__(self) -> str:  # keys never reach a log
        return "RootKeys(…)"

    @classmethod
    def from_password(cls, password: bytes) -> RootKeys:
        """The bytes of the password as its file has them, whatever their encoding.

        Takes about 80 ms and 32 MiB: call it once per start, in a thread.
        """
        return cls._from_root(_scrypt(password))

    @classmethod
    def from_key(cls, key: bytes) -> RootKeys:
        """From 32 random bytes (`parse_key`), without the work that a guessable password needs."""
        assert len(key) == KEY_BYTES
        return cls._from_root(key)

    @classmethod
    def _from_root(cls, root: bytes) -> RootKeys:
        uniform = hmac.digest(SALT, root, "sha256")  # HKDF-Extract (RFC 5869)

        def key(label: bytes) -> bytes:
            return expand(uniform, label)

        return cls(
            handshake_c2s=key(b"handshake c2s"),
            handshake_s2c=key(b"handshake s2c"),
            mask_c2s=key(b"mask c2s"),
            mask_s2c=key(b"mask s2c"),
            psk=key(b"psk"),
        )


@dataclass(frozen=True, slots=True)
class EpochKeys:
    """Data keys and IVs of one epoch, as `Wire`'s link wires take them. IVs have the length the algorithm
    wants.
    """

    algorithm: str
    c2s_key: bytes
    c2s_iv: bytes
    s2c_key: bytes
    s2c_iv: bytes

    def __repr__(self) -> str:  # keys never reach a log
        return f"EpochKeys({self.algorithm}, …)"

    @classmethod
    def derive(cls, algorithm: str, c2s: bytes, s2c: bytes) -> EpochKeys:
        """From the two keys of a finished handshake. Bound to the algorithm: no key ever serves two
        ciphers.
        """
        name = algorithm.encode()
        iv = iv_bytes(algorithm)
        return cls(
            algorithm,
            expand(c2s, b"data key " + name),
            expand(c2s, b"data iv " + name)[:iv],
            expand(s2c, b"data key " + name),
            expand(s2c, b"data iv " + name)[:iv],
        )


def _scrypt(password: bytes) -> bytes:
    """Of the system's library, or where Python was built without it, of pycryptodomex."""
    if hasattr(hashlib, "scrypt"):
        return hashlib.scrypt(
            password, salt=SALT, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P, maxmem=SCRYPT_MEMORY, dklen=SCRYPT_BYTES
        )
    from Cryptodome.Protocol.KDF import scrypt

    # Bytes, although its types ask for str.
    made = scrypt(password, SALT, SCRYPT_BYTES, SCRYPT_N, SCRYPT_R, SCRYPT_P)  # type: ignore[arg-type]
    assert isinstance(made, bytes)
    return made


def expand(key: bytes, info: bytes) -> bytes:
    """HKDF-Expand (RFC 5869) with SHA-256 for one block, 32 bytes. `key` is uniformly random already."""
    return hmac.digest(key, info + b"\x01", "sha256")


def parse_key(text: str) -> bytes | None:
    """The 32 bytes of an `encryption_key` in base64 (standard or URL alphabet), None if it is not one."""
    try:
        key = base64.b64decode(text.strip().replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == KEY_BYTES else None


def format_key(key: bytes) -> str:
    """What `kcpg keygen` prints."""
    assert len(key) == KEY_BYTES
    return base64.b64encode(key).decode()
