"""The key schedule: from a password or key file to everything a leg seals with, and from a handshake to an
epoch.

docs/protocol.md, "Keys", is the authority for every label here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass

from kcpg.core.native.handshake.noise import PrivateKey
from kcpg.core.seal.seal import KEY_BYTES, iv_bytes

SALT = b"kcpg/1"
PAIR_SALT = b"kcpg/1 key pair"

# 32 MiB and about 80 ms on a server core of 2024, paid once per start and per guess of an attacker who tries
# passwords.
SCRYPT_N = 1 << 15
SCRYPT_R = 8
SCRYPT_P = 1
SCRYPT_BYTES = 64
SCRYPT_MEMORY = 64 << 20  # What the library may take: twice what N and R come to


class KeyPair:
    """A node's own key pair; of a dialer also the listener's public key, which a listener leaves empty."""

    def __init__(self, private: bytes, listener: bytes = b"") -> None:
        """`private`: 32 random bytes. ValueError: `listener` is a key that agrees on nothing."""
        self.own = PrivateKey(private)
        self.listener = listener
        self._private = private
        # What we share with others, which never changes and costs a tenth of a handshake.
        self._shared: dict[bytes, bytes] = {}
        if listener and not self.keep(listener):
            raise ValueError("the listener's public key agrees on nothing")

    def __reduce__(self) -> tuple[type[KeyPair], tuple[bytes, bytes]]:
        return KeyPair, (self._private, self.listener)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyPair) and (self._private, self.listener) == (
            other._private,
            other.listener,
        )

    def __hash__(self) -> int:
        return hash((self.own.public, self.listener))

    def __repr__(self) -> str:  # keys never reach a log
        return "KeyPair(…)"

    @property
    def listener_public(self) -> bytes:
        """The listener's public key, ours if we listen."""
        return self.listener or self.own.public

    def shared(self, public: bytes) -> bytes | None:
        """What our key and this one share, computed if it is not kept; None: nothing, whatever our key is."""
        return self._shared.get(public) or self.own.exchange(public)

    def keep(self, public: bytes) -> bool:
        """Remember what we share with this key. False: nothing."""
        if public not in self._shared:
            shared = self.own.exchange(public)
            if shared is None:
                return False
            self._shared[public] = shared
        return True

    def keep_only(self, publics: Collection[bytes]) -> None:
        """Forget what we share with all other keys."""
        for public in [one for one in self._shared if one not in publics]:
            del self._shared[public]


@dataclass(frozen=True, slots=True)
class RootKeys:
    """What both nodes of a tunnel know before they meet: five keys of 32 bytes, and a node's own key pair if
    the listener has users. c2s: from dialer to listener.
    """

    handshake_c2s: bytes
    handshake_s2c: bytes
    mask_c2s: bytes
    mask_s2c: bytes
    psk: bytes
    pair: KeyPair | None = None

    def __repr__(self) -> str:  # keys never reach a log
        return "RootKeys(…)"

    @classmethod
    def from_password(cls, password: bytes, pair: KeyPair | None = None) -> RootKeys:
        """The bytes of the password as its file has them, whatever their encoding.

        Takes about 80 ms and 32 MiB: call it once per start, in a thread.
        """
        return cls._from_root(_scrypt(password), pair)

    @classmethod
    def from_key(cls, key: bytes, pair: KeyPair | None = None) -> RootKeys:
        """From 32 random bytes (`parse_key`), without the work that a guessable password needs."""
        assert len(key) == KEY_BYTES
        return cls._from_root(key, pair)

    @classmethod
    def from_pair(cls, pair: KeyPair) -> RootKeys:
        """Of nodes that share no secret beside the listener's public key."""
        return cls._from_root(b"", pair)

    @classmethod
    def _from_root(cls, root: bytes, pair: KeyPair | None) -> RootKeys:
        salt = SALT if pair is None else PAIR_SALT
        if pair is not None:
            root += pair.listener_public
        uniform = hmac.digest(salt, root, "sha256")  # HKDF-Extract (RFC 5869)

        def key(label: bytes) -> bytes:
            return expand(uniform, label)

        return cls(
            handshake_c2s=key(b"handshake c2s"),
            handshake_s2c=key(b"handshake s2c"),
            mask_c2s=key(b"mask c2s"),
            mask_s2c=key(b"mask s2c"),
            psk=key(b"psk"),
            pair=pair,
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
