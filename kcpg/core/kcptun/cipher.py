"""Seals and opens datagrams as kcptun does.

    nearly all      E( nonce 16 | CRC-32 of the body, little-endian | body )
    aes-128-gcm     nonce 12 | ciphertext | tag 16
    null            the body

E is a block cipher in CFB mode over all of it, with an IV that never changes: the nonce takes its place.
`salsa20` leaves the first 8 bytes in the clear and takes them as its nonce, `xor` has a fixed table, `none`
changes nothing. The keys are prefixes of PBKDF2-HMAC-SHA1 of the password with a fixed salt.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable

from Cryptodome.Cipher import AES, CAST, DES3, Blowfish, Salsa20

from kcpg.core.kcptun import blockciphers
from kcpg.core.seal import seal

if seal.HAVE_CRYPTOGRAPHY:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.ciphers import Cipher as LibraryCipher
    from cryptography.hazmat.primitives.ciphers import algorithms
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        from cryptography.hazmat.decrepit.ciphers.modes import CFB
    except ImportError:  # releases before 47
        from cryptography.hazmat.primitives.ciphers.modes import CFB

# Every crypt of kcptun, and the bytes of its key; kcptun takes `aes` for any other name.
KEY_BYTES = {
    "aes": 32,
    "aes-128": 16,
    "aes-192": 24,
    "aes-128-gcm": 16,
    "blowfish": 32,
    "cast5": 16,
    "3des": 24,
    "sm4": 16,
    "tea": 16,
    "xtea": 16,
    "twofish": 32,
    "salsa20": 32,
    "xor": 32,
    "none": 0,
    "null": 0,
}
CRYPTS = tuple(KEY_BYTES)
SLOW = ("tea", "xtea", "twofish")  # Plain Python: some ms for a datagram
OPEN = ("xor", "none", "null")  # Anybody can read and forge what is sealed with these

# Of the first 16 bytes, what has to be as it was for the rest to be valid: ciphers with blocks of 8 bytes
# begin the CRC in the third, and nothing covers what salsa20 encrypts of the nonce.
MARKS = {
    **dict.fromkeys(("blowfish", "cast5", "3des", "tea", "xtea"), (8, 16)),
    "salsa20": (0, 8),
    "aes-128-gcm": (0, 12),
}

SALT = b"kcp-go"
ITERATIONS = 4096
PASS_BYTES = 32
NONCE_BYTES = 16
SEAL_BYTES = NONCE_BYTES + 4
GCM_NONCE_BYTES = 12
GCM_BYTES = GCM_NONCE_BYTES + 16
IV = bytes.fromhex("a7734f9c12ac1b01a415f2c1fc78e66b")
XOR_SALT = b"sH3CIVoF#rWLtJo6"
XOR_ITERATIONS = 32
DATAGRAM_BYTES = 1500  # Longest that kcptun receives; the table of xor is no longer
SALSA_BYTES = 8

Transform = Callable[[bytes], bytes]


def derive(password: bytes) -> bytes:
    """The bytes that all keys are prefixes of. Takes some ms."""
    return hashlib.pbkdf2_hmac("sha1", password, SALT, ITERATIONS, PASS_BYTES)


def overhead(crypt: str) -> int:
    """Bytes that sealing adds."""
    return {"null": 0, "aes-128-gcm": GCM_BYTES}.get(crypt, SEAL_BYTES)


class Cipher:
    """Both directions of every datagram under one `secret` (see `derive`).

    `marks`: whether there are bytes of a datagram that tell a repetition of it; where anybody can make others
    of it, there are none. `mark`: where they are. Nobody can change these without changing what the CRC
    covers: of a block cipher those are of the block before it, of `salsa20` its nonce.
    """

    def __init__(self, crypt: str, secret: bytes) -> None:
        assert crypt in KEY_BYTES, crypt
        self.crypt = crypt
        self.overhead = overhead(crypt)
        self.marks = crypt not in OPEN
        self.mark = slice(*MARKS.get(crypt, (0, NONCE_BYTES)))
        self.nonce_bytes = GCM_NONCE_BYTES if crypt == "aes-128-gcm" else NONCE_BYTES
        key = secret[: KEY_BYTES[crypt]]
        self.seal: Callable[[bytes, bytes], bytes] = self._seal
        self.open: Callable[[bytes], bytes | None] = self._open
        if crypt == "null":
            self.seal, self.open = _seal_null, _open_null
        elif crypt == "aes-128-gcm":
            self.seal, self.open = _gcm(key)
        else:
            self._encrypt, self._decrypt = _transforms(crypt, key)

    def _seal(self, nonce: bytes, body: bytes) -> bytes:
        """A datagram; the nonce has `nonce_bytes`."""
        return self._encrypt(nonce + zlib.crc32(body).to_bytes(4, "little") + body)

    def _open(self, datagram: bytes) -> bytes | None:
        """The body of a datagram; None if it is none of ours. Never raises."""
        if not SEAL_BYTES < len(datagram) <= DATAGRAM_BYTES:
            return None
        plain = self._decrypt(datagram)
        body = plain[SEAL_BYTES:]
        if zlib.crc32(body) != int.from_bytes(plain[NONCE_BYTES:SEAL_BYTES], "little"):
            return None
        return body


def _seal_null(_nonce: bytes, body: bytes) -> bytes:
    return body


def _open_null(datagram: bytes) -> bytes | None:
    return datagram or None


def _gcm(key: bytes) -> tuple[Callable[[bytes, bytes], bytes], Callable[[bytes], bytes | None]]:
    if not seal.HAVE_CRYPTOGRAPHY:
        return _cryptodome_gcm(key)
    library = AESGCM(key)

    def seal_gcm(nonce: bytes, body: bytes) -> bytes:
        return nonce + library.encrypt(nonce, body, None)

    def open_gcm(datagram: bytes) -> bytes | None:
        if len(datagram) <= GCM_BYTES:
            return None
        try:
            return library.decrypt(datagram[:GCM_NONCE_BYTES], datagram[GCM_NONCE_BYTES:], None)
        except seal.FORGED:
            return None

    return seal_gcm, open_gcm


def _cryptodome_gcm(key: bytes) -> tuple[Callable[[bytes, bytes], bytes], Callable[[bytes], bytes | None]]:
    def seal_gcm(nonce: bytes, body: bytes) -> bytes:
        return nonce + b"".join(AES.new(key, AES.MODE_GCM, nonce=nonce).encrypt_and_digest(body))

    def open_gcm(datagram: bytes) -> bytes | None:
        if len(datagram) <= GCM_BYTES:
            return None
        cipher = AES.new(key, AES.MODE_GCM, nonce=datagram[:GCM_NONCE_BYTES])
        try:
            return cipher.decrypt_and_verify(datagram[GCM_NONCE_BYTES:-16], datagram[-16:])
        except ValueError:
            return None

    return seal_gcm, open_gcm


def xor_table(key: bytes) -> bytes:
    """What `xor` combines with the bytes of a datagram."""
    return hashlib.pbkdf2_hmac("sha1", key, XOR_SALT, XOR_ITERATIONS, DATAGRAM_BYTES)


def _transforms(crypt: str, key: bytes) -> tuple[Transform, Transform]:
    """What encrypts all of a datagram, and what undoes it."""
    if crypt == "none":
        return _same, _same
    if crypt == "xor":
        number = int.from_bytes(xor_table(key), "little")
        masks = [0] * (DATAGRAM_BYTES + 1)

        def xor(data: bytes) -> bytes:
            size = len(data)
            mask = masks[size] or number & (1 << 8 * size) - 1
            masks[size] = mask
            return (int.from_bytes(data, "little") ^ mask).to_bytes(size, "little")

        return xor, xor
    if crypt == "salsa20":

        def salsa(data: bytes) -> bytes:
            nonce = data[:SALSA_BYTES]
            return nonce + Salsa20.new(key, nonce).encrypt(data[SALSA_BYTES:])

        return salsa, salsa
    if crypt in SLOW:
        block = {"tea": blockciphers.tea, "xtea": blockciphers.xtea, "twofish": blockciphers.twofish}[crypt]
        size = blockciphers.TWOFISH_BYTES if crypt == "twofish" else blockciphers.TEA_BYTES
        encrypt = block(key)
        return lambda data: cfb(encrypt, size, data, False), lambda data: cfb(encrypt, size, data, True)
    return _library_cfb(crypt, key)


def _library_cfb(crypt: str, key: bytes) -> tuple[Transform, Transform]:
    made = _openssl_cfb(crypt, key) if seal.HAVE_CRYPTOGRAPHY else None
    return made or _cryptodome_cfb(crypt, key)


def _openssl_cfb(crypt: str, key: bytes) -> tuple[Transform, Transform] | None:
    """By `cryptography`; None: not with this libcrypto. The oldest ciphers are pycryptodomex's, as they move
    from place to place there and go one day."""
    if crypt in ("blowfish", "cast5", "3des"):
        return None
    cipher = LibraryCipher(algorithms.SM4(key) if crypt == "sm4" else algorithms.AES(key), CFB(IV))
    try:
        cipher.encryptor()
    except UnsupportedAlgorithm:
        return None
    return lambda data: cipher.encryptor().update(data), lambda data: cipher.decryptor().update(data)


def _cryptodome_cfb(crypt: str, key: bytes) -> tuple[Transform, Transform]:
    """Raises ValueError for a cipher that it lacks."""
    if crypt == "sm4":
        raise ValueError(
            "encryption_algorithm=sm4 needs the package cryptography with a libcrypto that has SM4"
        )
    if crypt == "blowfish":
        return (
            lambda data: Blowfish.new(key, Blowfish.MODE_CFB, IV[:8], segment_size=64).encrypt(data),
            lambda data: Blowfish.new(key, Blowfish.MODE_CFB, IV[:8], segment_size=64).decrypt(data),
        )
    if crypt == "cast5":
        return (
            lambda data: CAST.new(key, CAST.MODE_CFB, IV[:8], segment_size=64).encrypt(data),
            lambda data: CAST.new(key, CAST.MODE_CFB, IV[:8], segment_size=64).decrypt(data),
        )
    if crypt == "3des":
        return (
            lambda data: DES3.new(key, DES3.MODE_CFB, IV[:8], segment_size=64).encrypt(data),
            lambda data: DES3.new(key, DES3.MODE_CFB, IV[:8], segment_size=64).decrypt(data),
        )
    return (
        lambda data: AES.new(key, AES.MODE_CFB, IV, segment_size=128).encrypt(data),
        lambda data: AES.new(key, AES.MODE_CFB, IV, segment_size=128).decrypt(data),
    )


def cfb(encrypt: blockciphers.BlockCipher, size: int, data: bytes, opens: bool) -> bytes:
    """CFB with full feedback and the fixed IV; the last block may be shorter."""
    stream, out = encrypt(IV[:size]), []
    for at in range(0, len(data), size):
        block = data[at : at + size]
        width = len(block)
        mask = int.from_bytes(stream[:width], "little")
        mixed = (int.from_bytes(block, "little") ^ mask).to_bytes(width, "little")
        out.append(mixed)
        if width == size:
            stream = encrypt(block if opens else mixed)
    return b"".join(out)


def _same(data: bytes) -> bytes:
    return data
