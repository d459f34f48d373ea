"""Erasure code over GF(2^8): any D of D + R shards give the D data shards back. Bit-compatible with zfec.

The code is systematic Reed-Solomon by interpolation: shard i is the value at the point x(i) of the one
polynomial of degree below D that passes through the data shards, byte by byte; x(0) = 0, x(i) = 2^(i-1). So
every coefficient is a Lagrange polynomial's value, a product of differences of points, and lost shards are
interpolated from any D that are there: no matrix is inverted, and none can be singular.

The field is the one of x^8+x^4+x^3+x^2+1 (0x11D), in which 2 generates every non-zero element.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from kcpg.core.units import Bytes

MAX_SHARDS = 255  # D + R; the field would carry one more, but configurations stop here, as kcptube's do

_POLYNOMIAL = 0x11D
_ORDER = 255  # of the multiplicative group: logarithms are numbers modulo this


def _powers() -> tuple[list[int], list[int]]:
    exp, log = [0] * (2 * _ORDER), [0] * 256
    x = 1
    for i in range(_ORDER):
        exp[i] = exp[i + _ORDER] = x
        log[x] = i
        x <<= 1
        if x & 0x100:
            x ^= _POLYNOMIAL
    return exp, log


_EXP, _LOG = _powers()
_POINT = [0, *_EXP[:_ORDER]]


@lru_cache(maxsize=256)
def _products(coefficient: int) -> bytes:
    """A coefficient that is not 0 times every byte, for bytes.translate().

    Made when needed: making all of them takes longer than the rest of the program's start.
    """
    return bytes([0, *(_EXP[_LOG[coefficient] + _LOG[x]] for x in range(1, 256))])


def log_difference(i: int, j: int) -> int:
    """log(x(i) - x(j)) for two different shards; in this field a difference is an exclusive or."""
    return _LOG[_POINT[i] ^ _POINT[j]]


def point_index(point: int) -> int:
    """The number of the shard whose point this is, for codes with other points (up to 256 shards)."""
    return _LOG[point] + 1 if point else 0


def weights(known: Sequence[int]) -> list[int]:
    """For each of the shards `known`: the logarithm of the product of its differences from the others."""
    return [sum(log_difference(i, m) for m in known if m != i) for i in known]


def coefficients(known: Sequence[int], weights_of_known: Sequence[int], wanted: int) -> bytes:
    """What each of the D `known` shards must be multiplied with so that their sum is the shard `wanted`.

    The Lagrange polynomials of the points of `known` at the point of `wanted`, which is not among them.
    """
    to_wanted = [log_difference(wanted, i) for i in known]
    everything = sum(to_wanted)
    return bytes(
        _EXP[(everything - distance - weight) % _ORDER]
        for distance, weight in zip(to_wanted, weights_of_known, strict=True)
    )


def rows(data: int, parity: int) -> list[bytes]:
    """The D coefficients of each of the R parity shards."""
    shards = range(data)
    weights_of_data = weights(shards)
    return [coefficients(shards, weights_of_data, data + r) for r in range(parity)]


def times(coefficient: int, block: Bytes) -> int:
    """`coefficient` times every byte of `block`, as one little-endian number: sums are exclusive ors."""
    if coefficient == 0:
        return 0
    product = block if coefficient == 1 else bytes(block).translate(_products(coefficient))
    return int.from_bytes(product, "little")


def combine(factors: Bytes, blocks: Sequence[Bytes], length: int) -> bytes:
    """The sum of coefficient times block, `length` bytes long; shorter blocks count as padded with zeros."""
    total = 0
    for factor, block in zip(factors, blocks, strict=True):
        total ^= times(factor, block)
    return total.to_bytes(length, "little")


def check_code(data: int, parity: int) -> None:
    """Raises ValueError unless there is such a code."""
    if not (data >= 1 and parity >= 0 and data + parity <= MAX_SHARDS):
        raise ValueError(f"{data} data and {parity} parity shards: D >= 1, R >= 0, D + R <= {MAX_SHARDS}")


def check_blocks(data: int, blocks: Sequence[Bytes]) -> None:
    """Raises ValueError unless there are as many blocks as data shards."""
    if len(blocks) != data:
        raise ValueError(f"{len(blocks)} blocks for {data} data shards")


def check_shards(data: int, parity: int, shards: Mapping[int, Bytes]) -> None:
    """Raises ValueError if there are fewer than D, or a number is beyond D + R."""
    if any(not 0 <= i < data + parity for i in shards):
        raise ValueError("a shard number outside the code")
    if len(shards) < data:
        raise ValueError(f"{len(shards)} shards, {data} are needed")


class Code:
    """The code of `data` and `parity` shards, at most 255 in all. Shards are numbered from 0, data first.

    Blocks may differ in length: a shorter one counts as padded with zeros at its end.
    """

    def __init__(self, data: int, parity: int) -> None:
        check_code(data, parity)
        self.data = data
        self.parity = parity

    def encode(self, blocks: Sequence[Bytes]) -> list[bytes]:
        """The R parity blocks of D data blocks, as long as the longest of them."""
        check_blocks(self.data, blocks)
        length = max(map(len, blocks))
        return [combine(row, blocks, length) for row in rows(self.data, self.parity)]

    def recover(self, shards: Mapping[int, Bytes]) -> dict[int, bytes]:
        """The data blocks that `shards` (by number, any D of them or more) lacks, as long as its longest."""
        check_shards(self.data, self.parity, shards)
        known = sorted(shards)[: self.data]
        blocks = [shards[i] for i in known]
        length = max(map(len, shards.values()))
        weights_of_known = weights(known)
        missing = (i for i in range(self.data) if i not in shards)
        return {i: combine(coefficients(known, weights_of_known, i), blocks, length) for i in missing}
