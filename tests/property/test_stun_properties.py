"""STUN answers of any shape: read what was written, and never raise for anything else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kcpg.core import stun
from tests.unit.test_stun import GOOD, TRANSACTION, V4, attribute, mapped, message, xor_mapped

addresses = st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)).filter(any)
ports = st.integers(1, 65535)
software = st.binary(max_size=40).map(lambda text: attribute(0x8022, text))


@given(addresses, ports, st.lists(software, max_size=3), st.lists(software, max_size=3), st.booleans())
def test_every_address_comes_through(ip, port, before, after, masked) -> None:
    form = xor_mapped if masked else mapped
    assert stun.read(message(*before, form(ip, port), *after), TRANSACTION) == stun.Mapped(ip, port)


@given(st.binary(max_size=100))
def test_noise_is_no_answer(data: bytes) -> None:
    assert stun.read(data, TRANSACTION) is None


@given(st.binary(max_size=64), st.sampled_from((0x0101, 0x0111)))
def test_any_attributes_are_read_without_harm(body: bytes, kind: int) -> None:
    answer = stun.read(message(body, kind=kind), TRANSACTION)
    if isinstance(answer, stun.Mapped):
        assert len(answer.ip) in (4, 16) and 1 <= answer.port <= 65535


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_damaged_answer_never_gives_the_right_address(at: int, bits: int) -> None:
    damaged = bytearray(GOOD)
    damaged[at] ^= bits
    answer = stun.read(bytes(damaged), TRANSACTION)
    reserved = 24  # the one byte of it that RFC 8489 says to ignore
    assert (answer == stun.Mapped(V4, 3000)) is (at == reserved)


@given(st.integers(0, len(GOOD)))
def test_a_cut_answer_is_none(length: int) -> None:
    assert (stun.read(GOOD[:length], TRANSACTION) is None) is (length < len(GOOD))
