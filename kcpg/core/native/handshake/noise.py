"""Key agreements in two messages (Noise Protocol Framework, revision 34): NNpsk0 where both sides know one
secret, IKpsk2 where each has a key pair, both with 25519, ChaChaPoly and BLAKE2s.

Two small classes, one per side. Reading a message that is wrong changes nothing and gives None, so that
garbage between two parties does not stop them.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kcpg.core.seal.seal import FORGED, HAVE_CRYPTOGRAPHY, LIBRARIES, aead

if HAVE_CRYPTOGRAPHY:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

DH_BYTES = 32
TAG_BYTES = 16
MESSAGE_OVERHEAD = DH_BYTES + TAG_BYTES  # of a message over its payload
STATIC_BYTES = DH_BYTES + TAG_BYTES  # what the first message of IKpsk2 has besides: the sealed static key


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern of the framework: its tokens, message by message."""

    name: bytes
    first: tuple[str, ...]
    second: tuple[str, ...]

    @property
    def has_static_keys(self) -> bool:
        """Both sides have a key pair, and the initiator knows the responder's public key."""
        return "s" in self.first

    @property
    def overhead(self) -> int:
        """Bytes of the first message over its payload."""
        return MESSAGE_OVERHEAD + (STATIC_BYTES if self.has_static_keys else 0)


