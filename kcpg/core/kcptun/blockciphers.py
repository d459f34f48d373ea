"""The block ciphers of kcptun that no library has: TEA, XTEA and Twofish, one block at a time, encryption
only.

CFB, the one mode here, needs no decryption of blocks. Plain Python takes one to five ms for a datagram with
these: for a network that cannot change its cipher yet.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

BlockCipher = Callable[[bytes], bytes]  # One block, encrypted

TEA_BYTES = 8
TWOFISH_BYTES = 16

_M32 = 0xFFFFFFFF
_DELTA = 0x9E3779B9  # of both TEAs: 2^32 over the golden ratio
_TEA_CYCLES = 8  # kcptun's; the cipher's authors want 32
_XTEA_CYCLES = 32
_PAIR = Struct(">II")
_QUAD = Struct(">IIII")
_WORDS = Struct("<IIII")


def tea(key: bytes) -> BlockCipher:
    """TEA with 16 bytes of key (Wheeler and Needham 1994)."""
    k0, k1, k2, k3 = _QUAD.unpack(key)
    sums = [(_DELTA * cycle) & _M32 for cycle in range(1, _TEA_CYCLES + 1)]

    def encrypt(block: bytes) -> bytes:
        y, z = _PAIR.unpack(block)
        for total in sums:
            y = (y + (((z << 4) + k0) ^ (z + total) ^ ((z >> 5) + k1))) & _M32
            z = (z + (((y << 4) + k2) ^ (y + total) ^ ((y >> 5) + k3))) & _M32
        return _PAIR.pack(y, z)

    return encrypt


def xtea(key: bytes) -> BlockCipher:
    """XTEA with 16 bytes of key (Needham and Wheeler 1997)."""
    words = _QUAD.unpack(key)
    rounds = []
    for cycle in range(_XTEA_CYCLES):
        before, after = (_DELTA * cycle) & _M32, (_DELTA * (cycle + 1)) & _M32
        rounds.append(((before + words[before & 3]) & _M32, (after + words[after >> 11 & 3]) & _M32))

    def encrypt(block: bytes) -> bytes:
        y, z = _PAIR.unpack(block)
        for first, second in rounds:
            y = (y + ((((z << 4) ^ (z >> 5)) + z) ^ first)) & _M32
            z = (z + ((((y << 4) ^ (y >> 5)) + y) ^ second)) & _M32
        return _PAIR.pack(y, z)

    return encrypt


# -- Twofish (Schneier, Kelsey, Whiting, Wagner, Hall, Ferguson 1998), its tables as nibbles and bytes --

_Q0 = ("817d6f320b59eca4", "ecb81235f4a6709d", "ba5e6d90c8f32471", "d7f4126e9b3085ca")
_Q1 = ("28bdf76e31940ac5", "1e2b4c376da5f908", "4c75169a0ed82b3f", "b951c3de647f208a")
_MDS = ("01ef5b5b", "5befef01", "ef5b01ef", "ef01ef5b")
_RS = ("01a455875a58db9e", "a45682f31ec668e5", "02a1fcc147ae3d19", "a455875a58db9e03")
_MDS_POLYNOMIAL = 0x169
_RS_POLYNOMIAL = 0x14D
_RHO = 0x01010101
_ROUNDS = 16


def _permutation(texts: tuple[str, ...]) -> list[int]:
    t = [[int(digit, 16) for digit in text] for text in texts]
    found = []
    for x in range(256):
        a, b = x >> 4, x & 15
        for first, second in ((t[0], t[1]), (t[2], t[3])):
            mixed = a ^ (b >> 1 | b << 3 & 8) ^ (a << 3 & 8)
            a, b = first[a ^ b], second[mixed]
        found.append(b << 4 | a)
    return found


_q0, _q1 = _permutation(_Q0), _permutation(_Q1)

# Which permutation a byte passes at each stage, with the last word of the key list first.
_STAGES = ((_q1, _q0, _q0, _q1), (_q1, _q1, _q0, _q0), (_q0, _q1, _q0, _q1), (_q0, _q0, _q1, _q1))
_LAST = (_q1, _q0, _q1, _q0)


def _times(a: int, b: int, polynomial: int) -> int:
    total = 0
    while b:
        if b & 1:
            total ^= a
        a <<= 1
        if a & 0x100:
            a ^= polynomial
        b >>= 1
    return total


def _columns() -> list[list[int]]:
    """For each byte of a word: what the MDS matrix makes of its 256 values."""
    rows = [bytes.fromhex(row) for row in _MDS]
    return [
        [
            sum(_times(row[column], y, _MDS_POLYNOMIAL) << 8 * place for place, row in enumerate(rows))
            for y in range(256)
        ]
        for column in range(4)
    ]


def _tables(words: list[bytes], columns: list[list[int]]) -> list[list[int]]:
    """The function h with the words of a key: a table for each byte of its argument."""
    tables = []
    for place in range(4):
        table = []
        for y in range(256):
            for stage, word in zip(_STAGES, reversed(words), strict=True):
                y = stage[place][y] ^ word[place]
            table.append(columns[place][_LAST[place][y]])
        tables.append(table)
    return tables


def _look(tables: list[list[int]], x: int) -> int:
    return tables[0][x & 255] ^ tables[1][x >> 8 & 255] ^ tables[2][x >> 16 & 255] ^ tables[3][x >> 24]


def _rotate(x: int, bits: int) -> int:
    return (x << bits | x >> 32 - bits) & _M32


def twofish(key: bytes) -> BlockCipher:
    """Twofish with 32 bytes of key."""
    columns = _columns()
    parts = [key[at : at + 4] for at in range(0, 32, 4)]
    even, odd = _tables(parts[0::2], columns), _tables(parts[1::2], columns)
    subkeys: list[int] = []
    for i in range(_ROUNDS + 4):
        a, b = _look(even, 2 * i * _RHO), _rotate(_look(odd, (2 * i + 1) * _RHO), 8)
        subkeys += [(a + b) & _M32, _rotate((a + 2 * b) & _M32, 9)]
    matrix = [bytes.fromhex(row) for row in _RS]
    boxes = []
    for at in range(0, 32, 8):
        word = bytearray(4)
        for place, row in enumerate(matrix):
            for factor, byte in zip(row, key[at : at + 8], strict=True):
                word[place] ^= _times(factor, byte, _RS_POLYNOMIAL)
        boxes.append(bytes(word))
    tables = _tables(boxes[::-1], columns)
    t0, t1, t2, t3 = tables

    def encrypt(block: bytes) -> bytes:
        a, b, c, d = (word ^ k for word, k in zip(_WORDS.unpack(block), subkeys[:4], strict=True))
        for at in range(8, 8 + 2 * _ROUNDS, 2):
            x = t0[a & 255] ^ t1[a >> 8 & 255] ^ t2[a >> 16 & 255] ^ t3[a >> 24]
            y = t1[b & 255] ^ t2[b >> 8 & 255] ^ t3[b >> 16 & 255] ^ t0[b >> 24]
            c ^= (x + y + subkeys[at]) & _M32
            c = c >> 1 | (c & 1) << 31
            d = _rotate(d, 1) ^ (x + 2 * y + subkeys[at + 1]) & _M32
            a, b, c, d = c, d, a, b
        return _WORDS.pack(c ^ subkeys[4], d ^ subkeys[5], a ^ subkeys[6], b ^ subkeys[7])

    return encrypt
