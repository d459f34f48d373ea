"""The erasure code: known values, what it refuses, and every kernel against plain Python."""

from __future__ import annotations

import importlib
import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.engines import require, twin

# zfec.Encoder(D, D + 2): the rows that make the two parity shards, as blocks of one byte show them.
ROWS = {2: ("0302", "0504"), 3: ("0f0806", "2d301c"), 5: ("5474e7d81e", "02b1a18291")}


@pytest.mark.parametrize("data", ROWS)
def test_coefficients_of_zfec(engine: str, data: int) -> None:
    unit = [bytes(data - 1 - i) + b"\1" + bytes(i) for i in range(data)][::-1]
    parity = twin(engine, "Code")(data, 2).encode(unit)
    assert tuple(row.hex() for row in parity) == ROWS[data]


def test_one_data_shard_is_repeated(engine: str) -> None:
    assert twin(engine, "Code")(1, 3).encode([b"alone"]) == [b"alone"] * 3


def test_shorter_blocks_count_as_padded(engine: str) -> None:
    code = twin(engine, "Code")(3, 2)
    padded = [b"ab\0\0", b"\0\0\0\0", b"wxyz"]
    assert code.encode([b"ab", b"", b"wxyz"]) == code.encode(padded)
    parity = code.encode(padded)
    assert code.recover({1: b"", 3: parity[0], 4: parity[1]}) == {0: padded[0], 2: padded[2]}


def test_nothing_missing(engine: str) -> None:
    assert twin(engine, "Code")(2, 1).recover({0: b"a", 1: b"b"}) == {}


@pytest.mark.parametrize(("data", "parity"), [(0, 1), (1, 255), (255, 1), (-1, 3), (3, -1)])
def test_codes_that_cannot_be(engine: str, data: int, parity: int) -> None:
    with pytest.raises(ValueError):
        twin(engine, "Code")(data, parity)


def test_wrong_numbers_of_shards(engine: str) -> None:
    code = twin(engine, "Code")(2, 1)
    for shards in ({0: b"a"}, {0: b"a", 3: b"b"}, {-1: b"a", 0: b"b"}, {}):
        with pytest.raises(ValueError):
            code.recover(shards)
    with pytest.raises(ValueError):
        code.encode([b"a"])


@pytest.fixture
def compiled() -> Iterator[Any]:
    require("kcpg.core.fec._fec")
    module = importlib.import_module("kcpg.core.fec._fec")
    yield module
    module.use_kernel(module.kernels()[0])


def test_every_kernel_gives_the_same_bytes(compiled: Any) -> None:
    """All coefficients, and lengths around the width of each vector."""
    rng = random.Random("kernels")
    for length in (0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 130, 1400):
        blocks = [rng.randbytes(length) for _ in range(40)]
        expected = twin("python", "Code")(40, 7).encode(blocks)
        for kernel in compiled.kernels():
            compiled.use_kernel(kernel)
            assert compiled.Code(40, 7).encode(blocks) == expected, (kernel, length)


def test_every_kernel_multiplies_by_everything(compiled: Any) -> None:
    """A block of all bytes against each of the 255 coefficients that 1:R and 2:R codes have."""
    every_byte = bytes(range(256))
    expected = twin("python", "Code")(2, 253).encode([every_byte, every_byte[::-1]])
    for kernel in compiled.kernels():
        compiled.use_kernel(kernel)
        assert compiled.Code(2, 253).encode([every_byte, every_byte[::-1]]) == expected, kernel


def test_a_kernel_that_is_not_there(compiled: Any) -> None:
    assert compiled.kernels()[-1] == "portable"
    with pytest.raises(ValueError):
        compiled.use_kernel("abacus")