NNPSK0 = Pattern(b"Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s", ("psk", "e"), ("e", "ee"))
IKPSK2 = Pattern(b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s", ("e", "es", "s", "ss"), ("e", "ee", "se", "psk"))

# Gives the secret that our static key and this one of a peer share, or None as `PrivateKey.exchange` does.
Shared = Callable[[bytes], bytes | None]


@dataclass(frozen=True, slots=True)
class Keys:
    """What both sides share at the end. `c2s` and `s2c` are Noise's Split; `secret` is one more output, bound
    to the whole transcript, from which resuming and rekeying prove themselves.
    """

    c2s: bytes
    s2c: bytes
    secret: bytes


class PrivateKey:
    """A key of X25519 (RFC 7748): 32 random bytes, and `public`, what others know of it."""

    __slots__ = ("_key", "_library", "public")

    def __init__(self, private: bytes, library: str | None = None) -> None:
        self._library = library or preferred()
        self._key: Any  # of one library or the other
        if self._library == "pycryptodomex":
            from Cryptodome.Protocol import DH  # a tenth of a second, with all curves of the library

            self._key = DH.import_x25519_private_key(private)
            self.public = bytes(self._key.public_key().export_key(format="raw"))
        else:
            self._key = X25519PrivateKey.from_private_bytes(private)
            self.public = bytes(self._key.public_key().public_bytes_raw())

    def __repr__(self) -> str:  # keys never reach a log
        return "PrivateKey(…)"

    def exchange(self, public: bytes) -> bytes | None:
        """The shared secret, or None if it would be all zeros whatever we contribute (a point of small
        order).
        """
        try:
            if self._library == "pycryptodomex":
                from Cryptodome.Protocol import DH

                theirs = DH.import_x25519_public_key(public)
                return bytes(DH.key_agreement(eph_priv=self._key, eph_pub=theirs, kdf=bytes))
            return bytes(self._key.exchange(X25519PublicKey.from_public_bytes(public)))
        except ValueError:
            return None


class _Side:
    """What both sides have: their keys, those that they know of the peer's, and the state of the hash."""

    def __init__(
        self,
        initiates: bool,
        pattern: Pattern,
        psk: bytes,
        prologue: bytes,
        library: str | None,
        static: PrivateKey | None,
        shared: Shared | None,
    ) -> None:
        assert (static is not None) == pattern.has_static_keys
        self._initiates = initiates
        self._pattern = pattern
        self._psk = psk
        self._library = library or preferred()
        self._ephemeral: PrivateKey | None = None
        self._static = static
        self._shared = shared or (static.exchange if static is not None else None)
        self.peer = b""  # the peer's ephemeral public key, once it is known
        self.peer_static = b""
        self._state = _begin(pattern, prologue, self._library)

    def _compose(self, tokens: tuple[str, ...], payload: bytes) -> tuple[_State, bytes] | None:
        """A message. None: the peer's public key is one that agrees on nothing."""
        state, message = self._state, b""
        for token in tokens:
            if token == "e":
                assert self._ephemeral is not None
                state = state.ephemeral(self._ephemeral.public)
                message += self._ephemeral.public
            elif token == "s":
                assert self._static is not None
                state, sealed = state.encrypt(self._static.public)
                message += sealed
            else:
                mixed = self._mix(state, token, self.peer, self.peer_static)
                if mixed is None:
                    return None
                state = mixed
        state, sealed = state.encrypt(payload)
        return state, message + sealed

    def _parse(self, tokens: tuple[str, ...], message: bytes) -> tuple[_State, bytes, bytes, bytes] | None:
        """The state after a message, its payload, the peer's ephemeral and static key. None: it is wrong."""
        state, peer, peer_static = self._state, self.peer, self.peer_static
        for token in tokens:
            if token == "e":
                peer, message = message[:DH_BYTES], message[DH_BYTES:]
                state = state.ephemeral(peer)
            elif token == "s":
                opened = state.decrypt(message[:STATIC_BYTES])
                if opened is None:
                    return None
                (state, peer_static), message = opened, message[STATIC_BYTES:]
            else:
                mixed = self._mix(state, token, peer, peer_static)
                if mixed is None:
                    return None
                state = mixed
        opened = state.decrypt(message)
        return None if opened is None else (*opened, peer, peer_static)

    def _mix(self, state: _State, token: str, peer: bytes, peer_static: bytes) -> _State | None:
        """Tokens «psk», «ee», «es», «se», «ss»: of two letters the first is the initiator's key."""
        if token == "psk":
            return state.mix_key_and_hash(self._psk)
        ours, theirs = (token[0], token[1]) if self._initiates else (token[1], token[0])
        public = peer if theirs == "e" else peer_static
        if ours == theirs == "s":
            assert self._shared is not None
            shared = self._shared(public)
        else:
            own = self._ephemeral if ours == "e" else self._static
            assert own is not None
            shared = own.exchange(public)
        return None if shared is None else state.mix_key(shared)


class Initiator(_Side):
    """The side that speaks first. `private`: 32 random bytes, used for this handshake only.

    With `static`, our key pair, and `peer_static`, the responder's public key, it is IKpsk2; else NNpsk0.
    `shared` replaces `static.exchange` for the secret of the two static keys, which never changes.
    """

    def __init__(
        self,
        psk: bytes,
        prologue: bytes,
        private: bytes,
        library: str | None = None,
        static: PrivateKey | None = None,
        peer_static: bytes = b"",
        shared: Shared | None = None,
    ) -> None:
        super().__init__(True, _pattern(static), psk, prologue, library, static, shared)
        self._ephemeral = PrivateKey(private, self._library)
        self.public = self._ephemeral.public
        if static is not None:
            self.peer_static = peer_static
            self._state = self._state.mix_hash(peer_static)

    def write(self, payload: bytes) -> bytes:
        """Message 1; call it once. ValueError: `peer_static` is a key that agrees on nothing."""
        done = self._compose(self._pattern.first, payload)
        if done is None:
            raise ValueError("the peer's static key agrees on nothing")
        self._state, message = done
        return message

    def read(self, message: bytes) -> tuple[bytes, Keys] | None:
        """The payload of message 2 and the agreed keys, or None if it does not answer our message 1."""
        if len(message) < MESSAGE_OVERHEAD:
            return None
        parsed = self._parse(self._pattern.second, message)
        return None if parsed is None else (parsed[1], parsed[0].split())


class Responder(_Side):
    """The side that answers. With `static`, our key pair, it is IKpsk2; else NNpsk0. `shared`: as of
    Initiator.

    `peer_static` is the initiator's static public key, after a successful read.
    """

    def __init__(
        self,
        psk: bytes,
        prologue: bytes,
        library: str | None = None,
        static: PrivateKey | None = None,
        shared: Shared | None = None,
    ) -> None:
        super().__init__(False, _pattern(static), psk, prologue, library, static, shared)
        if static is not None:
            self._state = self._state.mix_hash(static.public)

    def read(self, message: bytes) -> bytes | None:
        """The payload of message 1, or None. Costs no key agreement yet in NNpsk0, two in IKpsk2."""
        if len(message) < self._pattern.overhead:
            return None
        parsed = self._parse(self._pattern.first, message)
        if parsed is None:
            return None
        self._state, payload, self.peer, self.peer_static = parsed
        return payload

    def write(self, payload: bytes, private: bytes) -> tuple[bytes, Keys] | None:
        """Message 2 and the agreed keys. None if the initiator's public key is one that agrees on nothing."""
        self._ephemeral = PrivateKey(private, self._library)
        done = self._compose(self._pattern.second, payload)
        return None if done is None else (done[1], done[0].split())


@dataclass(frozen=True, slots=True)
class _State:
    """Noise's SymmetricState, never changed in place. The cipher's nonce is always 0: each key seals one
    payload.
    """

    library: str
    ck: bytes
    h: bytes
    k: bytes

    def ephemeral(self, public: bytes) -> _State:
        """Token «e» of a pattern with a psk: the public key goes into the hash and into the key."""
        return self.mix_hash(public).mix_key(public)

    def mix_hash(self, data: bytes) -> _State:
        return _State(self.library, self.ck, _hash(self.h + data), self.k)

    def mix_key(self, material: bytes) -> _State:
        ck, k, _ = _hkdf(self.ck, material)
        return _State(self.library, ck, self.h, k)

    def mix_key_and_hash(self, material: bytes) -> _State:
        ck, h, k = _hkdf(self.ck, material)
        return _State(self.library, ck, _hash(self.h + h), k)

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


def _pattern(static: PrivateKey | None) -> Pattern:
    return NNPSK0 if static is None else IKPSK2


def _begin(pattern: Pattern, prologue: bytes, library: str) -> _State:
    h = _hash(pattern.name)  # the name is longer than the hash, so it is hashed
    return _State(library, h, h, b"").mix_hash(prologue)


def _hash(data: bytes) -> bytes:
    return hashlib.blake2s(data).digest()


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, hashlib.blake2s)


def _hkdf(ck: bytes, material: bytes) -> tuple[bytes, bytes, bytes]:
    """Noise's HKDF with three outputs; the first two are those of the call with two."""
    temp = _hmac(ck, material)
    one = _hmac(temp, b"\x01")
    two = _hmac(temp, one + b"\x02")
    return one, two, _hmac(temp, two + b"\x03")


def preferred() -> str:
    """The library that is used where none is named."""
    return LIBRARIES[0] if HAVE_CRYPTOGRAPHY else LIBRARIES[1]
