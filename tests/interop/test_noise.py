"""Our Noise against an independent one (PyPI noiseprotocol), message by message and key by key."""

from __future__ import annotations

from typing import Any

import pytest
from noise.connection import Keypair

from kcpg.core.native.handshake import noise
from kcpg.core.seal.seal import LIBRARIES
from tests.noises import check_we_initiate, check_we_respond, inputs, party

# It warns that ephemeral keys should not be fixed; here they are, so that both sides can be compared.
pytestmark = pytest.mark.filterwarnings("ignore:One of ephemeral keypairs is already set")

PRIVATE_I, PRIVATE_R = bytes(range(32)), bytes(range(100, 132))


def other(initiates: bool, psk: bytes, prologue: bytes, private: bytes) -> Any:
    """The independent party, with its ephemeral key fixed."""
    return party(noise.NNPSK0, initiates, psk, prologue, {Keypair.EPHEMERAL: private})


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("seed", range(8))
def test_we_initiate(library: str, seed: int) -> None:
    psk, prologue, one, two = inputs(seed)
    ours = noise.Initiator(psk, prologue, PRIVATE_I, library)
    check_we_initiate(ours, other(False, psk, prologue, PRIVATE_R), one, two)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("seed", range(8))
def test_we_respond(library: str, seed: int) -> None:
    psk, prologue, one, two = inputs(seed)
    ours = noise.Responder(psk, prologue, library)
    check_we_respond(ours, other(True, psk, prologue, PRIVATE_I), one, two, PRIVATE_R)


def test_byte_for_byte() -> None:
    """With the same ephemeral keys both implementations say the same."""
    psk, prologue, one, two = inputs(5)
    they_i, they_r = (
        other(True, psk, prologue, PRIVATE_I),
        other(False, psk, prologue, PRIVATE_R),
    )
    we_i, we_r = noise.Initiator(psk, prologue, PRIVATE_I), noise.Responder(psk, prologue)
    first = we_i.write(one)
    assert first == bytes(they_i.write_message(one))
    assert we_r.read(first) == one == bytes(they_r.read_message(first))
    written = we_r.write(two, PRIVATE_R)
    assert written is not None and written[0] == bytes(they_r.write_message(two))
    assert we_i.read(written[0]) == (two, written[1])


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_stranger_or_another_prologue_is_not_understood(library: str) -> None:
    message = noise.Initiator(bytes(32), b"here", PRIVATE_I, library).write(b"hello")
    assert noise.Responder(bytes(32), b"here", library).read(message) == b"hello"
    assert noise.Responder(b"1" * 32, b"here", library).read(message) is None
    assert noise.Responder(bytes(32), b"there", library).read(message) is None


def test_garbage_between_two_parties_does_not_stop_them() -> None:
    we_i, we_r = noise.Initiator(bytes(32), b"", PRIVATE_I), noise.Responder(bytes(32), b"")
    first = we_i.write(b"one")
    assert we_r.read(first[:-1]) is None and we_r.read(b"") is None and we_r.read(bytes(100)) is None
    assert we_r.read(first) == b"one"
    written = we_r.write(b"two", PRIVATE_R)
    assert written is not None
    for wrong in (b"", bytes(48), written[0][:-1], bytes([written[0][0] ^ 1]) + written[0][1:]):
        assert we_i.read(wrong) is None
    assert we_i.read(written[0]) == (b"two", written[1])


# All points of order 1, 2, 4 and 8 (RFC 7748, section 6.1; the list of cr.yp.to/ecdh.html).
SMALL_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("point", SMALL_ORDER)
def test_a_point_that_agrees_on_nothing_is_refused(library: str, point: str) -> None:
    assert noise.PrivateKey(PRIVATE_I, library).exchange(bytes.fromhex(point)) is None


@pytest.mark.parametrize("library", LIBRARIES)
def test_x25519_of_the_rfc(library: str) -> None:
    """RFC 7748, section 6.1."""
    alices_public = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    bob = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    bobs_public = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    key = noise.PrivateKey(bob, library)
    assert key.public.hex() == bobs_public
    shared = key.exchange(alices_public)
    assert shared is not None
    assert shared.hex() == "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
