"""Seals datagrams: six data ciphers behind one interface, and the mask that hides the clear header.

This is the readable twin of the compiled `kcpg.core.seal._seal`; both make the same bytes. The work is done
by `cryptography` where it is installed and by pycryptodomex otherwise (40 to 80 times slower per packet). A
library is compared with pycryptodomex's answer at first use of an algorithm and passed over if they differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from Cryptodome.Cipher import AES, ChaCha20_Poly1305

try:
    from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESOCB3, ChaCha20Poly1305
except ImportError:  # pragma: no cover - exercised in a subprocess by the tests
    HAVE_CRYPTOGRAPHY = False
else:
    HAVE_CRYPTOGRAPHY = True

if TYPE_CHECKING:
    from Cryptodome.Cipher._mode_gcm import GcmMode
    from Cryptodome.Cipher._mode_ocb import OcbMode
    from Cryptodome.Cipher.ChaCha20_Poly1305 import ChaCha20Poly1305Cipher

ALGORITHMS = ("AES-GCM", "AES-OCB", "chacha20", "xchacha20", "none", "XOR")
CHECKSUMS = ("none", "XOR")  # they detect damage, not forgery
KEY_BYTES = 32
TAG_BYTES = 16  # of every algorithm, so that a datagram's capacity does not depend on it
MASK_BYTES = 8
SAMPLE_BYTES = 16
LIBRARIES = ("cryptography", "pycryptodomex")  # in order of preference

# The Mersenne prime 2^127 - 1. A burst of at most 126 flipped bits changes a number by an odd multiple,
# smaller than the modulus, of a power of two; neither is a multiple of this prime, so the remainder always
# changes.
CHECKSUM_MODULUS = (1 << 127) - 1

_M32 = 0xFFFFFFFF


class Aead(Protocol):
    """What a library has to offer: `cryptography`'s own interface. `decrypt` raises on a forgery."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes: ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes: ...


def parse_algorithm(text: str) -> str | None:
    """The canonical spelling of an algorithm's name in any case; None: there is no such algorithm."""
    return next((name for name in ALGORITHMS if name.lower() == text.strip().lower()), None)


def iv_bytes(algorithm: str) -> int:
    """Length of the IV a Sealer of this algorithm is made with."""
    return 24 if algorithm == "xchacha20" else 12


class Sealer:
    """Seals or opens the packets of one direction and epoch with one key.

    The nonce is the IV with the packet number exclusive-ored, big-endian, into its last 8 bytes; the caller
    never seals two packets with one number. `backend` names the library that does the work.
    """

    algorithm: str
    backend: str

    def __init__(self, algorithm: str, key: bytes, iv: bytes, library: str | None = None) -> None:
        check_material(algorithm, key, iv)
        self.algorithm = algorithm
        self._aead, self.backend = _choose(algorithm, key, iv, library)
        self._base = int.from_bytes(nonce_base(algorithm, iv), "big")

    def seal(self, pn: int, aad: bytes, plaintext: bytes) -> bytes:
        """Ciphertext with the 16-byte tag appended."""
        return self._aead.encrypt((self._base ^ pn).to_bytes(12, "big"), plaintext, aad)

    def open(self, pn: int, aad: bytes, sealed: bytes) -> bytes | None:
        """The plaintext; None: `sealed` was not sealed under this key, number and header. Never raises."""
        if len(sealed) < TAG_BYTES:
            return None
        try:
            return self._aead.decrypt((self._base ^ pn).to_bytes(12, "big"), sealed, aad)
        except FORGED:
            return None


class HeaderMask:
    """Turns the last 16 bytes of a datagram into the mask of its header, 8 bytes (AES-256-ECB)."""

    backend: str

    def __init__(self, key: bytes, library: str | None = None) -> None:
        assert len(key) == KEY_BYTES
        self.backend = library or (LIBRARIES[0] if HAVE_CRYPTOGRAPHY else LIBRARIES[1])
        self.masks: Callable[[bytes], bytes]  # packed 16-byte samples -> as many 16-byte blocks
        if self.backend == "cryptography":
            self.masks = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update
        else:
            self.masks = AES.new(key, AES.MODE_ECB).encrypt

    def mask(self, sample: bytes) -> bytes:
        """The 8 mask bytes for one 16-byte sample."""
        return self.masks(sample)[:MASK_BYTES]


