"""The erasure code against zfec, against itself, and the two engines against each other."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engines import twin

zfec = pytest.importorskip("zfec")

codes = st.integers(1, 255).flatmap(lambda data: st.tuples(st.just(data), st.integers(0, 255 - data)))
small_codes = st.tuples(st.integers(1, 24), st.integers(0, 12))
seeds = st.integers(0, 1 << 32)


def random_blocks(seed: int, count: int, length: int) -> list[bytes]:
    rng = random.Random(seed)
    return [rng.randbytes(length) for _ in range(count)]


def of_zfec(data: int, parity: int, blocks: list[bytes]) -> list[bytes]:
    if parity == 0:
        return []
    made: list[bytes] = zfec.Encoder(data, data + parity).encode(blocks, list(range(data, data + parity)))
    return made


@given(codes, st.integers(1, 200), seeds)
@settings(max_examples=40)
def test_compiled_encodes_as_zfec(code: tuple[int, int], length: int, seed: int) -> None:
    blocks = random_blocks(seed, code[0], length)
    assert twin("compiled", "Code")(*code).encode(blocks) == of_zfec(*code, blocks)


@given(small_codes, st.integers(1, 100), seeds)
@settings(max_examples=40)
def test_python_encodes_as_zfec(code: tuple[int, int], length: int, seed: int) -> None:
    blocks = random_blocks(seed, code[0], length)
    assert twin("python", "Code")(*code).encode(blocks) == of_zfec(*code, blocks)


@given(small_codes, st.integers(1, 80), seeds)
@settings(max_examples=40)
def test_any_d_shards_rebuild(engine: str, code: tuple[int, int], length: int, seed: int) -> None:
    data, parity = code
    blocks = random_blocks(seed, data, length)
    made = twin(engine, "Code")(data, parity)
    shards = dict(enumerate([*blocks, *made.encode(blocks)]))
    kept = random.Random(seed).sample(range(data + parity), data)
    rebuilt = made.recover({index: shards[index] for index in kept})
    assert rebuilt == {index: blocks[index] for index in range(data) if index not in kept}


@given(codes, seeds)
@settings(max_examples=25)
def test_compiled_rebuilds_what_zfec_made(code: tuple[int, int], seed: int) -> None:
    data, parity = code
    blocks = random_blocks(seed, data, 33)
    shards = dict(enumerate([*blocks, *of_zfec(data, parity, blocks)]))
    kept = random.Random(seed).sample(range(data + parity), data)
    rebuilt = twin("compiled", "Code")(data, parity).recover({index: shards[index] for index in kept})
    assert rebuilt == {index: blocks[index] for index in range(data) if index not in kept}


@given(small_codes, st.lists(st.binary(max_size=40), min_size=36, max_size=36), seeds)
@settings(max_examples=40)
def test_the_engines_agree_on_anything(code: tuple[int, int], blocks: list[bytes], seed: int) -> None:
    """Blocks of any lengths, also such that no code word gave them."""
    data, parity = code
    first, second = (twin(engine, "Code")(*code) for engine in ("compiled", "python"))
    assert first.encode(blocks[:data]) == second.encode(blocks[:data])
    numbers = random.Random(seed).sample(range(data + parity), data)
    shards = dict(zip(numbers, blocks, strict=False))
    assert first.recover(shards) == second.recover(shards)
