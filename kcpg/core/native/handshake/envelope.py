"""The envelope of handshake datagrams: sealed under what the password gives, so a stranger can neither read
nor recognise one, and opening one costs a single HMAC and a single AEAD.

    masked[ CID u32 | rand u32 ] | salt16 | AEAD( kind u8 | version u8 | fields | zeros )
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct

from kcpg import engine
from kcpg.core.native.handshake.keys import expand
from kcpg.core.seal.salted import SALT_BYTES, SaltedOpener
from kcpg.core.seal.seal import (
    HAVE_CRYPTOGRAPHY,
    LIBRARIES,
    SAMPLE_BYTES,
    Aead,
    HeaderMask,
    aead,
    xor,
)

# Gives this many random bytes, from the system's generator in the product and from a seed in tests.
Entropy = Callable[[int], bytes]

VERSION = 1
INIT, RESP, RETRY = 1, 2, 3

HEADER_BYTES = 8
SALT_GROUPS = 64  # as many as a leg has processes at most; a salt of one is drawn in a tenth of a millisecond
COOKIE_BYTES = 16
NO_COOKIE = bytes(COOKIE_BYTES)
OVERHEAD_BYTES = HEADER_BYTES + SALT_BYTES + 16

# Room for the longest RESP, which is never longer than the INIT it answers; a shorter INIT is dropped.
INIT_MIN_BYTES = 384

PAD_SPREAD_BYTES = 256  # INITs differ in length by up to this, so that no fixed length gives them away

_INIT = Struct(">BBQI16sH")
_RESP = Struct(">BBH")
_RETRY = Struct(">BBB16sQ16sI")
_RETRY_LEAST = _RETRY.size - 4  # of an older listener, that does not tell when to come again


@dataclass(frozen=True, slots=True)
class Init:
    """The fields of an INIT. `time_s`: seconds since 1970 by the dialer's (corrected) clock."""

    time_s: int
    client_cid: int
    cookie: bytes
    noise: bytes


@dataclass(frozen=True, slots=True)
class Resp:
    """The fields of a RESP."""

    noise: bytes


@dataclass(frozen=True, slots=True)
class RetryFields:
    """The fields of a RETRY. `echo`: the salt of the INIT it answers. `wait_ms`: when to come again."""

    reason: int
    cookie: bytes
    time_s: int
    echo: bytes
    wait_ms: int = 0


class Envelope:
    """Seals and opens the handshake datagrams of one direction."""

    def __init__(self, key: bytes, mask_key: bytes, library: str | None = None) -> None:
        self._key = key
        self._only = library
        self._opener: SaltedOpener | None = None
        self._library = library or (LIBRARIES[0] if HAVE_CRYPTOGRAPHY else LIBRARIES[1])
        self._mask = HeaderMask(mask_key, self._library)

    def group(self, salt: bytes) -> int:
        """Which of SALT_GROUPS a salt belongs to; only who has the key knows."""
        return hmac.digest(self._key, salt, "sha256")[0] % SALT_GROUPS

    def seal(
        self, cid: int, content: bytes, length: int, entropy: Entropy, group: int | None = None
    ) -> tuple[bytes, bytes]:
        """(the masked datagram of `length` bytes, its salt). `content` must fit; zeros fill the rest. The
        salt is one of `group`, if that is given.
        """
        random = entropy(4 + SALT_BYTES)
        header, salt = cid.to_bytes(4, "big") + random[:4], random[4:]
        while group is not None and self.group(salt) != group:
            salt = entropy(SALT_BYTES)
        content += bytes(length - OVERHEAD_BYTES - len(content))
        assert len(content) + OVERHEAD_BYTES == length, "a handshake message longer than its datagram"
        body = salt + self._aead(salt).encrypt(bytes(12), content, header)
        return xor(header, self._mask.mask(body[-SAMPLE_BYTES:])) + body, salt

    def open(self, header: bytes, body: bytes) -> bytes | None:
        """The content with its zeros, given the clear header and the rest of a datagram. None: a
        stranger's.
        """
        if len(header) != HEADER_BYTES or len(body) < OVERHEAD_BYTES - HEADER_BYTES:
            return None
        if self._opener is None:
            self._opener = engine.SaltedOpener(self._key, self._only)
        return self._opener.open(header, body)

    def _aead(self, salt: bytes) -> Aead:
        return aead("chacha20", expand(self._key, salt), self._library)


def draw_length(low: int, high: int, entropy: Entropy) -> int:
    """A length between the two, both included. The bias of the remainder (below 2^-15) tells nobody
    anything.
    """
    return low + int.from_bytes(entropy(3), "big") % (max(high, low) - low + 1)


def pack_init(fields: Init) -> bytes:
    """The content of an INIT."""
    noise = fields.noise
    return _INIT.pack(INIT, VERSION, fields.time_s, fields.client_cid, fields.cookie, len(noise)) + noise


def read_init(content: bytes) -> Init | None:
    """What `pack_init` made, zeros behind it allowed."""
    if len(content) < _INIT.size:
        return None
    kind, version, time_s, client_cid, cookie, length = _INIT.unpack_from(content)
    noise = content[_INIT.size : _INIT.size + length]
    if (kind, version) != (INIT, VERSION) or len(noise) != length or not client_cid:
        return None
    return Init(time_s, client_cid, cookie, noise)


def pack_resp(fields: Resp) -> bytes:
    """The content of a RESP."""
    return _RESP.pack(RESP, VERSION, len(fields.noise)) + fields.noise


def pack_retry(fields: RetryFields) -> bytes:
    """The content of a RETRY."""
    content = (fields.reason, fields.cookie, fields.time_s, fields.echo, fields.wait_ms)
    return _RETRY.pack(RETRY, VERSION, *content)


def read_reply(content: bytes) -> Resp | RetryFields | None:
    """A RESP or a RETRY, zeros behind it allowed."""
    if content[:2] == bytes((RESP, VERSION)) and len(content) >= _RESP.size:
        length = _RESP.unpack_from(content)[2]
        noise = content[_RESP.size : _RESP.size + length]
        return Resp(noise) if len(noise) == length else None
    if content[:2] == bytes((RETRY, VERSION)) and len(content) >= _RETRY_LEAST:
        return RetryFields(*_RETRY.unpack_from(content + bytes(4))[2:])
    return None