def xor(a: bytes, b: bytes) -> bytes:
    """Exclusive or of two strings of one length."""
    return (int.from_bytes(a, "little") ^ int.from_bytes(b, "little")).to_bytes(len(a), "little")


def aead(algorithm: str, key: bytes, library: str) -> Aead:
    """The AEAD of one of the four authenticated algorithms, with 12-byte nonces, from the library named.

    For xchacha20 `key` is the subkey that HChaCha20 made. Raises if the library does not have the algorithm.
    """
    if library == "pycryptodomex":
        return _CryptodomeAead(algorithm, key)
    if algorithm == "AES-GCM":
        return AESGCM(key)
    return AESOCB3(key) if algorithm == "AES-OCB" else ChaCha20Poly1305(key)


def check_material(algorithm: str, key: bytes, iv: bytes) -> None:
    """Assert that the three fit together (a mistake here is the program's, never the network's)."""
    assert algorithm in ALGORITHMS, algorithm
    assert len(key) == KEY_BYTES and len(iv) == iv_bytes(algorithm), (algorithm, len(key), len(iv))


def nonce_base(algorithm: str, iv: bytes) -> bytes:
    """The 12 bytes that packet numbers are mixed into: the IV, or for xchacha20 its last 8 bytes."""
    return bytes(4) + iv[16:24] if algorithm == "xchacha20" else iv


def data_key(algorithm: str, key: bytes, iv: bytes) -> bytes:
    """The key the AEAD is set up with: `key`, or for xchacha20 its subkey for the IV's first 16 bytes."""
    return hchacha20(key, iv[:16]) if algorithm == "xchacha20" else key


