"""Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s: one key agreement in two messages (Noise Protocol Framework,
revision 34).

Two small classes, one per side. Reading a message that is wrong changes nothing and gives None, so that
garbage between two parties does not stop them.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, replace

from kcpg.core.seal.seal import FORGED, HAVE_CRYPTOGRAPHY, LIBRARIES, aead

if HAVE_CRYPTOGRAPHY:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

NAME = b"Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s"
DH_BYTES = 32
TAG_BYTES = 16
MESSAGE_OVERHEAD = DH_BYTES + TAG_BYTES  # of either message over its payload


@dataclass(frozen=True, slots=True)
class Keys:
    """What both sides share at the end. `c2s` and `s2c` are Noise's Split; `secret` is one more output, bound
    to the whole transcript, from which resuming and rekeying prove themselves.
    """

    c2s: bytes
    s2c: bytes
    secret: bytes


class Initiator:
    """The side that speaks first. `private`: 32 random bytes, used for this handshake only."""

    def __init__(self, psk: bytes, prologue: bytes, private: bytes, library: str | None = None) -> None:
        self._library = library or _preferred()
        self._private = private
        self.public = public_key(private, self._library)
        self._state = _begin(psk, prologue, self._library)

    def write(self, payload: bytes) -> bytes:
        """Message 1; call it once."""
        self._state, message = _ephemeral(self._state, self.public).encrypt(payload)
        return self.public + message

    def read(self, message: bytes) -> tuple[bytes, Keys] | None:
        """The payload of message 2 and the agreed keys, or None if it does not answer our message 1."""
        if len(message) < MESSAGE_OVERHEAD:
            return None
        shared = exchange(self._private, message[:DH_BYTES], self._library)
        if shared is None:
            return None
        opened = _ephemeral(self._state, message[:DH_BYTES]).mix_key(shared).decrypt(message[DH_BYTES:])
        return None if opened is None else (opened[1], opened[0].split())


class Responder:
    """The side that answers."""

    def __init__(self, psk: bytes, prologue: bytes, library: str | None = None) -> None:
        self._library = library or _preferred()
        self._state = _begin(psk, prologue, self._library)
        self.peer = b""  # the initiator's ephemeral public key, after a successful read

    def read(self, message: bytes) -> bytes | None:
        """The payload of message 1, or None. Costs no key agreement yet."""
        if len(message) < MESSAGE_OVERHEAD:
            return None
        opened = _ephemeral(self._state, message[:DH_BYTES]).decrypt(message[DH_BYTES:])
        if opened is None:
            return None
        self._state, payload = opened
        self.peer = message[:DH_BYTES]
        return payload

    def write(self, payload: bytes, private: bytes) -> tuple[bytes, Keys] | None:
        """Message 2 and the agreed keys. None if the initiator's public key is one that agrees on nothing."""
        public = public_key(private, self._library)
        shared = exchange(private, self.peer, self._library)
        if shared is None:
            return None
        state, message = _ephemeral(self._state, public).mix_key(shared).encrypt(payload)
        return public + message, state.split()


def public_key(private: bytes, library: str) -> bytes:
    """X25519 (RFC 7748) of 32 random bytes and the base point."""
    if library == "pycryptodomex":
        from Cryptodome.Protocol import DH  # a tenth of a second, with all curves of the library

        return bytes(DH.import_x25519_private_key(private).public_key().export_key(format="raw"))
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def exchange(private: bytes, public: bytes, library: str) -> bytes | None:
    """The shared secret, or None if it would be all zeros whatever we contribute (a point of small order)."""
    try:
        if library == "pycryptodomex":
            from Cryptodome.Protocol import DH

            return bytes(
                DH.key_agreement(
                    eph_priv=DH.import_x25519_private_key(private),
                    eph_pub=DH.import_x25519_public_key(public),
                    kdf=bytes,
                )
            )
        return X25519PrivateKey.from_private_bytes(private).exchange(
            X25519PublicKey.from_public_bytes(public)
        )
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class _State:
    """Noise's SymmetricState, never changed in place. The cipher's nonce is always 0: each key seals one
    payload.
    """

    library: str
    ck: bytes
    h: bytes
    k: bytes

    def mix_hash(self, data: bytes) -> _State:
        return replace(self, h=_hash(self.h + data))

    def mix_key(self, material: bytes) -> _State:
        ck, k, _ = _hkdf(self.ck, material)
        return replace(self, ck=ck, k=k)

    def mix_key_and_hash(self, material: bytes) -> _State:
        ck, h, k = _hkdf(self.ck, material)
        return replace(self, ck=ck, k=k).mix_hash(h)

    def encrypt(self, payload: bytes) -> tuple[_State, bytes]:
        message = aead("chacha20", self.k, self.library).encrypt(bytes(12), payload, self.h)
        return self.mix_hash(message), message

    def decrypt(self, message: bytes) -> tuple[_State, bytes] | None:
        try:
            payload = aead("chacha20", self.k, self.library).decrypt(bytes(12), message, self.h)
        except FORGED:
            return None
        return self.mix_hash(message), payload

    def split(self) -> Keys:
        c2s, s2c, extra = _hkdf(self.ck, b"")
        return Keys(c2s, s2c, _hmac(extra, self.h))


def _begin(psk: bytes, prologue: bytes, library: str) -> _State:
    h = _hash(NAME)  # the name is longer than the hash, so it is hashed
    return _State(library, h, h, b"").mix_hash(prologue).mix_key_and_hash(psk)


def _ephemeral(state: _State, public: bytes) -> _State:
    """Token "e" of a pattern with a psk: the public key goes into the hash and into the key."""
    return state.mix_hash(public).mix_key(public)


def _hash(data: bytes) -> bytes:
    return hashlib.blake2s(data).digest()


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, hashlib.blake2s).digest()


def _hkdf(ck: bytes, material: bytes) -> tuple[bytes, bytes, bytes]:
    """Noise's HKDF with three outputs; the first two are those of the call with two."""
    temp = _hmac(ck, material)
    one = _hmac(temp, b"\x01")
    two = _hmac(temp, one + b"\x02")
    return one, two, _hmac(temp, two + b"\x03")


def _preferred() -> str:
    return LIBRARIES[0] if HAVE_CRYPTOGRAPHY else LIBRARIES[1]
