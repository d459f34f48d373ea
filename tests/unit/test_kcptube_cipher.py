"""What kcptube's datagrams look like sealed: recorded ones, and what happens to any other bytes."""

from __future__ import annotations

import pytest

from kcpg.core.kcptube.cipher import ALGORITHMS, Cipher, checksum, overhead
from kcpg.core.seal import seal

PASSWORD = b"qwerty1234"
SEED = bytes.fromhex("a1b2")
SHORT = bytes.fromhex("0102030405")
REQUEST = bytes.fromhex("00f15365 00000000 51 00 8000 01000000 00000000 00000000 1c000000 20" + "00" * 27)

# Datagrams of programs that talked with kcptube 20260131.
SEALED_SHORT = {
    "AES-GCM": "4e158f2c7357d578362255996185e4091b779d19dea1b2",
    "AES-OCB": "950dbc93e58b1c8edb5a9507d93525327009b608dfa1b2",
    "chacha20": "7a942c51abc743a4838f3488b4cc8966812dbe3805a1b2",
    "xchacha20": "a034f68c3604c0069febfdfbc69aea245ec3698106a1b2",
    "XOR": "03010701db21ff",
    "none": "0102030405deff",
}
SEALED_REQUEST = {
    "AES-GCM": (
        "4fe6df4d767e7699135cfadfd88abfda4dc7e56e28ad8f9ea3ffd8b4c8e1bf35103f731f05014393bbc982e754"
        "2450ff0f34c3d61b7d096b8d9695e6a61b6781f08ae1d7cad69a4aa1b2"
    ),
    "AES-OCB": (
        "7ab607a9ee4ff92a9d2da3a6694e0b8e3f1242ade30cdcffb59bd7598dafad1b93c044ddfd69f7d9805acbb073"
        "935c79904f1a037c8e785b0f39d4f91f346c2dd587bc3ca16258d7a1b2"
    ),
    "chacha20": (
        "7b677c30ae0a29bd74808d34ce470acd752c6437292543143199161e23c80bada2dda929913e1ea7c95d6b0ad3"
        "4c08e5360c7eb4643814874ab9e6dbcf6f2b9c013241a21d2a2aeea1b2"
    ),
    "xchacha20": (
        "a1c7a6ed33ecc06b4b3134b7700d856d69b8f326c1d8e0bbc4ef6191625c8f15c087047e125422b93ed44f2fc8"
        "a7b097f72be26438788a926e57c4344b215ba8b84cfe2184048ccea1b2"
    ),
    "XOR": "f1a23665000000515180800101000000000000000000001c1c00002020" + "00" * 26 + "13c8db",
    "none": REQUEST.hex() + "13db",
}


def cipher(algorithm: str, library: str | None = None) -> Cipher:
    return Cipher(algorithm, PASSWORD, library=library)


def sealed(one: Cipher, plaintext: bytes) -> bytes:
    return one.seal_with(SEED, plaintext) if one.authentic else one.seal(plaintext)


@pytest.mark.parametrize("library", seal.LIBRARIES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_bytes_are_those_of_kcptube(algorithm: str, library: str) -> None:
    one = cipher(algorithm, library)
    for plaintext, expected in ((SHORT, SEALED_SHORT), (REQUEST, SEALED_REQUEST)):
        datagram = bytes.fromhex(expected[algorithm])
        assert sealed(one, plaintext) == datagram
        assert one.open(datagram) == plaintext
        assert len(datagram) - len(plaintext) == one.overhead == overhead(algorithm)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("size", [1, 15, 16, 17, 63, 64, 65, 1420])
def test_both_libraries_agree_on_every_length(algorithm: str, size: int) -> None:
    plaintext = bytes(i * 7 & 0xFF for i in range(size))
    one, other = (cipher(algorithm, library) for library in seal.LIBRARIES)
    assert sealed(one, plaintext) == sealed(other, plaintext)
    assert other.open(sealed(one, plaintext)) == plaintext


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_was_changed_or_cut_is_nothing(algorithm: str) -> None:
    one = cipher(algorithm)
    datagram = sealed(one, REQUEST)
    assert all(one.open(datagram[:size]) is None for size in range(len(datagram)))
    for at in range(len(datagram)):
        hurt = bytearray(datagram)
        hurt[at] ^= 1
        assert one.open(bytes(hurt)) is None, at


def test_another_password_opens_nothing() -> None:
    for algorithm in ALGORITHMS:
        one = Cipher(algorithm, b"another")
        if one.authentic:
            assert one.open(sealed(cipher(algorithm), REQUEST)) is None


def test_no_nonce_comes_twice_before_all_were_used() -> None:
    one = Cipher("AES-GCM", PASSWORD, (12345, 54320))
    seeds = [one.seal(b"x")[-2:] for _ in range(1 << 16)]
    assert len(set(seeds)) == 1 << 16
    assert one.seal(b"x")[-2:] == seeds[0]


def test_the_checksum_is_that_of_crc32() -> None:
    assert checksum(SHORT).hex() == "deff"