def hchacha20(key: bytes, nonce16: bytes) -> bytes:
    """The 32-byte subkey of draft-irtf-cfrg-xchacha-03, section 2.2."""
    block = b"expand 32-byte k" + key + nonce16
    s = [int.from_bytes(block[i : i + 4], "little") for i in range(0, 64, 4)]
    for _ in range(10):
        for i in range(4):
            _quarter_round(s, i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            _quarter_round(s, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return b"".join(word.to_bytes(4, "little") for word in s[:4] + s[12:])


class Seals(Protocol):
    """What a Sealer does, compiled or not."""

    algorithm: str

    def seal(self, pn: int, aad: bytes, plaintext: bytes) -> bytes: ...

    def open(self, pn: int, aad: bytes, sealed: bytes) -> bytes | None: ...


def known_answer_holds(sealer: Seals, key: bytes, iv: bytes) -> bool:
    """Whether `sealer` (or its compiled twin) makes and reads exactly what pycryptodomex makes.

    The lengths are an empty packet, one byte, an odd end behind whole blocks, and a full datagram.
    """
    reference = Sealer(sealer.algorithm, key, iv, "pycryptodomex")
    for pn, size in ((0, 0), (1, 1), ((1 << 32) + 5, 77), ((1 << 64) - 1, 1400)):
        plaintext = bytes(i & 0xFF for i in range(size))
        sealed = reference.seal(pn, b"8 header", plaintext)
        if (
            sealer.seal(pn, b"8 header", plaintext) != sealed
            or sealer.open(pn, b"8 header", sealed) != plaintext
        ):
            return False
        if sealer.open(pn, b"8 header", sealed[:-1] + bytes([sealed[-1] ^ 1])) is not None:
            return False
    return True


class _CryptodomeAead:
    """pycryptodomex behind `Aead`. It needs a cipher object for each packet, which is what takes the time."""

    def __init__(self, algorithm: str, key: bytes) -> None:
        self._algorithm = algorithm
        self._key = key

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        ciphertext, tag = self._cipher(nonce, associated_data).encrypt_and_digest(data)
        return bytes(ciphertext + tag)

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        cipher = self._cipher(nonce, associated_data)
        return bytes(cipher.decrypt_and_verify(data[:-TAG_BYTES], data[-TAG_BYTES:]))

    def _cipher(
        self, nonce: bytes, associated_data: bytes | None
    ) -> GcmMode | OcbMode | ChaCha20Poly1305Cipher:
        cipher: GcmMode | OcbMode | ChaCha20Poly1305Cipher
        if self._algorithm == "AES-GCM":
            cipher = AES.new(self._key, AES.MODE_GCM, nonce=nonce, mac_len=TAG_BYTES)
        elif self._algorithm == "AES-OCB":
            cipher = AES.new(self._key, AES.MODE_OCB, nonce=nonce, mac_len=TAG_BYTES)
        else:
            cipher = ChaCha20_Poly1305.new(key=self._key, nonce=nonce)
        cipher.update(associated_data or b"")
        return cipher


class _Checksum:
    """`none` and `XOR`: a 127-bit remainder in the tag's place, without secrecy or authenticity.

    Mixing in the nonce makes a datagram of another link, epoch or number fail like a damaged one.
    """

    def __init__(self, key: bytes | None) -> None:
        self._pad = key

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        return self._obscure(data) + self._tag(nonce, data, associated_data or b"")

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        plaintext = self._obscure(data[:-TAG_BYTES])
        if self._tag(nonce, plaintext, associated_data or b"") != data[-TAG_BYTES:]:
            raise ValueError("checksum")
        return plaintext

    def _obscure(self, data: bytes) -> bytes:
        if self._pad is None:
            return bytes(data)
        return xor(data, (self._pad * (len(data) // KEY_BYTES + 1))[: len(data)])

    def _tag(self, nonce: bytes, plaintext: bytes, associated_data: bytes) -> bytes:
        # 1: zeros at the end count too
        number = int.from_bytes(associated_data + plaintext + b"\x01", "little")
        return xor((number % CHECKSUM_MODULUS).to_bytes(TAG_BYTES, "little"), nonce + bytes(4))


FORGED: tuple[type[Exception], ...] = (ValueError,)  # what an Aead raises on a forgery
_BROKEN: tuple[type[Exception], ...] = (ValueError,)  # what a library raises that lacks the algorithm
if HAVE_CRYPTOGRAPHY:
    FORGED += (InvalidTag,)
    _BROKEN += (UnsupportedAlgorithm,)

_trusted: dict[tuple[str, str], bool] = {}  # (library, algorithm) -> known answers hold; at most 8 entries


def _choose(algorithm: str, key: bytes, iv: bytes, library: str | None) -> tuple[Aead, str]:
    """What does the work for a Sealer, and its name."""
    if algorithm in CHECKSUMS:
        return _Checksum(key if algorithm == "XOR" else None), "built-in"
    key = data_key(algorithm, key, iv)
    if library is None:
        library = next(name for name in LIBRARIES if _trust(name, algorithm))
    return aead(algorithm, key, library), library


def _trust(library: str, algorithm: str) -> bool:
    """Whether a library makes what pycryptodomex makes; found out once for each algorithm."""
    if library == "pycryptodomex":
        return True
    if not HAVE_CRYPTOGRAPHY:
        return False
    if (library, algorithm) not in _trusted:
        key, iv = bytes(range(KEY_BYTES)), bytes(range(100, 100 + iv_bytes(algorithm)))
        try:
            _trusted[library, algorithm] = known_answer_holds(Sealer(algorithm, key, iv, library), key, iv)
        except _BROKEN:
            _trusted[library, algorithm] = False
    return _trusted[library, algorithm]


def _quarter_round(s: list[int], a: int, b: int, c: int, d: int) -> None:
    for x, y, z, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        s[x] = (s[x] + s[y]) & _M32
        mixed = s[z] ^ s[x]
        s[z] = ((mixed << turn) | (mixed >> (32 - turn))) & _M32
